"""The loop over epochs: shuffling, the loss curve, and when to stop."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastbp.training.engine import Engine
from fastbp.training.solvers import Optimizer

__all__ = ["Progress", "Rules", "train"]

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
    rows: Array,
    random_state: np.random.RandomState,
    score: Callable[[], float] | None = None,
) -> int:
    """Train until the loss, or the score, has not improved for long enough.

    Parameters
    ----------
    engine : Engine
        Its weights are trained in place.
    optimizer : Optimizer
    progress : Progress
        Goes on from here.
    rules : Rules
    rows : ndarray of int64
        The samples to train on.
    random_state : RandomState
        Draws one permutation an epoch.
    score : callable, default=None
        The score on the validation set. With it the weights of the best epoch are kept in the end.

    Returns
    -------
    int
        The number of epochs. Ctrl-C ends training with a warning, after a whole step.
    """
    optimizer.begin(engine.weights)
    best = engine.weights.flat.copy() if score else None
    order = rows.copy()
    limit = 1 if rules.one_epoch else rules.max_iter
    n_iter = 0
    goes_on = True
    try:
        while goes_on and n_iter < limit:
            n_epochs = 1
            if score is None and optimizer.keeps_its_rate:
                n_epochs = min(limit - n_iter, _epochs_before_a_halt(progress, rules))
            generator = random_state if rules.shuffle else None
            for loss in engine.train(order, n_epochs, optimizer, generator):
                n_iter += 1
                progress.loss_curve.append(loss)
                progress.samples_seen += len(rows)
                if rules.verbose:
                    print(f"Iteration {n_iter}, loss = {loss:.8f}")
                if score is None:
                    _judge_loss(progress, rules, loss)
                elif _judge_score(progress, rules, score()):
                    best = engine.weights.flat.copy()
                optimizer.end_epoch(progress.samples_seen)
            if score is None and not isfinite(loss) and not np.isfinite(engine.weights.flat).all():
                break  # nothing can come of it; the caller says so
            if progress.epochs_without_improvement > rules.n_iter_no_change:
                goes_on, what = optimizer.goes_on()
                if rules.verbose:
                    print(_halt_message(rules, score is not None), what)
                if goes_on:
                    progress.epochs_without_improvement = 0
            if goes_on and n_iter == rules.max_iter and not rules.one_epoch:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({rules.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    if best is not None:
        engine.weights.flat[...] = best
    return n_iter


def _epochs_before_a_halt(progress: Progress, rules: Rules) -> int:
    """Return how many epochs there will be at least before the loss can bring a halt."""
    patience = rules.n_iter_no_change - progress.epochs_without_improvement
    return 1 + int(min(max(patience, 0), MOST_EPOCHS))


def _judge_loss(progress: Progress, rules: Rules, loss: float) -> None:
    assert progress.best_loss is not None
    if loss > progress.best_loss - rules.tol:
        progress.epochs_without_improvement += 1
    else:
        progress.epochs_without_improvement = 0
    progress.best_loss = min(progress.best_loss, loss)


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
