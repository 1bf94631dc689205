"""Locks where a process forks: one that another thread holds then is never freed in the child."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["hold_at_forks", "holding"]

_held: list[Any] = []


def hold_at_forks(lock: Any) -> None:
    """Have each fork wait for a lock, and free it on both sides: what it guards is whole then.

    It is for locks that are held for moments, or whose work cannot be taken up in the child.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


@contextmanager
def holding(lock: Any) -> Iterator[None]:
    """Hold a lock of `threading` for long: no fork waits for it, and it is free in the child."""
    _held.append(lock)
    try:
        with lock:
            yield
    finally:
        _held.remove(lock)


def _free_held() -> None:
    for lock in _held:
        lock._at_fork_reinit()  # as the standard library does with its own
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_held)
