"""Which processor a thread runs on, and that it leaves one only where it must and may."""

import ctypes
import os
import sys
import threading

import numpy as np
import pytest

from fastbp.compiler.jit import DISABLED, kernel
from fastbp.kernels.scheduler import affinity_addresses, leave, processor
from fastbp.kernels.team import end, join, make_team

pytestmark = [
    pytest.mark.skipif(DISABLED, reason="plain Python calls no addresses"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these functions"),
]


@kernel
def move(functions, places):
    places[0] = processor(functions)
    leave(functions, places[0])
    places[1] = processor(functions)


@kernel
def join_and_end(team, functions):
    member = join(team, 2, 0, functions)[0]
    end(team)
    return member


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_a_thread_leaves_its_processor_if_there_is_another_and_may_come_back():
    allowed = os.sched_getaffinity(0)
    places, after = np.full(2, -9), []

    def run():
        move(affinity_addresses(), places)
        after.append(os.sched_getaffinity(0))

    in_a_thread(run)
    assert set(places) <= allowed
    assert len(set(places)) == min(len(allowed), 2)
    assert after == [allowed]


def test_a_thread_that_has_one_processor_stays():
    one = {min(os.sched_getaffinity(0))}
    places, after = np.full(2, -9), []

    def run():
        os.sched_setaffinity(0, one)
        move(affinity_addresses(), places)
        after.append(os.sched_getaffinity(0))

    in_a_thread(run)
    assert set(places) == one
    assert after == [one]


class System:
    """Python stand-ins for the system's functions, which record what they are asked for."""

    def __init__(self, number, allowed):
        self.number, self.allowed, self.asked = number, allowed, []
        set_type = ctypes.POINTER(ctypes.c_uint64)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, set_type)
        self.functions = [
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.number),
            kind(self.get),
            kind(self.set),
        ]

    @property
    def addresses(self):
        return np.array([ctypes.cast(f, ctypes.c_void_p).value for f in self.functions])

    def get(self, thread, size, words):
        if self.allowed is None:
            return -1
        for i in range(size // 8):
            words[i] = sum(1 << n % 64 for n in self.allowed if n // 64 == i)
        return 0

    def set(self, thread, size, words):
        chosen = {n for n in range(8 * size) if words[n // 64] >> n % 64 & 1}
        self.asked.append(chosen)
        if chosen:
            self.number = min(chosen)
        return 0 if chosen else -1


@pytest.mark.parametrize("number", [3, 63, 64, 5000])
def test_it_is_taken_out_of_the_set_of_processors_and_put_back(number):
    system, places = System(number, {2, number, 8000}), np.zeros(2, np.int64)
    move(system.addresses, places)
    assert system.asked == [{2, 8000}, {2, number, 8000}]
    assert places.tolist() == [number, 2]


def test_nothing_is_set_where_the_set_cannot_be_told():
    system, places = System(3, None), np.zeros(2, np.int64)
    move(system.addresses, places)
    assert system.asked == []
    assert places.tolist() == [3, 3]


def test_who_is_on_the_first_ones_processor_leaves_it():
    team, systems = make_team(), [System(n, {1, 2}) for n in (1, 1, 2)]
    members = [join_and_end(team, system.addresses) for system in systems]
    assert members == [0, 1, 2]
    assert [system.asked for system in systems] == [[], [{2}, {1, 2}], []]


def test_nobody_leaves_where_processors_cannot_be_told():
    team, nothing = make_team(), np.zeros(3, np.int64)
    assert [join_and_end(team, nothing) for _ in range(2)] == [0, 1]
