"""The update rules: the settings of each step, and the state that is kept between calls.

With g the gradient of the mini-batch's mean loss plus its L2 penalty, r the learning rate and t the
number of the step:

========== =======================================================================================
sgd        ``v := momentum * v - r * g``, ``w += v``; with Nesterov's momentum
           ``w += momentum * v - r * g`` (Sutskever et al. 2013)
adam       ``m := beta_1 * m + (1 - beta_1) * g``, ``v := beta_2 * v + (1 - beta_2) * g**2``,
           ``w -= r * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``
           (Kingma and Ba 2015, arXiv:1412.6980, the form before their section 2.1)
adamw      ``w := (1 - r * alpha) * w``, then adam's step without the penalty, epsilon added to
           ``sqrt(v / (1 - beta_2**t))`` (Loshchilov and Hutter 2019, arXiv:1711.05101)
adagrad    ``v += g**2``, ``w -= r * g / (sqrt(v) + epsilon)`` (Duchi et al. 2011)
rmsprop    ``v := beta_2 * v + (1 - beta_2) * g**2``, ``w -= r * g / (sqrt(v) + epsilon)``
           (Tieleman and Hinton 2012)
========== =======================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.kernels import arrays, update
from fastbp.network import Weights
from fastbp.training.schedules import Schedule

__all__ = ["LEAST_RATE", "STOCHASTIC_SOLVERS", "Optimizer"]

STOCHASTIC_SOLVERS = ("sgd", "adam", "adamw", "adagrad", "rmsprop")

# The settings of steps are computed in advance: first for this many steps, then for twice as many
# each time, up to the maximum.
FEWEST_MADE, MOST_MADE = 256, 1024
LEAST_RATE = 1e-6  # at this rate or less, 'adaptive' and 'plateau' stop
NOT_ADAMS = ("invscaling", "adaptive")  # MLPClassifier's 'adam' ignores them

_CODES = {
    "sgd": update.SGD,
    "adam": update.ADAM,
    "adamw": update.ADAM,
    "adagrad": update.ADAGRAD,
    "rmsprop": update.ADAGRAD,
}


@dataclass
class Optimizer:
    """A stochastic solver: its parameters, named as the estimators', and its state."""

    solver: str
    learning_rate_init: float
    alpha: float
    schedule: str | Callable[[int, int], float]
    power_t: float
    momentum: float
    nesterovs_momentum: bool
    beta_1: float
    beta_2: float
    epsilon: float
    l1: float = 0.0
    clip_norm: float | None = None
    decay_rate: float = 0.1
    decay_epochs: float = 10.0
    warmup_epochs: float = 0.0
    learning_rate: float = field(init=False)
    steps_taken: int = field(default=0, init=False)
    first: Weights | None = field(default=None, init=False)  # velocity, or first moment
    second: Weights | None = field(default=None, init=False)  # second moment

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)
        self._make_schedule()
        self._forget_steps()

    def _make_schedule(self, *length: int) -> None:
        if self.solver == "adam" and self.schedule in NOT_ADAMS:
            self.schedule = "constant"
        decay = self.decay_rate, self.decay_epochs
        self._factors = Schedule(self.schedule, *decay, self.warmup_epochs, *length)

    def _forget_steps(self) -> None:
        self._made = np.empty((0, arrays.OF_STEP))
        self._made_from, self._made_for = 0, (np.nan, np.nan)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_schedule()
        self._forget_steps()

    def begin(
        self,
        weights: Weights,
        steps_per_epoch: int = 1,
        n_epochs: int = 1,
        make: Callable[..., Weights] = Weights,
    ) -> None:
        """Allocate the state as zeros, unless there is a state that fits these weights.

        The length of the training is for the schedule of the learning rate.
        """
        self._make_schedule(steps_per_epoch, int(n_epochs))
        self._forget_steps()
        for name, solvers in (
            ("first", ("sgd", "adam", "adamw")),
            ("second", ("adam", "adamw", "adagrad", "rmsprop")),
        ):
            state = getattr(self, name)
            if self.solver in solvers and (
                state is None or (state.units, state.dtype) != (weights.units, weights.dtype)
            ):
                setattr(self, name, make(weights.units, weights.dtype))

    def rule(self) -> dict[str, Any]:
        """Return the fields of `Solver` that serve all steps; call `begin` before."""
        empty = np.empty(0, (self.first or self.second).dtype)  # type: ignore[union-attr]
        first = self.first.flat if self.first else empty
        second = self.second.flat if self.second else empty
        nesterov = self.solver == "sgd" and self.nesterovs_momentum
        code = update.NESTEROV if nesterov else _CODES[self.solver]
        return {"code": code, "first": first, "second": second}

    def next_steps(self, n_steps: int) -> dict[str, Any]:
        """Return the fields of `Solver` for the next steps.

        They may include steps before and after; if all steps are alike, one row serves all.
        """
        made_for = (self.learning_rate, self.alpha)
        are_alike = self.steps_are_alike
        end = self._made_from + len(self._made)
        there = are_alike or self._made_from <= self.steps_taken <= end - n_steps
        if not there or made_for != self._made_for:
            n_made = min(max(2 * len(self._made), FEWEST_MADE), MOST_MADE)
            self._settings = self._make_settings()
            n_made = 1 if are_alike else max(n_steps, n_made)
            self._made = self._make_steps(self.steps_taken, n_made, self.learning_rate)
            self._made_from, self._made_for = self.steps_taken, made_for
        return {"settings": self._settings, "steps": self._made, "steps_from": self._made_from}

    def steps_ahead(
        self, n_epochs: int, steps_per_epoch: int, samples_per_epoch: int
    ) -> dict[str, Any]:
        """Return the fields of `Solver` for the steps of the next `n_epochs` epochs.

        No halt may change the learning rate during these epochs.
        """
        if self.keeps_its_rate:
            return self.next_steps(n_epochs * steps_per_epoch)
        end = self.steps_taken + n_epochs * steps_per_epoch
        epochs = []
        for first in range(self.steps_taken, end, steps_per_epoch):
            rate = self._rate_after(first // steps_per_epoch * samples_per_epoch)
            epochs.append(self._make_steps(first, steps_per_epoch, rate))
        return {
            "settings": self._make_settings(),
            "steps": np.concatenate(epochs),
            "steps_from": self.steps_taken,
        }

    @property
    def steps_are_alike(self) -> bool:
        """Whether all steps have the same settings while the learning rate does not change."""
        return self.solver not in ("adam", "adamw") and self._factors.is_constant

    @property
    def after_halt(self) -> tuple[float, float] | None:
        """Factor and divisor of the learning rate after a halt; None if training ends there."""
        return {"adaptive": (1.0, 5.0), "plateau": (self.decay_rate, 1.0)}.get(str(self.schedule))

    def _make_settings(self) -> NDArray[Any]:
        settings = np.zeros(arrays.N_SETTINGS)
        settings[arrays.PENALTY] = 0 if self.solver == "adamw" else self.alpha
        settings[arrays.BETA_1] = self.momentum if self.solver == "sgd" else self.beta_1
        settings[arrays.REST_1] = 1 - self.beta_1
        settings[arrays.BETA_2] = 1 if self.solver == "adagrad" else self.beta_2
        settings[arrays.REST_2] = 1 if self.solver == "adagrad" else 1 - self.beta_2
        settings[arrays.L1] = self.l1
        settings[arrays.CLIP] = self.clip_norm or 0
        return settings

    def _make_steps(self, first: int, n_steps: int, rate: float) -> NDArray[Any]:
        steps = np.empty((n_steps, arrays.OF_STEP))
        steps[:, arrays.RATE] = rate
        steps[:, arrays.EPSILON] = self.epsilon
        steps[:, arrays.DECAY] = 1
        if not self._factors.is_constant:
            numbers = np.arange(first, first + n_steps)
            steps[:, arrays.RATE] *= self._factors.of_steps(numbers)
        if self.solver == "adamw":
            steps[:, arrays.DECAY] -= steps[:, arrays.RATE] * self.alpha
        if self.solver in ("adam", "adamw"):
            correction, of_first = _correct_bias(self.beta_1, self.beta_2, first, n_steps)
            steps[:, arrays.RATE] *= correction / of_first
            if self.solver == "adamw":
                steps[:, arrays.EPSILON] *= correction
        return steps

    @property
    def keeps_its_rate(self) -> bool:
        """Whether the learning rate does not change until training halts."""
        return self.schedule != "invscaling"

    def rates(self, steps: range) -> list[float]:
        """Return the learning rates of the steps with these numbers, counted from 0."""
        if self._factors.is_constant:
            return [self.learning_rate] * len(steps)
        rates: list[float] = (self.learning_rate * self._factors.of_steps(np.array(steps))).tolist()
        return rates

    def end_epoch(self, samples_seen: int) -> None:
        """Set the learning rate of the next epoch, after `samples_seen` samples in all."""
        if not self.keeps_its_rate:
            self.learning_rate = self._rate_after(samples_seen)

    def _rate_after(self, samples_seen: int) -> float:
        """Return the rate of 'invscaling'."""
        rate: float = self.learning_rate_init / (samples_seen + 1) ** self.power_t
        return rate

    def react_to_halt(self) -> tuple[bool, str]:
        """Lower the learning rate if the schedule does; return whether to go on, and a message.

        'adaptive' continues with a fifth of the rate, 'plateau' with `decay_rate` times the rate,
        until it is 1e-6 or less.
        """
        if self.after_halt is None:
            return False, "Stopping."
        if self.learning_rate <= LEAST_RATE:
            return False, "Learning rate too small. Stopping."
        factor, divisor = self.after_halt
        self.learning_rate = self.learning_rate * factor / divisor
        return True, f"Setting learning rate to {self.learning_rate:f}"


@lru_cache(maxsize=4)
def _correct_bias(
    beta_1: float, beta_2: float, steps_taken: int, n_steps: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``sqrt(1 - beta_2**t)`` and ``1 - beta_1**t`` for steps t, the same in many fits."""
    t = np.arange(steps_taken + 1, steps_taken + n_steps + 1)
    return np.sqrt(1 - beta_2**t), 1 - beta_1**t
