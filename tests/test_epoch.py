"""Epochs of training against the oracle: random shapes, dtypes, matmul paths, chunks."""

import errno
from itertools import chain

import numpy as np
import pytest
from epochs import cases, cases_below_one_output, check_epochs, few
from hypothesis import given
from hypothesis import strategies as st
from networks import make_case, make_optimizer

from fastbp import workspace
from fastbp.network import Weights
from fastbp.prediction import Predictor
from fastbp.samples import Samples, as_rows, number_rows
from fastbp.training import engine as engine_module
from fastbp.training.solvers import STOCHASTIC_SOLVERS


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk_rows", [5, 512])
@few
@given(case=cases_below_one_output(), batch_size=st.integers(1, 45))
def test_below_one_output(monkeypatch, case, batch_size, chunk_rows, dtype):
    monkeypatch.setattr(engine_module, "CHUNK_ROWS", chunk_rows)
    check_epochs(case, "adam", min(batch_size, len(case.X)), dtype)


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
    list(engine.train(number_rows(8), 1, optimizer))
    np.testing.assert_array_equal(engine.weights.flat, before)
    list(engine.train(number_rows(11), 1, optimizer))
    assert np.isfinite(engine.weights.flat).all()
    assert (engine.weights.flat != before).any()


def test_calls_are_cut_short_without_a_trace():
    """Ctrl-C is noticed between calls; how an epoch is divided into calls must not matter."""
    case = make_case((5, 9, 3), ["relu", "softmax"], "log_loss", n_samples=40)
    results = []
    for chunks_per_call in (1, 3, 1000):
        engine = case.engine(batch_size=7, keep_gradient=False)
        engine.pace.plan = lambda remaining, most=chunks_per_call: (1, min(remaining, most))
        optimizer = make_optimizer()
        optimizer.begin(engine.weights)
        generator = np.random.RandomState(5)
        epochs = engine.train(number_rows(40), 3, optimizer, generator)
        losses = list(chain.from_iterable(e.losses for e in epochs))
        results.append((losses, engine.weights.flat.copy(), optimizer.steps_taken))
    for losses, flat, steps in results[1:]:
        assert losses == results[0][0]
        np.testing.assert_array_equal(flat, results[0][1])
        assert steps == results[0][2] == 18


def test_padding_stays_zero():
    """The padding between the rows of the weights never changes."""
    case = make_case((5, 9, 7, 3), ["logistic", "softplus", "softmax"], "log_loss", 20)
    engine = case.engine(batch_size=6, keep_gradient=False)
    optimizer = make_optimizer("adamw")
    optimizer.begin(engine.weights)
    for _ in range(3):
        list(engine.train(number_rows(20), 1, optimizer))
    for vector in (engine.weights.flat, optimizer.first.flat, optimizer.second.flat):
        kept = engine.weights.with_padding(engine.weights.without_padding(vector))
        np.testing.assert_array_equal(vector, kept)


def test_rows_beyond_two_to_the_31_elements(tmp_path):
    """Row numbers times columns exceed 32 bits; the file is sparse except for its end."""
    n_columns, n_last = 1024, 40
    shape = (2**31 // n_columns + n_last, n_columns)
    try:
        X = np.memmap(tmp_path / "X", np.float32, "w+", shape=shape)
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.ENOSPC):
            raise
        pytest.skip(f"temporary files cannot be sparse ones of 8.6 GB here: {error}")
    case = make_case((n_columns, 5, 1), ["relu", "logistic"], "log_loss", n_last)
    X[-n_last:] = case.X
    rows = as_rows(np.arange(shape[0] - n_last, shape[0]), shape[0])
    results = []
    for data, order in ((X, rows), (case.X.astype(np.float32), number_rows(n_last))):
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
        losses = [epochs.losses for epochs in engine.train(number_rows(40), 3, optimizer)]
        results.append((losses, engine.weights.flat.tolist()))
    assert results[0] == results[1]
