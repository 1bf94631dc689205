"""Schedules of the learning rate: formulas, PyTorch's schedulers, whole fits, users' functions."""

from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from trainings import (
    BATCH_SIZE,
    CASE,
    N_EPOCHS,
    N_STEPS,
    PYTORCH,
    RATE,
    STEPS_PER_EPOCH,
    assert_same_bits,
    assert_same_training,
    estimator,
    fit,
    fit_by_oracle,
    fit_in_pytorch,
    labels,
)

from fastbp.training.schedules import Schedule
from fastbp.training.solvers import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_SAMPLES = len(CASE.X)
WARMUP = 1.4  # epochs
N_RISING = 7  # steps in these epochs


class Row(NamedTuple):
    """A schedule: the factor of step t of n, PyTorch's scheduler, and the parameters."""

    factor: Callable[[int, int], float]
    scheduler: Callable[[Any, Any, int], Any]
    parameters: Any = MappingProxyType({})


def one_cycle(t, n):
    top, low = 0.3 * n - 1, 1 / 250_000
    if t <= top:
        return 1 / 25 + (1 - 1 / 25) * (1 - cos(pi * t / top)) / 2
    return low + (1 - low) * (1 + cos(pi * (t - top) / (n - 1 - top))) / 2


def function(t, n):
    return 0.5 ** (3 * t / n)


SCHEDULES = {
    "constant": Row(lambda t, n: 1, lambda lr, optimizer, n: lr.ConstantLR(optimizer, 1.0)),
    "cosine": Row(
        lambda t, n: (1 + cos(pi * t / n)) / 2,
        lambda lr, optimizer, n: lr.CosineAnnealingLR(optimizer, n),
    ),
    "one_cycle": Row(
        one_cycle, lambda lr, optimizer, n: lr.OneCycleLR(optimizer, RATE, n, cycle_momentum=False)
    ),
    "exponential": Row(
        lambda t, n: 0.3 ** (t / STEPS_PER_EPOCH / 2.5),
        lambda lr, optimizer, n: lr.ExponentialLR(optimizer, 0.3 ** (1 / STEPS_PER_EPOCH / 2.5)),
        {"decay_rate": 0.3, "decay_epochs": 2.5},
    ),
    "step": Row(
        lambda t, n: 0.3 ** (t // 6),
        lambda lr, optimizer, n: lr.StepLR(optimizer, 6, 0.3),
        {"decay_rate": 0.3, "decay_epochs": 1.2},
    ),
    "function": Row(
        function,
        lambda lr, optimizer, n: lr.LambdaLR(optimizer, lambda t: function(t, n)),
        {"learning_rate": function},
    ),
}
all_schedules = pytest.mark.parametrize("name", SCHEDULES)
with_warmup = pytest.mark.parametrize("warmup_epochs", [0, WARMUP])


def parameters_of(name, warmup_epochs=0):
    return {"learning_rate": name, "warmup_epochs": warmup_epochs} | SCHEDULES[name].parameters


def factors(name, warmup_epochs):
    """Return the factor of each step by the formula."""
    rising = N_RISING if warmup_epochs else 0
    n = N_STEPS - rising
    return [
        min(1, (step + 1) / (rising + 1)) * SCHEDULES[name].factor(max(0, step - rising), n)
        for step in range(N_STEPS)
    ]


def make_scheduler(name, warmup_epochs):
    """Return a function that makes PyTorch's scheduler for an optimizer."""
    if not warmup_epochs:
        return lambda lr, optimizer: SCHEDULES[name].scheduler(lr, optimizer, N_STEPS)

    def scheduler(lr, optimizer):
        first = lr.LinearLR(optimizer, 1 / (N_RISING + 1), total_iters=N_RISING)
        then = SCHEDULES[name].scheduler(lr, optimizer, N_STEPS - N_RISING)
        return lr.SequentialLR(optimizer, [first, then], [N_RISING])

    return scheduler


# Against formulas and PyTorch -------------------------------------------------------------------


def test_a_warmup_is_rounded_to_steps():
    schedule = Schedule("constant", 0.1, 10, 0.29, steps_per_epoch=100, n_epochs=5)
    np.testing.assert_allclose(schedule.of_steps(np.array([28, 29])), [29 / 30, 1])


def test_a_long_step_falls_at_its_end():
    schedule = Schedule("step", 0.5, 100, 0, steps_per_epoch=50, n_epochs=200)
    np.testing.assert_array_equal(schedule.of_steps(np.array([4999, 5000])), [1, 0.5])


def test_a_function_is_called_once_for_a_warmup_and_may_return_0():
    calls = []

    def function(*arguments):
        calls.append(arguments)
        return 0

    schedule = Schedule(function, 0.1, 10, 2, steps_per_epoch=5, n_epochs=4)
    assert not schedule.of_steps(np.arange(10)).any()
    assert calls == [(0, 10)]


def make_schedule(name, warmup_epochs):
    parameters = {"decay_rate": 0.1, "decay_epochs": 10} | parameters_of(name, warmup_epochs)
    function = parameters.pop("learning_rate")
    return Schedule(function, **parameters, steps_per_epoch=STEPS_PER_EPOCH, n_epochs=N_EPOCHS)


@all_schedules
@with_warmup
def test_formulas(name, warmup_epochs):
    expected = factors(name, warmup_epochs)
    expected += 2 * expected[-1:]  # after the last step the rate stays
    steps = np.array([*range(N_STEPS), N_STEPS, N_STEPS + 100])
    actual = make_schedule(name, warmup_epochs).of_steps(steps)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def rates_in_pytorch(make_scheduler, told):
    """Return a PyTorch scheduler's rate before each step; `told` has the arguments of each."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = make_scheduler(torch.optim.lr_scheduler, optimizer)
    rates = []
    for what in told:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*what)
    return rates


@all_schedules
@with_warmup
def test_pytorchs_schedulers(name, warmup_epochs):
    rates = rates_in_pytorch(make_scheduler(name, warmup_epochs), [()] * N_STEPS)
    actual = RATE * make_schedule(name, warmup_epochs).of_steps(np.arange(N_STEPS))
    np.testing.assert_allclose(actual, rates, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 11])
def test_one_cycle_of_few_steps(n):
    """30 % of 3 steps is less than one step."""
    rates = rates_in_pytorch(lambda lr, o: SCHEDULES["one_cycle"].scheduler(lr, o, n), [()] * n)
    schedule = Schedule("one_cycle", 0.1, 10, 0, steps_per_epoch=1, n_epochs=n)
    np.testing.assert_allclose(RATE * schedule.of_steps(np.arange(n)), rates, rtol=1e-12)


@all_schedules
@with_warmup
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_whole_fits(solver, name, warmup_epochs):
    model = fit(CASE, solver=solver, **parameters_of(name, warmup_epochs))
    rates = RATE * np.array(factors(name, warmup_epochs))
    assert_same_training(model, fit_by_oracle(CASE, solver, rates))
    np.testing.assert_allclose(  # the last step of each epoch
        model.history_["learning_rate"], rates[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH], rtol=1e-12
    )


@all_schedules
@with_warmup
@pytest.mark.parametrize("solver", PYTORCH)
def test_whole_fits_in_pytorch(solver, name, warmup_epochs):
    model = fit(CASE, solver=solver, **parameters_of(name, warmup_epochs))
    scheduler = make_scheduler(name, warmup_epochs)
    assert_same_training(model, fit_in_pytorch(CASE, solver, scheduler))


def test_steps_of_a_whole_number_of_batches():
    """1.1 * 50 is slightly more than 55 in floating point."""
    schedule = Schedule("step", 0.5, 1.1, 0, steps_per_epoch=50, n_epochs=5)
    factors = schedule.of_steps(np.array([54, 55, 109, 110]))
    np.testing.assert_array_equal(factors, [1, 0.5, 0.5, 0.25])


@pytest.mark.parametrize("warmup_epochs", [N_EPOCHS, 1e9, 1e308])
def test_a_warmup_may_be_longer_than_the_training(warmup_epochs):
    model = fit(CASE, learning_rate="cosine", warmup_epochs=warmup_epochs)
    steps = STEPS_PER_EPOCH * np.arange(1, N_EPOCHS + 1)
    expected = RATE * steps / (warmup_epochs * STEPS_PER_EPOCH + 1)
    np.testing.assert_allclose(model.history_["learning_rate"], expected, atol=1e-15)


# Schedules by epochs ----------------------------------------------------------------------------

HALTS = {"tol": 1e9, "n_iter_no_change": 1, "max_iter": 9}
N_HALTS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])  # before each epoch, since training began
SCALED = [1, *(1 / (N_SAMPLES * np.arange(1, 3) + 1) ** 0.3)]
ALL_BUT_ADAM = [solver for solver in STOCHASTIC_SOLVERS if solver != "adam"]


@with_warmup
@pytest.mark.parametrize(
    ("solver", "name", "factors"),
    [
        ("sgd", "constant", [1] * 3),
        *((solver, "invscaling", SCALED) for solver in ALL_BUT_ADAM),
        *((solver, "adaptive", 0.2**N_HALTS) for solver in ALL_BUT_ADAM),
        *((solver, "plateau", 0.7**N_HALTS) for solver in STOCHASTIC_SOLVERS),
    ],
)
def test_rates_of_epochs(solver, name, factors, warmup_epochs):
    parameters = {"solver": solver, "learning_rate": name, "warmup_epochs": warmup_epochs}
    model = fit(CASE, power_t=0.3, decay_rate=0.7, **HALTS, **parameters)
    rates = RATE * np.repeat(factors, STEPS_PER_EPOCH)
    if warmup_epochs:
        rates *= np.minimum(1, np.arange(1, len(rates) + 1) / (N_RISING + 1))
    assert_same_training(model, fit_by_oracle(CASE, solver, rates))
    np.testing.assert_allclose(
        model.history_["learning_rate"], rates[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["invscaling", "adaptive"])
def test_adam_takes_them_for_constant(name):
    """As does MLPClassifier's Adam."""
    model = fit(CASE, solver="adam", learning_rate=name, **HALTS)
    assert_same_bits(model, fit(CASE, solver="adam", **HALTS))


@pytest.mark.parametrize("tol", [0.0, 1e9])
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_plateau_is_pytorchs(solver, tol):
    """Until the rate is at its least, with noisy losses that all or never count as improved."""
    case = replace(CASE, dropout=(0.5, 0.5))
    settings = {"solver": solver, "tol": tol, "n_iter_no_change": 2, "max_iter": 500}
    model = fit(case, learning_rate="plateau", decay_rate=0.3, **settings)
    rates = rates_in_pytorch(
        lambda lr, optimizer: lr.ReduceLROnPlateau(
            optimizer, factor=0.3, patience=2, threshold=tol, threshold_mode="abs", eps=0
        ),
        [(loss,) for loss in model.loss_curve_],
    )
    np.testing.assert_allclose(model.history_["learning_rate"], rates, rtol=1e-12)
    assert 0.3e-6 < rates[-1] <= 1e-6


# Continued training -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SCHEDULES, "plateau", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw"])
@with_warmup
def test_partial_fit_goes_on_along_the_schedule(name, solver, warmup_epochs):
    """The schedule spans `max_iter` calls; after them the rate stays."""
    parameters = {"learning_rate": name, "solver": solver, "warmup_epochs": warmup_epochs}
    parameters |= SCHEDULES[name].parameters if name in SCHEDULES else {**HALTS, "max_iter": 6}
    whole, model = (estimator(CASE, **parameters) for _ in range(2))
    whole.fit(CASE.X, labels(CASE))
    for _ in range(whole.n_iter_):
        model.partial_fit(CASE.X, labels(CASE), classes=[0, 1, 2])
    assert_same_bits(model, whole)
    if name in SCHEDULES:
        rates = model.partial_fit(CASE.X, labels(CASE)).history_["learning_rate"]
        assert rates[-1] == rates[-2]


@all_schedules
def test_warm_start_begins_the_schedule_anew(name):
    model = fit(CASE, warm_start=True, **parameters_of(name, WARMUP))
    start = {"coef_init": model.coefs_, "intercept_init": model.intercepts_}
    again = estimator(CASE, **parameters_of(name, WARMUP)).fit(CASE.X, labels(CASE), **start)
    model.fit(CASE.X, labels(CASE))
    rates = model.history_["learning_rate"]
    np.testing.assert_array_equal(rates[:N_EPOCHS], rates[N_EPOCHS:])
    assert_same_bits(model, again, N_EPOCHS)


# Users' functions -------------------------------------------------------------------------------


@with_warmup
@pytest.mark.parametrize("batch_size", [BATCH_SIZE, "full"])
def test_what_a_function_is_called_with(batch_size, warmup_epochs):
    """Python integers: the step after the warm-up, and the number of such steps."""
    calls = []

    def function(*arguments):
        calls.append(arguments)
        return 1.0

    parameters = {"learning_rate": function, "warmup_epochs": warmup_epochs}
    fit(CASE, batch_size=batch_size, **parameters)
    n = N_EPOCHS * (1 if batch_size == "full" else STEPS_PER_EPOCH)
    n -= round(warmup_epochs * n / N_EPOCHS)
    assert set(calls) == {(t, n) for t in range(n)}
    assert {type(number) for call in calls for number in call} == {int}


@pytest.mark.parametrize("value", [1, True, np.float32(1), np.array(1), np.int8(1)], ids=repr)
def test_numbers_of_any_kind(value):
    assert_same_bits(
        fit(CASE, learning_rate=lambda t, n: value), fit(CASE, learning_rate="constant")
    )


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -1e-9, "a", "0.5", None, 1j, [1.0], np.ones(1), 10**400], ids=repr
)
@pytest.mark.parametrize("step", [0, 7])
def test_what_is_no_factor(step, value):
    with pytest.raises(ValueError, match=rf"learning_rate must return .* for \({step}, 20\)"):
        fit(CASE, learning_rate=lambda t, n: value if t == step else 1.0)


def test_errors_of_functions_come_through():
    for function, error in ((lambda t: 1.0, TypeError), (lambda t, n: 1 / t, ZeroDivisionError)):
        with pytest.raises(error, match="learning_rate, called as a function of"):
            fit(CASE, learning_rate=function)
