"""Schedules of the learning rate: the factor that multiplies it at each step.

With t the number of the step from 0 on, n the number of all steps, and e the epoch as a fraction:

=========== =======================================================================================
cosine      ``(1 + cos(pi * t / n)) / 2`` (Loshchilov and Hutter 2017, arXiv:1608.03983)
one_cycle   along cosines from 1/25 up to 1 in the first 30 % of the steps, then down to 1/250,000
            (Smith and Topin 2018, arXiv:1708.07120; the shape of PyTorch's OneCycleLR)
exponential ``decay_rate ** (e / decay_epochs)``
step        ``decay_rate ** floor(e / decay_epochs)``
=========== =======================================================================================

A warm-up may precede the schedule: the rate rises evenly, step by step, to the schedule's first
value (Goyal et al. 2017, arXiv:1706.02677). The schedules 'constant', 'invscaling', 'adaptive' and
'plateau' do not change the rate from step to step; see `end_epoch` and `react_to_halt` of
`fastbp.training.solvers.Optimizer`. 'plateau' is PyTorch's ReduceLROnPlateau; He et al. (2016,
arXiv:1512.03385) divided the rate by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BY_EPOCHS", "BY_STEPS", "Schedule", "needs_length"]

Array = NDArray[Any]

BY_EPOCHS = ("constant", "invscaling", "adaptive", "plateau")
BY_STEPS = ("cosine", "one_cycle", "exponential", "step")

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_FIRST = 1 / 25
ONE_CYCLE_LAST = ONE_CYCLE_FIRST / 1e4

MOST_STEPS = 2**53  # of a warm-up: training never reaches more


def needs_length(name: str | Callable[[int, int], float]) -> bool:
    """Return whether a schedule depends on the number of epochs."""
    return callable(name) or name in ("cosine", "one_cycle")


@dataclass
class Schedule:
    """A schedule for a training of a known length.

    Parameters
    ----------
    name : str or callable
        A schedule by its name above, or a function of t and n that returns the factor.
    decay_rate, decay_epochs : float
    warmup_epochs : float
    steps_per_epoch : int
    n_epochs : int
        The length of the training; after it, the factor keeps its last value.
    """

    name: str | Callable[[int, int], float]
    decay_rate: float
    decay_epochs: float
    warmup_epochs: float
    steps_per_epoch: int = 1
    n_epochs: int = 1

    @property
    def is_constant(self) -> bool:
        """Whether the factor is 1 in all steps."""
        return self.name in BY_EPOCHS and self.warmup_epochs == 0

    def of_steps(self, steps: Array) -> Array:
        """Return the factors, (n,), of the steps with these numbers."""
        if self.is_constant:
            return np.ones(len(steps))
        warmup = round(min(float(self.warmup_epochs) * self.steps_per_epoch, MOST_STEPS))
        rising = np.minimum(1.0, (steps + 1) / (warmup + 1))
        n_steps = max(1, self.n_epochs * self.steps_per_epoch - warmup)
        steps = np.clip(steps - warmup, 0, n_steps - 1)
        return rising * self._shape(steps, n_steps)

    def _shape(self, steps: Array, n_steps: int) -> Array:
        if callable(self.name):
            numbers, where = np.unique(steps, return_inverse=True)
            factors: Array = np.array([_ask(self.name, int(t), n_steps) for t in numbers])
            return factors[where]
        if self.name == "cosine":
            return _between(1.0, 0.0, steps / n_steps)
        if self.name == "one_cycle":
            top, last = ONE_CYCLE_RISE * n_steps - 1, n_steps - 1
            rise = np.clip(steps / top if top > 0 else np.ones_like(steps), 0, 1)
            fall = np.clip((steps - top) / (last - top), 0, 1)
            up = _between(ONE_CYCLE_FIRST, 1.0, rise)
            return np.where(steps <= top, up, _between(1.0, ONE_CYCLE_LAST, fall))
        if self.name in ("exponential", "step"):
            drops = steps / (float(self.decay_epochs) * self.steps_per_epoch)
            # 1.1 epochs of 50 steps are 55 steps, but slightly more in floating point
            return self.decay_rate ** (np.floor(drops + 1e-9) if self.name == "step" else drops)
        return np.ones_like(steps)


def _ask(function: Callable[[int, int], float], t: int, n: int) -> float:
    """Return the factor that a user's function returns for step t of n."""
    try:
        factor = np.asarray(function(t, n))
    except Exception as error:
        error.add_note(f"This was raised by learning_rate, called as a function of ({t}, {n}).")
        raise
    is_number = factor.ndim == 0 and factor.dtype.kind in "fiub"
    if not (is_number and 0 <= factor < np.inf):
        raise ValueError(
            "learning_rate must return a finite number, 0 or more, got "
            f"{factor.tolist()!r} for ({t}, {n})."
        )
    return float(factor)


def _between(first: float, last: float, part: Array) -> Array:
    """Return points on half a cosine from `first` to `last`, where `part` runs from 0 to 1."""
    return last + (first - last) * (1 + np.cos(np.pi * part)) / 2
