"""Whose turn it is to run Python, among threads that do so between compiled calls.

One thread runs Python at a time, and one that must wait for Python's own lock sleeps; to wake it
takes a good part of a short fit, in which nobody has the lock. So the threads of a search pass on a
baton: each gives it away as it enters compiled code, and waits for it there, spinning.

It is a courtesy. Who has waited for long goes on without the baton, so nobody hangs because another
who has it sleeps or waits; then Python's lock decides.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp.kernels.baton import PATIENCE, passing_function
from fastbp.kernels.jit import DISABLED
from fastbp.kernels.plan import Plan, address_of, run
from fastbp.kernels.scheduler import yield_address

__all__ = ["Baton", "laid_down", "run_apart"]

_LINE = 8  # int64 numbers of a line of the cache

_of_thread = threading.local()


class Baton:
    """What the threads of a search pass on.

    Parameters
    ----------
    n_threads : int
        How many there are: the more, the longer one waits for its turn.
    """

    def __init__(self, n_threads: int) -> None:
        self._taken = np.zeros(_LINE, np.int64)
        self._patience = PATIENCE * (n_threads - 1)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Have the calling thread wait for it, and hold it inside but for compiled calls."""
        if DISABLED:
            yield
            return
        hand = _Hand(self._taken, self._patience)
        hand.take()
        _of_thread.hand = hand
        try:
            yield
        finally:
            _of_thread.hand = None
            hand.give()


class _Hand:
    """A thread's: it has the baton, or has waited for it in vain."""

    def __init__(self, taken: Any, patience: int) -> None:
        self._taken, self._has_it = taken, np.zeros(_LINE, np.int64)
        self._words = address_of(taken), address_of(self._has_it), patience, yield_address()

    def run(self, function: int, plan: int) -> None:
        """Call a function of a plan without the baton, and wait for it."""
        passing_function()(*self._words, function, plan)

    def take(self) -> None:
        """Wait for the baton."""
        self.run(0, 0)

    def give(self) -> None:
        """Leave the baton, if it is here, to others."""
        if self._has_it[0]:
            self._has_it[0] = self._taken[0] = 0


@contextmanager
def laid_down() -> Iterator[None]:
    """Leave the baton to others inside: for what waits, or may be long without Python's lock."""
    hand = getattr(_of_thread, "hand", None)
    if hand is None:
        yield
        return
    _of_thread.hand = None
    hand.give()
    try:
        yield
    finally:
        hand.take()
        _of_thread.hand = hand


def run_apart(function: int, plan: Plan) -> None:
    """Call a function of a plan on this thread alone, without the baton if the thread holds it."""
    hand = getattr(_of_thread, "hand", None)
    if hand is None:
        run(function, plan, 0, 1, 0)
    else:
        hand.run(function, plan.address)
