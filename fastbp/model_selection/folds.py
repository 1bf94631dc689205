"""The data of a fold, checked once and shared by all candidates that are trained on it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

from fastbp.estimators.base import BaseBP
from fastbp.estimators.checks import check_weights, multiply_weights
from fastbp.samples import Rows, Samples

__all__ = ["Fold", "Table", "transform_fold"]

Array = NDArray[Any]


@dataclass
class Fold:
    """What a network is trained on and judged by."""

    samples: Samples
    train: Rows  # of the samples' X
    test: Rows
    attributes: dict[str, Any]  # that the data give an estimator: its classes, for one
    steps: list[tuple[str, Any]]  # fitted, that come before the network in a Pipeline
    y_test: Any
    y_train: Any = None  # until a score of it is asked for
    seconds: float = 0.0  # it took to make


class Table:
    """X and y as a network takes them: checked once for all folds, and never copied.

    Parameters
    ----------
    network : BaseBP
        Its type and `dtype` say how they are checked; it is not touched.
    X, y, sample_weight
        As the user gave them, all samples.
    """

    def __init__(self, network: BaseBP, X: Any, y: Any, sample_weight: Any) -> None:
        self._given_y = y
        template: BaseBP = clone(network)
        self._X, self._y = template._validate_data(X, y, reset=True)
        self._attributes = _fitted_attributes(template)
        self._sample_weight = check_weights(sample_weight, self._X)

    def fold(self, network: BaseBP, train: Array, test: Array) -> Fold:
        """Return the fold of these row numbers, with targets as this network takes them."""
        template, X = clone(network), self._X
        vars(template).update(self._attributes)
        dtype = template._choose_dtype(X, first_pass=True)
        targets, labels = template._validate_targets(X, self._y[train], dtype, incremental=False)
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
        return Fold(
            samples,
            Rows(X, train),
            Rows(X, test),
            _fitted_attributes(template),
            [],
            _safe_indexing(self._given_y, test),
        )


def transform_fold(
    pipeline: Pipeline,
    X: Any,
    y: Any,
    sample_weight: Any,
    train: Array,
    test: Array,
    sibling: Fold | None = None,
) -> Fold:
    """Return a fold of what the steps before the network, fitted to its samples, make of X.

    A sibling is this fold as another network takes y: X is then there already.
    """
    network: BaseBP = clone(pipeline.steps[-1][1])
    y_train = _safe_indexing(y, train)
    params = _check_method_params(X, {"sample_weight": sample_weight}, indices=train)
    weight = params["sample_weight"]
    if sibling:
        samples = network._take_in(sibling.samples.X, y_train, weight, first_pass=True)
        attributes = sibling.attributes | _fitted_attributes(network)
        return replace(sibling, samples=samples, attributes=attributes)
    before = Pipeline(pipeline.steps[:-1], memory=pipeline.memory)
    X_train = before.fit_transform(_safe_indexing(X, train), y_train)
    samples = network._take_in(X_train, y_train, weight, first_pass=True)
    del X_train  # there twice, where it had to be converted
    X_test = network._check_data(before.transform(_safe_indexing(X, test)), reset=False)
    numbers = np.arange(max(len(train), len(test)))
    return Fold(
        samples,
        Rows(samples.X, numbers[: len(train)]),
        Rows(X_test, numbers[: len(test)]),
        _fitted_attributes(network),
        before.steps,
        _safe_indexing(y, test),
    )


def _fitted_attributes(network: BaseBP) -> dict[str, Any]:
    """Return what a fit, or a check of data, has given an estimator."""
    parameters = network.get_params(deep=False)
    return {name: value for name, value in vars(network).items() if name not in parameters}


def _spread(values: Array | None, rows: Array, n_samples: int) -> Array | None:
    """Return an array for all samples that has these values in these rows."""
    if values is None:
        return None
    spread = np.zeros((n_samples, *values.shape[1:]), values.dtype)
    spread[rows] = values
    return spread
