"""Gradients against central differences and against the oracle, in float64."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from networks import evaluate, make_case

from fastbp.samples import number_rows

HIDDEN = sorted(set(naive.SLOPES) - {"exp"})
DEPTHS = [(4, 3), (4, 6, 3), (4, 5, 7, 3)]

# Every loss with each output that it is defined for.
OUTPUTS = [
    ("log_loss", "softmax", 3),
    ("log_loss", "logistic", 1),
    ("log_loss", "logistic", 3),
    ("squared_error", "softmax", 3),
    *(("squared_error", name, 2) for name in sorted(naive.SLOPES)),
    ("squared_error", "identity", 1),
    ("poisson", "exp", 2),
    ("poisson", "softplus", 2),
    ("poisson", "logistic", 1),
    ("gamma", "exp", 2),
    ("gamma", "softplus", 1),
    *((name, "identity", 2) for name in naive.RESIDUALS),
    *((name, "tanh", 1) for name in naive.RESIDUALS),
]


def numeric_gradient(engine, rows, alpha):
    """Return central differences of the objective, in the layout of the parameters."""
    step = 1e-6
    flat = engine.weights.flat
    gradient = np.zeros_like(flat)
    for i in np.flatnonzero(engine.weights.with_padding(np.ones(used(engine.weights)))):
        before = flat[i]
        values = []
        for moved in (before + step, before - step):
            flat[i] = moved
            values.append(evaluate(engine, rows, alpha)[0])
        flat[i] = before
        gradient[i] = (values[0] - values[1]) / (2 * step)
    return gradient


def used(weights):
    return len(weights.without_padding(weights.flat))


def check(case, alpha):
    engine = case.engine(by_lbfgs=True)
    rows = number_rows(len(case.X))
    _, gradient, loss = evaluate(engine, rows, alpha)
    value, by_w, by_b = naive.loss_and_gradients(
        case.coefs, case.intercepts, case.names, case.loss, case.X, case.targets(), case.weight,
        alpha,
    )  # fmt: skip
    np.testing.assert_allclose(loss, value, rtol=1e-12)
    for mine, theirs in zip(engine.weights.split(gradient), (by_w, by_b), strict=True):
        for view, exact in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(view, exact, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        gradient, numeric_gradient(engine, rows, alpha), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("units", DEPTHS, ids=str)
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation(activation, units, alpha, weighted):
    names = [activation] * (len(units) - 2) + ["softmax"]
    check(make_case(units, names, "log_loss", weighted=weighted), alpha)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(("loss", "output", "n_outputs"), OUTPUTS)
def test_every_loss_and_output(loss, output, n_outputs, depth, alpha, weighted):
    units = (4, *[5, 6][:depth], n_outputs)
    names = [*["tanh", "silu"][:depth], output]
    check(make_case(units, names, loss, weighted=weighted, seed=1), alpha)


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
@pytest.mark.parametrize(
    ("output", "n_outputs"), [("softmax", 3), ("logistic", 1), ("logistic", 3)]
)
def test_smoothed_labels(output, n_outputs, smoothing):
    case = make_case((4, 5, n_outputs), ["tanh", output], "log_loss", weighted=True, seed=1)
    check(replace(case, smoothing=smoothing), 0.5)


@pytest.mark.parametrize("weighted", [False, True])
def test_sparse(weighted):
    names = ["relu", "gelu", "softmax"]
    check(make_case((9, 5, 4, 3), names, "log_loss", weighted=weighted, sparse=True, seed=2), 0.1)


def test_one_activation_per_layer():
    names = ["gelu", "relu", "identity", "tanh", "logistic"]
    check(make_case((3, 4, 5, 6, 4, 2), names, "log_loss", seed=3), 0.1)
