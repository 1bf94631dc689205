"""The wait for a baton, in compiled code; `fastbp/baton.py` says what for."""

import ctypes
from functools import cache
from typing import Any

from numba import types

from fastbp.kernels.atomics import exchange, load
from fastbp.kernels.jit import array_at, c_function, call
from fastbp.kernels.scheduler import SPINS, pause

__all__ = ["PATIENCE", "passing_function"]

PATIENCE = SPINS + 500  # turns of waiting: 0.2 ms where nobody else wants the processor


def _call_and_wait(taken, has_it, patience, yield_function, function, plan):
    """Call a function of a plan, if any, without the baton, and then wait so many turns for it."""
    taken, has_it = array_at(taken, (1,)), array_at(has_it, (1,))
    if has_it[0] != 0:
        has_it[0] = 0
        exchange(taken, 0, 0)
    if function != 0:
        call(function, (plan, 0, 1, 0))
    turns = 0
    while has_it[0] == 0 and turns < patience:
        if load(taken, 0) == 0 and exchange(taken, 0, 1) == 0:
            has_it[0] = 1
        else:
            turns = pause(turns, yield_function)


@cache
def passing_function() -> Any:
    """Compile, or load, what is called with what `_call_and_wait` says, all of it numbers."""
    pointer, i64 = types.CPointer(types.int64), types.int64
    address = c_function(_call_and_wait, pointer, pointer, *[i64] * 4)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)(address)
