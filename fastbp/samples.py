"""What is learnt from or predicted, as the kernels take it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastbp.kernels.arrays import Data
from fastbp.kernels.jit import memory_view

__all__ = ["NO_ADDRESSES", "Samples"]

Array = NDArray[Any]

NO_ADDRESSES = np.empty(0, np.int64)  # of a generator: the order is not shuffled
_NO_INDICES = np.empty(0, np.int32)
_NO_WEIGHTS = np.empty(0)


@dataclass(frozen=True)
class Samples:
    """What is learnt from: validated, contiguous, native; never written to.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features), float32 or float64
    targets : ndarray of shape (n_samples, n_outputs) of the training dtype, or None
    labels : ndarray of shape (n_samples,), int32, or None
        The number of each sample's class, in place of targets, for a softmax output.
    sample_weight : ndarray of shape (n_samples,), float64, or None
    """

    X: Any
    targets: Array | None = None
    labels: Array | None = None
    sample_weight: Array | None = None

    def total_weight(self) -> float:
        """Return the sum of the weights, the number of samples where there are none."""
        return float(self.X.shape[0] if self.sample_weight is None else self.sample_weight.sum())

    def bundle(self, order: Array, dtype: np.dtype[Any]) -> Data:
        """Return what the kernels need, the samples in this order."""
        X, targets = self.X, self.targets
        if scipy.sparse.issparse(X):
            dense = np.empty((0, X.shape[1]), X.dtype)
            values, indices, indptr = map(_plain, (X.data, X.indices, X.indptr))
        else:
            dense = _plain(X)
            values, indices, indptr = np.empty(0, X.dtype), _NO_INDICES, _NO_INDICES
        return Data(
            dense,
            values,
            indices,
            indptr,
            np.empty((0, 1), dtype) if targets is None else _plain(targets),
            _NO_INDICES if self.labels is None else _plain(self.labels),
            _NO_WEIGHTS if self.sample_weight is None else _plain(self.sample_weight),
            order,
            NO_ADDRESSES,
        )


def _plain(array: Array) -> Array:
    """Return a view that Numba takes for an ordinary array, whatever its subclass and flags.

    Otherwise read-only arrays (from a file, or from joblib) would have all kernels compiled anew.
    No kernel writes to the samples.
    """
    if array.flags.writeable or array.size == 0:
        return array.view(np.ndarray)
    plain: Array = memory_view(array.ctypes.data, array.dtype, array.shape, array.strides)
    return plain
