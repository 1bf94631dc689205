"""The state of L-BFGS, from which it goes on, in this process or in another one."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from fastbp.kernels import lbfgs as kernel
from fastbp.kernels.arrays import N_SETTINGS, OF_STEP, PENALTY
from fastbp.kernels.losses import OF_RESIDUALS
from fastbp.kernels.update import LBFGS
from fastbp.network import Weights, aligned_zeros, transpose_weights
from fastbp.training.engine import Engine

__all__ = ["LimitedMemory", "ask_for", "describe_end", "make_settings", "reopen"]

Array = NDArray[Any]

# How it ends, by stage: scipy's status and words.
_ENDS = {
    kernel.SMALL_GRADIENT: (0, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL"),
    kernel.SMALL_REDUCTION: (0, "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH"),
    kernel.MOST_ITERATIONS: (1, "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT"),
    kernel.MOST_EVALUATIONS: (1, "STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT"),
    kernel.NO_STEP: (2, "ABNORMAL: "),
}


def ask_for(
    numbers: Array,
    loss: str,
    n_outputs: int,
    total_weight: float,
    *,
    tol: float,
    max_iter: int,
    max_fun: int,
) -> None:
    """Write down what is to be minimised, and when to end; numbers as in `kernels/lbfgs.py`."""
    numbers[kernel.N_ERRORS] = n_outputs if loss in OF_RESIDUALS else 1
    numbers[kernel.TOTAL_WEIGHT] = total_weight
    numbers[kernel.TOLERANCE] = tol
    numbers[kernel.MAX_ITER], numbers[kernel.MAX_FUN] = max_iter, max_fun


def make_settings(alpha: float) -> dict[str, Any]:
    """Return what the kernels need for an evaluation, of `Solver`."""
    settings = np.zeros(N_SETTINGS)
    settings[PENALTY] = alpha
    return {"settings": settings, "steps": np.zeros((1, OF_STEP)), "steps_from": 0}


def reopen(numbers: Array) -> None:
    """Let what has come to a limit go on from there, under other limits."""
    if numbers[kernel.STAGE] in (kernel.MOST_ITERATIONS, kernel.MOST_EVALUATIONS):
        numbers[kernel.STAGE] = kernel.AT_ITERATE


def describe_end(numbers: Array) -> OptimizeResult:
    """Return status, message and nit as scipy does; the numbers are those of `kernels/lbfgs.py`."""
    status, message = _ENDS[int(numbers[kernel.STAGE])]
    is_limited = (
        numbers[kernel.N_ITER] >= numbers[kernel.MAX_ITER]
        or numbers[kernel.N_EVALUATIONS] > numbers[kernel.MAX_FUN]
    )
    status = 1 if status and is_limited else status
    return OptimizeResult(status=status, message=message, nit=int(numbers[kernel.N_ITER]))


class LimitedMemory:
    """What L-BFGS has, beside the weights and their gradient; to an engine, its optimizer.

    Parameters
    ----------
    weights : Weights
        Where it begins; of float64.

    Attributes
    ----------
    weights : Weights
        Where it is, before it is rounded to the dtype of the model.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights, self._settings = weights, make_settings(0.0)
        self.vectors = aligned_zeros(kernel.N_VECTORS * weights.flat.size, np.float64)
        self.numbers = aligned_zeros(kernel.N_NUMBERS, np.float64)
        self.steps_taken = 0  # which nothing depends on

    def begin(
        self, engine: Engine, order: Array, *, alpha: float, halts: bool, **limits: Any
    ) -> None:
        """Begin, or go on, by an engine.

        Parameters
        ----------
        engine : Engine
            Made for L-BFGS.
        order : ndarray
            The samples whose loss is to be least.
        alpha : float
            Strength of the L2 penalty.
        halts : bool
            Whether to halt at each iterate.
        **limits
            As of `ask_for`.
        """
        weights, numbers = engine.weights, self.numbers
        total_weight = engine.samples.total_weight(order)
        ask_for(numbers, engine.loss, weights.units[-1], total_weight, **limits)
        numbers[kernel.HALTS] = halts
        self._settings = make_settings(alpha)
        reopen(numbers)
        if numbers[kernel.STAGE] == kernel.BEGINNING:
            numbers[kernel.SUM_SQUARES] = engine.sum_squares
        else:
            weights.flat[...] = self.weights.flat
            transpose_weights(engine.plan.network)
        self.weights = weights

    def rule(self) -> dict[str, Any]:
        """Return what the kernels need for all evaluations, of `Solver`."""
        return {"code": LBFGS, "first": self.vectors, "second": self.numbers}

    def next_steps(self, n_steps: int) -> dict[str, Any]:
        """Return what they need for the next ones."""
        return self._settings

    # Where it stands ---------------------------------------------------------------------------

    @property
    def is_at_iterate(self) -> bool:
        """Whether the weights are at an iterate, to go on from."""
        return bool(self.numbers[kernel.STAGE] == kernel.AT_ITERATE)

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.numbers[kernel.STAGE] in _ENDS

    @property
    def end(self) -> OptimizeResult:
        """How it has ended."""
        return describe_end(self.numbers)

    @property
    def n_iter(self) -> int:
        """Iterations so far."""
        return int(self.numbers[kernel.N_ITER])

    @property
    def loss(self) -> float:
        """The loss of the weights."""
        return float(self.numbers[kernel.LOSS])

    def go_back(self) -> None:
        """Put the last iterate back, if the weights are at a trial."""
        if self.numbers[kernel.STAGE] == kernel.SEARCHING:
            self.weights.flat[...] = self.vectors[: self.weights.flat.size]
            self.numbers[kernel.LOSS] = self.numbers[kernel.LOSS_BEFORE]

    # Elsewhere ---------------------------------------------------------------------------------

    def describe(self) -> dict[str, Array]:
        """Return arrays from which `of` makes it again, once it is at an iterate."""
        rows = self._all_rows()
        return {
            "numbers": self.numbers.copy(),
            "vectors": np.array([self.weights.without_padding(row) for row in rows]),
        }

    @classmethod
    def of(cls, units: Sequence[int], arrays: dict[str, Array]) -> Self:
        """Return what was described, of a network of these units.

        Raises
        ------
        ValueError
            Where that is no such state.
        """
        n = sum(n_in * n_out + n_out for n_in, n_out in pairwise(units))
        shapes = {"numbers": (kernel.N_NUMBERS,), "vectors": (1 + kernel.N_VECTORS, n)}
        for name, shape in shapes.items():
            given = arrays.get(name)
            if given is None or given.shape != shape or given.dtype != float:
                raise ValueError(
                    f"resume_from must hold lbfgs.{name} of shape {shape} and float64."
                )
        numbers = arrays["numbers"]
        is_known = numbers[kernel.N_UPDATES] in range(2 * kernel.N_KEPT)
        if not (is_known and numbers[kernel.STAGE] == kernel.AT_ITERATE):
            raise ValueError(
                "resume_from must hold lbfgs.numbers of an iterate, and of fewer than "
                f"{2 * kernel.N_KEPT} updates."
            )
        return cls._put_together(units, arrays)

    def __getstate__(self) -> dict[str, Any]:
        return {"units": self.weights.units, "arrays": self.describe()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(self._put_together(state["units"], state["arrays"])))

    @classmethod
    def _put_together(cls, units: Sequence[int], arrays: dict[str, Array]) -> Self:
        weights = Weights(units, np.float64)
        memory = cls(weights)
        memory.numbers[...] = arrays["numbers"]
        for row, elements in zip(memory._all_rows(), arrays["vectors"], strict=True):
            row[...] = weights.with_padding(elements)
        return memory

    def _all_rows(self) -> list[Array]:
        """The weights, then the vectors."""
        return [self.weights.flat, *self.vectors.reshape(kernel.N_VECTORS, -1)]
