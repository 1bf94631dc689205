"""Families of networks, trained and judged by threads that need no Python in between.

A short fit takes about a millisecond of arithmetic and a third of a millisecond of Python, which
only one thread can run at a time. So the networks of a search that have the same shape are trained
as a family (`family.py`); `members.py` decides which fits qualify.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from math import ceil
from time import monotonic
from typing import Any

import numpy as np

from fastbp.cancellation import raise_if_cancelled
from fastbp.compiler.jit import DISABLED
from fastbp.model_selection.evaluation import Evaluator
from fastbp.model_selection.family import Family
from fastbp.model_selection.fits import Fit
from fastbp.model_selection.interrupts import GRACE, Listening, Tokens
from fastbp.model_selection.members import Member, recruit

__all__ = ["do_in_families"]

MOST_BYTES = 1 << 24  # of all arrays of a family
FEWEST = 4  # no families if fewer networks than this fit into MOST_BYTES
MOST_AHEAD = 2 * MOST_BYTES  # bytes of prepared families whose networks are not all taken
EARLY = 4  # most threads while families are still being prepared: joining one needs Python, too
TELLING_SECONDS = 0.02  # between two reports of results


def do_in_families(
    evaluator: Evaluator,
    fits: Sequence[Fit],
    n_workers: int,
    done: Callable[[int, dict[str, Any]], None],
) -> tuple[list[int], bool]:
    """Run the fits that can be in families on threads; call ``done(number, result)`` for each.

    Returns
    -------
    left : list of int
        The numbers of the fits that must be run one by one.
    is_interrupted : bool
        Whether Ctrl-C came in between: then some other fits are not done either.
    """
    with Listening():
        families, others = find_families(evaluator, fits)
    again, is_interrupted = run_families(families, n_workers, done)
    return sorted(others + again), is_interrupted


def find_families(
    evaluator: Evaluator, fits: Sequence[Fit]
) -> tuple[list[list[Member]], list[int]]:
    """Sort fits into families; return the members of each, and the numbers of the other fits.

    The longest fits come first.
    """
    if DISABLED:
        return [], list(range(len(fits)))
    found, others = recruit(evaluator, fits)
    families = []
    for members in found:
        most = MOST_BYTES // max(member.n_bytes for member in members)
        if most < FEWEST:
            others += [member.number for member in members]
            continue
        members.sort(key=lambda member: -member.cost)
        families += [members[i : i + most] for i in range(0, len(members), most)]
    return sorted(families, key=lambda members: -members[0].cost), sorted(others)


def run_families(
    groups: Sequence[list[Member]], n_workers: int, done: Callable[[int, dict[str, Any]], None]
) -> tuple[list[int], bool]:
    """Train and judge families on threads; call ``done(number, result)`` for each fit.

    Returns
    -------
    again : list of int
        The numbers of fits that must be run again, one by one.
    is_interrupted : bool
        Whether Ctrl-C came in between: then some fits are not done.
    """
    crew = _Crew(n_workers, len(groups), done)
    try:
        crew.run(groups)
    except KeyboardInterrupt:
        crew.end_soon()
        return crew.again, True
    except BaseException:
        crew.give_up()
        raise
    if crew.errors:
        raise crew.errors[0]
    return crew.again, False


class _Crew:
    """Threads that train families; each joins the family with the most work left per thread.

    While they train the first families, the thread that created the crew prepares the next ones and
    reports results. Ctrl-C may reach that thread at any time, also while it waits. So it takes none
    of the threads' locks, and waits for `Tokens` only.

    Attributes
    ----------
    again : list of int
        The numbers of fits that must be run again, one by one.
    errors : list of BaseException
        Raised in the threads.
    """

    def __init__(
        self, n_workers: int, n_families: int, done: Callable[[int, dict[str, Any]], None]
    ) -> None:
        self.again: list[int] = []
        self.errors: list[BaseException] = []
        self._n_workers, self._n_families, self._done = n_workers, n_families, done
        self._families: list[Family] = []  # prepared so far
        self._untold: list[Family] = []  # with results still to report
        self._n_running = 0
        self._choosing = threading.Lock()  # held by a thread while it chooses a family
        self._news, self._ended = Tokens(), Tokens()

    def run(self, groups: Sequence[list[Member]]) -> None:
        """Prepare families and have the threads train them, until all are done or one fails."""
        n_threads = min(self._n_workers, sum(map(len, groups)))
        work = np.cumsum([sum(member.cost for member in members) for members in groups])
        for members, prepared in zip(groups, work, strict=True):
            while self._has_enough_ahead() and not self.errors:
                self._start(n_threads)
                self._wait(TELLING_SECONDS)
            if self.errors:
                break
            self._add(Family(members, n_threads))
            # Not all threads yet: preparing families occupies a processor, too.
            self._start(min(EARLY, ceil(n_threads * prepared / work[-1])))
            self._wait(0.0)
        self._start(n_threads)
        while self._n_running:
            if self.errors:
                self.give_up()
            self._wait(TELLING_SECONDS)

    def end_soon(self) -> None:
        """Stop the threads, and report the fits that end within `GRACE` seconds."""
        self.give_up()
        until = monotonic() + GRACE
        with suppress(KeyboardInterrupt), Listening():
            while self._n_running and (left := until - monotonic()) > 0:
                self._n_running -= self._ended.take(left)
        self._tell(in_time=False)

    def give_up(self) -> None:
        """Tell the threads to end soon."""
        self._n_families = 0
        for family in self._families:
            family.stop()
        self._wake_threads()

    def _add(self, family: Family) -> None:
        self._families.append(family)
        self._untold.append(family)
        self._wake_threads()

    def _wake_threads(self) -> None:
        for _ in range(self._n_running):
            self._news.put()

    def _has_enough_ahead(self) -> bool:
        return sum(family.n_bytes_left for family in self._untold) >= MOST_AHEAD

    def _wait(self, seconds: float) -> None:
        """Wait at most `seconds` for a thread to end, then report results."""
        raise_if_cancelled()
        with Listening():
            has_ended = self._ended.take(seconds)
        self._n_running -= has_ended
        self._tell()

    def _tell(self, in_time: bool = True) -> None:
        for family in self._untold:
            for number, result in family.results(in_time):
                if result is None:
                    self.again.append(number)
                else:
                    self._done(number, result)
        self._untold = [family for family in self._untold if not family.is_told]

    # The threads -------------------------------------------------------------------------------

    def _start(self, n_threads: int) -> None:
        """Start threads until `n_threads` are running."""
        while self._n_running < n_threads and not self.errors:
            begun = Tokens()
            threading.Thread(target=copy_context().run, args=(self._work, begun)).start()
            self._n_running += 1
            begun.take(TELLING_SECONDS)  # from then on the thread needs no Python

    def _work(self, begun: Tokens) -> None:
        try:
            while family := self._choose():
                family.work(partial(self._begin, family, begun))
        except BaseException as error:
            self.errors.append(error)
        finally:
            begun.put()
            self._ended.put()

    def _begin(self, family: Family, begun: Tokens) -> None:
        with self._choosing:
            family.n_coming -= 1
        begun.put()

    def _choose(self) -> Family | None:
        """Return the family that needs a thread most; None if no work is left for it."""
        while self._n_families:
            are_all_there = len(self._families) == self._n_families
            with self._choosing:
                needs = [family.work_for_one_more for family in self._families]
                if any(needs):
                    family = self._families[int(np.argmax(needs))]
                    family.n_coming += 1
                    return family
            if are_all_there:
                break
            self._news.take(TELLING_SECONDS)
        return None
