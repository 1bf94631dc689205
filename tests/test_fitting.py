"""What a fit costs and leaves behind: memory, Ctrl-C, weights that users modify, pickles."""

import copy
import os
import pickle
import signal
import textwrap
import threading
import time
import warnings
from contextlib import suppress

import joblib
import numpy as np
import pytest
import scipy.sparse
from common import Interrupted, run_python, wait_until
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from trainings import assert_same_bits

import fastbp
from fastbp import BPClassifier, BPRegressor, keep_training_state, load, save
from fastbp.callbacks import Checkpoint, TimeLimit
from fastbp.pace import Pace
from fastbp.training import engine, lbfgs, stochastic

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)

NUMBERS = {
    "max_iter": {"max_iter": np.uint8(200), "tol": np.float32(0), "solver": "sgd"},
    "epochs of many steps": {"max_iter": np.int8(127), "batch_size": np.int8(1)},
    "a schedule": {"max_iter": np.int8(100), "learning_rate": "cosine"},
    "L-BFGS": {"max_iter": np.int8(127), "max_fun": np.int16(30_000), "solver": "lbfgs"},
    "moments": {"beta_1": np.float16(0.875), "beta_2": np.float16(0.75), "epsilon": np.float16(1)},
    "momentum": {"momentum": np.float16(0.875), "power_t": np.float16(0.5), "solver": "sgd",
                 "learning_rate": "invscaling"},
    "early stopping": {"n_iter_no_change": np.uint8(255), "max_iter": np.uint8(255),
                       "early_stopping": np.True_, "validation_fraction": np.float16(0.25)},
    "sizes": {"hidden_layer_sizes": (np.int8(100), np.uint8(200)), "random_state": np.int8(100)},
}  # fmt: skip


@pytest.mark.parametrize("estimator", [BPClassifier, BPRegressor])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_mean_what_pythons_do(name, estimator):
    given = {"hidden_layer_sizes": 3, "random_state": 0, "max_iter": 9} | NUMBERS[name]
    plain = {
        key: np.asarray(value).tolist() if isinstance(value, (np.generic, tuple)) else value
        for key, value in given.items()
    }
    small, usual = (estimator(**parameters).fit(X, Y) for parameters in (given, plain))
    assert small.n_iter_ == usual.n_iter_
    for mine, theirs in zip(small.coefs_, usual.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_callbacks_hear_of_as_many_epochs_as_a_small_integer_holds():
    model = BPClassifier(3, max_iter=np.int8(127), solver="lbfgs", tol=0, random_state=0)
    model.set_callbacks(TimeLimit(1000)).fit(X, Y)
    assert model.n_iter_ > 10


MEMORY = """
import sys, warnings
import numpy as np
from fastbp import BPClassifier
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
dtype, batch_size, early_stopping, solver = eval(sys.argv[1])
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
def reset():
    open("/proc/self/clear_refs", "w").write("5")
def make(n):
    return rng.random((n, 500), dtype=np.float32).astype(dtype), rng.integers(0, 3, n)
model = BPClassifier((50,), max_iter=2, batch_size=batch_size, solver=solver,
                     early_stopping=early_stopping, random_state=0, n_jobs=1)
model.fit(*make(1000))
X, y = make(60_000)
reset()
before = peak()
model.fit(X, y)
print((peak() - before) / X.nbytes)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "setting",
    [
        ("float32", 200, False, "adam"),
        ("float64", 200, False, "adam"),
        ("float32", "full", False, "sgd"),
        ("float32", 200, True, "adam"),
        ("float32", 200, False, "lbfgs"),
    ],
    ids=str,
)
def test_a_fit_adds_at_most_a_tenth_of_x(setting):
    assert float(run_python(MEMORY, repr(setting)).stdout) < 0.1


@pytest.mark.parametrize(
    ("solver", "batch_size"), [("adam", 32), ("sgd", 1), ("adam", "full"), ("lbfgs", "auto")]
)
def test_ctrl_c_leaves_a_usable_model(solver, batch_size):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 100)), rng.integers(0, 2, 20_000)
    model = BPClassifier(
        (200, 200), solver=solver, batch_size=batch_size, max_iter=100_000, max_fun=10**9,
        tol=0, n_iter_no_change=np.inf, random_state=0,
    )  # fmt: skip
    model.set_params(max_iter=1).fit(X[:500], y[:500])  # so that kernels are compiled or loaded
    interrupted = []

    def interrupt():
        wait_until(lambda: hasattr(model, "_state"))  # the fit has begun
        time.sleep(0.1)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.set_params(max_iter=100_000).fit(X, y)
    waited = time.monotonic() - interrupted[0]
    thread.join()
    assert waited < 30
    assert model.predict(X).shape == (20_000,)
    assert np.isfinite(model.predict_proba(X)).all()
    assert model.n_iter_ < 100_000


@pytest.mark.parametrize("steps", [4, 20, 24])
def test_what_is_done_before_ctrl_c_counts(steps, monkeypatch):
    """Ten steps are an epoch; Ctrl-C comes at the end of a compiled call of two steps."""
    X, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
    model = BPClassifier((5,), batch_size=10, max_iter=2, dropout=0.1, random_state=0)
    expected = clone(model).fit(X, y)
    monkeypatch.setattr(Pace, "plan", lambda pace, remaining: (1, min(2, remaining)))
    monkeypatch.setattr(engine, "run_on_threads", Interrupted(engine.run_on_threads, steps // 2))
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.set_params(max_iter=5).fit(X, y)
    assert model._optimizer.steps_taken == steps
    assert model.loss_curve_ == expected.loss_curve_[: steps // 10]
    if steps == 20:
        assert_same_bits(model.partial_fit(X, y), expected.partial_fit(X, y))


def test_ctrl_c_before_a_compiled_call_counts_nothing(monkeypatch):
    """As it waits for a generator that other fits share, here in the second thousand of epochs."""
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    model = BPClassifier((2,), max_iter=3000, tol=0, n_iter_no_change=3000, random_state=0)

    class Holding(engine.Holding):
        def __enter__(self):
            if model._state.n_iter >= 1000:
                raise KeyboardInterrupt
            return super().__enter__()

    monkeypatch.setattr(engine, "Holding", Holding)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, y)
    assert (model.n_iter_, len(model.loss_curve_), model.t_) == (1000, 1000, 20_000)
    assert min(model.loss_curve_) > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_lbfgs_that_ends_before_it_begins(error, tmp_path):
    model = BPClassifier((5,), solver="lbfgs", warm_start=True, random_state=0).fit(X, Y)
    expected = model.predict_proba(X)

    class Raising(TimeLimit):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch":
                raise error

    model.set_callbacks(Raising(1))
    by_user = error is KeyboardInterrupt
    with pytest.warns(match="interrupted by user") if by_user else pytest.raises(error):
        model.fit(X, Y)
    model.set_callbacks()
    assert np.isnan(model.loss_)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), expected)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_lbfgs_has_done_before_an_error_is_kept(dtype, warm_start):
    """As a warning that is one."""
    model = BPClassifier((5,), solver="lbfgs", max_iter=4, random_state=0, dtype=dtype)
    model.set_params(warm_start=warm_start)
    expected = clone(model).fit(X, Y)
    if warm_start:
        model.fit(X, Y)
        expected.fit(X, Y)
    with warnings.catch_warnings(action="error"), pytest.raises(ConvergenceWarning):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert (model.n_iter_, model.loss_) == (expected.n_iter_, expected.loss_)


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that advances by a second at each look, with several looks per mini-batch."""
    look = iter(range(10_000)).__next__
    for module in (stochastic, engine, lbfgs):
        monkeypatch.setattr(module, "perf_counter", look)
    monkeypatch.setattr(Pace, "plan", lambda pace, remaining: (1, 1))


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_max_time(solver, early_stopping, slow_clock):
    settings = {"solver": solver, "early_stopping": early_stopping, "random_state": 0, "tol": 0}
    model = BPClassifier((5,), max_time=100, batch_size=10, **settings)
    with pytest.warns(ConvergenceWarning, match=r"Maximum time \(100 s\) reached"):
        model.fit(X, Y)
    assert 0 < model.n_iter_ < 40
    whole = BPClassifier((5,), max_iter=model.n_iter_, batch_size=10, **settings).fit(X, Y)
    if solver == "lbfgs" or early_stopping:
        np.testing.assert_array_equal(model.coefs_[0], whole.coefs_[0])
    else:  # training continues to the last step that there was time for
        assert model.loss_curve_ == whole.loss_curve_


def test_max_time_that_ends_within_the_first_epoch(slow_clock):
    model = BPClassifier((5,), max_time=4, batch_size=10, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"Maximum time \(4 s\) reached"):
        model.fit(X, Y)
    assert (model.n_iter_, model.loss_curve_) == (0, [])
    assert np.isnan(model.loss_)
    assert np.isfinite(model.predict_proba(X)).all()


def test_max_time_goes_on_from_a_checkpoint(slow_clock, tmp_path):
    path = tmp_path / "run"
    model = BPClassifier((5,), max_time=200, batch_size=10, random_state=0)
    model.set_callbacks(Checkpoint(path)).fit(X, Y)
    before = fastbp.load(path).n_iter_
    model.fit(X, Y, resume_from=path)
    assert 1 < before <= model.n_iter_ <= before + 1


def test_max_time_is_not_for_partial_fit(slow_clock):
    model, plain = (BPRegressor(random_state=0, max_time=time) for time in (1e-9, None))
    for each in (model, plain):
        each.partial_fit(X, X[:, 0])
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_what_is_written_into_the_weights_is_used():
    model = BPClassifier((5,), max_iter=2, random_state=0).fit(X, Y)
    model.coefs_[1][:] = 0
    model.intercepts_[1][:] = [0, 0, 50]
    np.testing.assert_array_equal(model.predict(X), np.full(150, 2))
    model.coefs_ = [np.zeros_like(w) for w in model.coefs_]
    model.intercepts_ = [np.zeros(5), np.array([50.0, 0, 0])]
    np.testing.assert_array_equal(model.predict(X), np.zeros(150))
    model.partial_fit(X, Y)
    assert 0 < np.abs(model.coefs_[1]).max() < 0.01


@pytest.mark.parametrize("layers", [slice(None), slice(1)], ids=["all", "the first"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.longdouble])
def test_pickles_and_copies_of_weights_of_any_dtype(dtype, layers):
    model = BPClassifier((5,), max_iter=5, random_state=0).fit(X, Y)
    coefs = list(model.coefs_)
    coefs[layers] = [np.asarray(10 * w, dtype) for w in coefs[layers]]
    model.coefs_ = coefs
    expected = model.predict_proba(X)
    for twin in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.predict_proba(X), expected)


def test_mini_batches_have_a_sample_at_least():
    model = BPClassifier((5,), max_iter=1, batch_size=1, random_state=0).fit(X, Y)
    with config_context(skip_parameter_validation=True):
        model.set_params(batch_size=0).partial_fit(X, Y)
    assert model.t_ == 300


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_pickles_predict_and_go_on_alike(solver, dtype):
    model = BPClassifier((7,), solver=solver, max_iter=5, random_state=0)
    model.fit(X.astype(dtype), Y)
    with keep_training_state():
        loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    loaded.coefs_[0][:] = model.coefs_[0]  # still views
    if solver != "lbfgs":
        model.partial_fit(X.astype(dtype), Y)
        loaded.partial_fit(X.astype(dtype), Y)
    for mine, theirs in zip(loaded.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == dtype


def test_a_pickle_holds_each_weight_once():
    model = BPClassifier((200,), max_iter=1, random_state=0).fit(X, Y)
    n_weights = sum(w.size for w in model.coefs_ + model.intercepts_)
    assert len(pickle.dumps(model)) < 8 * n_weights + 5000
    with keep_training_state():
        size = len(pickle.dumps(model))
    assert 3 * 8 * n_weights < size < 3 * 8 * n_weights + 5000  # with Adam's two moments


def test_a_pickle_without_the_solver_begins_with_a_fresh_one():
    model = BPClassifier((7,), max_iter=5, random_state=0).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    with pytest.warns(UserWarning, match="solver's state was not kept"):
        loaded.partial_fit(X, Y)
    fresh = model.set_params(warm_start=True, max_iter=1).fit(X, Y)
    for mine, theirs in zip(loaded.coefs_, fresh.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    loaded.partial_fit(X, Y)  # now it has a solver, and does not warn again


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_pickle_has_the_history_where_it_is_asked_for(early_stopping):
    model = BPClassifier((2,), max_iter=900, tol=0, n_iter_no_change=np.inf, random_state=0)
    model.set_params(early_stopping=early_stopping).fit(X, Y)
    assert len(pickle.dumps(model)) < 30_000  # 900 epochs of loss and score
    with keep_training_state():
        pickled = pickle.dumps(model)
    for whole in (pickle.loads(pickled), copy.deepcopy(model), copy.copy(model)):
        for name, column in model.history_.items():
            np.testing.assert_array_equal(whole.history_[name], column)
    loaded = pickle.loads(pickle.dumps(model))
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "n_iter_", "t_"):
        assert getattr(loaded, name) == getattr(model, name)
    assert not hasattr(loaded, "history_")
    with pytest.raises(AttributeError, match=r"not kept .* inside fastbp.keep_training_state\(\)"):
        loaded.history_  # noqa: B018
    loaded.set_params(early_stopping=False)
    with pytest.warns(UserWarning, match="solver's state was not kept"):
        loaded.partial_fit(X, Y)
    assert loaded.history_["epoch"].tolist() == [1]
    assert len(loaded.loss_curve_) == 901


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_trains_on_by_itself(duplicate):
    generator, callback = np.random.RandomState(0), TimeLimit(1e6)
    model = BPClassifier((3,), max_iter=5, random_state=generator).set_callbacks(callback)
    model.fit(X, Y)
    other = duplicate(model)
    is_shared = duplicate is copy.copy
    assert (other.random_state is generator) == is_shared
    assert (other._skl_callbacks[0] is callback) == is_shared
    before, history = pickle.dumps(model.coefs_), model.history_
    other.partial_fit(X, Y)
    assert pickle.dumps(model.coefs_) == before
    assert len(model.loss_curve_) == len(history["loss"]) == len(model.history_["loss"]) == 5
    assert len(other.loss_curve_) == len(other.history_["loss"]) == 6
    model.set_params(shuffle=False).partial_fit(X, Y)
    again = duplicate(model)
    for network in (model, again):
        network.partial_fit(X, Y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_a_memory_mapped_pickle_predicts(tmp_path):
    model = BPRegressor(hidden_layer_sizes=(7,), max_iter=5, random_state=0).fit(X, X[:, 0])
    joblib.dump(model, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_clones_are_unfitted():
    model = BPClassifier((5,), activation=["gelu"], max_iter=2, loss="squared_error").fit(X, Y)
    unfitted = clone(model)
    assert unfitted.get_params() == model.get_params()
    assert not hasattr(unfitted, "coefs_")


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sparse_is_dense(kind, index):
    dense = X * (X > 1)
    sparse = kind(dense)
    sparse.indices, sparse.indptr = sparse.indices.astype(index), sparse.indptr.astype(index)
    models = [
        BPClassifier((7,), max_iter=5, random_state=0).fit(data, Y) for data in (dense, sparse)
    ]
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-12)
    np.testing.assert_allclose(
        models[0].predict_proba(dense), models[0].predict_proba(sparse), rtol=1e-12
    )


def test_duplicate_entries_of_a_sparse_matrix_are_summed():
    rows, columns = [0, 0, 0, 1, 2], [1, 1, 0, 2, 0]
    coo = scipy.sparse.coo_array(([1.0, 2, 3, 4, 5], (rows, columns)), shape=(3, 3))
    csr = scipy.sparse.csr_array(([3.0, 1, 2, 4, 5], [0, 1, 1, 2, 0], [0, 3, 4, 5]), shape=(3, 3))
    models = [
        BPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(data, [1.0, 2, 3])
        for data in (coo.toarray(), csr)
    ]
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-12)


@pytest.mark.parametrize("data", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["auto", "float32", "float64"])
def test_dtype(data, dtype):
    expected = data if dtype == "auto" else dtype
    for solver in ("adam", "lbfgs"):
        model = BPRegressor(hidden_layer_sizes=(4,), dtype=dtype, solver=solver, max_iter=3)
        model.fit(X.astype(data), X[:, 0])
        assert {w.dtype.name for w in model.coefs_ + model.intercepts_} == {expected}
        assert model.predict(X.astype(data)).dtype == expected


@pytest.mark.parametrize("integers", [np.int8, np.uint64, bool])
def test_other_numbers_are_taken_as_float64(integers):
    model = BPClassifier((4,), max_iter=3, random_state=0).fit(X.astype(integers), Y)
    expected = BPClassifier((4,), max_iter=3, random_state=0)
    expected.fit(X.astype(integers).astype(float), Y)
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
    assert model.coefs_[0].dtype == np.float64


def test_start_from_given_weights_leaves_the_shuffles_alone():
    """The seed decides the order of the samples, whatever weights training starts from."""
    first = BPClassifier((4,), max_iter=3, random_state=0).fit(X, Y)
    start = BPClassifier((4,), max_iter=1, random_state=0, learning_rate_init=1e-300).fit(X, Y)
    again = BPClassifier((4,), max_iter=3, random_state=0)
    again.fit(X, Y, coef_init=start.coefs_, intercept_init=start.intercepts_)
    np.testing.assert_allclose(again.coefs_[0], first.coefs_[0], rtol=1e-12)


@pytest.mark.parametrize(
    "init", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"]
)
def test_init(init):
    model = BPRegressor(
        hidden_layer_sizes=(300,),
        init=init,
        max_iter=1,
        learning_rate_init=1e-300,
        random_state=0,
        alpha=0,
    ).fit(np.random.default_rng(0).normal(size=(5, 200)), np.arange(5.0))
    variance = {"glorot": 2 / 500, "he": 2 / 200, "lecun": 1 / 200}[init.split("_")[0]]
    assert model.coefs_[0].var() == pytest.approx(variance, rel=0.03)
    largest = np.abs(model.coefs_[0]).max() / np.sqrt(variance)
    assert largest <= np.sqrt(3) if init.endswith("uniform") else largest > 3
    assert np.abs(model.intercepts_[0]).max() < 1e-290  # except for one step at that learning rate


def test_the_first_wait_is_explained_once(tmp_path):
    """Without a cache, one line on stderr explains the wait; with one, there is none."""
    code = textwrap.dedent("""
        from fastbp import BPClassifier
        for _ in range(2):
            BPClassifier(max_iter=500, tol=1).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    """)
    outputs = [run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).stderr for _ in range(2)]
    assert outputs[0].count("compiling") == outputs[0].count("\n") == 1
    assert outputs[1] == ""


def test_works_where_no_cache_can_be_written():
    code = "from fastbp import BPClassifier; BPClassifier(tol=9).fit([[0.0], [1.0]], [0, 1])"
    run_python(code, NUMBA_CACHE_DIR="/proc/nowhere")


@pytest.mark.parametrize(
    "parameters",
    [{"solver": "lbfgs"}, {"solver": "adam", "clip_norm": 1.0}, {"solver": "sgd"}],
    ids=str,
)
@pytest.mark.parametrize("layers", [(100,), (16, 3)])
def test_a_fit_that_runs_off_leaves_nothing_to_the_next(layers, parameters):
    """Although the next fit works in the same memory."""
    y = X @ [1.0, -2.0, 0.5, 1.0]
    model = BPRegressor(hidden_layer_sizes=layers, max_iter=8, random_state=0, **parameters)
    before = clone(model).fit(X, y)
    for scale in (1e160, 1e300):
        with suppress(ValueError), np.errstate(all="ignore"):
            clone(model).fit(scale * X, y)
    after = clone(model).fit(X, y)
    assert after.n_iter_ == before.n_iter_ > 1
    for mine, theirs in zip(after.coefs_, before.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)
