"""The compiled wait for the baton; `fastbp/baton.py` explains what it is for."""

import ctypes
from functools import cache
from typing import Any

from numba import types

from fastbp.compiler.jit import c_function, call
from fastbp.compiler.memory import array_at
from fastbp.kernels.atomics import add, exchange, load
from fastbp.kernels.scheduler import SPINS, pause

__all__ = ["FEWEST_WAITING", "HAS_IT", "N_SHARED", "PATIENCE", "TAKEN", "passing_function"]

PATIENCE = SPINS + 500  # turns of waiting: 0.2 ms if no other thread wants the processor

# The entries of the array that all threads share, on two cache lines.
TAKEN = 0  # 1 while a thread has the baton
WAITING = 8  # how many threads wait for it
N_SHARED = 16

# The entries of each thread's own array.
HAS_IT = 0  # 1 while the thread has the baton
FEWEST_WAITING = 1  # the least number of others that waited when it asked for the baton


def _call_and_wait(shared, own, patience, yield_function, function, plan):
    """Give up the baton, call a function of a plan, if any, then wait `patience` turns for it."""
    shared, own = array_at(shared, (N_SHARED,)), array_at(own, (2,))
    if own[HAS_IT] != 0:
        own[HAS_IT] = 0
        exchange(shared, TAKEN, 0)
    if function != 0:
        call(function, (plan, 0, 1, 0))
    own[FEWEST_WAITING] = min(own[FEWEST_WAITING], add(shared, WAITING, 1))
    turns = 0
    while own[HAS_IT] == 0 and turns < patience:
        if load(shared, TAKEN) == 0 and exchange(shared, TAKEN, 1) == 0:
            own[HAS_IT] = 1
        else:
            turns = pause(turns, yield_function)
    add(shared, WAITING, -1)


@cache
def passing_function() -> Any:
    """Compile or load `_call_and_wait`, to be called with addresses in place of arrays."""
    pointer, i64 = types.CPointer(types.int64), types.int64
    address = c_function(_call_and_wait, pointer, pointer, *[i64] * 4)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)(address)
