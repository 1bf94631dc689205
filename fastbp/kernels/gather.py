"""Gather the rows of X in a given order, and check that they are finite."""

import numpy as np

from fastbp.compiler.jit import DISABLED, inner_kernel, summing_kernel
from fastbp.compiler.memory import address, copy_bytes, prefetch

# Bytes of X from which on its rows are prefetched: their order is random, and the processor
# prefetches only regular accesses. Rows of a smaller X arrive as fast as they are copied.
FAR = 1 << 20
ROWS_AHEAD = 16
LINE = 64  # bytes
MOST_FETCHED = 256  # bytes of a row; the processor then fetches the rest by itself


@inner_kernel
def gather(X, order, start, a):
    """Rows of a := the rows of X given by the order from `start` on.

    X and a are each float32 or float64.
    """
    source, target = address(X, 0), address(a, 0)
    size, row = X.shape[1] * X.itemsize, a.shape[1] * a.itemsize
    is_far, last = X.shape[0] * size >= FAR, order.size - 1
    for i in range(a.shape[0]):
        if is_far:
            coming = source + np.int64(order[min(start + i + ROWS_AHEAD, last)]) * size
            for line in range(0, min(size, MOST_FETCHED), LINE):
                prefetch(coming + line)
        sample = np.int64(order[start + i])
        if X.itemsize == a.itemsize:
            copy_bytes(source + sample * size, target + i * row, size)
        else:
            for j in range(X.shape[1]):
                a[i, j] = X[sample, j]


@summing_kernel
def are_finite(vector):
    """Return whether all numbers are finite: 0 times any other is NaN."""
    zero = vector.dtype.type(0)
    total = zero
    for i in range(vector.size):
        total += vector[i] * zero
    return total == zero


def _are_finite(vector):
    return bool(np.isfinite(vector).all())


if DISABLED:
    are_finite = _are_finite
