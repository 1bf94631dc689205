"""The class that a network predicts: that of the largest output.

No branch predictor can guess which of a few outputs is the largest, and NumPy's `argmax` branches:
for ten classes it takes a good part of the time of a prediction.
"""

import ctypes
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastbp.compiler.jit import DISABLED, c_function
from fastbp.compiler.memory import array_at
from fastbp.kernels.plan import address_of

__all__ = ["find_largest", "largest_function"]

FEWEST, MOST_COLUMNS = 4096, 32  # faster from this many elements, up to this many columns


def find_largest(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """Return ``outputs.argmax(axis=1)``, for outputs in C order."""
    rows, columns = outputs.shape
    if not DISABLED and outputs.size >= FEWEST and columns <= MOST_COLUMNS:
        places = np.empty(rows, np.intp)
        function = largest_function(outputs.dtype.name)
        function(address_of(outputs), address_of(places), rows, columns)
        if places[0] >= 0:
            return places
    found: NDArray[np.intp] = outputs.argmax(axis=1)
    return found


@cache
def largest_function(dtype: str) -> Any:
    """Compile or load `_find_largest`, whose first result is -1 if there is a NaN."""
    elements = types.CPointer(numba.from_dtype(np.dtype(dtype)))
    places = types.CPointer(types.intp)
    address = c_function(_find_largest, elements, places, types.int64, types.int64)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(address)


def _find_largest(outputs, places, rows, columns):
    outputs, places = array_at(outputs, (rows, columns)), array_at(places, (rows,))
    n_nans = 0
    for i in range(rows):
        largest = outputs[i, 0]
        for j in range(columns):
            n_nans += outputs[i, j] != outputs[i, j]
            largest = _select(outputs[i, j] > largest, outputs[i, j], largest)
        place = columns
        for j in range(columns - 1, -1, -1):
            place = _select(outputs[i, j] == largest, j, place)
        places[i] = place
    if n_nans > 0:
        places[0] = -1


@intrinsic
def _select(typing_context, condition, one, other):
    """One of two values, without a branch."""

    def codegen(context, builder, signature, values):
        return builder.select(*values)

    return one(types.boolean, one, one), codegen
