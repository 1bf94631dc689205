"""Solvers beside the oracle's: their sources' rules, their state, and PyTorch's steps."""

import pickle

import numpy as np
import pytest
from networks import make_case, make_optimizer

from fastbp.network import Weights
from fastbp.training.solvers import STOCHASTIC_SOLVERS


def train(solver, n_steps, **parameters):
    case = make_case((3, 4, 1), ["tanh", "identity"], "squared_error")
    engine = case.engine(keep_gradient=False)
    optimizer = make_optimizer(solver, **parameters)
    optimizer.begin(engine.weights)
    for _ in range(n_steps):
        list(engine.train(np.arange(11), 1, optimizer))
    return case, engine.weights, optimizer


TORCH = {
    "sgd": lambda torch, p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adamw": lambda torch, p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, eps=1e-6),
    "adagrad": lambda torch, p: torch.optim.Adagrad(p, lr=0.01, eps=1e-6),
    "rmsprop": lambda torch, p: torch.optim.RMSprop(p, lr=0.01, alpha=0.999, eps=1e-6),
}


@pytest.mark.parametrize("solver", TORCH)
def test_pytorchs_steps(solver):
    """Where PyTorch has the same rule. Biases decay there, so here there are none to speak of."""
    torch = pytest.importorskip("torch")
    alpha = 0.1 if solver == "adamw" else 0.0
    case, weights, _ = train(solver, 5, alpha=alpha, epsilon=1e-6)
    coefs = [torch.tensor(w, requires_grad=True) for w in case.coefs]
    biases = [torch.tensor(b, requires_grad=True) for b in case.intercepts]
    groups = [{"params": coefs}, {"params": biases, "weight_decay": 0.0}]
    optimizer = TORCH[solver](torch, groups)
    X, y = torch.tensor(case.X), torch.tensor(case.y)
    for _ in range(5):
        optimizer.zero_grad()
        hidden = torch.tanh(X @ coefs[0] + biases[0])
        loss = 0.5 * ((hidden @ coefs[1] + biases[1] - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    for mine, theirs in zip(weights.coefs + weights.intercepts, coefs + biases, strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_state_survives_a_pickle(solver):
    case, weights, optimizer = train(solver, 3)
    copy, twin = (
        pickle.loads(pickle.dumps(optimizer)),
        Weights.of(weights.coefs, weights.intercepts, weights.dtype),
    )
    results = []
    for state, start in ((optimizer, weights), (copy, twin)):
        engine = case.engine(keep_gradient=False)
        engine.weights.flat[...] = start.flat
        list(engine.train(np.arange(11), 1, state))
        results.append(engine.weights.flat.copy())
    np.testing.assert_array_equal(*results)


def test_state_is_kept_for_the_same_weights_only():
    _, weights, optimizer = train("adam", 2)
    first = optimizer.first
    optimizer.begin(weights)
    assert optimizer.first is first
    optimizer.begin(Weights((3, 5, 1), np.float64))
    assert optimizer.first is not first
    assert not optimizer.first.flat.any()


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_schedules(schedule):
    optimizer = make_optimizer("sgd", schedule=schedule, learning_rate_init=0.1, power_t=0.25)
    optimizer.end_epoch(99)
    assert optimizer.learning_rate == (0.1 / 100**0.25 if schedule == "invscaling" else 0.1)
    goes_on, what = optimizer.goes_on()
    assert goes_on == (schedule == "adaptive")
    if goes_on:
        assert what == "Setting learning rate to 0.020000"
        while goes_on:
            goes_on, what = optimizer.goes_on()
        assert what == "Learning rate too small. Stopping."
        assert optimizer.learning_rate <= 1e-6
