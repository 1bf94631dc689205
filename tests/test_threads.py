"""The same bits on any number of threads, and the rules for when several are used."""

import threading
from itertools import chain

import numba
import numpy as np
import pytest
from common import Interrupted, need_blas
from networks import make_case, make_optimizer
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPClassifier, prediction, threads
from fastbp.compiler.jit import is_ready
from fastbp.kernels.plan import run
from fastbp.kernels.scheduler import affinity_addresses
from fastbp.kernels.team import make_team, run_team
from fastbp.matmul import product
from fastbp.matmul.subsets import GROUP, MOST_GROUPS, MOST_UNITS
from fastbp.pace import Pace
from fastbp.samples import as_rows, number_rows
from fastbp.threads import choose_threads
from fastbp.training import engine as engine_module

CASES = [
    ((20, 50, 2), ["relu", "softmax"], "log_loss", 203, False),
    ((7, 33, 17, 3), ["tanh", "gelu", "identity"], "squared_error", 130, False),
    ((30, 9, 1), ["selu", "logistic"], "log_loss", 90, True),
    ((5, 1), ["exp"], "poisson", 61, False),
    ((60, 90, 64, 1), ["relu", "relu", "logistic"], "log_loss", 130, False),
]


@pytest.fixture
def eager_threads(monkeypatch):
    """Use threads from the second call on, however little the work."""
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    monkeypatch.setattr(engine_module, "ASKED_PATIENCE", 0.0)
    monkeypatch.setattr(Pace, "CALL_SECONDS", 1e-3)
    monkeypatch.setattr(Pace, "LEAST_SECONDS", 0.0)


def run_in_threads(function, plan, n_threads, compile_it):
    """Stand in for `run_on_threads` with Python threads, whatever the number of processors."""
    plan.workspace.team[:] = 0
    pool = [
        threading.Thread(target=run, args=(function, plan, member, n_threads, 0))
        for member in range(n_threads)
    ]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return n_threads


def train(
    case, dtype, n_threads, batch_size, monkeypatch, n_epochs=3, clip_norm=None, keep_gradient=False
):
    for module in (engine_module, prediction):
        monkeypatch.setattr(module, "choose_threads", lambda n_jobs, work: n_threads)
        monkeypatch.setattr(module, "run_on_threads", run_in_threads)
    keep_gradient |= clip_norm is not None
    engine = case.engine(dtype, batch_size, n_jobs=n_threads, keep_gradient=keep_gradient)
    engine.pace.plan = lambda remaining: (n_threads, remaining)
    optimizer = make_optimizer(clip_norm=clip_norm)
    optimizer.begin(engine.weights)
    order = as_rows(np.random.default_rng(0).permutation(len(case.X)), len(case.X))
    losses = list(chain.from_iterable(e.losses for e in engine.train(order, n_epochs, optimizer)))
    predictor = prediction.Predictor(engine.weights)
    outputs = predictor(engine.names, engine.samples.X, n_threads)
    return losses, engine.weights.flat.copy(), outputs


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_fit_after_one_that_was_interrupted_on_threads(solver, monkeypatch):
    """On one processor the team is of one."""
    monkeypatch.setattr(engine_module, "choose_threads", lambda n_jobs, work: 2)
    monkeypatch.setattr(Pace, "plan", lambda pace, remaining: (2, min(20, remaining)))
    X, y = np.random.default_rng(0).normal(size=(2000, 50)), np.arange(2000) % 2
    model = BPClassifier((100,), solver=solver, n_jobs=2, max_iter=8, random_state=0)
    with pytest.warns(ConvergenceWarning):
        expected = model.fit(X, y).coefs_
    interrupted = Interrupted(threads.run_team, 1)
    monkeypatch.setattr(threads, "run_team", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, y)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert interrupted.calls > 1
    for actual, weights in zip(model.coefs_, expected, strict=True):
        np.testing.assert_array_equal(actual, weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [1, 32, 61])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("units", "names", "loss", "n_samples", "sparse"), CASES)
def test_the_same_bits(
    units, names, loss, n_samples, sparse, weighted, batch_size, dtype, monkeypatch
):
    """On 1 to 7 threads: how work is shared matters, not how many cores run it."""
    case = make_case(units, names, loss, n_samples, weighted=weighted, sparse=sparse)
    expected = train(case, dtype, 1, batch_size, monkeypatch)
    for n_threads in (2, 3, 7):
        actual = train(case, dtype, n_threads, batch_size, monkeypatch)
        assert actual[0] == expected[0]
        np.testing.assert_array_equal(actual[1], expected[1])
        np.testing.assert_array_equal(actual[2], expected[2])


@pytest.mark.parametrize("n_samples", [5, 90, 3000])
def test_any_thread_of_a_team_can_make_all_predictions(n_samples, monkeypatch):
    """As if the other threads slept: none of them is needed."""

    def run_the_last(function, plan, n_threads, compile_it):
        plan.workspace.team[:] = 0
        run(function, plan, n_threads - 1, n_threads, 0)
        return n_threads

    case = make_case((7, 33, 17, 3), ["tanh", "gelu", "identity"], "squared_error", n_samples)
    predictor = prediction.Predictor(case.engine(np.float64, 32).weights)
    expected = predictor(case.names, case.X, 1)
    monkeypatch.setattr(prediction, "choose_threads", lambda n_jobs, work: 3)
    monkeypatch.setattr(prediction, "run_on_threads", run_the_last)
    for _ in range(2):
        np.testing.assert_array_equal(predictor(case.names, case.X, 3), expected)


@pytest.mark.parametrize("kind", ["kept", "clipped", "weighted", "dropped"])
@pytest.mark.parametrize("n_samples", [61, 64, 65, 66, 90, 122])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_same_bits_where_gradients_are_summed_in_parts(n_outputs, n_samples, kind, monkeypatch):
    """Also for a short last batch, which has only one part, or a part of one sample."""
    output = "softmax" if n_outputs == 3 else "logistic"
    names, units = ["tanh", "relu", output], (20, 30, 50, n_outputs)
    case = make_case(units, names, "log_loss", n_samples, weighted=kind == "weighted")
    if kind == "dropped":
        case.dropout = (0.3, 0.1)
    assert case.engine(np.float32, 61, keep_gradient=False).workspace.parts == 2
    clip_norm = 0.1 if kind == "clipped" else None
    results = [
        train(
            case, np.float32, n, 61, monkeypatch, clip_norm=clip_norm, keep_gradient=kind == "kept"
        )
        for n in (1, 2, 3, 7)
    ]
    for result in results[1:]:
        for mine, theirs in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_same_bits_where_a_part_is_too_large_for_the_table_of_subsets(monkeypatch):
    case = make_case((20, MOST_UNITS + 40, 1), ["relu", "logistic"], "log_loss", n_samples=470)
    batch_size = 2 * GROUP * MOST_GROUPS + 40
    assert case.engine(np.float32, batch_size, keep_gradient=False).workspace.parts == 2
    expected = train(case, np.float32, 1, batch_size, monkeypatch)
    for n_threads in (2, 3):
        actual = train(case, np.float32, n_threads, batch_size, monkeypatch)
        for mine, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("units", "batch_size", "parts"),
    [((50, 100, 1), 200, 2), ((784, 100, 10), 200, 1), ((20, 50, 1), 1, 1), ((4, 100, 3), 150, 2)],
)
def test_gradients_are_summed_in_parts_where_threads_exchange_less_then(units, batch_size, parts):
    """The parts are the same for any number of threads; only several threads need memory."""
    case = make_case(units, ["relu", "identity"], "squared_error", 200)
    for n_threads in (1, 2, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "choose_threads", lambda *_, n=n_threads: n)
            workspace = case.engine(np.float32, batch_size, keep_gradient=False).workspace
        assert workspace.parts == parts
        assert bool(workspace.partials.size) == (parts > 1 and n_threads > 1)


def test_a_team_is_started(eager_threads, monkeypatch):
    """The engine asks for threads; on one processor the team has one member."""
    asked = []

    def region(n_threads):
        asked.append(n_threads)
        return threads_of(n_threads)

    threads_of = threads.parallel_region
    monkeypatch.setattr(threads, "parallel_region", region)
    case = make_case((20, 50, 2), ["relu", "softmax"], "log_loss", 203)
    engine = case.engine(np.float64, 32, n_jobs=2, keep_gradient=False)
    engine.pace = Pace(2, 0.0, 1e-3)
    engine.pace.plan = lambda remaining: (2, remaining)
    optimizer = make_optimizer()
    optimizer.begin(engine.weights)
    list(engine.train(number_rows(203), 2, optimizer))
    assert is_ready(run_team, (0, 0, make_team(), 2, 0, affinity_addresses()), compile_it=False)
    assert asked == [2]


def test_the_same_bits_through_blas(monkeypatch):
    need_blas()
    monkeypatch.setattr(product, "BLAS_BYTES", 0)
    case = make_case((40, 70, 30, 3), ["relu", "tanh", "softmax"], "log_loss", n_samples=700)
    expected = train(case, np.float32, 1, 300, monkeypatch)
    for n_threads in (2, 3):
        actual = train(case, np.float32, n_threads, 300, monkeypatch)
        for mine, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_same_bits_in_chunks(monkeypatch):
    monkeypatch.setattr(engine_module, "CHUNK_ROWS", 16)
    case = make_case((20, 50, 2), ["relu", "softmax"], "log_loss", n_samples=203, weighted=True)
    expected = train(case, np.float64, 1, 60, monkeypatch)
    actual = train(case, np.float64, 3, 60, monkeypatch)
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_same_model_for_every_n_jobs(solver, eager_threads):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 40)), rng.integers(0, 3, 3000)
    parameters = {"solver": solver, "max_iter": 3, "random_state": 0, "n_iter_no_change": 50}
    models = []
    for n_jobs in (None, 1, 2, -1, 64):
        with pytest.warns(match="(?i)reached"):
            models.append(BPClassifier(n_jobs=n_jobs, **parameters).fit(X, y))
    for model in models[1:]:
        for mine, theirs in zip(model.coefs_, models[0].coefs_, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(model.predict_proba(X), models[0].predict_proba(X))


def test_choice_of_threads():
    most = numba.get_num_threads()
    assert choose_threads(1, 1e12) == 1
    assert choose_threads(-1, 1e12) == most
    assert choose_threads(-1, 0) == 1
    assert choose_threads(-most, 1e12) == 1
    assert choose_threads(-most - 5, 1e12) == 1
    assert choose_threads(most + 5, 1e12) == most
    assert choose_threads(None, 0) == 1
    assert choose_threads(None, 1e12) == most


def test_in_a_thread_of_the_users_the_default_is_one():
    chosen = []
    thread = threading.Thread(target=lambda: chosen.append(choose_threads(None, 1e12)))
    thread.start()
    thread.join()
    assert chosen == [1]


def test_after_a_fork_there_is_one(monkeypatch):
    monkeypatch.setattr(threads, "_forked", True)
    assert choose_threads(-1, 1e12) == 1


def follow(pace, n_calls, seconds, remaining=10):
    """Let it plan calls, with the seconds of a unit by number of threads; return its choices."""
    chosen = []
    for _ in range(n_calls):
        n_threads, units = pace.plan(remaining)
        pace.record(n_threads, units, units * seconds[n_threads])
        chosen.append((n_threads, units))
    return chosen


def test_pace_takes_the_faster_and_tries_the_slower_again():
    pace = Pace(4, patience=0.2, unit_seconds=0.01)
    slower = {1: 0.01, 4: 0.1}
    chosen = follow(pace, 300, slower)
    time_of = {n: sum(units * slower[n] for m, units in chosen if m == n) for n in (1, 4)}
    assert 0 < time_of[4] < 0.1 * time_of[1]
    faster = {1: 0.01, 4: 0.003}
    chosen = follow(pace, 300, faster)[100:]
    time_of = {n: sum(units * faster[n] for m, units in chosen if m == n) for n in (1, 4)}
    assert 0 < time_of[1] < 0.1 * time_of[4]


def test_pace_begins_a_trial_with_little_work():
    """If the other core is busy, threads may be a hundred times slower."""
    pace = Pace(2, patience=0.2, unit_seconds=1e-3)
    chosen = follow(pace, 50, {1: 1e-3, 2: 0.1}, remaining=1000)
    assert chosen[0] == (1, 100)
    assert next(units for n, units in chosen if n == 2) == 1


def test_pace_of_a_short_fit_stays_on_one_thread():
    pace = Pace(4, patience=0.2, unit_seconds=1e-3)
    assert {n for n, _ in follow(pace, 5, {1: 1e-3}, remaining=10)} == {1}


def test_pace_starts_threads_at_once_where_the_user_asked():
    chosen = follow(Pace(4, 0.0, 1e-3), 10, {1: 1e-3, 4: 3e-4})
    assert [n for n, _ in chosen] == [1] + [4] * 9


def test_pace_is_not_deceived_by_a_slow_first_call():
    """Calls planned from its time are then too short to count."""
    pace = Pace(2, 0.01, 0.02)
    assert pace.plan(250) == (1, 1)
    pace.record(1, 1, 1.5e-3)
    assert 2 in {n for n, _ in follow(pace, 12, {1: 3e-4, 2: 2e-4}, remaining=250)}


def test_pace_forgives_one_slow_call():
    """As if another process took a core for a moment."""
    pace = Pace(2, 0.0, 1e-3)
    follow(pace, 10, {1: 1e-3, 2: 6e-4})
    pace.record(2, 1, 0.1)
    assert pace.plan(10)[0] == 2
    pace.record(2, 1, 0.1)
    assert pace.plan(10)[0] == 1


def test_pace_is_soon_back_after_a_disturbance():
    """If the disturbance stays, it costs little."""
    pace = Pace(2, 0.0, 1e-3)
    follow(pace, 100, {1: 1e-3, 2: 6e-4}, remaining=20)
    disturbed = {1: 1e-3, 2: 5e-3}
    follow(pace, 2, disturbed, remaining=20)
    assert pace.plan(20)[0] == 1
    chosen = follow(pace, 10, {1: 1e-3, 2: 6e-4}, remaining=20)
    assert [n for n, _ in chosen[:6]] == [1, 1, 2, 2, 2, 2]
    chosen = follow(pace, 1000, disturbed, remaining=20)
    time_of = {n: sum(units * disturbed[n] for m, units in chosen if m == n) for n in (1, 2)}
    assert time_of[2] < 0.1 * time_of[1]


def test_pace_soon_tries_threads_again_that_came_too_late_at_first():
    pace = Pace(2, 0.0, 1e-3)
    first = follow(pace, 4, {1: 1e-3, 2: 5e-3}, remaining=20)
    assert [n for n, _ in first] == [1, 2, 2, 2]
    chosen = follow(pace, 10, {1: 1e-3, 2: 6e-4}, remaining=20)
    assert [n for n, _ in chosen] == [1] * 4 + [2] * 6


def test_pace_learns_nothing_from_calls_that_are_over_at_once():
    """Sleeping threads would come too late, as between the fits of a search."""
    pace = Pace(2, 0.0, 1e-5)
    follow(pace, 10, {1: 1e-5, 2: 6e-6}, remaining=1000)
    assert follow(pace, 5, {1: 1e-6}, remaining=10) == [(1, 10)] * 5
    assert pace.plan(1000)[0] == 2


def test_pace_does_not_take_threads_that_are_hardly_faster():
    seconds = {1: 1e-3, 2: 9.5e-4}
    chosen = follow(Pace(2, 0.0, 1e-3), 300, seconds, remaining=100)
    time_of = {n: sum(units * seconds[n] for m, units in chosen if m == n) for n in (1, 2)}
    assert 0 < time_of[2] < 0.1 * time_of[1]


def test_pace_learns_little_from_short_calls():
    """Much of their time is the overhead of a parallel region."""
    pace = Pace(2, 0.0, 1e-4)
    follow(pace, 10, {1: 1e-4, 2: 6e-5}, remaining=200)
    follow(pace, 5, {1: 1e-4, 2: 2e-4}, remaining=9)
    assert pace.plan(200)[0] == 2


def test_pace_begins_no_trial_that_would_be_cut_short():
    pace = Pace(2, 0.0, 1e-3)
    seconds = {1: 0.2 * Pace.TRIAL_SECONDS, 2: 0.12 * Pace.TRIAL_SECONDS}
    assert {n for n, _ in follow(pace, 20, seconds, remaining=4)} == {1}
    assert follow(pace, 1, seconds, remaining=10) == [(2, 1)]
    assert {n for n, _ in follow(pace, 3, seconds, remaining=4)} == {2}  # the better choice so far
    assert [n for n, _ in follow(pace, 30, seconds, remaining=10)][-1] == 2


def test_pace_ends_a_trial_that_is_cut_short():
    pace = Pace(2, 0.0, 1e-3)
    follow(pace, 1, {1: 1e-3}, remaining=20)
    assert pace.plan(20)[0] == 2
    assert pace.plan(2) == (1, 2)


def test_a_call_is_short_enough_to_hear_ctrl_c():
    for seconds in (1e-5, 1e-3, 0.05, 3.0):
        chosen = follow(Pace(1, 0.0, 1e-3), 10, {1: seconds}, remaining=10**6)
        assert all(units == 1 or units * seconds <= 0.101 for _, units in chosen[1:])
