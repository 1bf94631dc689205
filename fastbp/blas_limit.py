"""Limit BLAS to one thread in calls that have threads of their own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from fastbp.forks import call_in_child, hold_at_forks

__all__ = ["single_threaded_blas"]

_lock = threading.Lock()
_users = 0
_limit: Any = None
hold_at_forks(_lock)


@call_in_child
def _after_fork() -> None:
    global _users
    _users = 0


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while any caller is in the block, since fastbp's threads call BLAS.

    The limit applies to the whole process, so the first caller to enter sets it and the last to
    leave lifts it. In a child forked while the limit was set, the child's own callers lift it.
    """
    global _users, _limit
    with _lock:
        if _limit is None:
            _limit = threadpool_limits(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.restore_original_limits()
                _limit = None
