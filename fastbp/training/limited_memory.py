"""L-BFGS in scipy's own steps, so that it can be left and gone on with between two of them.

From version 1.15 on scipy keeps the whole state in arrays, with which `scipy.optimize.minimize`
calls a private function, setulb, until that is done; here it is called in the same way. Variables
have no bounds, and then all integers that it indexes with follow from the number of updates.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

__all__ = ["OPTIONS", "STOPPED", "LimitedMemory"]

Array = NDArray[Any]

N_KEPT = 10  # updates
OPTIONS = {"maxcor": N_KEPT, "ftol": 2.2204460492503131e-09, "maxls": 20}  # scipy's defaults
STOPPED = 99  # scipy's status where the callback has stopped it

SIGNATURE = "setulb(m,x,l,u,nbd,f,g,factr,pgtol,wa,iwa,task,lsave,isave,dsave,maxls,ln_task)"
NEW_X, FG, CONVERGENCE, STOP = 1, 3, 4, 5  # what setulb asks for, or has come to
TOO_MANY_EVALUATIONS, TOO_MANY_ITERATIONS = 502, 504
# The integers of mainlb in isave, beside counts that nothing depends on.
OFFSETS = slice(3, 16)
HEAD, COL, ITAIL, ITER, IUPDAT, INFO, NFREE, NACT, ILEAVE, NENTER = (
    21 + i for i in (5, 6, 7, 8, 9, 13, 16, 17, 18, 19)
)


class LimitedMemory:
    """Where a minimisation stands, at its beginning or after an iteration.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Where it begins.

    Raises
    ------
    RuntimeError
        Where this scipy does not keep its state in the way that is known.
    """

    def __init__(self, x: Array) -> None:
        self._setulb, *self._messages = _find_in_scipy()
        n, m = len(x), N_KEPT
        parts = np.array([m * n] * 2 + [m * m] * 3 + [4 * m * m] * 2 + [n] * 5 + [8 * m])
        self.f, self.n_evaluations = 0.0, 0
        self._arrays = {
            "x": np.array(x, np.float64),
            "g": np.zeros(n),
            "wa": np.zeros(parts.sum()),
            "dsave": np.zeros(29),
        }
        self._bounds, self._bound_types = np.zeros(n), np.zeros(n, np.int32)
        self._iwa, self._isave = np.zeros(3 * n, np.int32), np.zeros(44, np.int32)
        self._task, self._line_task = np.zeros(2, np.int32), np.zeros(2, np.int32)
        self._lsave = np.zeros(4, np.int32)
        try:
            self._step(0)  # which only sets the state up
        except Exception as error:
            raise _unknown() from error
        if not np.array_equal(self._isave[OFFSETS], np.cumsum(parts) - parts):
            raise _unknown()

    @classmethod
    def of(cls, n: int, numbers: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """Return what was described, of n variables.

        Raises
        ------
        ValueError
            Where that is no such state.
        """
        memory = cls(np.zeros(n))
        for name, array in memory._arrays.items():
            given = arrays.get(name)
            if given is None or (given.shape, given.dtype) != (array.shape, array.dtype):
                raise ValueError(
                    f"resume_from must hold lbfgs.{name} of shape {array.shape} and {array.dtype}."
                )
            array[...] = given
        for name, kind in (("f", float), ("n_evaluations", int), ("n_updates", int)):
            if type(numbers.get(name)) is not kind:
                raise ValueError(f"resume_from must hold lbfgs.{name}, of type {kind.__name__}.")
        if not 0 <= numbers["n_updates"] < 2 * N_KEPT:
            raise ValueError(f"resume_from must hold lbfgs.n_updates below {2 * N_KEPT}.")
        memory.f, memory.n_evaluations = numbers["f"], numbers["n_evaluations"]
        memory._isave[ITER] = 1  # it only matters whether there was one
        memory._isave[IUPDAT] = numbers["n_updates"]
        memory._isave[...], memory._iwa[:n] = memory._integers()
        memory._task[:] = NEW_X, 0
        return memory

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the numbers and the arrays, its own, from which `of` makes it again.

        Raises
        ------
        RuntimeError
            Where its integers do not follow from the number of updates.
        """
        isave, index = self._integers()
        n = len(index)
        if not (
            np.array_equal(self._isave, isave)
            and np.array_equal(self._iwa[:n], index)
            and (self._iwa[n : 2 * n] == -1).all()  # no variable has bounds
        ):
            raise _unknown()
        n_updates = int(isave[IUPDAT])
        if n_updates > N_KEPT:  # only its rest matters from there on
            n_updates = N_KEPT + n_updates % N_KEPT
        numbers = {"f": self.f, "n_evaluations": self.n_evaluations, "n_updates": n_updates}
        return numbers, dict(self._arrays)

    @property
    def x(self) -> Array:
        """The variables, as an ndarray of shape (n,)."""
        return self._arrays["x"]

    def minimize(
        self,
        objective: Callable[[Array], tuple[float, Array]],
        callback: Callable[[OptimizeResult], None],
        n_iter: int,
        *,
        maxiter: int,
        maxfun: int,
        gtol: float,
    ) -> OptimizeResult:
        """Do as `scipy.optimize.minimize` does, which it is all named as, after n_iter iterations.

        Returns
        -------
        OptimizeResult
            With x, nit, status and message.
        """
        x, task = self.x, self._task
        evaluated = x.copy() if task[0] == NEW_X else x[:0]
        while task[0] in (NEW_X, FG):
            if task[0] == FG:
                if not np.array_equal(x, evaluated):  # scipy counts no point twice in a row
                    self.n_evaluations, evaluated = self.n_evaluations + 1, x.copy()
                value, self._arrays["g"][...] = objective(x)
                self.f = float(value)
            elif n_iter >= maxiter:
                task[:] = STOP, TOO_MANY_ITERATIONS
                break
            elif self.n_evaluations > maxfun:
                task[:] = STOP, TOO_MANY_EVALUATIONS
                break
            self._step(gtol)
            if task[0] == NEW_X:
                n_iter += 1
                try:
                    callback(OptimizeResult(x=x))
                except StopIteration:
                    return OptimizeResult(x=x, nit=n_iter, status=STOPPED)
        limited = n_iter >= maxiter or self.n_evaluations > maxfun
        status = 0 if task[0] == CONVERGENCE else 1 if limited else 2
        message = ": ".join(
            names[code] for names, code in zip(self._messages, task.tolist(), strict=True)
        )
        return OptimizeResult(x=x, nit=n_iter, status=status, message=message)

    def _step(self, gtol: float) -> None:
        """Go on until the objective is asked for, an iteration is done, or all is."""
        self._setulb(
            N_KEPT,
            self.x,
            self._bounds,
            self._bounds,
            self._bound_types,
            self.f,
            self._arrays["g"],
            OPTIONS["ftol"] / np.finfo(float).eps,
            gtol,
            self._arrays["wa"],
            self._iwa,
            self._task,
            self._lsave,
            self._isave,
            self._arrays["dsave"],
            OPTIONS["maxls"],
            self._line_task,
        )

    def _integers(self) -> tuple[Array, Array]:
        """Return isave and the free variables, as they follow from the number of updates."""
        isave, n = self._isave.copy(), len(self.x)
        n_updates = int(isave[IUPDAT])
        isave[HEAD] = max(n_updates - N_KEPT, 0) % N_KEPT
        isave[COL] = min(n_updates, N_KEPT)
        if n_updates:
            isave[ITAIL] = (n_updates - 1) % N_KEPT
        isave[[INFO, NACT, NENTER]] = 0
        isave[[NFREE, ILEAVE]] = n
        return isave, np.arange(n)


def _find_in_scipy() -> tuple[Any, dict[int, str], dict[int, str]]:
    """Return setulb, and what its two codes mean."""
    try:
        from scipy.optimize._lbfgsb import setulb
        from scipy.optimize._lbfgsb_py import status_messages, task_messages
    except ImportError as error:
        raise _unknown() from error
    if not str(setulb.__doc__).replace(" ", "").startswith(SIGNATURE):
        raise _unknown()
    return setulb, status_messages, task_messages


def _unknown() -> RuntimeError:
    return RuntimeError(
        "Checkpoint and resume_from of solver='lbfgs' need its state, which scipy keeps in arrays "
        f"from version 1.15 on; how scipy {scipy.__version__} keeps it is not known here."
    )
