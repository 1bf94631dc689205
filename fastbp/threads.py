"""How many threads a fit or a prediction runs on, and when it may not use more than one.

Numba's `workqueue` layer aborts the process when two threads enter it at once, and GNU OpenMP does
not survive a fork. Results are the same bits on any number of threads, so the answer to both is to
run on one.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba import prange
from threadpoolctl import threadpool_limits

from fastbp.kernels.jit import parallel_kernel

__all__ = ["Pace", "choose_threads", "parallel_region", "single_threaded_blas", "start_layer"]

# A thread is worth its start from this many multiply-adds in a mini-batch on; see NOTES.md.
WORK_PER_BATCH = 400_000

_used = False  # Numba's threads were started in this process
_forked = False  # ... or in the process that this one was forked from
_one_at_a_time = threading.Lock()


def _after_fork() -> None:
    global _forked, _one_at_a_time
    _forked = _forked or _used
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def choose_threads(n_jobs: int | None, work: float) -> int:
    """Return the number of threads for kernels that do `work` multiply-adds between two waits.

    Parameters
    ----------
    n_jobs : int or None
        As the estimators' parameter. None leaves it to the work, and means one thread anywhere but
        in the main thread: whoever runs fits in threads of his own has shared the cores out.
    work : float
    """
    most = int(numba.get_num_threads())
    if _forked or most == 1:
        return 1
    if n_jobs is None:
        main = threading.current_thread() is threading.main_thread()
        return most if main and work >= WORK_PER_BATCH else 1
    return min(n_jobs, most) if n_jobs > 0 else max(1, most + 1 + n_jobs)


class Pace:
    """Plans compiled calls: how long each may be, and on how many threads.

    A call lasts a tenth of a second, so that Ctrl-C is heard between two. Threads wait for one
    another twice a mini-batch: where another process has one of the cores, that can cost far more
    than the work. Results are the same bits either way, so one thread and several are both timed,
    and the slower again from time to time.

    Parameters
    ----------
    n_threads : int
        The most to use.
    patience : float
        Seconds on one thread before others are started.
    unit_seconds : float
        A guess at the time of a unit of work, until one is timed.
    """

    CALL_SECONDS = 0.1
    RETRY = 20.0  # the slower is tried again after as many times what the trial costs

    def __init__(self, n_threads: int, patience: float, unit_seconds: float) -> None:
        self.n_threads = n_threads
        self.patience = patience
        self._guess = unit_seconds
        self._seconds: dict[int, float] = {}  # of a unit, by number of threads
        self._since_trial = 0.0

    def plan(self, remaining: int) -> tuple[int, int]:
        """Return the number of threads, and how many of the remaining units, for the next call."""
        if self.n_threads == 1:
            return 1, self._units(1, remaining)
        faster, slower = self._ranked()
        trial = self._units(slower, remaining) * self._expected(slower)
        tried = len(self._seconds) == 2
        patience = self.RETRY * trial if tried else self.patience
        n_threads = slower if self._since_trial > patience else faster
        return n_threads, self._units(n_threads, remaining)

    def record(self, n_threads: int, units: int, seconds: float) -> None:
        """Learn how long such a call took."""
        is_trial = self.n_threads > 1 and n_threads != self._ranked()[0]
        self._since_trial = 0.0 if is_trial else self._since_trial + seconds
        self._seconds[n_threads] = seconds / units

    def _ranked(self) -> tuple[int, int]:
        """The numbers of threads to choose from, the faster first as far as is known."""
        if self._seconds.get(self.n_threads, np.inf) < self._seconds.get(1, np.inf):
            return self.n_threads, 1
        return 1, self.n_threads

    def _expected(self, n_threads: int) -> float:
        """Seconds of a unit: as timed, or with threads of which nothing is known much longer."""
        if n_threads in self._seconds:
            return self._seconds[n_threads]
        return 100 * self._seconds[1] if 1 in self._seconds else self._guess

    def _units(self, n_threads: int, remaining: int) -> int:
        return max(1, min(remaining, int(self.CALL_SECONDS / self._expected(n_threads))))


@contextmanager
def parallel_region(n_threads: int) -> Iterator[bool]:
    """Set Numba's threads for the calls inside; gives False where they must be serial ones."""
    global _used
    locked = False
    if _layer() not in ("omp", "tbb"):
        locked = _one_at_a_time.acquire(blocking=False)
        if not locked:
            yield False
            return
    _used = True
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, before))
    try:
        yield True
    finally:
        numba.set_num_threads(before)
        if locked:
            _one_at_a_time.release()


def start_layer() -> str:
    """Start Numba's threads, and return the name of the layer that runs them."""
    global _used
    _used = True
    with _one_at_a_time:
        _touch(np.zeros(1))
    return _layer() or "none"


@parallel_kernel
def _touch(x):  # type: ignore[no-untyped-def]
    for i in prange(x.size):
        x[i] += 1


def _layer() -> str | None:
    """Name of Numba's threading layer, None before its first use."""
    try:
        name: str = numba.threading_layer()
    except ValueError:
        return None
    return name


_blas_lock = threading.Lock()
_blas_users = 0
_blas_limit: Any = None


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while any fit is inside: it is called from threads of ours.

    The limit is the process's, so it is set by the first fit to enter and lifted by the last to
    leave.
    """
    global _blas_users, _blas_limit
    with _blas_lock:
        _blas_users += 1
        if _blas_users == 1:
            _blas_limit = threadpool_limits(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.restore_original_limits()
