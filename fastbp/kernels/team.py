"""Threads that work through the same steps, with barriers in between.

Entering a parallel region of Numba's costs some microseconds, a good part of a small mini-batch. So
a compiled call is one region, and its threads meet at a spinning barrier twice per mini-batch.

A barrier must know how many threads will come, but a threading layer guarantees no number: it may
provide fewer, or run all iterations on one; and a thread that slept may be some milliseconds late.
So the first thread begins with those that are there, and a later one waits until the team admits it
at the end of a mini-batch, or has finished. Results do not depend on the size of the team. A thread
woken on the first one's processor leaves it: two that wait for each other there get nothing done.
"""

from typing import Any

import numpy as np
from numba import prange

from fastbp.compiler.jit import call, inner_kernel, parallel_kernel, part
from fastbp.kernels.atomics import add, load
from fastbp.kernels.scheduler import SPINS, leave, pause, processor

# Places in the team's memory, an array of int64, each on its own cache line.
_CAME, _PROCESSOR, _JOINED, _SIZE, _COMING, _PLACE, _ENDED, _ARRIVED, _ROUND, _TAKEN = range(
    0, 80, 8
)
_MEMORY = 80

_PATIENCE = SPINS + 50  # turns for which the first waits for others: some 50 microseconds


def make_team() -> Any:
    """Return the memory of a team; it must be all zeros before the first call of `join`."""
    return np.zeros(_MEMORY, np.int64)


@inner_kernel
def join(team, n_threads, yield_function, affinity_functions):
    """Return ``(member, size, place)`` of the calling thread, once it is in the team.

    If member is not below size, the thread is not needed. `place` is that passed to `admit`.
    """
    member = turns = 0
    here = processor(affinity_functions)
    if add(team, _CAME, 1) == 0:
        _set(team, _JOINED, 1)
        _set(team, _PROCESSOR, here + 2)  # never 0
        while load(team, _JOINED) < n_threads and turns < _PATIENCE:
            turns = pause(turns, yield_function)
        _set(team, _SIZE, load(team, _JOINED))
    else:
        while load(team, _PROCESSOR) == 0:
            turns = pause(turns, yield_function)
        if here >= 0 and load(team, _PROCESSOR) == here + 2:
            leave(affinity_functions, here)
        member = add(team, _JOINED, 1)
    while load(team, _SIZE) <= member and load(team, _ENDED) == 0:
        turns = pause(turns, yield_function)
    return member, load(team, _SIZE), load(team, _PLACE)


@inner_kernel
def invite(team):
    """Announce, before a barrier, the size of the team after it: all threads that have come."""
    joined = load(team, _JOINED)
    if joined != load(team, _COMING):
        _set(team, _COMING, joined)


@inner_kernel
def admit(team, member, size, place):
    """Return the size of the team after that barrier; new members begin at `place`."""
    coming = load(team, _COMING)
    if coming <= size:
        return size
    if member == 0:
        _set(team, _PLACE, place)
        _set(team, _SIZE, coming)
    return coming


@inner_kernel
def take(team):
    """Take a piece of work that no thread has yet; return its number, from 0 on."""
    return add(team, _TAKEN, 1)


@inner_kernel
def end(team):
    """Announce that no more threads are needed."""
    _set(team, _ENDED, 1)


@inner_kernel
def wait(team, size, yield_function):
    """Barrier: return when all members have arrived. What they wrote before is visible after."""
    if size > 1:
        this_round = load(team, _ROUND)
        if add(team, _ARRIVED, 1) == size - 1:
            add(team, _ARRIVED, -size)
            add(team, _ROUND, 1)
        else:
            turns = 0
            while load(team, _ROUND) == this_round:
                turns = pause(turns, yield_function)


@part
def _set(team, index, value):
    add(team, index, value - load(team, index))


@parallel_kernel
def run_team(function, plan, team, n_threads, yield_function, affinity_functions):
    """Call a function with the plan, member, size of the team and place, on each of its threads.

    ``team`` must be all zeros.
    """
    for _ in prange(n_threads):
        member, size, place = join(team, n_threads, yield_function, affinity_functions)
        if member < size:
            call(function, (plan, member, size, place))
        if member == 0:
            end(team)
