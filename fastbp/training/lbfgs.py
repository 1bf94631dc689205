"""L-BFGS on the whole training set, by scipy, with losses and gradients from the kernels."""

import warnings
from time import perf_counter
from typing import Any

import scipy.optimize
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.optimize import _check_optimize_result

from fastbp.threads import single_threaded_blas
from fastbp.training.engine import Engine
from fastbp.training.limited_memory import OPTIONS, STOPPED, LimitedMemory
from fastbp.training.reporting import make_reporter
from fastbp.training.stochastic import State, Watch

__all__ = ["minimize"]


def minimize(
    engine: Engine,
    state: State,
    alpha: float,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    max_time: float | None,
    verbose: bool | int,
    watch: Watch | None,
) -> None:
    """Minimise the loss over the weights, in place.

    Parameters
    ----------
    engine : Engine
        Of float64, as scipy's line search needs, with a gradient to keep.
    state : State
        Goes on from here; afterwards with the iterations taken and the loss.
    alpha : float
        Strength of the L2 penalty.
    max_iter, max_fun, tol, max_time, verbose
        As the estimators' parameters. Ctrl-C ends with a warning and the last iterate.
    watch : Watch or None
        Is told of each iteration.

    Raises
    ------
    RuntimeError
        Where the watch keeps the state, and how scipy has it is not known.
    """
    weights = engine.weights
    iterate = weights.without_padding(weights.flat)
    if state.memory is not None:
        iterate = state.memory.x.copy()
    elif watch and watch.keeps_state:
        state.memory = LimitedMemory(iterate)
    reporter = make_reporter(verbose, max_iter)
    began = perf_counter() - state.seconds

    def objective(elements: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights.flat[...] = weights.with_padding(elements)
        value, gradient, state.loss = engine.gradient(state.order, alpha)
        return value, weights.without_padding(gradient)

    def keep(intermediate_result: Any) -> None:
        nonlocal iterate
        iterate = intermediate_result.x.copy()
        if reporter:
            assert state.loss is not None
            reporter.epochs(state.n_iter, [state.loss])
        state.n_iter += 1
        state.seconds = perf_counter() - began
        if watch:
            weights.flat[...] = weights.with_padding(iterate)
            if watch.end_epoch():
                raise StopIteration
            watch.begin_epoch()
        if max_time is not None and state.seconds > max_time:
            warnings.warn(
                f"lbfgs: Maximum time ({max_time} s) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
            raise StopIteration

    if watch:
        watch.begin_epoch()
    limits: dict[str, Any] = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    try:
        with single_threaded_blas():  # scipy's own steps are too small to share out
            if state.memory is not None:
                result = state.memory.minimize(objective, keep, state.n_iter, **limits)
            else:
                result = scipy.optimize.minimize(
                    objective,
                    iterate,
                    method="L-BFGS-B",
                    jac=True,
                    options={**OPTIONS, **limits},
                    callback=keep,
                )
        if result.status != STOPPED:
            iterate = result.x
            state.n_iter = _check_optimize_result("lbfgs", result, max_iter)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    finally:
        if reporter:
            reporter.close()
    weights.flat[...] = weights.with_padding(iterate)
    state.loss = engine.gradient(state.order, alpha)[2]
