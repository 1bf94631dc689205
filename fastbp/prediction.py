"""Prediction: the forward pass of weights that stay as they are."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbp.kernels import epoch
from fastbp.kernels.arrays import Data, Network, Workspace
from fastbp.kernels.jit import is_ready
from fastbp.network import Weights, make_network
from fastbp.samples import Samples
from fastbp.threads import choose_threads, parallel_region, single_threaded_blas
from fastbp.workspace import count_weights, has_large, make_workspace

__all__ = ["Predictor"]

Array = NDArray[Any]

CHUNK_ROWS = 256  # rows that each thread takes at a time; a multiple of BLAS_ROWS
FEW_ROWS = 16  # as many take less time than the memory for them, which is therefore kept
CALLS = 20  # a prediction is worth threads from as many mini-batches' work on


class _Prepared(NamedTuple):
    network: Network
    workspace: Workspace
    large: bool  # BLAS multiplies in one of the layers


class Predictor:
    """Gives the outputs of a network.

    It may be called from several threads at once.

    Parameters
    ----------
    weights : Weights
        What is written into them later is what predicts.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._work = float(count_weights(weights))
        self._idle: dict[Sequence[str], list[_Prepared]] = {}

    def __call__(
        self, names: Sequence[str], X: Any, n_jobs: int | None, order: Array | None = None
    ) -> Array:
        """Return the outputs for the rows of X, or for those that `order` names.

        Parameters
        ----------
        names : sequence of str
            The activation of each layer.
        X : ndarray or CSR matrix of shape (n_samples, n_features)
        n_jobs : int or None
        order : ndarray of int64, default=None
            Row numbers.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs), of the weights' dtype
        """
        order = np.arange(X.shape[0]) if order is None else order
        data = Samples(X).bundle(order, self.weights.dtype)
        out = np.empty((len(order), self.weights.units[-1]), self.weights.dtype)
        if len(order) <= FEW_ROWS:
            idle = self._idle.setdefault(names, [])
            prepared = idle.pop() if idle else self._prepare(names, FEW_ROWS, 1)
            self._run(prepared, data, out, parallel=False)
            idle.append(prepared)
            return out
        n_threads = choose_threads(n_jobs, len(order) * self._work / CALLS)
        prepared = self._prepare(names, min(len(order), CHUNK_ROWS), n_threads)
        arguments = prepared.network, data, prepared.workspace, out
        if n_threads > 1 and is_ready(epoch.predict_parallel, arguments, n_jobs is not None):
            with parallel_region(n_threads) as parallel:
                self._run(prepared, data, out, parallel)
        else:
            self._run(prepared, data, out, parallel=False)
        return out

    def compile(self, names: Sequence[str], X: Any) -> None:
        """Compile, or load, what a prediction for such an X needs, on one thread and on several."""
        prepared = self._prepare(names, 1, 1)
        out = np.empty((1, self.weights.units[-1]), self.weights.dtype)
        data = Samples(X).bundle(np.arange(1), self.weights.dtype)
        for kernel in (epoch.predict_serial, epoch.predict_parallel):
            is_ready(kernel, (prepared.network, data, prepared.workspace, out), compile_it=True)

    def _prepare(self, names: Sequence[str], rows: int, n_threads: int) -> _Prepared:
        network = make_network(self.weights, names, n_threads * rows, training=False)
        workspace = make_workspace(network, self.weights, n_threads * rows, n_threads, loss=0)
        return _Prepared(network, workspace._replace(rows=rows), has_large(network))

    def _run(self, prepared: _Prepared, data: Data, out: Array, parallel: bool) -> None:
        run = epoch.predict_parallel if parallel else epoch.predict_serial
        with single_threaded_blas() if prepared.large else nullcontext():
            run(prepared.network, data, prepared.workspace, out)
