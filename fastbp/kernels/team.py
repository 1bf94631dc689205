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

import numpy as np
from numba import prange

from fastbp.compiler.jit import call, inner_kernel, parallel_kernel, part
from fastbp.kernels.atomics import add, load
from fastbp.kernels.scheduler import SPINS, leave, pause, processor

# Places in the team's memory, an array of int64, each on a line of the cache of its own.
_CAME, _PROCESSOR, _JOINED, _SIZE, _COMING, _PLACE, _ENDED, _ARRIVED, _ROUND, _TAKEN = range(
    0, 80, 8
)
_MEMORY = 80

_PATIENCE = SPINS + 50  # turns for which the first waits for others: some 50 microseconds


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
    """Say, before a barrier, how many there are to be behind it: all who have come."""
    joined = load(team, _JOINED)
    if joined != load(team, _COMING):
        _set(team, _COMING, joined)


@inner_kernel
def admit(team, member, size, place):
    """The size of the team behind that barrier; those who are new begin at `place`."""
    coming = load(team, _COMING)
    if coming <= size:
        return size
    if member == 0:
        _set(team, _PLACE, place)
        _set(team, _SIZE, coming)
    return coming


@inner_kernel
def take(team):
    """The number of a piece of work that nobody has yet, from 0 on."""
    return add(team, _TAKEN, 1)


@inner_kernel
def end(team):
    """Say that nobody is needed any more."""
    _set(team, _ENDED, 1)


@inner_kernel
def wait(team, size, yield_function):
    """Return when all of the team have come here. What they wrote before is seen after."""
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
    """Call a function of a plan, member, size of the team and place, on each thread of the team.

    ``team`` must be of zeros.
    """
    for _ in prange(n_threads):
        member, size, place = join(team, n_threads, yield_function, affinity_functions)
        if member < size:
            call(function, (plan, member, size, place))
        if member == 0:
            end(team)
