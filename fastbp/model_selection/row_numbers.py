"""The row numbers of folds: as scikit-learn gives them, packed as bits, and checked for kernels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.samples import as_rows

__all__ = ["PackedRows", "PackingSplitter", "as_numbers", "pack_rows", "unpack_rows"]

Array = NDArray[Any]


class PackedRows:
    """Increasing row numbers, packed as bits; ``np.asarray`` returns them as int64.

    A search keeps the row numbers of all its folds until it ends, though only a few are in use at
    a time. Equal ones, which recur in each round of a halving search, are equal dict keys.
    """

    def __init__(self, numbers: Array) -> None:
        chosen = np.zeros(numbers[-1] + 1, bool)
        chosen[numbers] = True
        self._bits = np.packbits(chosen).tobytes()  # bytes cache their hash
        self._length = len(numbers)

    def __len__(self) -> int:
        return self._length

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        bits = np.unpackbits(np.frombuffer(self._bits, np.uint8))
        return np.flatnonzero(bits).astype(dtype or np.int64, copy=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedRows) and self._bits == other._bits

    def __hash__(self) -> int:
        return hash(self._bits)


def pack_rows(numbers: Any) -> Any:
    """Return row numbers packed if unpacking restores them exactly; otherwise unchanged."""
    is_plain = type(numbers) is np.ndarray and numbers.ndim == 1 and numbers.dtype == np.int64
    if is_plain and numbers.size > 0 and numbers[0] >= 0 and (np.diff(numbers) > 0).all():
        return PackedRows(numbers)
    return numbers


def unpack_rows(rows: Any) -> Any:
    """Return what `pack_rows` was given."""
    return np.asarray(rows) if isinstance(rows, PackedRows) else rows


class PackingSplitter:
    """A wrapper of a scikit-learn splitter, or one like it, that yields packed row numbers."""

    def __init__(self, splitter: Any) -> None:
        self._splitter = splitter

    def split(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the train and test rows of each fold."""
        for train, test in self._splitter.split(*args, **kwargs):
            yield pack_rows(train), pack_rows(test)


def as_numbers(rows: Any, n_samples: int) -> Array:
    """Return row numbers in 0..n_samples - 1 for any index of rows that NumPy accepts.

    Compiled code accepts no others, and does not check.
    """
    numbers: Array = np.asarray(rows)
    if numbers.ndim != 1:
        raise ValueError(
            f"The row numbers of a fold must have one dimension, got shape {numbers.shape}."
        )
    is_plain = numbers.dtype == np.int64 and numbers.size > 0
    if not (is_plain and numbers.min() >= 0 and numbers.max() < n_samples):
        numbers = np.arange(n_samples)[numbers]
    return as_rows(numbers, n_samples)
