"""The estimators' default scores of a plain y: scikit-learn's bits, without its checks of y.

Those checks take ten times as long as predicting for some dozens of samples. If scikit-learn would
raise or warn, the functions return None, and the caller leaves the score to scikit-learn.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.estimators.checks import find_classes

__all__ = ["accuracy", "as_columns", "r2"]

Array = NDArray[Any]


def accuracy(y: Any, predicted: Array) -> float | None:
    """Return the fraction of samples whose class is predicted correctly."""
    if find_classes(y) is None:
        return None
    if y.shape != predicted.shape or y.dtype.kind != predicted.dtype.kind:
        return None
    return float(np.count_nonzero(y == predicted) / len(y))


def as_columns(y: Array, predicted: Array) -> tuple[Array, Array]:
    """Return y and its predictions as the columns that scikit-learn's metrics compare."""
    dtype = np.result_type(predicted, y) if y.dtype.kind == "f" else predicted.dtype
    return y.astype(dtype).reshape(-1, 1), predicted.astype(dtype).reshape(-1, 1)


def r2(y: Array, predicted: Array) -> float | None:
    """Return R² of columns: 1 minus the squared errors over the squared deviations from the mean.

    It is 1 if all errors are 0, else 0 if all deviations are 0.
    """
    if len(y) < 2:
        return None
    left = np.sum((y - predicted) ** 2, axis=0)
    deviation = np.sum((y - np.average(y, axis=0)) ** 2, axis=0)
    if left[0] == 0 or deviation[0] == 0:
        return float(left[0] == 0)
    score = float(np.average(1 - left / deviation))
    return score if np.isfinite(score) else None
