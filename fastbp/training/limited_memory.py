"""The state of L-BFGS, from which it can resume in this process or in another one."""

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

# scipy's status and message for each stage at which a minimisation ends.
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
    """Set what to minimise and when to end; `numbers` is laid out as in `kernels/lbfgs.py`."""
    numbers[kernel.N_ERRORS] = n_outputs if loss in OF_RESIDUALS else 1
    numbers[kernel.TOTAL_WEIGHT] = total_weight
    numbers[kernel.TOLERANCE] = tol
    numbers[kernel.MAX_ITER], numbers[kernel.MAX_FUN] = max_iter, max_fun


def make_settings(alpha: float) -> dict[str, Any]:
    """Return the fields of `Solver` for an evaluation."""
    settings = np.zeros(N_SETTINGS)
    settings[PENALTY] = alpha
    return {"settings": settings, "steps": np.zeros((1, OF_STEP)), "steps_from": 0}


def reopen(numbers: Array) -> None:
    """Let a minimisation that reached a limit continue from there, under other limits."""
    if numbers[kernel.STAGE] in (kernel.MOST_ITERATIONS, kernel.MOST_EVALUATIONS):
        numbers[kernel.STAGE] = kernel.AT_ITERATE


def describe_end(numbers: Array) -> OptimizeResult:
    """Return scipy's status, message and nit; `numbers` is laid out as in `kernels/lbfgs.py`."""
    status, message = _ENDS[int(numbers[kernel.STAGE])]
    is_limited = (
        numbers[kernel.N_ITER] >= numbers[kernel.MAX_ITER]
        or numbers[kernel.N_EVALUATIONS] > numbers[kernel.MAX_FUN]
    )
    status = 1 if status and is_limited else status
    return OptimizeResult(status=status, message=message, nit=int(numbers[kernel.N_ITER]))


class LimitedMemory:
    """The state of L-BFGS besides the weights and their gradient; an optimizer for an engine.

    Parameters
    ----------
    weights : Weights
        The starting point, in float64.

    Attributes
    ----------
    weights : Weights
        The current point, before it is rounded to the dtype of the model.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights, self._settings = weights, make_settings(0.0)
        self.vectors = aligned_zeros(kernel.N_VECTORS * weights.flat.size, np.float64)
        self.numbers = aligned_zeros(kernel.N_NUMBERS, np.float64)
        self.steps_taken = 0  # required by `Rule`; nothing depends on it

    def begin(
        self, engine: Engine, order: Array, *, alpha: float, halts: bool, **limits: Any
    ) -> None:
        """Begin or resume a minimisation with an engine.

        Parameters
        ----------
        engine : Engine
            Made for L-BFGS.
        order : ndarray
            The samples whose loss is minimised.
        alpha : float
            Strength of the L2 penalty.
        halts : bool
            Whether to halt at each iterate.
        **limits
            The limits that `ask_for` takes.
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
        """Return the fields of `Solver` that serve all evaluations."""
        return {"code": LBFGS, "first": self.vectors, "second": self.numbers}

    def next_steps(self, n_steps: int) -> dict[str, Any]:
        """Return the fields of `Solver` for the next evaluations."""
        return self._settings

    # Progress ----------------------------------------------------------------------------------

    @property
    def is_at_iterate(self) -> bool:
        """Whether the weights are at an iterate, from which to continue."""
        return bool(self.numbers[kernel.STAGE] == kernel.AT_ITERATE)

    @property
    def has_ended(self) -> bool:
        """Whether the minimisation has ended."""
        return self.numbers[kernel.STAGE] in _ENDS

    @property
    def end(self) -> OptimizeResult:
        """scipy's result of the ended minimisation."""
        return describe_end(self.numbers)

    @property
    def n_iter(self) -> int:
        """Iterations so far."""
        return int(self.numbers[kernel.N_ITER])

    @property
    def loss(self) -> float:
        """The loss at the current weights."""
        is_known = self.numbers[kernel.STAGE] != kernel.BEGINNING
        return float(self.numbers[kernel.LOSS]) if is_known else np.nan

    def go_back(self) -> None:
        """Restore the last iterate, if the weights are at a trial point of a line search."""
        if self.numbers[kernel.STAGE] == kernel.SEARCHING:
            self.weights.flat[...] = self.vectors[: self.weights.flat.size]
            self.numbers[kernel.LOSS] = self.numbers[kernel.LOSS_BEFORE]

    # Files and pickles -------------------------------------------------------------------------

    def describe(self) -> dict[str, Array]:
        """Return arrays from which `of` restores the state; it must be at an iterate."""
        rows = self._all_rows()
        return {
            "numbers": self.numbers.copy(),
            "vectors": np.array([self.weights.without_padding(row) for row in rows]),
        }

    @classmethod
    def of(cls, units: Sequence[int], arrays: dict[str, Array]) -> Self:
        """Return the described state, for a network of these units.

        Raises
        ------
        ValueError
            If the arrays are not such a state.
        """
        n = sum(n_in * n_out + n_out for n_in, n_out in pairwise(units))
        shapes = {"numbers": (kernel.N_NUMBERS,), "vectors": (1 + kernel.N_VECTORS, n)}
        for name, shape in shapes.items():
            given = arrays.get(name)
            if given is None or given.shape != shape or given.dtype != float:
                raise ValueError(
                    f"resume_from must hold lbfgs.{name} of shape {shape} and dtype float64."
                )
        numbers = arrays["numbers"]
        is_known = numbers[kernel.N_UPDATES] in range(2 * kernel.N_KEPT)
        if not (is_known and numbers[kernel.STAGE] == kernel.AT_ITERATE):
            raise ValueError(
                "resume_from must hold lbfgs.numbers that belong to an iterate and count fewer "
                f"than {2 * kernel.N_KEPT} updates."
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
        """The vector of weights, then the other vectors."""
        return [self.weights.flat, *self.vectors.reshape(kernel.N_VECTORS, -1)]
