"""Which fits are trained in families, and what is known of each in advance.

A family's networks are trained without Python in between (`families.py`). So a fit does not qualify
if its training needs Python, as a time limit or a scorer for early stopping does. Networks are
scored on their outputs: in compiled code for accuracy, afterwards by scikit-learn's other metrics.
Scoring functions of the user's may be slow, so such fits are left to the threads of `workers.py`.
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
from fastbp.model_selection.metrics import asks_for_metrics
from fastbp.model_selection.scoring import asks_for_accuracy, judged_parts, number_labels
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

# Steps of a Pipeline are fitted on one thread before any network is trained, if their output has at
# most this many numbers, and for this many seconds; the training threads fit the remaining ones.
MOST_TRANSFORMED, STEPS_SECONDS = 1 << 20, 0.1
MOST_SCORED = 1 << 14  # rows per network if Python scores them, on one thread
FEWEST_SCORED = 2  # held-out samples: R² of one sample is undefined
MOST_STEPS = 20_000  # of a network: the settings of each step are computed in advance
EVALUATIONS_AT_A_TIME = 64  # of L-BFGS, since each needs a place for its loss
SCHEDULES = ("constant", "invscaling", *BY_STEPS)  # learning rates that do not depend on losses


@dataclass(eq=False)
class Candidate:
    """What the fits of a candidate have in common."""

    network: BaseBP  # with its parameters
    optimizer: Optimizer | None  # None for L-BFGS
    hidden: tuple[int, ...]  # units of the hidden layers
    names: tuple[str, ...]  # of their activations
    loss: str  # the engine's name for it
    dropout: tuple[float, ...]  # rate for each hidden layer; () without dropout
    is_counted: bool  # scored by accuracy

    @property
    def by_lbfgs(self) -> bool:
        """Whether it is trained by L-BFGS."""
        return self.optimizer is None

    @property
    def of_plan(self) -> tuple[Any, ...]:
        """The settings that a plan for training is made from, which are equal within a family."""
        is_clipped = self.network.clip_norm is not None
        return self.hidden, self.names, self.loss, self.dropout, self.by_lbfgs, is_clipped


@dataclass(eq=False)
class Form:
    """What the fits of one fold have in common if their networks are built alike."""

    n_samples: int  # to train on
    n_held_out: int  # further samples to validate with; 0 if training stops by the loss
    batch_size: int
    shape: Weights  # layout of the weights in the dtype of the training
    model: Weights  # ... and in the dtype of the model; they differ for L-BFGS on float32
    names: tuple[str, ...]  # of the activations
    judged: Rows  # that they are scored on, the test rows first
    kind: tuple[Any, ...]  # equal within a family: the shape, and the kind of data

    @property
    def rounds(self) -> bool:
        """Whether the model has another dtype than the training."""
        return self.model.dtype != self.shape.dtype


@dataclass(eq=False)
class Member:
    """A fit that a family may do."""

    number: int  # index among all fits
    fit: Fit
    candidate: Candidate
    fold: Fold
    form: Form
    kept: Kept | None  # the state that it continues from
    n_epochs: int  # the most it is trained for; for L-BFGS, evaluations at a time

    @property
    def seed(self) -> Any:
        """The seed of its initial weights and of the order of its samples."""
        return self.fit.seed_of(self.candidate.network)

    @property
    def cost(self) -> float:
        """About how many multiply-adds it takes."""
        n_epochs = self.candidate.network.max_iter if self.candidate.by_lbfgs else self.n_epochs
        return float(count_weights(self.form.shape) * self.form.n_samples * n_epochs)

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches per epoch."""
        return -(-self.form.n_samples // self.form.batch_size)

    @property
    def products_per_epoch(self) -> int:
        """Products of a sample with all weights: three to train on it, one to validate with it."""
        return 3 * self.form.n_samples + self.form.n_held_out

    @property
    def chunks_per_batch(self) -> int:
        """Chunks that a mini-batch is divided into."""
        return count_chunks(self.form.batch_size)

    @property
    def chunks_per_epoch(self) -> int:
        """Chunks of all mini-batches of an epoch."""
        return self.steps_per_epoch * self.chunks_per_batch

    @property
    def n_steps(self) -> int:
        """Mini-batches of all its epochs."""
        return self.n_epochs * self.steps_per_epoch

    @property
    def steps_taken(self) -> int:
        """Mini-batches of previous rounds."""
        return self.kept.n_iter * self.steps_per_epoch if self.kept else 0

    @property
    def n_outputs_kept(self) -> int:
        """How many of its outputs are kept for scoring in Python; 0 if accuracy is counted."""
        form = self.form
        return 0 if self.candidate.is_counted else len(form.judged) * form.shape.units[-1]

    @property
    def n_bytes(self) -> int:
        """About how many bytes it takes in a family."""
        shape = self.form.shape
        n_vectors = 4 if self.form.n_held_out else 3
        if self.candidate.by_lbfgs:
            n_vectors = 1 + N_VECTORS
        kept = n_vectors * shape.flat.nbytes + self.n_outputs_kept * self.form.model.dtype.itemsize
        return kept + 8 * self.form.n_samples + 16 * self.n_epochs + 4096

    def labels(self) -> Array:
        """Return the class indices of the rows that it is scored on."""
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
    """Decides which fits can be members; what several fits share is examined once."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._candidates: dict[int, Candidate | None] = {}
        self._forms: dict[Any, Form | None] = {}
        self._splits: dict[Any, tuple[int, int]] = {}  # samples to train on, and to validate with
        self._make_shape: Callable[..., Weights] = cache(Weights)  # equal layouts are one object

    def recruit(self, number: int, fit: Fit) -> Member | None:
        """Return a fit as a member; None if it does not qualify or raises an error."""
        if fit.asked.get("return_estimator") or reason_against_fit(fit):
            return None
        try:
            return self._recruit(number, fit)
        except Exception:  # raised again when the fit is run by itself
            return None

    def _recruit(self, number: int, fit: Fit) -> Member | None:
        key = id(fit.asked.get("parameters"))
        if key not in self._candidates:
            self._candidates[key] = self._make_candidate(fit)
        candidate = self._candidates[key]
        if candidate is None:
            return None
        if fit.has_steps:  # they must be fitted with this fit's parameters
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
                return None  # run by itself, the fit warns about this
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
        """Return how many samples to train on, and how many to validate with.

        The numbers do not depend on the seed, and neither does whether such a split is possible.
        """
        key = id(fold), network.validation_fraction
        if key not in self._splits:
            rows, held_out = network._split(fold.samples, fold.order(), make_random_state(0))
            self._splits[key] = len(rows), len(held_out)
        return self._splits[key]


def _is_known_ahead(optimizer: Optimizer) -> bool:
    """Return whether compiled code can know the learning rate of every step in advance.

    A rate that falls only when training halts counts as known.
    """
    schedule = optimizer.schedule
    return isinstance(schedule, str) and (schedule in SCHEDULES or optimizer.steps_are_alike)


def _rows_of(fold: Fold, parts: Sequence[str]) -> Rows:
    """Return the rows that networks are scored on, the test samples first."""
    if len(parts) == 1:
        return fold.test.rows
    if fold.both is None:  # steps have transformed each part separately
        both = [fold.judged(part).rows for part in parts]
        for rows in both:
            if type(rows.X) is not np.ndarray:
                return rows
        fold.both = Rows(np.concatenate([rows.X for rows in both]))
    return fold.both


def _count_numbers(X: Any) -> float:
    """Return how many numbers a table holds; infinity if it has no shape."""
    return float(np.prod(getattr(X, "shape", (np.inf,))))
