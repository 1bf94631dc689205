"""Dropout, clipping, L1 and smoothed labels in the kernels, against the oracle."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from epochs import cases, check_epochs, few
from hypothesis import given
from hypothesis import strategies as st
from networks import SEED, make_case, make_optimizer

from fastbp.compiler.jit import kernel
from fastbp.kernels.dropout import philox
from fastbp.samples import number_rows
from fastbp.training import engine as engine_module
from fastbp.training.solvers import STOCHASTIC_SOLVERS

# Counter, key and words from Random123's table of known answers, for philox4x32-10.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@kernel
def call_philox(numbers):
    words = philox(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])
    for i in range(4):
        numbers[i] = words[i]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_is_the_published_one(counter, key, expected):
    numbers = np.array(counter + key, np.uint64)
    call_philox(numbers)
    assert numbers[:4].tolist() == expected
    assert [int(word) for word in naive.philox(counter, key)] == expected


@st.composite
def regularised(draw):
    """A random network that does not diverge, and parameters of the optimizer."""
    case = draw(cases().filter(lambda case: case.names[-1] != "exp"))
    rates = st.lists(
        st.sampled_from([0.0, 0.1, 0.5]),
        min_size=len(case.names) - 1,
        max_size=len(case.names) - 1,
    )
    case = replace(case, dropout=tuple(draw(rates)))
    if case.loss == "log_loss":
        case.smoothing = draw(st.sampled_from([0.0, 0.1, 0.7]))
    parameters = {"l1": draw(st.sampled_from([0.0, 0.05]))}
    parameters["clip_norm"] = draw(st.sampled_from([None, 1e-2, 1.0, 1e3]))
    return case, parameters


@few
@given(drawn=regularised(), solver=st.sampled_from(STOCHASTIC_SOLVERS), size=st.integers(1, 45))
def test_drawn_networks(matmul, drawn, solver, size):
    case, parameters = drawn
    check_epochs(case, solver, min(size, len(case.X)), **parameters)


@few
@given(drawn=regularised(), solver=st.sampled_from(STOCHASTIC_SOLVERS), size=st.integers(6, 45))
def test_batches_that_come_in_chunks(monkeypatch, drawn, solver, size):
    monkeypatch.setattr(engine_module, "CHUNK_ROWS", 5)
    case, parameters = drawn
    check_epochs(case, solver, min(size, len(case.X)), **parameters)


@few
@given(drawn=regularised(), size=st.integers(1, 45))
def test_drawn_networks_in_single_precision(drawn, size):
    case, parameters = drawn
    check_epochs(case, "sgd", min(size, len(case.X)), np.float32, **parameters)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("batch_size", [1, 11])
@pytest.mark.parametrize("activation", sorted(set(naive.SLOPES) - {"exp"}))
def test_dropout_of_every_activation(activation, batch_size, sparse):
    names = [activation, activation, "softmax"]
    case = make_case((5, 9, 7, 3), names, "log_loss", sparse=sparse)
    check_epochs(replace(case, dropout=(0.3, 0.6)), "adam", batch_size)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_so_many_units_are_dropped(rate):
    masks = naive.dropout_masks([rate], (1, 997, 1), SEED, 5, np.arange(200))
    assert np.mean(masks[0] == 0) == pytest.approx(rate, abs=0.005)
    assert np.mean(masks[0]) == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(masks[0][:-1].ravel(), masks[0][1:].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_the_norm_that_is_told_is_that_of_the_last_batch(solver):
    case = make_case((5, 9, 3), ["relu", "softmax"], "log_loss", 20)
    for clip_norm in (None, 0.01):
        engine = case.engine(batch_size=20, keep_gradient=clip_norm is not None)
        optimizer = make_optimizer(solver, alpha=0.3, clip_norm=clip_norm)
        optimizer.begin(engine.weights)
        (epochs,) = engine.train(number_rows(20), 1, optimizer)
        alpha = 0 if solver == "adamw" else 0.3
        _, by_w, by_b = naive.loss_and_gradients(
            case.coefs, case.intercepts, case.names, case.loss, case.X, case.y, alpha=alpha
        )
        expected = np.sqrt(sum((g**2).sum() for g in by_w + by_b))
        assert epochs.gradient_norms == [pytest.approx(expected, rel=1e-12)]


def test_padding_stays_zero():
    case = make_case((5, 9, 7, 3), ["logistic", "softplus", "softmax"], "log_loss", 20)
    case = replace(case, dropout=(0.4, 0.2))
    engine = case.engine(batch_size=6)
    optimizer = make_optimizer("adamw", l1=0.1, clip_norm=0.5)
    optimizer.begin(engine.weights)
    list(engine.train(number_rows(20), 3, optimizer))
    for vector in (engine.weights.flat, optimizer.first.flat, optimizer.second.flat):
        kept = engine.weights.with_padding(engine.weights.without_padding(vector))
        np.testing.assert_array_equal(vector, kept)
