"""L-BFGS on the whole training set, by scipy, with losses and gradients from the kernels."""

import warnings
from time import perf_counter
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result

from fastbp.threads import single_threaded_blas
from fastbp.training.engine import Engine
from fastbp.training.stochastic import Watch

__all__ = ["minimize"]

STOPPED = 99  # scipy's status where the callback has stopped it


def minimize(
    engine: Engine,
    rows: NDArray[Any],
    alpha: float,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    max_time: float | None,
    verbose: bool | int,
    watch: Watch | None,
) -> tuple[int, float]:
    """Minimise the loss over the weights, in place; return the iterations taken and the loss.

    Parameters
    ----------
    engine : Engine
        Of float64, as scipy's line search needs, with a gradient to keep.
    rows : ndarray of int64
        All samples, in any order.
    alpha : float
        Strength of the L2 penalty.
    max_iter, max_fun, tol, max_time, verbose
        As the estimators' parameters. Ctrl-C ends with a warning and the last iterate.
    watch : Watch or None
        Is told of each iteration.
    """
    weights = engine.weights
    iterate = weights.without_padding(weights.flat)
    n_iter = 0
    deadline = np.inf if max_time is None else perf_counter() + max_time

    def objective(elements: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights.flat[...] = weights.with_padding(elements)
        value, gradient, _ = engine.gradient(rows, alpha)
        return value, weights.without_padding(gradient)

    def keep(intermediate_result: Any) -> None:
        nonlocal iterate, n_iter
        iterate, n_iter = intermediate_result.x.copy(), n_iter + 1
        if watch:
            weights.flat[...] = weights.with_padding(iterate)
            if watch.end_epoch():
                raise StopIteration
            watch.begin_epoch()
        if perf_counter() > deadline:
            warnings.warn(
                f"lbfgs: Maximum time ({max_time} s) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
            raise StopIteration

    if watch:
        watch.begin_epoch()
    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    options |= _get_additional_lbfgs_options_dict("iprint", 1 if verbose else -1)
    try:
        with single_threaded_blas():  # scipy's own steps are too small to share out
            result = scipy.optimize.minimize(
                objective, iterate, method="L-BFGS-B", jac=True, options=options, callback=keep
            )
        if result.status != STOPPED:
            iterate = result.x
            n_iter = _check_optimize_result("lbfgs", result, max_iter)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    weights.flat[...] = weights.with_padding(iterate)
    return n_iter, engine.gradient(rows, alpha)[2]
