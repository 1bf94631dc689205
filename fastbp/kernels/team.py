"""Threads that work through the same steps and wait for one another in between.

Entering a parallel region of Numba's costs some microseconds, a good part of a small mini-batch. So
a compiled call is one region, and its threads meet at a barrier twice a mini-batch, spinning.

A barrier needs to know how many are to come, and a threading layer promises no number of threads:
it may give fewer, or run all iterations on one; and one that slept may come some milliseconds late.
So the first begins with whoever is there, and who comes later waits until the team, at the end of a
mini-batch, takes it in, or has done. Results do not depend on the size of the team. Who was woken
on the first one's processor leaves it: two who wait for one another there get nothing done.
"""

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.jit import DISABLED, call, inner_kernel, parallel_kernel, part
from fastbp.kernels.scheduler import leave, processor

# Places in the team's memory, an array of int64, each on a line of the cache of its own.
_CAME, _PROCESSOR, _JOINED, _SIZE, _COMING, _PLACE, _ENDED, _ARRIVED, _ROUND, _TAKEN = range(
    0, 80, 8
)
_MEMORY = 80

_SPINS = 1_000  # turns of a loop after which a waiting thread lets others have its processor
_PATIENCE = _SPINS + 50  # turns for which the first waits for others: some 50 microseconds

_X86 = llvm.get_process_triple().split("-")[0] in ("x86_64", "i386", "i686")


def make_team() -> Any:
    """Return the memory of a team; it must be of zeros when `join` is called for the first time."""
    return np.zeros(_MEMORY, np.int64)


@inner_kernel
def join(team, n_threads, yield_function, affinity_functions):
    """``(member, size, place)`` of the calling thread, once it is in the team.

    It is not needed where member is not below size. `place` is what `admit` was told.
    """
    member = turns = 0
    here = processor(affinity_functions)
    if _add(team, _CAME, 1) == 0:
        _set(team, _JOINED, 1)
        _set(team, _PROCESSOR, here + 2)  # never 0
        while _load(team, _JOINED) < n_threads and turns < _PATIENCE:
            turns = _turn(turns, yield_function)
        _set(team, _SIZE, _load(team, _JOINED))
    else:
        while _load(team, _PROCESSOR) == 0:
            turns = _turn(turns, yield_function)
        if here >= 0 and _load(team, _PROCESSOR) == here + 2:
            leave(affinity_functions, here)
        member = _add(team, _JOINED, 1)
    while _load(team, _SIZE) <= member and _load(team, _ENDED) == 0:
        turns = _turn(turns, yield_function)
    return member, _load(team, _SIZE), _load(team, _PLACE)


@inner_kernel
def invite(team):
    """Say, before a barrier, how many there are to be behind it: all who have come."""
    joined = _load(team, _JOINED)
    if joined != _load(team, _COMING):
        _set(team, _COMING, joined)


@inner_kernel
def admit(team, member, size, place):
    """The size of the team behind that barrier; those who are new begin at `place`."""
    coming = _load(team, _COMING)
    if coming <= size:
        return size
    if member == 0:
        _set(team, _PLACE, place)
        _set(team, _SIZE, coming)
    return coming


@inner_kernel
def take(team):
    """The number of a piece of work that nobody has yet, from 0 on."""
    return _add(team, _TAKEN, 1)


@inner_kernel
def end(team):
    """Say that nobody is needed any more."""
    _set(team, _ENDED, 1)


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
                turns = _turn(turns, yield_function)


@part
def _turn(turns, yield_function):
    """Wait for a moment, after many turns by letting others run; return one turn more."""
    _relax()
    if turns >= _SPINS and yield_function != 0:
        call(yield_function, (0,))
    return turns + 1


@part
def _set(team, index, value):
    _add(team, index, value - _load(team, index))


@parallel_kernel
def run_team(function, plan, team, n_threads, yield_function, affinity_functions):
    """Call a function of a plan, member, size of the team and place, on each thread of the team.

    ``team`` must be of zeros.
    """
    for _ in prange(n_threads):
        member, size, place = join(team, n_threads, yield_function, affinity_functions)
        if member < size:
            call(function, (plan, member, size, place))
        if member == 0:
            end(team)


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
