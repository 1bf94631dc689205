"""The data of a fold, checked once and shared by all candidates that are trained on it."""

import threading
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params, _num_samples

from fastbp.estimators.base import BaseBP
from fastbp.estimators.checks import check_weights, multiply_weights
from fastbp.model_selection.row_numbers import as_numbers
from fastbp.samples import Rows, Samples, number_rows

__all__ = ["CheckedData", "Fold", "FoldData", "Judged", "retarget", "transform_fold"]

Array = NDArray[Any]

SHORT_COLUMNS = 1 << 16  # most columns whose indices fit in 16 bits


@dataclass
class Judged:
    """The samples of one part, train or test, that networks are scored on."""

    rows: Rows
    y: Any = None  # as the user gave it, once a scorer asks for it
    labels: Array | None = None  # class indices, once a metric asks for them


@dataclass
class Fold:
    """The data that a network is trained and scored on."""

    samples: Samples
    rows: Array | None  # row numbers of the samples to train on; None for all
    train: Judged | None  # None if the training score is not asked for
    test: Judged
    both: Rows | None  # the rows of test, then of train, if they are rows of one X
    attributes: dict[str, Any]  # that the data determine, such as `classes_`
    steps: list[tuple[str, Any]]  # the fitted steps before the network in a Pipeline
    seconds: float = 0.0  # that it took to make the fold

    def judged(self, part: str) -> Judged:
        """Return the samples of "test" or "train"."""
        judged: Judged = getattr(self, part)
        return judged

    def tell(self, network: BaseBP) -> None:
        """Set the attributes that the data determine on a network."""
        for name, value in self.attributes.items():
            setattr(network, name, value)

    def order(self) -> Array:
        """Return the row numbers of the samples to train on, as a new array."""
        return number_rows(self.samples.X.shape[0]) if self.rows is None else self.rows.copy()


@dataclass
class FoldData:
    """Data shared by the fits of one fold and one setting of the steps, until the last is done."""

    folds: dict[Any, Fold]  # by the settings that decide how X and y are converted
    n_fits: int = 0
    n_left: int = 0
    making: threading.Lock = field(default_factory=threading.Lock)

    def in_next_round(self) -> dict[Any, Fold]:
        """Return the folds for the next round, which takes no time to make them."""
        for fold in self.folds.values():
            fold.seconds = 0.0
        return self.folds


class CheckedData:
    """X and y in the form a network needs: checked once for all folds, and never copied.

    Parameters
    ----------
    network : BaseBP
        Its type and `dtype` decide how X and y are checked; it is not modified.
    X, y, sample_weight
        All samples, as the user gave them.
    """

    def __init__(self, network: BaseBP, X: Any, y: Any, sample_weight: Any) -> None:
        template: BaseBP = clone(network)
        self._X, self._y = template._validate_data(X, y, reset=True)
        self._attributes = _fitted_attributes(template)
        self._sample_weight = check_weights(sample_weight, self._X)

    def fold(self, network: BaseBP, train: Array, test: Array) -> Fold:
        """Return the fold of these row numbers, with the targets in the form this network needs.

        Raises a ValueError for what `fit` or `score` would refuse in this fold alone.
        """
        template, X = clone(network), self._X
        train, test = (as_numbers(rows, X.shape[0]) for rows in (train, test))
        if len(test) == 0:
            raise ValueError("there are no samples to score")
        if self._sample_weight is not None and not self._sample_weight[train].any():
            raise ValueError("all training samples have a weight of 0")
        vars(template).update(self._attributes)
        dtype = template._choose_dtype(X, first_pass=True)
        targets, labels = template._validate_targets(self._y[train], dtype, incremental=False)
        n_samples = X.shape[0]
        samples = Samples(
            X,
            _spread(targets, train, n_samples),
            _spread(labels, train, n_samples),
            multiply_weights(
                self._sample_weight,
                _spread(template._class_weights(self._y[train]), train, n_samples),
            ),
        )
        both = np.concatenate([test, train])
        test, train = both[: len(test)], both[len(test) :]  # views, to save memory
        by_train, by_test = (Judged(Rows(X, rows)) for rows in (train, test))
        return Fold(
            samples, train, by_train, by_test, Rows(X, both), _fitted_attributes(template), []
        )


def transform_fold(
    pipeline: Pipeline,
    X: Any,
    y: Any,
    sample_weight: Any,
    train: Array,
    test: Array,
    is_train_judged: bool,
) -> Fold:
    """Return a fold of X transformed by the steps before the network, fitted to its train rows.

    The network is trained on the output of `fit_transform` and scored on that of `transform`.
    """
    network: BaseBP = clone(pipeline.steps[-1][1])
    train, test = (as_numbers(rows, _num_samples(X)) for rows in (train, test))
    before = Pipeline(pipeline.steps[:-1], memory=pipeline.memory, verbose=pipeline.verbose)
    before = clone(before)  # a failed fit must not advance the random states of the steps
    X_train, y_train = _safe_split(pipeline, X, y, train)
    X_train = before.fit_transform(X_train, y_train)
    weight = _weights_of(X, sample_weight, train)
    samples = network._take_in(X_train, y_train, weight, first_pass=True)
    del X_train  # a second copy if it had to be converted
    samples = replace(samples, X=_shorten(samples.X))

    def transform(rows: Array) -> Judged:
        X_part, _ = _safe_split(pipeline, X, None, rows, train)
        taken = network._check_data(before.transform(X_part), reset=False)
        return Judged(Rows(_shorten(taken)))

    return Fold(
        samples,
        None,
        transform(train) if is_train_judged else None,
        transform(test),
        None,
        _fitted_attributes(network),
        before.steps,
    )


def retarget(fold: Fold, network: BaseBP, X: Any, y: Any, sample_weight: Any, train: Array) -> Fold:
    """Return a fold made by `transform_fold` with y in another network's form and the same X."""
    network = clone(network)
    train = as_numbers(train, _num_samples(X))
    weight = _weights_of(X, sample_weight, train)
    samples = network._take_in(fold.samples.X, _safe_indexing(y, train), weight, first_pass=True)
    attributes = fold.attributes | _fitted_attributes(network)
    return replace(fold, samples=samples, attributes=attributes)


def _shorten(X: Any) -> Any:
    """Return X; if it is sparse, with 16-bit column indices where they fit.

    Wider ones take half of its memory. The kernels accept either.
    """
    if not issparse(X) or X.shape[1] > SHORT_COLUMNS:
        return X
    X = copy(X)  # a shallow copy, since X may belong to the step
    X.indices = X.indices.astype(np.uint16)
    return X


def _weights_of(X: Any, sample_weight: Any, rows: Array) -> Any:
    """Return the weights of the samples in these rows, or None."""
    params = {"sample_weight": sample_weight}
    return _check_method_params(X, params, indices=rows)["sample_weight"]


def _fitted_attributes(network: BaseBP) -> dict[str, Any]:
    """Return the attributes that fitting or checking data has set on an estimator."""
    parameters = network.get_params(deep=False)
    return {name: value for name, value in vars(network).items() if name not in parameters}


def _spread(values: Array | None, rows: Array, n_samples: int) -> Array | None:
    """Return an array for all samples with these values in these rows, and zeros elsewhere."""
    if values is None:
        return None
    spread = np.zeros((n_samples, *values.shape[1:]), values.dtype)
    spread[rows] = values
    return spread
