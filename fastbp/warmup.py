"""Compilation of everything in advance: for an image, an installer, or the start of a service."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState

from fastbp.baton import Baton
from fastbp.compiler.helpers import compile_together
from fastbp.compiler.jit import is_ready
from fastbp.kernels import activations, epoch, family, scores
from fastbp.kernels.decisions import largest_function
from fastbp.kernels.lbfgs import advance
from fastbp.kernels.plan import PlanFunction
from fastbp.kernels.scheduler import affinity_addresses
from fastbp.kernels.team import make_team, run_team
from fastbp.kernels.update import step_address
from fastbp.matmul.nonzeros import nonzeros_address
from fastbp.matmul.product import product_addresses
from fastbp.matmul.subsets import subset_addresses
from fastbp.network import Weights, draw_weights
from fastbp.prediction import Predictor
from fastbp.samples import Samples, number_rows
from fastbp.training.engine import Engine
from fastbp.training.solvers import Optimizer

__all__ = ["warmup"]

_UNITS = (2, 3, 2)
_NAMES = ("relu", "softmax")


def warmup(dtypes: str | Sequence[str] = ("float32", "float64")) -> None:
    """Compile the kernels, or load them from the cache, before they are needed.

    Both dtypes take up to a minute the first time, or some 40 seconds with a second processor;
    later processes load the kernels from Numba's cache (``NUMBA_CACHE_DIR`` sets its folder) in
    tenths of a second. They cover every activation, loss and solver, for dense X and for CSR with a
    32-bit indptr, on one thread and on several, and the functions that a search needs in addition.

    Parameters
    ----------
    dtypes : {"float32", "float64"} or sequence of these, default=("float32", "float64")
        The dtypes of the training; X may have either in any case.

    Raises
    ------
    ValueError
        If a dtype is another.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.warmup(["float32"])
    """
    dtypes = [dtypes] if isinstance(dtypes, str) else [str(dtype) for dtype in dtypes]
    for dtype in dtypes:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtypes must be 'float32' or 'float64', got {dtype!r}.")
    tasks: list[Callable[[], Any]] = [partial(largest_function, dtype) for dtype in dtypes]
    for kept in sorted({*dtypes, "float64"}):  # L-BFGS computes in float64, whatever X is
        tasks += [
            partial(function, kept)
            for function in (product_addresses, subset_addresses, nonzeros_address, step_address)
        ]
        tasks += [partial(activations.activation_address, name, kept) for name in activations.CODES]
    compile_together(tasks)
    for dtype in dtypes:
        for dtype_of_X in ("float32", "float64"):
            _compile_for(dtype, dtype_of_X)
    family.do_jobs()
    with Baton(2).passed_on():
        pass
    is_ready(run_team, (0, 0, make_team(), 2, 0, affinity_addresses()), compile_it=True)


def _compile_for(dtype: str, dtype_of_X: str) -> None:
    """Compile all functions of plans for training in `dtype` on X of `dtype_of_X`."""
    weights = draw_weights(_UNITS, _NAMES, "auto", RandomState(0), dtype)
    samples = Samples(np.zeros((2, _UNITS[0]), dtype_of_X), labels=np.zeros(2, np.int32))
    engine = _make_engine(weights, samples, by_lbfgs=False)
    exact = _make_engine(weights.astype("float64"), samples, by_lbfgs=True)
    optimizer = Optimizer("adam", 0.001, 0.0, "constant", 0.5, 0.9, True, 0.9, 0.999, 1e-8)
    optimizer.begin(weights)
    list(engine.train(number_rows(2), 1, optimizer))
    prediction = Predictor(weights).prepare(_NAMES, samples.X, n_jobs=1)
    prediction()
    predictions = prediction.plan, prediction.plan
    compiled = engine.address, prediction.address, prediction.address
    family.addresses_of((engine.plan, *predictions), compiled)
    family.addresses_of((exact.plan, *predictions), compiled, rounds=True)
    tasks = [PlanFunction(score, prediction.plan) for score in scores.FUNCTIONS]
    for plan in (engine.plan, exact.plan):
        tasks += [PlanFunction(function, plan) for function in epoch.CALLED]
    compile_together([*tasks, PlanFunction(advance, exact.plan)])


def _make_engine(weights: Weights, samples: Samples, by_lbfgs: bool) -> Engine:
    return Engine(weights, _NAMES, "log_loss", samples, 2, n_jobs=1, by_lbfgs=by_lbfgs)
