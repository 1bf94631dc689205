"""Whose turn it is to run Python, among threads that do so between compiled calls.

One thread runs Python at a time, and one that must wait for Python's own lock sleeps; to wake it
takes a good part of a short fit, in which nobody has the lock. So the threads of a search pass on a
baton: each gives it away as it enters compiled code, and waits for it there, spinning.

It is a courtesy. Who has waited for long goes on without the baton, so nobody hangs because another
who has it sleeps or waits; then Python's lock decides.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastbp.kernels.atomics import exchange, load
from fastbp.kernels.jit import DISABLED, array_at, c_function, call
from fastbp.kernels.plan import Plan, address_of, run
from fastbp.kernels.scheduler import SPINS, pause, yield_address

__all__ = ["Baton", "laid_down", "run_apart"]

PATIENCE = SPINS + 500  # turns of waiting: 0.2 ms where nobody else wants the processor
_LINE = 8  # int64 numbers of a line of the cache

_of_thread = threading.local()


def _run_apart(taken, has_it, yield_function, function, plan):
    """Call a function of a plan, if any, without the baton, and then wait for it."""
    taken, has_it = array_at(taken, (1,)), array_at(has_it, (1,))
    if has_it[0] != 0:
        has_it[0] = 0
        exchange(taken, 0, 0)
    if function != 0:
        call(function, (plan, 0, 1, 0))
    turns = 0
    while has_it[0] == 0 and turns < PATIENCE:
        if load(taken, 0) == 0 and exchange(taken, 0, 1) == 0:
            has_it[0] = 1
        else:
            turns = pause(turns, yield_function)


@cache
def _compiled() -> Any:
    pointer, i64 = types.CPointer(types.int64), types.int64
    address = c_function(_run_apart, pointer, pointer, i64, i64, i64)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)(address)


class Baton:
    """What the threads of a search pass on."""

    def __init__(self) -> None:
        self._taken = np.zeros(_LINE, np.int64)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Have the calling thread wait for it, and hold it inside but for compiled calls."""
        if DISABLED:
            yield
            return
        hand = _Hand(self._taken)
        hand.take()
        _of_thread.hand = hand
        try:
            yield
        finally:
            _of_thread.hand = None
            hand.give()


class _Hand:
    """A thread's: it has the baton, or has waited for it in vain."""

    def __init__(self, taken: Any) -> None:
        self._taken, self._has_it = taken, np.zeros(_LINE, np.int64)
        self._words = address_of(taken), address_of(self._has_it), yield_address()

    def run(self, function: int, plan: int) -> None:
        """Call a function of a plan without the baton, and wait for it."""
        _compiled()(*self._words, function, plan)

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
