"""The engine, which hands prepared arrays to compiled kernels.

It holds the bundles the kernels work on, decides threads and chunks, and divides training into
calls short enough that Ctrl-C is handled between them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from math import isfinite
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse
from numpy.random import RandomState
from numpy.typing import NDArray

from fastbp.blas_limit import single_threaded_blas
from fastbp.cancellation import raise_if_cancelled
from fastbp.forks import Holding
from fastbp.kernels import epoch, losses
from fastbp.kernels.arrays import (
    BEST_LOSS,
    ENDED,
    HALTED,
    LOSS_PARAMETER,
    N_WATCH,
    PATIENCE,
    REACHED,
    SQUARES,
    TOLERANCE,
    WAITED,
    WANTED,
    Bundles,
    no_run,
    no_solver,
)
from fastbp.kernels.lbfgs import advance
from fastbp.kernels.plan import Plan, plan_function, run
from fastbp.kernels.shuffle import generator_addresses
from fastbp.kernels.update import LBFGS, SGD
from fastbp.matmul.nonzeros import nonzeros_address
from fastbp.matmul.product import NONZEROS
from fastbp.network import Weights, aligned_zeros, make_network, transpose_weights
from fastbp.pace import Pace
from fastbp.pool import Pool
from fastbp.samples import NO_ADDRESSES, Samples, row_type
from fastbp.threads import choose_threads, run_on_threads
from fastbp.workspace import count_weights, make_workspace

__all__ = ["SLOWEST", "Engine", "Epochs", "count_chunks", "make_halt", "sum_squares"]

Array = NDArray[Any]

CHUNK_ROWS = 512  # rows of activations kept: more would not fit the cache and use more memory
OWN_PATIENCE = 0.2  # seconds on one thread before others are started, if n_jobs is None
ASKED_PATIENCE = 0.01  # ... and if n_jobs asks for them
COMPILE_PATIENCE = 10.0  # ... and before the code that starts them is compiled, if not cached
SLOWEST = 2e9  # multiply-adds per second: every machine is faster

_pool: Pool[tuple[Plan, int, Pace]] = Pool(most=256)


class Epochs(NamedTuple):
    """Some completed epochs of training.

    The loss of an epoch is the mean over its mini-batches, each taken before its step.
    """

    losses: list[float]
    gradient_norms: list[float]  # of the last mini-batch of each, before it is clipped
    last_steps: range  # the number of the last step of each
    seconds: float  # the mean time of each


class Rule(Protocol):
    """The update rule: an `Optimizer`, or the `LimitedMemory` of L-BFGS."""

    steps_taken: int

    def rule(self) -> dict[str, Any]:
        """Return the fields of `Solver` that serve all steps."""

    def next_steps(self, n_steps: int) -> dict[str, Any]:
        """Return the fields of `Solver` for the next steps."""


class Engine:
    """Trains given weights, in place.

    Parameters
    ----------
    weights : Weights
    names : sequence of str
        The activation of each layer, the output's last.
    loss : str
        A key of `fastbp.kernels.losses.CODES`.
    samples : Samples
    batch_size : int
    n_jobs : int or None
    keep_gradient : bool, default=False
        Allocate a gradient even if a mini-batch fits one chunk.
    loss_parameter : float, default=0
        The parameter of a loss that has one.
    dropout : sequence of float, of length n_layers - 1, default=()
        The fraction of each hidden layer's units that is dropped; empty for no dropout.
    seed : int, default=0
        Determines, with the number of the step, which units are dropped.
    by_lbfgs : bool, default=False
        Whether the optimizer will be a `LimitedMemory`, with all samples in one mini-batch.
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
        loss_parameter: float = 0.0,
        dropout: Sequence[float] = (),
        seed: int = 0,
        by_lbfgs: bool = False,
    ) -> None:
        self.weights = weights
        self.names = names
        self.loss = loss
        self.samples = samples
        self.batch_size = batch_size
        self.chunks_per_batch = count_chunks(batch_size)
        rows = -(-batch_size // self.chunks_per_batch)
        self.work = 3.0 * rows * count_weights(weights)
        self.n_jobs = n_jobs
        self.dropout = tuple(dropout)
        n_threads = choose_threads(n_jobs, self.work)
        patience = OWN_PATIENCE if n_jobs is None else ASKED_PATIENCE
        self.seconds = 0.0  # of compiled calls so far
        self._uses_blas = any(weights.large)
        kept = keep_gradient or by_lbfgs or self.chunks_per_batch > 1
        code = LBFGS if by_lbfgs else SGD
        self._kind: Any = None  # None for sparse X, whose memory depends on more than shapes
        if not scipy.sparse.issparse(samples.X):
            shape = weights.units, weights.dtype, weights.large, tuple(names), self.dropout, loss
            kind = samples.kind(), samples.labels is None
            self._kind = (*shape, *kind, rows, n_threads, patience, kept, code)
        self.plan, self.address, self.pace = _pool.take(
            self._kind, lambda: self._prepare(rows, n_threads, kept, code, patience)
        )
        self.workspace = self.plan.workspace
        self.workspace.totals[:] = 0
        self.sum_squares = sum_squares(weights)
        self.workspace.totals[LOSS_PARAMETER] = loss_parameter
        self.plan.set("network", parameters=weights.flat)
        self.plan.set("data", **samples.bundle(weights.dtype)._asdict())
        self.plan.set("run", batch_size=batch_size, seed=seed)
        transpose_weights(self.plan.network)

    def _prepare(
        self, rows: int, n_threads: int, kept: bool, code: int, patience: float
    ) -> tuple[Plan, int, Pace]:
        """Make a plan for networks of this shape and data of this kind; compile its functions."""
        weights, samples = self.weights, self.samples
        sparse = samples.X if scipy.sparse.issparse(samples.X) else None
        network = make_network(
            weights, self.names, rows, dropout=self.dropout, sparse=sparse is not None
        )
        loss = losses.CODES[self.loss]
        plan = Plan(
            Bundles(
                network,
                samples.bundle(weights.dtype),
                no_solver(weights.dtype, code),
                make_workspace(network, weights, rows, n_threads, loss, kept, sparse),
                no_run(weights.dtype),
            )
        )
        pace = Pace(n_threads, patience, self.work / SLOWEST)
        return plan, epoch.compile_training(plan), pace

    def close(self) -> None:
        """Give the plan and its memory back for the next network; the engine cannot train then."""
        weights_are_finite = isfinite(self.sum_squares)
        if self._kind and weights_are_finite:
            self.plan.forget_arrays()
            _pool.give(self._kind, (self.plan, self.address, self.pace), self.plan.n_bytes)

    def train(
        self,
        order: Array,
        n_epochs: int,
        optimizer: Rule,
        generator: RandomState | None = None,
        halt: Array | None = None,
        deadline: float = np.inf,
        before_epoch: Callable[[], None] | None = None,
    ) -> Iterator[Epochs]:
        """Train for some epochs; yield those that are complete.

        Parameters
        ----------
        order : ndarray of the type of `number_rows`
            The samples to train on, in their order; shuffled in place before each epoch.
        n_epochs : int
            Maximum number of epochs.
        optimizer : Optimizer or LimitedMemory
            With the latter an epoch is one evaluation of the loss and its gradient.
        generator : RandomState, default=None
            The source of the shuffles; None for no shuffling.
        halt : ndarray of shape (N_WATCH,), default=None
            The stopping criterion, from `make_halt`; updated in place.
        deadline : float, default=inf
            The time of `perf_counter` after which no call is made.
        before_epoch : callable, default=None
            Called before each epoch; epochs are then yielded one by one.

        Yields
        ------
        Epochs
            The epochs that a compiled call has completed, after each call that completes any.
            KeyboardInterrupt is raised between two calls, after the last call's epochs are yielded.
        """
        addresses = generator_addresses(generator) if generator else NO_ADDRESSES
        losses, norms = (aligned_zeros(n_epochs, np.float64) for _ in range(2))
        totals = self.workspace.totals
        totals[:SQUARES] = 0
        halt = make_halt() if halt is None else halt
        halt[ENDED] = 0
        assert order.dtype == row_type(self.samples.X.shape[0])  # compiled code does not check
        self.plan.set("data", order=order, generator=addresses)
        self.plan.set("run", losses=losses, norms=norms, watch=halt)
        self.plan.set("solver", **optimizer.rule())
        drawing = Holding(generator._bit_generator.lock) if generator else nullcontext()
        per_epoch = -(-len(order) // self.batch_size) * self.chunks_per_batch
        steps_per_epoch = per_epoch // self.chunks_per_batch
        begin, n_steps = optimizer.steps_taken, steps_per_epoch * n_epochs
        last_steps = range(begin + steps_per_epoch - 1, begin + n_steps, steps_per_epoch)
        first = given = 0
        seconds = self.seconds
        last = per_epoch * n_epochs
        while first < last and not halt[HALTED] and perf_counter() < deadline:
            remaining = last - first
            if before_epoch:
                remaining = per_epoch - first % per_epoch
                if remaining == per_epoch:
                    before_epoch()
            n_threads, n_units = self.pace.plan(remaining)
            first_batch = first // self.chunks_per_batch
            end_batch = -(-(first + n_units) // self.chunks_per_batch)
            self.plan.set("solver", **optimizer.next_steps(end_batch - first_batch))
            interrupt = None
            totals[REACHED] = first
            try:
                with drawing:
                    self._run(first, first + n_units, n_threads, optimizer.steps_taken)
            except KeyboardInterrupt as error:  # mostly raised at the end of the compiled call
                interrupt = error
            first = int(totals[REACHED])
            optimizer.steps_taken += first // self.chunks_per_batch - first_batch
            ended = first // per_epoch
            if ended > given:
                yield Epochs(
                    losses[given:ended].tolist(),
                    norms[given:ended].tolist(),
                    last_steps[given:ended],
                    (self.seconds - seconds) / (ended - given),
                )
                given, seconds = ended, self.seconds
            if interrupt:
                raise interrupt

    def leave_iterate(self, memory: Rule) -> None:
        """Continue from the iterate of L-BFGS at which `train` has halted."""
        self.plan.set("solver", **memory.rule())
        run(plan_function(advance, self.plan), self.plan)

    def compile_what_is_wanted(self) -> None:
        """Compile the product that skips zeros, if the last call would have used it."""
        if self.workspace.addresses[NONZEROS] == WANTED:
            self.workspace.addresses[NONZEROS] = nonzeros_address(self.weights.dtype.name)

    @property
    def sum_squares(self) -> float:
        """The sum of the squared weights, as the kernels keep it."""
        return float(self.workspace.totals[SQUARES])

    @sum_squares.setter
    def sum_squares(self, total: float) -> None:
        self.workspace.totals[SQUARES] = total

    def _run(self, first: int, last: int, n_threads: int, first_step: int) -> None:
        """Train on chunks first..last, or until a halt, in one call; it stores where it ended."""
        raise_if_cancelled()
        self.plan.set("run", first=first, last=last, first_step=first_step)
        with single_threaded_blas() if self._uses_blas else nullcontext():
            worth_it = self.n_jobs is not None or self.seconds > COMPILE_PATIENCE
            began = perf_counter()
            try:
                n_threads = run_on_threads(self.address, self.plan, n_threads, worth_it)
            finally:
                seconds = perf_counter() - began
                self.seconds += seconds
        self.compile_what_is_wanted()
        self.pace.record(n_threads, int(self.workspace.totals[REACHED]) - first, seconds)


def count_chunks(batch_size: int) -> int:
    """Return the number of chunks of a mini-batch, which are trained on in turn."""
    return -(-batch_size // CHUNK_ROWS)


def sum_squares(weights: Weights) -> float:
    """Return the sum of the squared weights, without the biases."""
    return sum(float(np.vdot(w, w)) for w in weights.coefs)


def make_halt(
    best_loss: float = np.inf, waited: int = 0, tolerance: float = 0.0, patience: float = np.inf
) -> Array:
    """Return the stopping criterion for `Engine.train`: by default, only a non-finite loss."""
    halt = aligned_zeros(N_WATCH, np.float64)
    halt[BEST_LOSS], halt[WAITED] = best_loss, waited
    halt[TOLERANCE], halt[PATIENCE] = tolerance, patience
    return halt
