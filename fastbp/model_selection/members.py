"""Which fits are done in families, and what is known of each ahead.

A family's networks are trained without Python in between (`families.py`). So nothing may be asked
of their training that is Python's to do, as a time limit, or a scorer to stop by. They are judged
by their outputs: in compiled code where the accuracy is asked for, by scikit-learn's other metrics
afterwards. What a function of the user's takes nobody knows, so threads call it side by side.
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
from fastbp.kernels.lbfgs import N_VECTORS
from fastbp.model_selection.evaluation import Evaluator, reason_against_fit, set_parameters
from fastbp.model_selection.fits import Fit, find_network
from fastbp.model_selection.folds import Fold
from fastbp.model_selection.judging import asks_for_accuracy, judged_parts, number_labels
from fastbp.model_selection.metrics import asks_for_metrics
from fastbp.model_selection.standing import Kept
from fastbp.network import Weights
from fastbp.randomness import make_random_state
from fastbp.samples import Rows, Samples, as_rows, number_rows
from fastbp.training.engine import count_chunks
from fastbp.training.schedules import BY_STEPS
from fastbp.training.solvers import Optimizer
from fastbp.workspace import count_weights

__all__ = ["Member", "recruit"]

Array = NDArray[Any]

# Steps are fitted before the first network is trained, on one thread, if they make so many numbers
# at the most, and for so many seconds; later ones by the threads that train networks.
MOST_TRANSFORMED, STEPS_SECONDS = 1 << 20, 0.1
MOST_SCORED = 1 << 14  # rows that one is judged by, where Python does it, on one thread
FEWEST_SCORED = 2  # samples held out: R² of one is none
MOST_STEPS = 20_000  # of a network: what they go by is made ahead
EVALUATIONS_AT_A_TIME = 64  # by L-BFGS: each has a place for its loss
SCHEDULES = ("constant", "invscaling", *BY_STEPS)  # of the learning rate, whatever the losses


@dataclass(eq=False)
class Candidate:
    """What the fits of a candidate have in common."""

    network: BaseBP  # of its parameters
    optimizer: Optimizer | None  # None of L-BFGS
    hidden: tuple[int, ...]  # units of its layers
    names: tuple[str, ...]  # of their activations
    loss: str  # as the engine knows it
    dropout: tuple[float, ...]  # of each hidden layer; () where nothing is dropped
    is_counted: bool  # judged by the accuracy

    @property
    def by_lbfgs(self) -> bool:
        """Whether it is trained by L-BFGS."""
        return self.optimizer is None

    @property
    def of_plan(self) -> tuple[Any, ...]:
        """What of it a plan for training is made of: alike in a family."""
        is_clipped = self.network.clip_norm is not None
        return self.hidden, self.names, self.loss, self.dropout, self.by_lbfgs, is_clipped


@dataclass(eq=False)
class Form:
    """What the fits of a fold have in common whose networks are built alike."""

    n_samples: int  # to learn from
    n_held_out: int  # to validate with, beside them; 0 where the loss decides on the halt
    batch_size: int
    shape: Weights  # of these units and of the dtype that is trained in
    model: Weights  # ... and of that of the model: another where L-BFGS trains float32
    names: tuple[str, ...]  # of the activations
    judged: Rows  # that they are judged by, those of test first
    kind: tuple[Any, ...]  # what is alike in a family: the shape, and how the data are taken

    @property
    def rounds(self) -> bool:
        """Whether the model is of another dtype than what is trained."""
        return self.model.dtype != self.shape.dtype


@dataclass(eq=False)
class Member:
    """A fit that a family may do."""

    number: int  # among all fits
    fit: Fit
    candidate: Candidate
    fold: Fold
    form: Form
    kept: Kept | None  # what it goes on from
    n_epochs: int  # that it is trained for at the most; of L-BFGS, that are done at a time

    @property
    def seed(self) -> Any:
        """What its weights, and the order of its samples, are drawn by."""
        return self.fit.seed_of(self.candidate.network)

    @property
    def cost(self) -> float:
        """Return about how many multiply-adds it takes."""
        n_epochs = self.candidate.network.max_iter if self.candidate.by_lbfgs else self.n_epochs
        return float(count_weights(self.form.shape) * self.form.n_samples * n_epochs)

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches."""
        return -(-self.form.n_samples // self.form.batch_size)

    @property
    def products_per_epoch(self) -> int:
        """Products of a sample with its weights: three to learn from it, one to be judged by it."""
        return 3 * self.form.n_samples + self.form.n_held_out

    @property
    def chunks_per_batch(self) -> int:
        """Chunks that a mini-batch is divided into."""
        return count_chunks(self.form.batch_size)

    @property
    def chunks_per_epoch(self) -> int:
        """How many there are of all mini-batches."""
        return self.steps_per_epoch * self.chunks_per_batch

    @property
    def n_steps(self) -> int:
        """Mini-batches in all."""
        return self.n_epochs * self.steps_per_epoch

    @property
    def steps_taken(self) -> int:
        """Mini-batches before."""
        return self.kept.n_iter * self.steps_per_epoch if self.kept else 0

    @property
    def n_outputs_kept(self) -> int:
        """Numbers that it is judged by afterwards."""
        form = self.form
        return 0 if self.candidate.is_counted else len(form.judged) * form.shape.units[-1]

    @property
    def n_bytes(self) -> int:
        """About what it takes in a family."""
        shape = self.form.shape
        n_vectors = 4 if self.form.n_held_out else 3
        if self.candidate.by_lbfgs:
            n_vectors = 1 + N_VECTORS
        kept = n_vectors * shape.flat.nbytes + self.n_outputs_kept * self.form.model.dtype.itemsize
        return kept + 8 * self.form.n_samples + 16 * self.n_epochs + 4096

    def labels(self) -> Array:
        """Return the numbers of the classes of the rows that it is judged by."""
        parts = judged_parts(self.fit)
        judged: Any = [number_labels(self.fit, self.fold, part) for part in parts]
        return np.concatenate([part.labels for part in judged], dtype=np.int32)


def recruit(evaluator: Evaluator, fits: Sequence[Fit]) -> tuple[list[list[Member]], list[int]]:
    """Return the members of each family among some fits, and the numbers of the other fits."""
    recruiter = _Recruiter(evaluator)
    families: dict[Any, list[Member]] = {}
    transformed = {id(fit.data): fit.X for fit in fits if fit.has_steps}
    are_few = sum(map(_count_numbers, transformed.values())) <= MOST_TRANSFORMED
    until = monotonic() + STEPS_SECONDS
    others = []
    for number, fit in enumerate(fits):
        member = None
        if not fit.has_steps or (are_few and (fit.data.folds or monotonic() < until)):
            member = recruiter.recruit(number, fit)
        if member is None:
            others.append(number)
        else:
            families.setdefault(member.form.kind, []).append(member)
    return list(families.values()), others


class _Recruiter:
    """Sees which fits can be members; what they have in common is looked at once."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._candidates: dict[int, Candidate | None] = {}
        self._forms: dict[Any, Form | None] = {}
        self._splits: dict[Any, tuple[int, int]] = {}  # to train on, and to validate with
        self._make_shape: Callable[..., Weights] = cache(Weights)  # alike ones are one

    def recruit(self, number: int, fit: Fit) -> Member | None:
        """Return a fit as a member, None where it cannot be one or goes wrong."""
        if fit.asked.get("return_estimator") or reason_against_fit(fit):
            return None
        try:
            return self._recruit(number, fit)
        except Exception:  # it is raised again where the fit is done by itself
            return None

    def _recruit(self, number: int, fit: Fit) -> Member | None:
        key = id(fit.asked.get("parameters"))
        if key not in self._candidates:
            self._candidates[key] = self._make_candidate(fit)
        candidate = self._candidates[key]
        if candidate is None:
            return None
        if fit.has_steps:  # which are fitted as the fit has them
            set_parameters(fit.estimator, fit.parameters)
        network = candidate.network
        fold = self._evaluator.fold(fit, network)
        held_out = network.early_stopping and network.validation_fraction
        built = id(fold), candidate.of_plan, network.batch_size, held_out
        if built not in self._forms:
            self._forms[built] = self._make_form(fit, candidate, fold)
        form = self._forms[built]
        if form is None:
            return None
        if candidate.is_counted:
            for part in judged_parts(fit):
                number_labels(fit, fold, part)  # an error leaves the fit to scikit-learn
        n_epochs = int(network.max_iter) - (fit.kept.n_iter if fit.kept else 0)
        if candidate.by_lbfgs:
            n_epochs = EVALUATIONS_AT_A_TIME
        member = Member(number, fit, candidate, fold, form, fit.kept, n_epochs)
        return member if 0 < member.n_steps <= MOST_STEPS else None

    def _make_candidate(self, fit: Fit) -> Candidate | None:
        network = find_network(set_parameters(clone(fit.estimator), fit.parameters))
        if network is None:
            return None
        self._evaluator.validate(network, fit)
        network.n_jobs = 1
        by_lbfgs = network.solver == "lbfgs"
        is_validated_here = not by_lbfgs and network.scoring is None
        is_plain = (
            network.max_time is None
            and not (network.warm_start or network.verbose)
            and (is_validated_here or not network.early_stopping)
            and isinstance(fit.seed_of(network), Integral)
        )
        is_counted = asks_for_accuracy(fit, network)
        if not (is_plain and (is_counted or asks_for_metrics(fit.asked["scorer"]))):
            return None
        optimizer = None if by_lbfgs else network._make_optimizer()
        if optimizer and not _is_known_ahead(optimizer):
            return None
        hidden, names = network._check_network()
        loss, _ = network._engine_loss()
        dropout = network._check_regularisation()
        return Candidate(network, optimizer, tuple(hidden), names, loss, dropout, is_counted)

    def _make_form(self, fit: Fit, candidate: Candidate, fold: Fold) -> Form | None:
        network: Any = candidate.network
        fold.tell(network)
        X, judged = fold.samples.X, _rows_of(fold, judged_parts(fit))
        if not (type(X) is type(judged.X) is np.ndarray):
            return None
        n_samples, n_held_out = X.shape[0] if fold.rows is None else len(fold.rows), 0
        if network.early_stopping:
            n_samples, n_held_out = self._split(network, fold)
            if n_held_out < FEWEST_SCORED:
                return None
        if len(getattr(network, "classes_", X)) < 2:
            return None
        batch_size = n_samples
        if not candidate.by_lbfgs:
            if not isinstance(network.batch_size, str) and network.batch_size > n_samples:
                return None  # the fit itself is to warn
            batch_size = network._choose_batch_size(n_samples)
        n_judged = judged.X.shape[0]
        if not candidate.is_counted and len(judged) > MOST_SCORED:
            return None
        numbers = number_rows(n_judged) if judged.numbers is None else judged.numbers
        judged = Rows(judged.X, as_rows(numbers, n_judged))
        units = X.shape[1], *candidate.hidden, network.n_outputs_
        model = shape = self._make_shape(units, network._choose_dtype(X, True))
        if candidate.by_lbfgs:
            shape = self._make_shape(units, np.dtype(np.float64))
        if any(shape.large + model.large):
            return None
        names = *candidate.names, network._choose_out_activation()
        data = batch_size, *fold.samples.kind(), fold.samples.labels is None, n_held_out > 0
        of_judged = *Samples(judged.X).kind(), candidate.is_counted
        kind = units, shape.dtype, model.dtype, names, data, of_judged, candidate.of_plan
        return Form(n_samples, n_held_out, batch_size, shape, model, names, judged, kind)

    def _split(self, network: BaseBP, fold: Fold) -> tuple[int, int]:
        """Return how many samples are to be trained on, and to be validated with.

        However they are drawn, there are as many, or they cannot be drawn.
        """
        key = id(fold), network.validation_fraction
        if key not in self._splits:
            rows, held_out = network._split(fold.samples, fold.order(), make_random_state(0))
            self._splits[key] = len(rows), len(held_out)
        return self._splits[key]


def _is_known_ahead(optimizer: Optimizer) -> bool:
    """Tell whether compiled code knows the learning rate of each step, or how it falls at halts."""
    schedule = optimizer.schedule
    return isinstance(schedule, str) and (schedule in SCHEDULES or optimizer.steps_are_alike)


def _rows_of(fold: Fold, parts: Sequence[str]) -> Rows:
    """Return what networks are judged by, the samples of test first."""
    if len(parts) == 1:
        return fold.test.rows
    if fold.both is None:  # what steps have made of each
        both = [fold.judged(part).rows for part in parts]
        for rows in both:
            if type(rows.X) is not np.ndarray:
                return rows
        fold.both = Rows(np.concatenate([rows.X for rows in both]))
    return fold.both


def _count_numbers(X: Any) -> float:
    """Return how many there are in a table, many where it does not say."""
    return float(np.prod(getattr(X, "shape", (np.inf,))))
