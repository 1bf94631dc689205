"""Fast equivalents of scikit-learn's most used metrics.

scikit-learn's functions inspect labels for one to three milliseconds before they count them, as
long as it takes to train a small network. Unusual cases, such as a class that is never predicted,
are left to them, and they warn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer

from fastbp.estimators.scoring import r2

__all__ = [
    "ACCURACY",
    "asks_for_metrics",
    "asks_for_predictions_only",
    "count_classes",
    "find_metric",
    "is_scorer",
]

Array = NDArray[Any]

# A function of a confusion matrix and the index of class 1, or of the targets and predictions as
# columns. None leaves the score to scikit-learn.
Metric = Callable[[Array, Any], float | None]


def count_classes(labels: Array, decided: Array, n_classes: int) -> Array:
    """Return the confusion matrix: element (i, j) counts samples of class i decided as class j."""
    places = labels.astype(np.intp) * n_classes + decided
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes)


def _accuracy(confusion: Array, positive: int | None) -> float:
    return float(np.trace(confusion) / confusion.sum())


def _balanced_accuracy(confusion: Array, positive: int | None) -> float | None:
    n_true = confusion.sum(axis=1)
    return float(np.mean(np.diag(confusion) / n_true)) if n_true.all() else None


def _precision_recall_f1(name: str, average: str) -> Metric:
    """Return precision, recall or F1, averaged over the classes in the labels or decisions."""

    def metric(confusion: Array, positive: int | None) -> float | None:
        right, n_decided, n_true = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
        if average == "binary":
            if positive is None or len(confusion) != 2:
                return None
            chosen: Any = [positive]
        else:
            chosen = n_decided + n_true > 0
        right, n_decided, n_true = right[chosen], n_decided[chosen], n_true[chosen]
        if average == "micro":
            right, n_decided, n_true = (np.sum([n], axis=1) for n in (right, n_decided, n_true))
        whole = {"precision": n_decided, "recall": n_true, "f1": (n_decided + n_true) / 2}[name]
        if not whole.all():
            return None
        shares = right / whole
        return float(np.average(shares, weights=n_true if average == "weighted" else None))

    return metric


def _mean_squared_error(y: Array, predicted: Array) -> float:
    return float(np.average((y - predicted) ** 2, axis=0)[0])


def _root_mean_squared_error(y: Array, predicted: Array) -> float:
    return float(np.sqrt(np.average((y - predicted) ** 2, axis=0))[0])


def _mean_absolute_error(y: Array, predicted: Array) -> float:
    return float(np.average(np.abs(predicted - y), axis=0)[0])


# The first metric of each is what the estimators' own `score` returns.
_OF_CLASSES: dict[str, Metric] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    **{
        name if average == "binary" else f"{name}_{average}": _precision_recall_f1(name, average)
        for name in ("precision", "recall", "f1")
        for average in ("binary", "macro", "micro", "weighted")
    },
}
_OF_NUMBERS: dict[str, Metric] = {
    "r2": r2,
    "neg_mean_squared_error": _mean_squared_error,
    "neg_root_mean_squared_error": _root_mean_squared_error,
    "neg_mean_absolute_error": _mean_absolute_error,
}
ACCURACY = get_scorer("accuracy")
_CLASSES, _NUMBERS = (  # `get_scorer` returns copies; `is_scorer` compares their attributes
    [(get_scorer(name), metric) for name, metric in metrics.items()]
    for metrics in (_OF_CLASSES, _OF_NUMBERS)
)


def is_scorer(scorer: Any, known: _BaseScorer) -> bool:
    """Return whether a scorer equals this scorer of scikit-learn's."""
    return isinstance(scorer, _BaseScorer) and vars(scorer) == vars(known)


def asks_for_predictions_only(scorer: Any) -> bool:
    """Return whether a scorer only passes X on to the estimator."""
    if isinstance(scorer, _MultimetricScorer):
        return all(map(asks_for_predictions_only, scorer._scorers.values()))
    return isinstance(scorer, (_BaseScorer, _PassthroughScorer))


def asks_for_metrics(scorer: Any) -> bool:
    """Return whether a scorer applies scikit-learn's own metrics to predictions."""
    if isinstance(scorer, _MultimetricScorer):
        return all(map(asks_for_metrics, scorer._scorers.values()))
    if isinstance(scorer, _BaseScorer):
        return str(getattr(scorer._score_func, "__module__", "")).startswith("sklearn.metrics.")
    return isinstance(scorer, _PassthroughScorer)


def find_metric(scorer: Any, of_classes: bool) -> Callable[[Array, Any], Any] | None:
    """Return a function that computes what a scorer returns; None if the scorer is unknown.

    For several metrics that function returns a dict by name; None leaves the score to scikit-learn.
    """
    if isinstance(scorer, _MultimetricScorer):
        found = {name: find_metric(one, of_classes) for name, one in scorer._scorers.items()}
        return None if None in found.values() else lambda *data: _all_of(found, *data)
    for known, metric in _CLASSES if of_classes else _NUMBERS:
        if isinstance(scorer, _PassthroughScorer) or is_scorer(scorer, known):
            return lambda *data: _signed(known._sign, metric(*data))
    return None


def _all_of(metrics: dict[str, Any], *data: Any) -> dict[str, float] | None:
    scores = {name: metric(*data) for name, metric in metrics.items()}
    return None if None in scores.values() else scores


def _signed(sign: int, score: float | None) -> float | None:
    return sign * score if score is not None and np.isfinite(score) else None
