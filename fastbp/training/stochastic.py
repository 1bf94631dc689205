"""The loop over epochs: shuffling, the loss curve, and when to stop."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastbp.kernels.arrays import BEST_LOSS, WAITED
from fastbp.training.engine import Engine, make_watch
from fastbp.training.solvers import Optimizer

__all__ = ["Progress", "Rules", "State", "train"]

Array = NDArray[Any]

MOST_EPOCHS = 1000  # asked of the engine at a time


@dataclass
class Progress:
    """What training leaves behind beside the weights, and takes up again on a warm start."""

    loss_curve: list[float] = field(default_factory=list)
    best_loss: float | None = np.inf  # None where a validation set decides
    validation_scores: list[float] | None = None
    best_validation_score: float | None = None
    epochs_without_improvement: int = 0
    samples_seen: int = 0

    @classmethod
    def for_validation(cls) -> "Progress":
        """Return the start of a training that a validation set will decide on."""
        return cls(best_loss=None, validation_scores=[], best_validation_score=-np.inf)


@dataclass
class State:
    """Where a training stands, beside its weights, solver and progress; it can go on from here."""

    rows: Array  # the samples it was given, to train on and to validate with
    random_state: np.random.RandomState
    order: Array | None = None  # the samples it trains on, as they were shuffled last
    held_out: Array | None = None  # those it validates with
    n_iter: int = 0  # epochs so far
    goes_on: bool = True  # it has not come to a halt of its own
    best: Array | None = None  # the best weights, where a score decides, and the latest
    latest: Array | None = None


@dataclass(frozen=True)
class Rules:
    """How long to train, and in which order; named as the estimators' parameters."""

    max_iter: int
    shuffle: bool
    tol: float
    n_iter_no_change: float
    verbose: bool | int
    one_epoch: bool  # as partial_fit does, and not a word of convergence


def train(
    engine: Engine,
    optimizer: Optimizer,
    progress: Progress,
    rules: Rules,
    state: State,
    score: Callable[[], float] | None = None,
) -> None:
    """Train until the loss, or the score, has not improved for long enough.

    Parameters
    ----------
    engine : Engine
        Its weights are trained in place.
    optimizer : Optimizer
    progress : Progress
        Goes on from here.
    rules : Rules
    state : State
        Goes on from here, too; its `random_state` draws one permutation an epoch.
    score : callable, default=None
        The score on the validation set. With it the weights of the best epoch are kept in the end.

    Ctrl-C ends training with a warning, after a whole step.
    """
    optimizer.begin(engine.weights)
    if state.order is None:
        state.order = state.rows.copy()
    if state.latest is not None:
        engine.weights.flat[...] = state.latest
    elif score:
        state.best = engine.weights.flat.copy()
    limit = 1 if rules.one_epoch else rules.max_iter
    generator = state.random_state if rules.shuffle else None
    try:
        while state.goes_on and state.n_iter < limit:
            n_epochs, watch = 1, None
            if score is None:
                if optimizer.keeps_its_rate:
                    n_epochs = min(limit - state.n_iter, MOST_EPOCHS)
                assert progress.best_loss is not None
                watch = make_watch(
                    progress.best_loss,
                    progress.epochs_without_improvement,
                    rules.tol,
                    rules.n_iter_no_change,
                )
            try:
                for losses in engine.train(state.order, n_epochs, optimizer, generator, watch):
                    if rules.verbose:
                        for n_iter, loss in enumerate(losses, state.n_iter + 1):
                            print(f"Iteration {n_iter}, loss = {loss:.8f}")
                    state.n_iter += len(losses)
                    progress.loss_curve += losses
                    progress.samples_seen += len(losses) * len(state.order)
                    if score is not None and _judge_score(progress, rules, score()):
                        state.best = engine.weights.flat.copy()
                    optimizer.end_epoch(progress.samples_seen)
            finally:
                if watch is not None:
                    progress.best_loss = float(watch[BEST_LOSS])
                    progress.epochs_without_improvement = int(watch[WAITED])
            if (
                score is None
                and not isfinite(losses[-1])
                and not np.isfinite(engine.weights.flat).all()
            ):
                break  # nothing can come of it; the caller says so
            if progress.epochs_without_improvement > rules.n_iter_no_change:
                state.goes_on, what = optimizer.goes_on()
                if rules.verbose:
                    print(_halt_message(rules, score is not None), what)
                if state.goes_on:
                    progress.epochs_without_improvement = 0
            if state.goes_on and state.n_iter == rules.max_iter and not rules.one_epoch:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({rules.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    if state.best is not None:
        state.latest = engine.weights.flat.copy()
        engine.weights.flat[...] = state.best


def _judge_score(progress: Progress, rules: Rules, score: float) -> bool:
    """Return whether this epoch's weights are the best so far."""
    assert progress.validation_scores is not None
    assert progress.best_validation_score is not None
    progress.validation_scores.append(score)
    if rules.verbose:
        print(f"Validation score: {score:f}")
    if score < progress.best_validation_score + rules.tol:
        progress.epochs_without_improvement += 1
    else:
        progress.epochs_without_improvement = 0
    best = score > progress.best_validation_score
    if best:
        progress.best_validation_score = score
    return best


def _halt_message(rules: Rules, by_score: bool) -> str:
    what = "Validation score" if by_score else "Training loss"
    return (
        f"{what} did not improve more than tol={rules.tol:f} for {rules.n_iter_no_change} "
        "consecutive epochs."
    )
