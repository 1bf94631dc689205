"""The engine: prepared arrays on one side, compiled kernels on the other.

It holds the bundles the kernels work on, decides threads and chunks, and cuts an epoch into calls
short enough that Ctrl-C is heard between them.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse
from numpy.random import RandomState
from numpy.typing import NDArray

from fastbp.kernels import epoch, losses
from fastbp.kernels.activations import activate_address
from fastbp.kernels.arrays import (
    N_SETTINGS,
    PENALTY,
    SQUARES,
    Data,
    Network,
    Solver,
    Workspace,
)
from fastbp.kernels.jit import count_compiled, is_ready, memory_view
from fastbp.kernels.update import (
    GRADIENT_ONLY,
    step_address,
    transpose_weights,
)
from fastbp.matmul.product import BLAS_ROWS, product_addresses
from fastbp.matmul.tile import TILE_ROWS
from fastbp.network import Weights, aligned_zeros, make_network
from fastbp.training.solvers import Optimizer
from fastbp.training.threads import Pace, choose_threads, parallel_region, single_threaded_blas

__all__ = ["Engine", "Samples", "predict"]

Array = NDArray[Any]

CHUNK_ROWS = 512  # rows of activations kept: more would leave the cache and use memory
PREDICT_ROWS = 256  # ... in prediction, by each thread; a multiple of BLAS_ROWS
PREDICT_CALLS = 20  # a prediction is worth threads from as many mini-batches' work on
PATIENCE = 0.2  # seconds on one thread before others are started, where n_jobs is None
COMPILE_PATIENCE = 10.0  # ... and before the kernels for them are compiled, if they are in no cache
NO_ADDRESSES = np.empty(0, np.int64)
SLOWEST = 2e9  # multiply-adds a second: below what is reached anywhere


@dataclass(frozen=True)
class Samples:
    """What is learnt from: validated, contiguous, native; never written to.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features), float32 or float64
    targets : ndarray of shape (n_samples, n_outputs) of the training dtype, or None
    labels : ndarray of shape (n_samples,), int32, or None
        The number of each sample's class, in place of targets, for a softmax output.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    """

    X: Any
    targets: Array | None = None
    labels: Array | None = None
    sample_weight: Array | None = None

    def total_weight(self) -> float:
        """Return the sum of the weights, the number of samples where there are none."""
        return float(self.X.shape[0] if self.sample_weight is None else self.sample_weight.sum())

    def bundle(self, order: Array, dtype: np.dtype[Any]) -> Data:
        """Return what the kernels need, the samples in this order."""
        if scipy.sparse.issparse(self.X):
            dense = np.empty((0, self.X.shape[1]), self.X.dtype)
            stored = self.X.data, self.X.indices, self.X.indptr
        else:
            dense = self.X
            none = np.empty(0, np.int32)
            stored = np.empty(0, self.X.dtype), none, none
        n_outputs = 1 if self.targets is None else self.targets.shape[1]
        arrays = (
            dense,
            *stored,
            np.empty((0, n_outputs), dtype) if self.targets is None else self.targets,
            np.empty(0, np.int32) if self.labels is None else self.labels,
            np.empty(0) if self.sample_weight is None else self.sample_weight,
            order,
            NO_ADDRESSES,
        )
        return Data(*map(_plain, arrays))


def generator_addresses(generator: RandomState) -> Array:
    """Return the addresses of the function that draws 32 bits, and of its state."""
    interface = generator._bit_generator.ctypes  # type: ignore[attr-defined]
    function = ctypes.cast(interface.next_uint32, ctypes.c_void_p).value
    return np.array([function, interface.state_address], np.int64)


def _plain(array: Array) -> Array:
    """Return a view that Numba takes for an ordinary array, whatever its subclass and flags.

    Otherwise read-only arrays (from a file, or from joblib) would have all kernels compiled anew.
    No kernel writes to the samples.
    """
    if array.flags.writeable or array.size == 0:
        return array.view(np.ndarray)
    plain: Array = memory_view(array.ctypes.data, array.dtype, array.shape, array.strides)
    return plain


def predict(
    weights: Weights, names: Sequence[str], X: Any, n_jobs: int | None, order: Array | None = None
) -> Array:
    """Return the network's outputs for the rows of X, or for those that `order` names.

    Parameters
    ----------
    weights : Weights
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
    n_threads = choose_threads(n_jobs, float(len(order)) * _count_weights(weights) / PREDICT_CALLS)
    rows = max(1, min(len(order), PREDICT_ROWS))
    network = make_network(weights, names, n_threads * rows, training=False)
    workspace = _make_workspace(network, weights, n_threads * rows, n_threads, loss=0)
    workspace = workspace._replace(rows=rows)
    data = Samples(X).bundle(order, weights.dtype)
    out = np.empty((len(order), weights.units[-1]), weights.dtype)
    arguments = network, data, workspace, out
    if n_threads > 1 and not is_ready(epoch.predict_parallel, arguments, n_jobs is not None):
        n_threads = 1
    with ExitStack() as stack:
        if _has_large(network):
            stack.enter_context(single_threaded_blas())
        parallel = n_threads > 1 and stack.enter_context(parallel_region(n_threads))
        run = epoch.predict_parallel if parallel else epoch.predict_serial
        run(*arguments)
    return out


class Engine:
    """Trains given weights, in place.

    Parameters
    ----------
    weights : Weights
    names : sequence of str
        The activation of each layer, the output's last.
    loss : {"log_loss", "squared_error", "poisson"}
    samples : Samples
    batch_size : int
    n_jobs : int or None
    keep_gradient : bool, default=False
        Make room for a gradient even where a mini-batch fits one chunk.
    """

    def __init__(
        self,
        weights: Weights,
        names: Sequence[str],
        loss: str,
        samples: Samples,
        batch_size: int,
        n_jobs: int | None,
        keep_gradient: bool = False,
    ) -> None:
        self.weights = weights
        self.names = names
        self.loss = loss
        self.samples = samples
        self.batch_size = batch_size
        self.chunks_per_batch = -(-batch_size // CHUNK_ROWS)
        rows = -(-batch_size // self.chunks_per_batch)
        self.work = 3.0 * rows * _count_weights(weights)
        self.n_jobs = n_jobs
        n_threads = choose_threads(n_jobs, self.work)
        patience = PATIENCE if n_jobs is None else 0.0
        self.pace = Pace(n_threads, patience, self.work / SLOWEST)
        self.seconds = 0.0  # of compiled calls so far
        self.network = make_network(weights, names, rows)
        self.workspace = _make_workspace(
            self.network,
            weights,
            rows,
            n_threads,
            losses.CODES[loss],
            keep_gradient or self.chunks_per_batch > 1,
            samples.X if scipy.sparse.issparse(samples.X) else None,
        )
        self.workspace.totals[SQUARES] = self._sum_squares()
        self.data = samples.bundle(np.arange(0), weights.dtype)
        self.has_large = _has_large(self.network)
        bounds = self.workspace.bounds[[0, -1]]
        self.serial_workspace = self.workspace._replace(bounds=bounds)

    def train(
        self,
        order: Array,
        n_epochs: int,
        optimizer: Optimizer,
        generator: RandomState | None = None,
    ) -> Iterator[float]:
        """Train for some epochs, at one learning rate; give the mean loss of each.

        The loss is that of each batch before its step.

        Parameters
        ----------
        order : ndarray of int64
            The samples to train on, in their order; shuffled in place before each epoch.
        n_epochs : int
        optimizer : Optimizer
        generator : RandomState, default=None
            What the shuffles are drawn from; None for no shuffling.

        Yields
        ------
        float
            As soon as the compiled call that ends the epoch is back. KeyboardInterrupt comes
            through between two calls, after a whole number of steps.
        """
        addresses = generator_addresses(generator) if generator else NO_ADDRESSES
        data = self.data._replace(order=order, generator=addresses)
        totals = self.workspace.totals
        totals[:SQUARES] = 0
        losses = np.zeros(n_epochs)
        per_epoch = -(-len(order) // self.batch_size) * self.chunks_per_batch
        first = ended = 0
        while ended < n_epochs:
            n_threads, n_units = self.pace.plan(per_epoch * n_epochs - first)
            last = first + n_units
            first_batch = first // self.chunks_per_batch
            solver = optimizer.bundle(-(-last // self.chunks_per_batch) - first_batch)
            with generator._bit_generator.lock if generator else nullcontext():
                self._run(data, solver, first, last, n_threads, losses)
            optimizer.steps_taken += last // self.chunks_per_batch - first_batch
            first = last
            for epoch in range(ended, first // per_epoch):
                ended = epoch + 1
                yield float(losses[epoch])

    def gradient(self, order: Array, alpha: float) -> tuple[float, Array, float]:
        """Return objective, its gradient in the flat layout, and the loss, all samples in a batch.

        ``batch_size`` must be the number of samples, and the gradient kept. The loss is that of
        `train`, penalty included. Of several outputs, squared error is their mean, while
        gradients are those of their sum (as in scikit-learn); the objective is that sum.
        """
        data = self.data._replace(order=order)
        totals = self.workspace.totals
        totals[:SQUARES] = 0
        totals[SQUARES] = self._sum_squares()
        penalty = alpha / 2 * totals[SQUARES] / self.samples.total_weight()
        transpose_weights(self.network)
        empty = np.empty(0, self.weights.dtype)
        steps = np.zeros((1, N_SETTINGS))
        steps[0, PENALTY] = alpha
        solver = Solver(GRADIENT_ONLY, steps, empty, empty)
        losses = np.zeros(1)
        first = 0
        while first < self.chunks_per_batch:
            n_threads, n_units = self.pace.plan(self.chunks_per_batch - first)
            self._run(data, solver, first, first + n_units, n_threads, losses)
            first += n_units
        loss = float(losses[0])
        outputs = self.weights.units[-1] if self.loss == "squared_error" else 1
        return outputs * (loss - penalty) + penalty, self.workspace.gradient, loss

    def predict(self, order: Array) -> Array:
        """Return the outputs for the samples that `order` names."""
        return predict(self.weights, self.names, self.samples.X, self.n_jobs, order)

    def _sum_squares(self) -> float:
        return sum(float(np.vdot(w, w)) for w in self.weights.coefs)

    def _run(
        self, data: Data, solver: Solver, first: int, last: int, n_threads: int, losses: Array
    ) -> None:
        """Train on chunks first..last in one compiled call, and time it."""
        chunks = self.batch_size, first, last, losses
        if n_threads > 1:
            arguments = self.network, data, solver, self.workspace, *chunks
            worth_it = self.n_jobs is not None or self.seconds > COMPILE_PATIENCE
            if not is_ready(epoch.train_parallel, arguments, worth_it):
                n_threads = 1
        with ExitStack() as stack:
            if self.has_large:
                stack.enter_context(single_threaded_blas())
            parallel = n_threads > 1 and stack.enter_context(parallel_region(n_threads))
            run = epoch.train_parallel if parallel else epoch.train_serial
            workspace = self.workspace if parallel else self.serial_workspace
            compiled = count_compiled(run)
            began = perf_counter()
            run(self.network, data, solver, workspace, *chunks)
            seconds = perf_counter() - began
        if count_compiled(run) == compiled:  # else the time is that of compiling
            self.pace.record(n_threads if parallel else 1, last - first, seconds)
            self.seconds += seconds


def _count_weights(weights: Weights) -> int:
    return sum(n_in * n_out for n_in, n_out in pairwise(weights.units))


def _has_large(network: Network) -> bool:
    return bool(network.layers.large.any())


def _make_workspace(
    network: Network,
    weights: Weights,
    rows: int,
    n_threads: int,
    loss: int,
    keep_gradient: bool = False,
    sparse: Any = None,
) -> Workspace:
    """Allocate all the memory that a call may need."""
    dtype = weights.dtype
    layers = network.layers
    last = layers[-1]
    size = int(last.output + rows * last.output_row)
    widest = int(max(layers.weights_row.max(), layers.transposed_row.max(), layers.input_row.max()))
    per_thread = int((layers.panel_rows * layers.weights_row).sum())
    large = _has_large(network)
    n_entries = 0
    if sparse is not None:
        stored = np.diff(sparse.indptr)
        n_entries = int(np.partition(stored, len(stored) - min(rows, len(stored)))[-rows:].sum())
    return Workspace(
        activations=aligned_zeros(size, dtype),
        slopes=aligned_zeros(size, dtype),
        deltas=aligned_zeros(size, dtype),
        gradient=weights.zeros() if keep_gradient else np.empty(0, dtype),
        scratch=aligned_zeros(n_threads * per_thread, dtype),
        zeros=aligned_zeros(widest, dtype),
        one=np.ones(1, dtype),
        row_losses=np.zeros(rows),
        squares=np.zeros(int(last.last_panel)),
        totals=np.zeros(4),
        column_starts=np.zeros(weights.units[0] + 1 if sparse is not None else 0, np.int64),
        column_rows=np.zeros(n_entries, np.int64),
        column_values=np.zeros(n_entries, dtype),
        bounds=_share_panels(layers, n_threads),
        addresses=np.array(
            [
                *product_addresses(dtype.name),
                activate_address(dtype.name),
                step_address(dtype.name),
            ]
        ),
        loss=loss,
        rows=rows,
        grain=BLAS_ROWS if large else TILE_ROWS,
    )


def _share_panels(layers: Any, n_threads: int) -> Array:
    """Return the bounds of each thread's panels, of about the same work."""
    sizes = layers.panel_rows * layers.weights_row
    cost = np.repeat(sizes, layers.last_panel - layers.first_panel)
    done = np.concatenate([[0], np.cumsum(cost)])
    return np.searchsorted(done, np.linspace(0, done[-1], n_threads + 1)).astype(np.int64)
