"""Hand-off of the GIL among threads that alternate Python and compiled calls.

Only one thread runs Python at a time, and a thread that waits for the GIL sleeps. Waking it takes a
good part of the time of a short fit, and meanwhile no thread holds the GIL. So the threads of a
search pass on a baton: each releases it on entering compiled code, and spins there at the end of
the call until it has the baton again.

The baton is only a hint: a thread that has waited long enough proceeds without it, so no thread
hangs because the holder sleeps or waits; the GIL then decides.

If fits are short, a few threads keep the GIL busy, and more threads only move the Python work from
processor to processor. `others_suffice` tells a thread when it may leave.
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

ENOUGH = 2  # while at least this many others always wait, a thread is not needed
_NEVER = 1 << 62  # sentinel: the thread has not asked for the baton since the last query

_of_thread = threading.local()


class Baton:
    """The baton that the threads of a search pass on.

    Parameters
    ----------
    n_threads : int
        Number of threads; the longest wait for the baton is proportional to ``n_threads - 1``.
    """

    def __init__(self, n_threads: int) -> None:
        self._shared = np.zeros(N_SHARED, np.int64)
        self._patience = PATIENCE * (n_threads - 1)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Wait for the baton, and hold it in the block except during compiled calls."""
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
    """The state of one thread, which has the baton or has given up waiting for it."""

    def __init__(self, shared: Any, patience: int) -> None:
        self._shared, self._own = shared, np.zeros(N_SHARED, np.int64)
        self._words = address_of(shared), address_of(self._own), patience, yield_address()

    def run(self, function: int, plan: int) -> None:
        """Release the baton, call a compiled function on a plan, and wait for the baton."""
        passing_function()(*self._words, function, plan)

    def take(self) -> None:
        """Wait for the baton."""
        self.run(0, 0)

    def give(self) -> None:
        """Release the baton, if this thread has it."""
        if self._own[HAS_IT]:
            self._own[HAS_IT] = self._shared[TAKEN] = 0

    def fewest_waiting(self) -> int:
        """Return the least number of waiting threads met on arrival since the last query."""
        fewest = int(self._own[FEWEST_WAITING])
        self._own[FEWEST_WAITING] = _NEVER
        return fewest


@contextmanager
def laid_down() -> Iterator[None]:
    """Release the baton in the block, for code that waits or may spend long without the GIL."""
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
    """Call a compiled function on a plan on this thread alone, without holding the baton."""
    hand = getattr(_of_thread, "hand", None)
    if hand is None:
        run(function, plan, 0, 1, 0)
    else:
        hand.run(function, plan.address)


def others_suffice() -> bool:
    """Return whether enough threads waited each time the calling thread asked for the baton.

    Only its requests since the last query count; False if there were none. If True, the other
    threads keep the GIL busy without this one.
    """
    hand = getattr(_of_thread, "hand", None)
    return hand is not None and ENOUGH <= hand.fewest_waiting() < _NEVER
