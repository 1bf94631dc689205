"""Which fits are done in families, and what is known of each ahead.

A family's networks are trained and judged without Python in between (`families.py`). So nothing may
be asked of them that is Python's to do, as a scorer of the user's, early stopping, or a time limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from fastbp.estimators.base import BaseBP
from fastbp.model_selection.evaluation import (
    Evaluator,
    asks_for_accuracy,
    judged_parts,
    number_labels,
    set_parameters,
    why_not_here,
)
from fastbp.model_selection.fits import Fit, find_network
from fastbp.model_selection.folds import Fold
from fastbp.network import Weights
from fastbp.samples import Rows, Samples, as_rows, number_rows
from fastbp.training.engine import CHUNK_ROWS
from fastbp.training.schedules import BY_STEPS
from fastbp.training.solvers import STOCHASTIC_SOLVERS, Optimizer
from fastbp.training.stochastic import MOST_EPOCHS
from fastbp.workspace import count_weights

__all__ = ["Member", "recruit"]

Array = NDArray[Any]

# Steps are fitted before the first network is trained, on one thread, if they make so many numbers
# at the most, and for so many seconds; later ones by the threads that train networks.
MOST_TRANSFORMED, STEPS_SECONDS = 1 << 20, 0.1
MOST_STEPS = 20_000  # of a network: what they go by is made ahead
SCHEDULES = ("constant", *BY_STEPS)  # of the learning rate, that go by the number of the step


@dataclass(eq=False)
class Candidate:
    """What the fits of a candidate have in common."""

    network: BaseBP  # of its parameters
    optimizer: Optimizer


@dataclass(eq=False)
class Member:
    """A fit that a family may do."""

    number: int  # among all fits
    fit: Fit
    candidate: Candidate
    fold: Fold
    n_samples: int  # to learn from
    batch_size: int
    shape: Weights  # of these units and this dtype
    names: tuple[str, ...]  # of the activations
    judged: Rows  # that it is judged by, those of test first

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is alike in a family: the shape, and how the data are taken."""
        samples, (loss, _) = self.fold.samples, self.candidate.network._engine_loss()
        data = self.batch_size, *samples.kind(), samples.labels is None, loss
        judged = Samples(self.judged.X).kind()
        return self.shape.units, self.shape.dtype, self.names, data, judged

    @property
    def seed(self) -> Any:
        """What its weights, and the order of its samples, are drawn by."""
        return _seed(self.fit, self.candidate.network)

    @property
    def cost(self) -> float:
        """Return about how many multiply-adds it takes."""
        return float(count_weights(self.shape) * self.n_samples * self.candidate.network.max_iter)

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches."""
        return -(-self.n_samples // self.batch_size)

    @property
    def n_steps(self) -> int:
        """Mini-batches in all."""
        return int(self.candidate.network.max_iter) * self.steps_per_epoch

    @property
    def n_bytes(self) -> int:
        """About what it takes in a family."""
        max_iter = int(self.candidate.network.max_iter)
        return 3 * self.shape.flat.nbytes + 8 * self.n_samples + 16 * max_iter + 4096

    def labels(self) -> Array:
        """Return the numbers of the classes of the rows that it is judged by."""
        parts = judged_parts(self.fit)
        judged: Any = [number_labels(self.fit, self.fold, part) for part in parts]
        return np.concatenate([part.labels for part in judged], dtype=np.int32)


def recruit(evaluator: Evaluator, fits: Sequence[Fit]) -> tuple[list[list[Member]], list[int]]:
    """Return the members of each family among some fits, and the numbers of the other fits."""
    candidates: dict[int, Candidate | None] = {}
    make_shape = cache(Weights)  # alike ones are one
    families: dict[Any, list[Member]] = {}
    transformed = {id(fit.data): fit.X for fit in fits if fit.has_steps}
    are_few = sum(map(_count_numbers, transformed.values())) <= MOST_TRANSFORMED
    until = monotonic() + STEPS_SECONDS
    others = []
    for number, fit in enumerate(fits):
        member = None
        if not fit.has_steps or (are_few and (fit.data.folds or monotonic() < until)):
            member = _recruit(evaluator, number, fit, candidates, make_shape)
        if member is None:
            others.append(number)
        else:
            families.setdefault(member.kind, []).append(member)
    return list(families.values()), others


def _recruit(
    evaluator: Evaluator,
    number: int,
    fit: Fit,
    candidates: dict[int, Candidate | None],
    make_shape: Callable[..., Weights],
) -> Member | None:
    """Return a fit as a member, None where it cannot be one or goes wrong."""
    if fit.kept is not None or fit.asked.get("return_estimator") or why_not_here(fit):
        return None
    key = id(fit.asked.get("parameters"))
    try:
        if key not in candidates:
            candidates[key] = _make_candidate(evaluator, fit)
        candidate = candidates[key]
        if candidate is None:
            return None
        return _make_member(evaluator, number, fit, candidate, make_shape)
    except Exception:  # it is raised again where the fit is done by itself
        return None


def _make_candidate(evaluator: Evaluator, fit: Fit) -> Candidate | None:
    network = find_network(set_parameters(clone(fit.estimator), fit.parameters))
    if network is None or not asks_for_accuracy(fit, network):
        return None
    evaluator.validate(network, fit)
    network.n_jobs = 1
    is_plain = (
        network.solver in STOCHASTIC_SOLVERS
        and network.max_iter <= MOST_EPOCHS
        and network.max_time is None
        and network.clip_norm is None
        and not (network.early_stopping or network.warm_start or network.verbose)
        and not any(network._check_regularisation())
        and isinstance(_seed(fit, network), Integral)
    )
    if not is_plain:
        return None
    optimizer = network._make_optimizer()
    goes_by_steps = isinstance(optimizer.schedule, str) and optimizer.schedule in SCHEDULES
    return Candidate(network, optimizer) if goes_by_steps else None


def _make_member(
    evaluator: Evaluator,
    number: int,
    fit: Fit,
    candidate: Candidate,
    make_shape: Callable[..., Weights],
) -> Member | None:
    network: Any = candidate.network
    if fit.has_steps:  # which are fitted as the fit has them
        set_parameters(fit.estimator, fit.parameters)
    fold = evaluator.fold(fit, network)
    fold.tell(network)
    X, judged = fold.samples.X, _rows_of(fold, judged_parts(fit))
    if not (type(X) is type(judged.X) is np.ndarray):
        return None
    n_samples = X.shape[0] if fold.rows is None else len(fold.rows)
    is_clipped = not isinstance(network.batch_size, str) and network.batch_size > n_samples
    if len(network.classes_) < 2 or is_clipped:
        return None
    hidden, names = network._check_network()
    n_judged = judged.X.shape[0]
    numbers = number_rows(n_judged) if judged.numbers is None else judged.numbers
    member = Member(
        number,
        fit,
        candidate,
        fold,
        n_samples,
        network._choose_batch_size(n_samples),
        make_shape((X.shape[1], *hidden, network.n_outputs_), network._choose_dtype(X, True)),
        (*names, network._choose_out_activation()),
        Rows(judged.X, as_rows(numbers, n_judged)),
    )
    is_small = member.n_steps <= MOST_STEPS and member.batch_size <= CHUNK_ROWS
    return member if is_small and not any(member.shape.large) else None


def _rows_of(fold: Fold, parts: Sequence[str]) -> Rows:
    """Return what networks are judged by, the samples of test first."""
    if len(parts) == 1:
        return fold.test.rows
    if fold.both is None:  # what steps have made of each
        both = [fold.judged(part).rows.X for part in parts]
        if not all(type(X) is np.ndarray for X in both):
            return fold.test.rows
        fold.both = Rows(np.concatenate(both))
    return fold.both


def _count_numbers(X: Any) -> float:
    """Return how many there are in a table, many where it does not say."""
    return float(np.prod(getattr(X, "shape", (np.inf,))))


def _seed(fit: Fit, network: BaseBP) -> Any:
    return network.random_state if fit.seed is None else fit.seed
