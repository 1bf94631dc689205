"""BLAS kept to one thread, in calls that have threads of their own."""

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
    """Keep BLAS to one thread while any fit is inside: it is called from threads of ours.

    The limit is the process's, so it is set by the first fit to enter and lifted by the last to
    leave. In a process that was forked meanwhile the first fit lifts it.
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
