"""The state of solvers, and their learning rates from epoch to epoch."""

import pickle

import numpy as np
import pytest
from networks import make_case, make_optimizer

from fastbp import BPRegressor
from fastbp.network import Weights
from fastbp.samples import number_rows
from fastbp.training.solvers import STOCHASTIC_SOLVERS, Optimizer


def train(solver, n_steps, **parameters):
    case = make_case((3, 4, 1), ["tanh", "identity"], "squared_error")
    engine = case.engine(keep_gradient=False)
    optimizer = make_optimizer(solver, **parameters)
    optimizer.begin(engine.weights)
    for _ in range(n_steps):
        list(engine.train(number_rows(11), 1, optimizer))
    return case, engine.weights, optimizer


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
        list(engine.train(number_rows(11), 1, state))
        results.append(engine.weights.flat.copy())
    np.testing.assert_array_equal(*results)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["adam", "adamw", "adagrad", "rmsprop"])
def test_an_epsilon_that_is_no_normal_number(solver, dtype):
    """Flushed to 0, it once made the padding's weights NaN, and so the loss."""
    X = np.random.default_rng(0).standard_normal((60, 5)).astype(dtype)
    losses = []
    for epsilon in (np.finfo(dtype).tiny / 2, 1e-30):
        model = BPRegressor(solver=solver, epsilon=epsilon, max_iter=5, random_state=0)
        losses.append(model.fit(X, X[:, 0]).loss_)
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_state_is_kept_for_the_same_weights_only():
    _, weights, optimizer = train("adam", 2)
    first = optimizer.first
    optimizer.begin(weights)
    assert optimizer.first is first
    optimizer.begin(Weights((3, 5, 1), np.float64))
    assert optimizer.first is not first
    assert not optimizer.first.flat.any()
    optimizer.begin(Weights((3, 5, 1), np.float32))
    assert optimizer.first.dtype == np.float32


@pytest.mark.parametrize(("solver", "most"), [("adam", 5), ("sgd", 1)])
def test_what_steps_go_by_is_made_ahead(solver, most, monkeypatch):
    made, make = [], Optimizer._make_steps

    def note(self, *arguments):
        made.append(arguments)
        return make(self, *arguments)

    monkeypatch.setattr(Optimizer, "_make_steps", note)
    optimizer = make_optimizer(solver)
    optimizer.begin(Weights((3, 4, 1), np.float64))
    for t in range(1500):
        optimizer.steps_taken = t
        ahead = optimizer.next_steps(1)
        if solver == "adam":
            (expected,) = make(optimizer, t, 1, optimizer.learning_rate)
            np.testing.assert_allclose(ahead["steps"][t - ahead["steps_from"]], expected)
    assert len(made) <= most


@pytest.mark.parametrize(("rate", "goes_on"), [(0.9e-6, False), (1e-6, False), (1.01e-6, True)])
def test_the_least_rate(rate, goes_on):
    optimizer = make_optimizer("sgd", schedule="adaptive", learning_rate_init=rate)
    assert optimizer.react_to_halt()[0] is goes_on


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_schedules(schedule):
    optimizer = make_optimizer("sgd", schedule=schedule, learning_rate_init=0.1, power_t=0.25)
    optimizer.end_epoch(99)
    assert optimizer.learning_rate == (0.1 / 100**0.25 if schedule == "invscaling" else 0.1)
    goes_on, what = optimizer.react_to_halt()
    assert goes_on == (schedule == "adaptive")
    if goes_on:
        assert what == "Setting learning rate to 0.020000"
        while goes_on:
            goes_on, what = optimizer.react_to_halt()
        assert what == "Learning rate too small. Stopping."
        assert optimizer.learning_rate <= 1e-6
