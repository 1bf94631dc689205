"""Locks across forks: the child never releases a lock that another thread held at the fork."""

import os
from collections.abc import Callable
from typing import Any

__all__ = ["Holding", "call_in_child", "hold_at_forks"]

_held: list[Any] = []


def hold_at_forks(lock: Any) -> None:
    """Acquire the lock before each fork, and release it in both processes.

    What the lock guards is then consistent in the child. This is for locks that are held briefly,
    or that guard work which the child could not finish.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


def call_in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Register a function, also as a decorator, to be called in each forked child."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


class Holding:
    """Holds a `threading` lock for long: forks do not wait for it, and it is free in the child."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        _held.append(self._lock)
        try:
            self._lock.acquire()
        except BaseException:  # Ctrl-C
            _held.remove(self._lock)
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        _held.remove(self._lock)


@call_in_child
def _free_held() -> None:
    for lock in _held:
        lock._at_fork_reinit()  # as the standard library does with its own
    _held.clear()
