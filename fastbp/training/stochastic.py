"""The loop over epochs: shuffling, the loss curve, and when to stop."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastbp.kernels.arrays import BEST_LOSS, WAITED
from fastbp.training.engine import Engine, Epochs, make_halt
from fastbp.training.history import History
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.reporting import make_reporter
from fastbp.training.solvers import Optimizer

__all__ = [
    "EpochListener",
    "Limits",
    "Record",
    "State",
    "draw_dropout_seed",
    "limit_of_epochs",
    "limit_of_time",
    "take_note",
    "train",
    "warn_of_limit",
]

Array = NDArray[Any]

EPOCHS_AT_A_TIME = 1000  # requested from the engine


@dataclass
class Record:
    """The results of training besides the weights, which a warm start continues."""

    loss_curve: list[float] = field(default_factory=list)
    best_loss: float | None = np.inf  # None if a validation set decides
    validation_scores: list[float] | None = None
    best_validation_score: float | None = None
    epochs_without_improvement: int = 0
    samples_seen: int = 0
    history: History = field(default_factory=History)

    @classmethod
    def for_validation(cls) -> "Record":
        """Return the empty record of a training that a validation set decides."""
        return cls(best_loss=None, validation_scores=[], best_validation_score=-np.inf)


@dataclass
class State:
    """The state of a training besides weights, solver and record, from which it can resume."""

    order: Array  # the training samples as shuffled last: its own array, as from `number_rows`
    random_state: np.random.RandomState
    held_out: Array | None = None  # the validation samples
    n_val: int | None = None  # the number of samples in the user's validation set, if there is one
    dropout_seed: int = 0
    n_iter: int = 0  # epochs so far
    seconds: float = 0.0  # ... and how long they took
    goes_on: bool = True  # it has not halted by itself
    one_epoch: bool = False  # for partial_fit, which does not warn of limits
    sum_squares: float | None = None  # of the weights
    best: Array | None = None  # if a score decides: the best weights
    latest: Array | None = None  # ... and the latest
    loss: float | None = None  # of 'lbfgs'
    memory: LimitedMemory | None = None  # of 'lbfgs'
    data: dict[str, str | None] = field(default_factory=dict)  # digests of the training data

    @property
    def n_samples(self) -> int:
        """The number of samples given, to train on and to hold out."""
        return len(self.order) + (0 if self.held_out is None else len(self.held_out))


def draw_dropout_seed(random_state: np.random.RandomState) -> int:
    """Return a seed that determines, with the number of the step, which units are dropped."""
    return int(random_state.randint(2**63 - 1, dtype=np.int64))


def take_note(
    optimizer: Optimizer,
    record: Record,
    state: State,
    epochs: Epochs,
    halt: Array | None,
    judged: dict[str, list[float]],
) -> None:
    """Record completed epochs, and their results on the validation set."""
    n = len(epochs.losses)
    state.n_iter += n
    record.loss_curve += epochs.losses
    record.samples_seen += n * len(state.order)
    if halt is not None:
        record.best_loss = float(halt[BEST_LOSS])
        record.epochs_without_improvement = int(halt[WAITED])
    noted = {
        "loss": epochs.losses,
        "learning_rate": optimizer.rates(epochs.last_steps),
        "gradient_norm": epochs.gradient_norms,
        "seconds": [epochs.seconds] * n,
    }
    record.history.add(n, noted | judged)
    optimizer.end_epoch(record.samples_seen)


def limit_of_epochs(max_iter: int) -> str:
    """Return the name of `max_iter` in the warning."""
    return f"Maximum iterations ({max_iter})"


def limit_of_time(max_time: float | None) -> str:
    """Return the name of `max_time` in the warning."""
    return f"Maximum time ({max_time} s)"


def warn_of_limit(name: str, stacklevel: int, of: str = "Stochastic Optimizer") -> None:
    """Warn that training has reached a limit before it halted."""
    warnings.warn(
        f"{of}: {name} reached and the optimization hasn't converged yet.",
        ConvergenceWarning,
        stacklevel=stacklevel,
    )


class EpochListener(Protocol):
    """Notified of each epoch; `keeps_state` is whether it saves the state of the training."""

    keeps_state: bool

    def begin_epoch(self) -> None:
        """Handle the beginning of an epoch."""

    def end_epoch(self) -> bool:
        """Handle the end of an epoch; return whether to stop."""


@dataclass(frozen=True)
class Limits:
    """How long to train, and in which order; named as the estimators' parameters."""

    max_iter: int
    shuffle: bool
    tol: float
    n_iter_no_change: float
    max_time: float | None
    verbose: bool | int


def train(
    engine: Engine,
    optimizer: Optimizer,
    record: Record,
    limits: Limits,
    state: State,
    judge: Callable[[], tuple[float, float]] | None = None,
    listener: EpochListener | None = None,
) -> None:
    """Train until the loss, or the score, has not improved for long enough.

    Ctrl-C ends training with a warning, after a whole step.

    Parameters
    ----------
    engine : Engine
        Its weights, which are `state.latest` if that is set, are trained in place.
    optimizer : Optimizer
    record : Record
        The record to continue, in place.
    limits : Limits
    state : State
        The state to continue from, in place; its `random_state` draws one permutation per epoch.
    judge : callable, default=None
        Returns score and loss on the validation set. With it, the weights of the best epoch are
        kept at the end.
    listener : EpochListener, default=None
        Notified of each epoch.
    """
    optimizer.begin(engine.weights, -(-len(state.order) // engine.batch_size), limits.max_iter)
    if state.sum_squares is not None:  # its last digits depend on the order of summation
        engine.sum_squares = state.sum_squares
    if judge and state.best is None:
        state.best = engine.weights.flat.copy()
    training = _Training(engine, optimizer, record, limits, state, judge, listener)
    try:
        training.run()
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    finally:
        training.close()
    if state.best is not None and not (state.one_epoch and state.goes_on):
        state.latest = engine.weights.flat.copy()
        engine.weights.flat[...] = state.best


class _Training:
    """A training in progress; see `train`."""

    def __init__(
        self,
        engine: Engine,
        optimizer: Optimizer,
        record: Record,
        limits: Limits,
        state: State,
        judge: Callable[[], tuple[float, float]] | None,
        listener: EpochListener | None,
    ) -> None:
        self._engine, self._optimizer = engine, optimizer
        self._record, self._limits, self._state = record, limits, state
        self._judge, self._listener = judge, listener
        self._reporter = make_reporter(limits.verbose, 1 if state.one_epoch else limits.max_iter)

    def close(self) -> None:
        """Close the reporter."""
        if self._reporter:
            self._reporter.close()

    def run(self) -> None:
        """Train until a halt, or up to a limit."""
        limits, state, optimizer = self._limits, self._state, self._optimizer
        limit = state.n_iter + 1 if state.one_epoch else limits.max_iter
        generator = state.random_state if limits.shuffle else None
        before_epoch = None
        if self._listener:
            before_epoch = self._listener.begin_epoch
        elif self._judge or not optimizer.keeps_its_rate:
            before_epoch = _pause
        began = perf_counter() - state.seconds
        deadline = np.inf
        if limits.max_time is not None and not state.one_epoch:
            deadline = began + limits.max_time
        while state.goes_on and state.n_iter < limit:
            n_epochs = min(limit - state.n_iter, EPOCHS_AT_A_TIME)
            halt = self._make_halt()
            for epochs in self._engine.train(
                state.order, n_epochs, optimizer, generator, halt, deadline, before_epoch
            ):
                state.seconds = perf_counter() - began
                self._note(epochs, halt)
                if self._end_epochs():
                    return
            if state.one_epoch:
                return
            if state.n_iter == limits.max_iter:
                reached = limit_of_epochs(limits.max_iter)
            elif limits.max_time is not None and perf_counter() > deadline:
                reached = limit_of_time(limits.max_time)
            else:
                continue
            self._check_scores()
            warn_of_limit(reached, stacklevel=4)
            return

    def _make_halt(self) -> Array | None:
        """Return the engine's stopping criterion by the loss; None if a score decides."""
        if self._judge:
            return None
        record, limits = self._record, self._limits
        assert record.best_loss is not None
        waited = record.epochs_without_improvement
        return make_halt(record.best_loss, waited, limits.tol, limits.n_iter_no_change)

    def _note(self, epochs: Epochs, halt: Array | None) -> None:
        """Record completed epochs, and evaluate the validation set."""
        record, state, reporter = self._record, self._state, self._reporter
        if reporter:
            reporter.epochs(state.n_iter, epochs.losses)
        judged = {}
        if self._judge:
            score, loss = self._judge()
            judged = {"validation_score": [score], "validation_loss": [loss]}
            if _take_score(record, self._limits, score):
                state.best = self._engine.weights.flat.copy()
            if reporter:
                reporter.score(score)
        take_note(self._optimizer, record, state, epochs, halt, judged)

    def _end_epochs(self) -> bool:
        """Detect and report a halt, notify the listener, and return whether training ends here."""
        record, limits, state = self._record, self._limits, self._state
        hopeless = (
            self._judge is None
            and not isfinite(record.loss_curve[-1])
            and not np.isfinite(self._engine.weights.flat).all()
        )
        if not hopeless and record.epochs_without_improvement > limits.n_iter_no_change:
            state.goes_on, what = self._optimizer.react_to_halt()
            if self._reporter:
                self._reporter.halt(f"{_halt_message(limits, self._judge is not None)} {what}")
            if state.goes_on:
                record.epochs_without_improvement = 0
        stops = False
        if self._listener:
            state.sum_squares = self._engine.sum_squares
            stops = self._listener.end_epoch()
        if stops or hopeless:  # the caller raises on non-finite weights
            return True
        if not state.goes_on:
            self._check_scores()
        return not state.goes_on

    def _check_scores(self) -> None:
        """Raise or warn if no epoch has a finite score.

        The best weights are then those from before the first epoch.
        """
        if self._judge is None or np.isfinite(self._record.validation_scores or []).any():
            return
        what = "scoring returned no finite number for the validation set in any epoch"
        if np.isfinite(self._engine.weights.flat).all():
            raise ValueError(f"{what}: early_stopping cannot choose an epoch.")
        warnings.warn(
            f"{what}, and the weights have diverged: those from before training are kept.",
            ConvergenceWarning,
            stacklevel=5,
        )


def _pause() -> None:
    """Do nothing; as `before_epoch` it makes the engine yield epochs one by one."""


def _take_score(record: Record, limits: Limits, score: float) -> bool:
    """Record a score; return whether this epoch's weights are the best so far."""
    assert record.validation_scores is not None
    assert record.best_validation_score is not None
    record.validation_scores.append(score)
    if score >= record.best_validation_score + limits.tol:
        record.epochs_without_improvement = 0
    else:  # NaN too
        record.epochs_without_improvement += 1
    best = score > record.best_validation_score
    if best:
        record.best_validation_score = score
    return best


def _halt_message(limits: Limits, by_score: bool) -> str:
    what = "Validation score" if by_score else "Training loss"
    return (
        f"{what} did not improve more than tol={limits.tol:f} for {limits.n_iter_no_change} "
        "consecutive epochs."
    )
