"""Teams of threads: who belongs to one, and that a barrier keeps its promise."""

import threading
import time

import numpy as np
import pytest

from fastbp.kernels.jit import DISABLED, kernel
from fastbp.kernels.team import join, make_team, wait, yield_address

pytestmark = pytest.mark.skipif(DISABLED, reason="plain Python has no atomic numbers")


@kernel
def run_join(team, n_threads):
    return join(team, n_threads)


@kernel
def count_rounds(team, member, size, yield_function, counters, rounds, errors):
    """Each adds to its own counter, and after the barrier looks at those of the others."""
    for r in range(rounds):
        counters[member] = r + 1
        wait(team, size, yield_function)
        for other in range(size):
            if counters[other] != r + 1:
                errors[member] += 1
        wait(team, size, yield_function)


def in_threads(n, function):
    pool = [threading.Thread(target=function, args=(i,)) for i in range(n)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in pool)


def test_one_alone_is_a_team_and_later_ones_are_not():
    """As where a threading layer runs all iterations on one thread."""
    team = make_team()
    assert run_join(team, 3) == (0, 1)
    assert [run_join(team, 3)[1] for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_all_who_come_in_time_are_in_the_team(n):
    team = make_team()
    run_join(make_team(), 1)  # compiled
    places = [None] * n

    def come(i):
        places[i] = run_join(team, n)

    in_threads(n, come)
    size = max(size for _, size in places)
    members = sorted(member for member, _ in places if member < size)
    assert members == list(range(size))
    assert {s for m, s in places if m < size} == {size}
    assert all(s == 0 for m, s in places if m >= size)


@pytest.mark.parametrize("yield_function", [0, yield_address()], ids=["spin", "yield"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_nobody_passes_a_barrier_before_all_have_come(size, yield_function):
    team, counters, errors = make_team(), np.zeros(size, np.int64), np.zeros(size, np.int64)
    count_rounds(make_team(), 0, 1, 0, counters, 1, errors)
    counters[:] = 0
    rounds = 500

    def work(member):
        time.sleep(0.01 * member)
        count_rounds(team, member, size, yield_function, counters, rounds, errors)

    in_threads(size, work)
    assert counters.tolist() == [rounds] * size
    assert not errors.any()
