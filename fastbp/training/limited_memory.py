"""The state of L-BFGS, from which it goes on, in this process or in another one."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from fastbp.kernels import lbfgs as kernel
from fastbp.kernels.arrays import N_SETTINGS, OF_STEP, PENALTY
from fastbp.kernels.update import LBFGS
from fastbp.network import Weights, aligned_zeros

__all__ = ["LimitedMemory", "describe_end"]

Array = NDArray[Any]

# How it ends, by stage: scipy's status and words.
_ENDS = {
    kernel.SMALL_GRADIENT: (0, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL"),
    kernel.SMALL_REDUCTION: (0, "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH"),
    kernel.MOST_ITERATIONS: (1, "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT"),
    kernel.MOST_EVALUATIONS: (1, "STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT"),
    kernel.NO_STEP: (2, "ABNORMAL: "),
}


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
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._gradient = weights.zeros()
        self._vectors = aligned_zeros(kernel.N_VECTORS * weights.flat.size, np.float64)
        self._numbers = aligned_zeros(kernel.N_NUMBERS, np.float64)
        self._settings = np.zeros(N_SETTINGS)
        self.steps_taken = 0  # which nothing depends on

    def ask_for(
        self,
        *,
        alpha: float,
        tol: float,
        max_iter: int,
        max_fun: int,
        n_errors: int,
        total_weight: float,
        halts: bool,
    ) -> None:
        """Say what is to be minimised, and when to end, as the numbers in `kernels/lbfgs.py`."""
        self._settings[PENALTY] = alpha
        numbers = self._numbers
        numbers[kernel.TOLERANCE] = tol
        numbers[[kernel.MAX_ITER, kernel.MAX_FUN]] = max_iter, max_fun
        numbers[[kernel.N_ERRORS, kernel.TOTAL_WEIGHT]] = n_errors, total_weight
        numbers[kernel.HALTS] = halts

    def rule(self) -> dict[str, Any]:
        """Return what the kernels need for all evaluations, of `Solver`."""
        return {"code": LBFGS, "first": self._vectors, "second": self._numbers}

    def next_steps(self, _: int) -> dict[str, Any]:
        """Return what they need for the next ones."""
        return {"settings": self._settings, "steps": np.zeros((1, OF_STEP)), "steps_from": 0}

    def begin(self, weights: Weights, gradient: Array, sum_squares: float) -> None:
        """Go on in these arrays; sum_squares is of the weights, if none were evaluated so far."""
        if self.is_at_iterate:
            weights.flat[...], gradient[...] = self._weights.flat, self._gradient
        else:
            self._numbers[kernel.SUM_SQUARES] = sum_squares
        self._weights, self._gradient = weights, gradient

    # Where it stands ---------------------------------------------------------------------------

    @property
    def is_at_iterate(self) -> bool:
        """Whether the weights are at an iterate, to go on from."""
        return bool(self._numbers[kernel.STAGE] == kernel.AT_ITERATE)

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self._numbers[kernel.STAGE] in _ENDS

    @property
    def end(self) -> OptimizeResult:
        """How it has ended."""
        return describe_end(self._numbers)

    @property
    def n_iter(self) -> int:
        """Iterations so far."""
        return int(self._numbers[kernel.N_ITER])

    @property
    def loss(self) -> float:
        """The loss of the weights."""
        return float(self._numbers[kernel.LOSS])

    def go_back(self) -> None:
        """Put the last iterate back, if the weights are at a trial."""
        if self._numbers[kernel.STAGE] == kernel.SEARCHING:
            self._weights.flat[...] = self._vectors[: self._weights.flat.size]
            self._numbers[kernel.LOSS] = self._numbers[kernel.LOSS_BEFORE]

    # In a checkpoint ---------------------------------------------------------------------------

    def describe(self) -> dict[str, Array]:
        """Return arrays from which `of` makes it again, once it is at an iterate."""
        rows = [self._weights.flat, self._gradient, *self._rows()]
        return {
            "numbers": self._numbers.copy(),
            "vectors": np.array([self._weights.without_padding(row) for row in rows]),
        }

    @classmethod
    def of(cls, units: Sequence[int], arrays: dict[str, Array]) -> Self:
        """Return what was described, of a network of these units.

        Raises
        ------
        ValueError
            Where that is no such state.
        """
        weights = Weights(units, np.float64)
        memory = cls(weights)
        n = len(weights.without_padding(weights.flat))
        shapes = {"numbers": (kernel.N_NUMBERS,), "vectors": (2 + kernel.N_VECTORS, n)}
        for name, shape in shapes.items():
            given = arrays.get(name)
            if given is None or given.shape != shape or given.dtype != float:
                raise ValueError(
                    f"resume_from must hold lbfgs.{name} of shape {shape} and float64."
                )
        memory._numbers[...] = arrays["numbers"]
        n_updates = memory._numbers[kernel.N_UPDATES]
        if not (memory.is_at_iterate and n_updates in range(2 * kernel.N_KEPT)):
            raise ValueError(
                "resume_from must hold lbfgs.numbers of an iterate, and of fewer than "
                f"{2 * kernel.N_KEPT} updates."
            )
        rows = [weights.flat, memory._gradient, *memory._rows()]
        for row, elements in zip(rows, arrays["vectors"], strict=True):
            row[...] = weights.with_padding(elements)
        return memory

    def _rows(self) -> Array:
        rows: Array = self._vectors.reshape(kernel.N_VECTORS, -1)
        return rows
