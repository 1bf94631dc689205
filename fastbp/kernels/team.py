"""Threads that work through the same steps and wait for one another in between.

Entering a parallel region of Numba's costs some microseconds, a good part of a small mini-batch. So
a compiled call is one region, and its threads meet at a barrier twice a mini-batch, spinning.

A barrier needs to know how many are to come, and a threading layer promises no number of threads:
it may give fewer, or run all iterations on one. So whoever has come when the first has waited long
enough is the team, and who comes later goes home. Results do not depend on the size of the team.
"""

import ctypes
import os
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.jit import DISABLED, call, inner_kernel, parallel_kernel

# Places in the team's memory, an array of int64, each on a line of the cache of its own.
_JOINED, _SIZE, _ARRIVED, _ROUND = range(0, 32, 8)
_MEMORY = 32

_CLOSED = 1 << 32  # added to the number of those who joined when the team is complete
_PATIENCE = 20_000  # turns of a waiting loop: about a millisecond
_SPINS = 1_000  # turns after which a waiting thread lets others have its processor

_X86 = llvm.get_process_triple().split("-")[0] in ("x86_64", "i386", "i686")


def make_team() -> Any:
    """Return the memory of a team; it must be of zeros when `join` is called for the first time."""
    return np.zeros(_MEMORY, np.int64)


@cache
def yield_address() -> int:
    """Return the address of the system's function that lets other threads run, or 0."""
    try:
        system: Any = ctypes.CDLL(None) if os.name == "posix" else ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
        function = system.sched_yield if os.name == "posix" else system.SwitchToThread
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@inner_kernel
def join(team, n_threads):
    """``(member, size)`` of the calling thread; it is not needed where member is not below size."""
    member = _add(team, _JOINED, 1)
    if member >= _CLOSED:
        return member, 0
    if member == 0:
        turns = 0
        while _load(team, _JOINED) < n_threads and turns < _PATIENCE:
            _relax()
            turns += 1
        _add(team, _SIZE, _add(team, _JOINED, _CLOSED))
    while _load(team, _SIZE) == 0:
        _relax()
    return member, _load(team, _SIZE)


@inner_kernel
def wait(team, size, yield_function):
    """Return when all of the team have come here. What they wrote before is seen after."""
    if size > 1:
        this_round = _load(team, _ROUND)
        if _add(team, _ARRIVED, 1) == size - 1:
            _add(team, _ARRIVED, -size)
            _add(team, _ROUND, 1)
        else:
            turns = 0
            while _load(team, _ROUND) == this_round:
                _relax()
                turns += 1
                if turns > _SPINS and yield_function != 0:
                    call(yield_function, (0,))


@parallel_kernel
def run_team(function, plan, team, n_threads):
    """Call a function of a plan, member and size of the team, on each thread of the team.

    ``team`` must be of zeros.
    """
    for _ in prange(n_threads):
        member, size = join(team, n_threads)
        if member < size:
            call(function, (plan, member, size))


@intrinsic
def _add(typing_context, array, index, value):
    """Add to an element; returns what it was. No other thread comes in between."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [values[1]]), values[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def _load(typing_context, array, index):
    """An element as it is now, and with it all that was written before it."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.load_atomic(builder.gep(data, [values[1]]), "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def _relax(typing_context):
    """Tell the processor that this is a waiting loop."""

    def codegen(context, builder, signature, values):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


if DISABLED:

    def _add(array, index, value):
        before = array[index]
        array[index] += value
        return before

    def _load(array, index):
        return array[index]

    def _relax():
        pass
