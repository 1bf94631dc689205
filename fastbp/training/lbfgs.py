"""L-BFGS on the whole training set."""

import warnings
from time import perf_counter

from sklearn.utils.optimize import _check_optimize_result

from fastbp.training.engine import Engine
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.reporting import make_reporter
from fastbp.training.stochastic import EpochListener, State, limit_of_time, warn_of_limit

__all__ = ["minimize"]

EVALUATIONS_AT_A_TIME = 1000  # requested from the engine


def minimize(
    engine: Engine,
    state: State,
    *,
    listener: EpochListener | None,
    alpha: float,
    max_iter: int,
    max_fun: int,
    tol: float,
    max_time: float | None,
    verbose: bool | int,
) -> None:
    """Minimise the loss over the weights, in place.

    Parameters
    ----------
    engine : Engine
        Made for L-BFGS, in float64.
    state : State
        The state to continue from; updated with the iterations taken and the loss.
    listener : EpochListener or None
        Notified of each iteration.
    alpha : float
        Strength of the L2 penalty.
    max_iter, max_fun, tol, max_time, verbose
        As the estimators' parameters. Ctrl-C ends with a warning and the last iterate.
    """
    reporter = make_reporter(verbose, max_iter)
    memory = state.memory or LimitedMemory(engine.weights)
    state.memory = memory
    began = perf_counter() - state.seconds

    def tell() -> bool:
        """Report an iteration; return whether to continue."""
        state.n_iter, state.loss = memory.n_iter, memory.loss
        if reporter:
            reporter.epochs(state.n_iter - 1, [state.loss])
        state.seconds = perf_counter() - began
        if listener:
            if listener.end_epoch():
                return False
            listener.begin_epoch()
        if max_time is not None and state.seconds > max_time:
            warn_of_limit(limit_of_time(max_time), stacklevel=4, of="lbfgs")
            return False
        return True

    halts = bool(listener or reporter or max_time is not None)
    limits = {"tol": tol, "max_iter": max_iter, "max_fun": max_fun}
    try:
        memory.begin(engine, state.order, alpha=alpha, halts=halts, **limits)
        if listener:
            listener.begin_epoch()
        goes_on = True
        while goes_on and not memory.has_ended:
            for _ in engine.train(state.order, EVALUATIONS_AT_A_TIME, memory):
                pass
            if memory.is_at_iterate:
                goes_on = tell()
                if goes_on:
                    engine.leave_iterate(memory)
        if goes_on:
            _check_optimize_result("lbfgs", memory.end, max_iter)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    finally:
        if reporter:
            reporter.close()
        memory.go_back()
        state.n_iter, state.loss = memory.n_iter, memory.loss
