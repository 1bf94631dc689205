"""The data to train on or predict for, in the form that the kernels take."""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastbp.kernels.arrays import Data

__all__ = ["NO_ADDRESSES", "Rows", "Samples", "as_rows", "digest_rows", "number_rows", "row_type"]

Array = NDArray[Any]

NO_ADDRESSES = np.empty(0, np.int64)  # no generator: the order is not shuffled
MOST_SHORT = 2**31  # up to this many samples, row numbers have 32 bits
_SHORT, _LONG = np.dtype(np.int32), np.dtype(np.int64)
MOST_ROWS, MOST_ELEMENTS = 2_048, 4_194_304  # that a digest covers
_NO_BYTES, _NO_NUMBERS = np.empty(0, np.uint8), np.empty(0, np.int32)
_NO_WEIGHTS = np.empty(0)


@lru_cache(maxsize=64)
def _none(dtype: np.dtype[Any], *columns: int) -> Array:
    """Return an empty array, always the same one, so that plans need not look up its address."""
    return np.empty((0, *columns), dtype)


def row_type(n_samples: int) -> np.dtype[Any]:
    """Return the dtype of row numbers in the kernels: the shortest that `n_samples` allow."""
    return _SHORT if n_samples <= MOST_SHORT else _LONG


def number_rows(n_samples: int) -> Array:
    """Return the numbers of all `n_samples` rows."""
    return np.arange(n_samples, dtype=row_type(n_samples))


def as_rows(numbers: Array, n_samples: int) -> Array:
    """Return row numbers among `n_samples` samples in the form that the kernels take."""
    return np.ascontiguousarray(numbers, row_type(n_samples))


@dataclass(frozen=True)
class Samples:
    """The training data: validated, contiguous, in native byte order; never written to.

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

    def total_weight(self, rows: Array) -> float:
        """Return the sum of the weights of these rows, or their number if there are no weights."""
        return float(len(rows) if self.sample_weight is None else self.sample_weight[rows].sum())

    def for_dtype(self, dtype: np.dtype[Any]) -> "Samples":
        """Return the samples with their targets in the training dtype."""
        if self.targets is None or self.targets.dtype == dtype:
            return self
        return replace(self, targets=self.targets.astype(dtype))

    def stored(self) -> dict[str, Any]:
        """Return X, dense or CSR, as fields of `Data`."""
        X = self.X
        if scipy.sparse.issparse(X):
            dense = _none(X.dtype, X.shape[1])
            values, indices, indptr = map(_plain, (X.data, X.indices, X.indptr))
            return {
                "X": dense,
                "values": values,
                "indices": indices.view(np.uint8),
                "index_size": indices.itemsize,
                "indptr": indptr,
            }
        return {
            "X": _plain(X),
            "values": _none(X.dtype),
            "indices": _NO_BYTES,
            "index_size": 0,
            "indptr": _NO_NUMBERS,
        }

    def kind(self) -> tuple[Any, ...]:
        """Return the dtypes of the stored X and of row numbers; functions are compiled for them."""
        X, rows = self.X, row_type(self.X.shape[0])
        if scipy.sparse.issparse(X):
            return X.dtype, X.indptr.dtype, rows
        return X.dtype, rows

    def bundle(self, dtype: np.dtype[Any]) -> Data:
        """Return the `Data` for the kernels, without the order of the samples."""
        return Data(
            **self.stored(),
            targets=_none(dtype, 1) if self.targets is None else _plain(self.targets),
            labels=_NO_NUMBERS if self.labels is None else _plain(self.labels),
            sample_weight=_NO_WEIGHTS if self.sample_weight is None else _plain(self.sample_weight),
            order=_none(row_type(self.X.shape[0])),
            generator=NO_ADDRESSES,
        )


@dataclass(frozen=True)
class Rows:
    """All or some rows of checked data, to predict for without a copy."""

    X: Any
    numbers: Array | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0]) if self.numbers is None else len(self.numbers)


def digest_rows(array: Any) -> str | None:
    """Return a digest of an array's shape, dtype, and up to 2,048 equally spaced rows.

    Parameters
    ----------
    array : ndarray of shape (n, ...), CSR matrix, or None
        The digest of None is None. Fewer rows are read if they are wide: 32 MB in all, in float64.
    """
    if array is None:
        return None
    is_sparse = scipy.sparse.issparse(array)
    n = array.shape[0]
    width = (array.nnz if is_sparse else array.size) // max(n, 1)
    n_rows = min(n, MOST_ROWS, max(1, MOST_ELEMENTS // max(width, 1)))
    rows = array[np.linspace(0, n - 1, n_rows).astype(np.int64)]
    parts = [rows]
    if is_sparse:
        rows.sum_duplicates()  # in place, as `rows` is a copy; the order of indices is irrelevant
        parts = [rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64)]
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str} {len(parts)}".encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _plain(array: Array) -> Array:
    """Return the array in C order and aligned; normally this is the array itself."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return np.require(array, requirements=["C", "A"])
