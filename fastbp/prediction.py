"""Prediction: the forward pass with fixed weights."""

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastbp.blas_limit import single_threaded_blas
from fastbp.kernels import epoch
from fastbp.kernels.arrays import NOT_FINITE, Bundles, no_run, no_solver
from fastbp.kernels.plan import Plan
from fastbp.network import Weights, make_network
from fastbp.pool import Pool
from fastbp.samples import Samples, as_rows, number_rows
from fastbp.threads import choose_threads, run_on_threads
from fastbp.workspace import count_weights, make_workspace

__all__ = ["Prediction", "Predictor"]

Array = NDArray[Any]

CHUNK_ROWS = 256  # rows that each thread takes at a time; a multiple of BLAS_ROWS
FEW_ROWS = 16  # up to this many rows use a smaller workspace of their own
CALLS = 20  # threads pay off for a prediction with the work of at least this many mini-batches


class _Prepared(NamedTuple):
    plan: Plan
    address: int  # of the compiled function


_pool: Pool[_Prepared] = Pool(most=256)


class Prediction:
    """A prepared forward pass for some rows, which can be repeated; see `Predictor.prepare`.

    All calls return the same array. It cannot be called after `close`.

    Attributes
    ----------
    saw_infinite : bool
        Whether the last call found an infinite number or a NaN in dense X, in the weights' dtype.
    """

    saw_infinite = False

    def __init__(
        self, prepared: _Prepared, kind: Hashable, n_threads: int, compile_it: bool, uses_blas: bool
    ) -> None:
        self.plan, self.address = prepared  # of the compiled function
        self._kind = kind
        self._on_threads, self._uses_blas = (n_threads, compile_it), uses_blas

    def __call__(self) -> Array:
        """Return the outputs for the current values of the weights."""
        plan = self.plan
        totals = plan.workspace.totals
        totals[NOT_FINITE] = 0
        with single_threaded_blas() if self._uses_blas else nullcontext():
            run_on_threads(self.address, plan, *self._on_threads)
        self.saw_infinite = bool(totals[NOT_FINITE])
        outputs: Array = plan.run.out
        return outputs

    def close(self) -> None:
        """Give the plan and its memory back for the next prediction of this kind."""
        self.plan.forget_arrays()
        _pool.give(self._kind, _Prepared(self.plan, self.address), self.plan.n_bytes)


class Predictor:
    """Computes the outputs of a network.

    It may be called from several threads at once.

    Parameters
    ----------
    weights : Weights
        Not copied: later changes to them take effect.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._work = float(count_weights(weights))

    def __call__(
        self, names: Sequence[str], X: Any, n_jobs: int | None, order: Array | None = None
    ) -> Array:
        """Return the outputs for all rows of X, or for those in `order`.

        Parameters
        ----------
        names : sequence of str
            The activation of each layer.
        X : ndarray or CSR matrix of shape (n_samples, n_features)
        n_jobs : int or None
        order : ndarray of int, default=None
            Row numbers.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs), of the weights' dtype
        """
        prediction = self.prepare(names, X, n_jobs, order)
        outputs = prediction()
        prediction.close()
        return outputs

    def prepare(
        self, names: Sequence[str], X: Any, n_jobs: int | None, order: Array | None = None
    ) -> Prediction:
        """Return the prepared `Prediction` that a call with these arguments would make."""
        n_samples = X.shape[0]
        order = number_rows(n_samples) if order is None else as_rows(order, n_samples)
        samples = Samples(X)
        n_threads = choose_threads(n_jobs, len(order) * self._work / CALLS)
        rows = FEW_ROWS if len(order) <= FEW_ROWS else CHUNK_ROWS
        weights = self.weights
        shape = weights.units, weights.dtype, weights.large
        kind = (*shape, tuple(names), samples.kind(), rows, n_threads)
        prepared = _pool.take(kind, lambda: self._make_plan(names, samples, rows, n_threads))
        plan = prepared.plan
        plan.set("network", parameters=weights.flat)
        plan.set("data", **samples.stored(), order=order)
        plan.set("run", out=np.empty((len(order), weights.units[-1]), weights.dtype))
        return Prediction(prepared, kind, n_threads, n_jobs is not None, any(weights.large))

    def _make_plan(
        self, names: Sequence[str], samples: Samples, rows: int, n_threads: int
    ) -> _Prepared:
        """Make a plan for networks of this shape and data of this kind, without their arrays."""
        dtype = self.weights.dtype
        network = make_network(self.weights, names, n_threads * rows, training=False)
        sparse = samples.X if scipy.sparse.issparse(samples.X) else None
        workspace = make_workspace(
            network, self.weights, n_threads * rows, n_threads, 0, sparse=sparse, training=False
        )
        plan = Plan(
            Bundles(
                network,
                samples.bundle(dtype),
                no_solver(dtype),
                workspace._replace(rows=rows),
                no_run(dtype),
            )
        )
        return _Prepared(plan, epoch.compile_prediction(plan))
