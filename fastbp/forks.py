"""Locks where a process forks: one that another thread holds then is never freed in the child."""

import os
from collections.abc import Callable
from typing import Any

__all__ = ["Holding", "call_in_child", "hold_at_forks"]

_held: list[Any] = []


def hold_at_forks(lock: Any) -> None:
    """Have each fork wait for a lock, and free it on both sides: what it guards is whole then.

    It is for locks that are held for moments, or whose work cannot be taken up in the child.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


def call_in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Have a function called in each process that is forked; it decorates one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


class Holding:
    """Holds a lock of `threading` for long: no fork waits for it, and it is free in the child."""

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
