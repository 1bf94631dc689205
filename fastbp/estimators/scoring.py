"""The estimators' own scores, where y is plain: scikit-learn's bits, without its looks at y.

Those take ten times as long as to predict for some dozens of samples. What would be an error, or is
warned of, is left to it: then there is no score.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.estimators.checks import find_classes

__all__ = ["accuracy", "as_columns", "r2"]

Array = NDArray[Any]


def accuracy(y: Any, predicted: Array) -> float | None:
    """Return the share of the samples whose class is predicted."""
    if find_classes(y) is None:
        return None
    if y.shape != predicted.shape or y.dtype.kind != predicted.dtype.kind:
        return None
    return float(np.count_nonzero(y == predicted) / len(y))


def as_columns(y: Array, predicted: Array) -> tuple[Array, Array]:
    """Return numbers and what is predicted of them as scikit-learn's metrics compare them."""
    dtype = np.result_type(predicted, y) if y.dtype.kind == "f" else predicted.dtype
    return y.astype(dtype).reshape(-1, 1), predicted.astype(dtype).reshape(-1, 1)


def r2(y: Array, predicted: Array) -> float | None:
    """Return 1 less the share of the squared deviations from the mean that is left, of columns.

    Where nothing deviates it is 0, and 1 where nothing is left.
    """
    if len(y) < 2:
        return None
    left = np.sum((y - predicted) ** 2, axis=0)
    deviation = np.sum((y - np.average(y, axis=0)) ** 2, axis=0)
    if left[0] == 0 or deviation[0] == 0:
        return float(left[0] == 0)
    score = float(np.average(1 - left / deviation))
    return score if np.isfinite(score) else None
