"""Teams of threads: who belongs to one, and that the barrier works."""

import threading
import time

import numpy as np
import pytest

from fastbp.compiler.jit import DISABLED, kernel
from fastbp.kernels.scheduler import affinity_addresses, yield_address
from fastbp.kernels.team import admit, end, invite, join, make_team, wait

pytestmark = pytest.mark.skipif(DISABLED, reason="plain Python has no atomic numbers")

SYSTEM = yield_address(), affinity_addresses()


@kernel
def take_part(
    team, n_threads, until, rounds, yield_function, affinity_functions, counters, places, errors
):
    """Work in rounds, as training does, and for so many once the team has `until` members.

    Each adds to its own counter, and after the barrier looks at those of the others.
    """
    member, size, place = join(team, n_threads, yield_function, affinity_functions)
    while size > member and rounds > 0:
        places[member] = place if counters[member] == 0 else places[member]
        counters[member] = place + 1
        rounds -= size >= until
        wait(team, size, yield_function)
        for other in range(size):
            errors[member] += counters[other] != place + 1
        if member == 0:
            invite(team)
        wait(team, size, yield_function)
        place += 1
        size = admit(team, member, size, place)
    if member == 0:
        end(team)


@kernel
def count_rounds(team, member, size, yield_function, counters, rounds, errors):
    """Add to this member's counter, and check those of the others after the barrier."""
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


def test_one_alone_is_a_team_and_needs_nobody_who_comes_when_it_has_done():
    """As if a threading layer ran all iterations on one thread."""
    team = make_team()
    counters, places, errors = np.zeros((3, 4), np.int64)
    for _ in range(3):
        take_part(team, 3, 1, 7, *SYSTEM, counters, places, errors)
        assert counters.tolist() == [7, 0, 0, 0]


@pytest.mark.parametrize("after", [(0, 0), (0, 1), (0, 0, 0), (0, 2_000, 4_000, 4_000)])
def test_who_comes_late_is_taken_in(after):
    """After so many rounds of the first. All must agree on the team's size and since when."""
    n, team = len(after), make_team()
    counters, places, errors = np.zeros((3, n), np.int64)
    take_part(make_team(), 1, 1, 0, *SYSTEM, *np.zeros((3, 1), np.int64))  # to compile it

    def come(i):
        while counters[0] < after[i]:
            time.sleep(0.001)
        take_part(team, n, n, 500, *SYSTEM, counters, places, errors)

    in_threads(n, come)
    assert set(counters) == {places.max() + 500}
    assert places.min() == 0
    assert places.max() >= max(after)
    assert not errors.any()


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
