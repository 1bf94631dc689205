"""Epochs of training against the oracle: drawn shapes, both dtypes, both matmul paths, chunks."""

from itertools import chain

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SEED, make_case, make_optimizer

from fastbp import workspace
from fastbp.matmul import product
from fastbp.network import Weights
from fastbp.prediction import Predictor
from fastbp.samples import Samples
from fastbp.training import engine as engine_module
from fastbp.training.solvers import STOCHASTIC_SOLVERS

# Around the widths of tiles and vectors, where tails are.
WIDTHS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 25, 31, 33, 48, 50])


@st.composite
def cases(draw):
    """Networks of up to three hidden layers, with any loss and output."""
    output, loss, n_outputs = draw(
        st.sampled_from(
            [
                ("softmax", "log_loss", 2),
                ("softmax", "log_loss", 10),
                ("softmax", "squared_error", 3),
                ("logistic", "log_loss", 1),
                ("logistic", "log_loss", 4),
                ("identity", "squared_error", 1),
                ("identity", "squared_error", 3),
                ("exp", "poisson", 1),
                ("exp", "gamma", 2),
                ("identity", "huber", 2),
                ("identity", "quantile", 1),
                ("identity", "log_cosh", 1),
                ("identity", "absolute_error", 1),
            ]
        )
    )
    hidden = draw(st.lists(WIDTHS, max_size=3))
    names = draw(st.lists(st.sampled_from(sorted(naive.SLOPES)[1:]), min_size=3, max_size=3))
    names = [name if name != "exp" else "elu" for name in names]
    return make_case(
        (draw(WIDTHS), *hidden, n_outputs),
        [*names[: len(hidden)], output],
        loss,
        n_samples=draw(st.integers(1, 40)),
        weighted=draw(st.booleans()),
        sparse=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


def check_epochs(case, solver, batch_size, dtype=np.float64, **parameters):
    """Train both for two epochs, and compare losses and weights."""
    alpha = 1e-2
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    l1, clip_norm = parameters.get("l1", 0.0), parameters.get("clip_norm")
    engine = case.engine(dtype, batch_size, keep_gradient=clip_norm is not None)
    optimizer = make_optimizer(solver, alpha=alpha, **parameters)
    optimizer.begin(engine.weights)
    oracle = naive.Solver(
        solver,
        0.01,
        alpha,
        parameters.get("momentum", 0.9),
        parameters.get("nesterovs_momentum", True),
        eps=1e-3,
    )
    optimizer.epsilon = 1e-3  # 1e-8 makes a step of rounding errors where a gradient vanishes
    coefs, intercepts = [w.copy() for w in case.coefs], [b.copy() for b in case.intercepts]
    rng = np.random.default_rng(0)

    def masks(step, places):
        return naive.dropout_masks(case.dropout, engine.weights.units, SEED, step, places)

    for _ in range(2):
        order = rng.permutation(len(case.X))
        (epochs,) = engine.train(order, 1, optimizer)
        (loss,) = epochs.losses
        expected = naive.train_epoch(
            coefs, intercepts, case.names, case.loss, case.X, case.targets(), order, batch_size,
            oracle, case.weight, np.finfo(dtype).eps, l1, clip_norm,
            masks if case.dropout else None,
        )  # fmt: skip
        np.testing.assert_allclose(loss, expected, rtol=tolerance)
    for mine, theirs in zip(
        engine.weights.coefs + engine.weights.intercepts, coefs + intercepts, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


few = settings(max_examples=30)


@pytest.fixture(params=["tiles", "blas"])
def matmul(request, monkeypatch):
    if request.param == "blas":
        if not product.has_blas():
            pytest.skip("installed without the compiled extension")
        monkeypatch.setattr(product, "BLAS_BYTES", 0)
    return request.param


@few
@given(case=cases(), solver=st.sampled_from(STOCHASTIC_SOLVERS), batch_size=st.integers(1, 45))
def test_drawn_networks(matmul, case, solver, batch_size):
    check_epochs(case, solver, min(batch_size, len(case.X)))


@few
@given(case=cases(), solver=st.sampled_from(STOCHASTIC_SOLVERS), batch_size=st.integers(1, 45))
def test_drawn_networks_in_single_precision(matmul, case, solver, batch_size):
    check_epochs(case, solver, min(batch_size, len(case.X)), np.float32)


@few
@given(case=cases(), solver=st.sampled_from(STOCHASTIC_SOLVERS), batch_size=st.integers(6, 45))
def test_batches_that_come_in_chunks(monkeypatch, case, solver, batch_size):
    monkeypatch.setattr(engine_module, "CHUNK_ROWS", 5)
    check_epochs(case, solver, min(batch_size, len(case.X)))


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_every_solver(solver, batch_size):
    check_epochs(make_case((5, 9, 3), ["relu", "softmax"], "log_loss"), solver, batch_size)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_every_momentum(momentum, nesterov):
    case = make_case((5, 9, 1), ["tanh", "identity"], "squared_error")
    check_epochs(case, "sgd", 3, momentum=momentum, nesterovs_momentum=nesterov)


def test_a_batch_whose_weights_are_all_zero_changes_nothing():
    case = make_case((5, 4, 2), ["tanh", "identity"], "squared_error", weighted=True)
    case.weight[:8] = 0
    engine = case.engine(batch_size=4, keep_gradient=False)
    optimizer = make_optimizer("sgd", momentum=0)
    optimizer.begin(engine.weights)
    before = engine.weights.flat.copy()
    list(engine.train(np.arange(8), 1, optimizer))
    np.testing.assert_array_equal(engine.weights.flat, before)
    list(engine.train(np.arange(11), 1, optimizer))
    assert np.isfinite(engine.weights.flat).all()
    assert (engine.weights.flat != before).any()


def test_calls_are_cut_short_without_a_trace():
    """Ctrl-C is heard between calls; how an epoch is cut into them must not show."""
    case = make_case((5, 9, 3), ["relu", "softmax"], "log_loss", n_samples=40)
    results = []
    for chunks_per_call in (1, 3, 1000):
        engine = case.engine(batch_size=7, keep_gradient=False)
        engine.pace.plan = lambda remaining, most=chunks_per_call: (1, min(remaining, most))
        optimizer = make_optimizer()
        optimizer.begin(engine.weights)
        generator = np.random.RandomState(5)
        epochs = engine.train(np.arange(40), 3, optimizer, generator)
        losses = list(chain.from_iterable(e.losses for e in epochs))
        results.append((losses, engine.weights.flat.copy(), optimizer.steps_taken))
    for losses, flat, steps in results[1:]:
        assert losses == results[0][0]
        np.testing.assert_array_equal(flat, results[0][1])
        assert steps == results[0][2] == 18


def test_padding_stays_zero():
    """What lies between the rows of the weights is never read, because it never changes."""
    case = make_case((5, 9, 7, 3), ["logistic", "softplus", "softmax"], "log_loss", 20)
    engine = case.engine(batch_size=6, keep_gradient=False)
    optimizer = make_optimizer("adamw")
    optimizer.begin(engine.weights)
    for _ in range(3):
        list(engine.train(np.arange(20), 1, optimizer))
    for vector in (engine.weights.flat, optimizer.first.flat, optimizer.second.flat):
        kept = engine.weights.with_padding(engine.weights.without_padding(vector))
        np.testing.assert_array_equal(vector, kept)


def test_rows_beyond_two_to_the_31_elements(tmp_path):
    """Row numbers times columns exceed 32 bits; the file is all holes but for its end."""
    n_columns, n_last = 1024, 40
    shape = (2**31 // n_columns + n_last, n_columns)
    try:
        X = np.memmap(tmp_path / "X", np.float32, "w+", shape=shape)
    except OSError as error:
        pytest.skip(f"temporary files cannot be sparse ones of 8.6 GB here: {error}")
    case = make_case((n_columns, 5, 1), ["relu", "logistic"], "log_loss", n_last)
    X[-n_last:] = case.X
    rows = np.arange(shape[0] - n_last, shape[0])
    results = []
    for data, order in ((X, rows), (case.X.astype(np.float32), np.arange(n_last))):
        targets = np.zeros((len(data), 1), np.float32)
        targets[-n_last:] = case.y
        weights = Weights.of(case.coefs, case.intercepts, np.float32)
        samples = Samples(data, targets)
        engine = engine_module.Engine(weights, case.names, case.loss, samples, 8, n_jobs=1)
        optimizer = make_optimizer()
        optimizer.begin(weights)
        losses = [epochs.losses for epochs in engine.train(order, 2, optimizer)]
        outputs = Predictor(weights)(case.names, data, 1, order)
        results.append((losses, weights.flat.copy(), outputs))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][2], results[1][2])


@pytest.mark.parametrize("batch_size", [1, 16, 40])
def test_sparse_x_row_by_row_gives_the_same_bits_as_column_by_column(batch_size, monkeypatch):
    case = make_case((12, 9, 2), ["tanh", "identity"], "squared_error", 40, sparse=True)
    results = []
    for most in (workspace.MOST_BY_ROWS, 0):
        monkeypatch.setattr(workspace, "MOST_BY_ROWS", most)
        engine = case.engine(np.float32, batch_size, keep_gradient=True)
        assert engine.workspace.by_rows == (most > 0)
        optimizer = make_optimizer()
        optimizer.begin(engine.weights)
        losses = [epochs.losses for epochs in engine.train(np.arange(40), 3, optimizer)]
        results.append((losses, engine.weights.flat.tolist()))
    assert results[0] == results[1]
