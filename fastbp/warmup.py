"""Compiling everything ahead: for an image, an installer, or the start of a service."""

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState

from fastbp.baton import Baton
from fastbp.kernels import activations, epoch, family
from fastbp.kernels.decisions import largest_function
from fastbp.kernels.jit import is_ready
from fastbp.kernels.plan import plan_function
from fastbp.kernels.scheduler import affinity_addresses
from fastbp.kernels.team import make_team, run_team
from fastbp.matmul.nonzeros import nonzeros_address
from fastbp.matmul.product import product_addresses
from fastbp.matmul.subsets import subset_addresses
from fastbp.network import draw_weights
from fastbp.prediction import Predictor
from fastbp.samples import Samples, number_rows
from fastbp.training.engine import Engine
from fastbp.training.solvers import Optimizer

__all__ = ["warmup"]

_UNITS = (2, 3, 2)
_NAMES = ("relu", "softmax")


def warmup(dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """Compile the kernels, or load them from the cache, before they are needed.

    Each dtype takes about ten seconds the first time; later processes load what is in Numba's cache
    (``NUMBA_CACHE_DIR`` says where), which takes tenths of a second. That is every activation, loss
    and solver, for dense X and for CSR with an indptr of 32 bits, on one thread and on several, and
    what a search needs beside them.

    Parameters
    ----------
    dtypes : sequence of {"float32", "float64"}, default=("float32", "float64")
        Of X, and of the training.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.warmup(["float32"])
    """
    for dtype in dtypes:
        weights = draw_weights(_UNITS, _NAMES, "auto", RandomState(0), dtype)
        X = np.zeros((2, _UNITS[0]), dtype)
        samples = Samples(X, labels=np.zeros(2, np.int32))
        optimizer = Optimizer("adam", 0.001, 0.0, "constant", 0.5, 0.9, True, 0.9, 0.999, 1e-8)
        optimizer.begin(weights)
        engine = Engine(weights, _NAMES, "log_loss", samples, len(X), n_jobs=1)
        list(engine.train(number_rows(len(X)), 1, optimizer))
        prediction = Predictor(weights).prepare(_NAMES, X, n_jobs=1)
        prediction()
        compiled = engine.address, prediction.address, prediction.address
        family.addresses_of((engine.plan, prediction.plan, prediction.plan), compiled)
        largest_function(dtype)
        product_addresses(dtype)
        subset_addresses(dtype)
        nonzeros_address(dtype)
        for name in activations.CODES:
            activations.activation_address(name, dtype)
        called = epoch.CALLED + (epoch.OF_LBFGS if dtype == "float64" else [])
        for function, n_integers in called:
            plan_function(function, engine.plan.type, n_integers)
    family.do_jobs()
    with Baton(2).passed_on():
        pass
    is_ready(run_team, (0, 0, make_team(), 2, 0, affinity_addresses()), compile_it=True)
