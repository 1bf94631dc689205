"""Whose turn it is to run Python, among threads that do so between compiled calls.

One thread runs Python at a time, and one that must wait for Python's own lock sleeps; to wake it
takes a good part of a short fit, in which nobody has the lock. So the threads of a search pass on a
baton: each gives it away as it enters compiled code, and waits for it there, spinning.

It is a courtesy. Who has waited for long goes on without the baton, so nobody hangs because another
who has it sleeps or waits; then Python's lock decides.

Where fits are short, a few threads run all the Python that one can at a time, and more of them only
carry it from processor to processor. `others_suffice` tells a thread when it may leave.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp.compiler.jit import DISABLED
from fastbp.kernels.baton import (
    FEWEST_WAITING,
    HAS_IT,
    N_SHARED,
    PATIENCE,
    TAKEN,
    passing_function,
)
from fastbp.kernels.plan import Plan, address_of, run
from fastbp.kernels.scheduler import yield_address

__all__ = ["ENOUGH", "Baton", "laid_down", "others_suffice", "run_apart"]

ENOUGH = 2  # threads that wait whenever another comes
_NEVER = 1 << 62  # came the thread

_of_thread = threading.local()


class Baton:
    """What the threads of a search pass on.

    Parameters
    ----------
    n_threads : int
        How many there are: the more, the longer one waits for its turn.
    """

    def __init__(self, n_threads: int) -> None:
        self._shared = np.zeros(N_SHARED, np.int64)
        self._patience = PATIENCE * (n_threads - 1)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Have the calling thread wait for it, and hold it inside but for compiled calls."""
        if DISABLED:
            yield
            return
        hand = _Hand(self._shared, self._patience)
        hand.take()
        _of_thread.hand = hand
        try:
            yield
        finally:
            _of_thread.hand = None
            hand.give()


class _Hand:
    """A thread's: it has the baton, or has waited for it in vain."""

    def __init__(self, shared: Any, patience: int) -> None:
        self._shared, self._own = shared, np.zeros(N_SHARED, np.int64)
        self._words = address_of(shared), address_of(self._own), patience, yield_address()

    def run(self, function: int, plan: int) -> None:
        """Call a function of a plan without the baton, and wait for it."""
        passing_function()(*self._words, function, plan)

    def take(self) -> None:
        """Wait for the baton."""
        self.run(0, 0)

    def give(self) -> None:
        """Leave the baton, if it is here, to others."""
        if self._own[HAS_IT]:
            self._own[HAS_IT] = self._shared[TAKEN] = 0

    def fewest_waiting(self) -> int:
        """Return the least number of others that waited as it came, since this was asked last."""
        fewest = int(self._own[FEWEST_WAITING])
        self._own[FEWEST_WAITING] = _NEVER
        return fewest


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


def others_suffice() -> bool:
    """Tell whether some waited whenever the calling thread came, since it asked this last.

    What there is of Python to run is then run without it.
    """
    hand = getattr(_of_thread, "hand", None)
    return hand is not None and ENOUGH <= hand.fewest_waiting() < _NEVER
