"""How many threads a fit or a prediction runs on, and when it may not use more than one.

Numba's `workqueue` layer aborts the process when two threads enter it at once, and GNU OpenMP does
not survive a fork. Results are the same bits on any number of threads, so the answer to both is to
run on one.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numba
import numpy as np
from numba import prange
from threadpoolctl import threadpool_limits

from fastbp.baton import run_apart
from fastbp.compiler.jit import DISABLED, is_ready, parallel_kernel
from fastbp.forks import hold_at_forks
from fastbp.kernels.plan import Plan
from fastbp.kernels.scheduler import affinity_addresses, yield_address
from fastbp.kernels.team import run_team

__all__ = [
    "Cancelled",
    "Pace",
    "cancelled_by",
    "choose_threads",
    "count_workers",
    "parallel_region",
    "raise_if_cancelled",
    "run_on_threads",
    "single_threaded_blas",
    "start_layer",
]

# Threads are worth their start from so many multiply-adds in a mini-batch on, and from the lesser
# number where the user asks for them; see NOTES.md.
WORK_PER_BATCH = 400_000
LEAST_WORK = 100_000

_used = False  # Numba's layer of threads was asked for in this process
_forked = False  # ... or in the process that this one was forked from
_one_at_a_time = threading.Lock()


def _after_fork() -> None:
    global _forked, _one_at_a_time, _blas_users
    _forked = _forked or _used or _layer() is not None
    _one_at_a_time = threading.Lock()
    _blas_users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def choose_threads(n_jobs: int | None, work: float) -> int:
    """Return the number of threads for kernels that do `work` multiply-adds between two waits.

    Parameters
    ----------
    n_jobs : int or None
        As the estimators' parameter. None leaves it to the work, and means one thread anywhere but
        in the main thread, and in workers of a pool: whoever runs fits there has shared the cores
        out.
    work : float
    """
    # Plain Python has no atomic numbers, by which threads wait for one another.
    if DISABLED or _forked or work < LEAST_WORK or n_jobs == 1:
        return 1
    most = _most_threads()
    if n_jobs is None:
        return most if _has_all_processors() and work >= WORK_PER_BATCH else 1
    return min(_count(n_jobs, most), most)


def count_workers(n_jobs: int | None) -> int:
    """Return how many networks may be trained at a time, each on one thread.

    Parameters
    ----------
    n_jobs : int or None
        As the estimators' parameter. None is all, in the main thread, and 1 in other threads and in
        workers of a pool.
    """
    most = _most_threads()
    if n_jobs is None:
        return most if _has_all_processors() else 1
    return _count(n_jobs, most)


def _count(n_jobs: int, most: int) -> int:
    """Return how many are asked for: -1 is all, -2 all but one."""
    return n_jobs if n_jobs > 0 else max(1, most + 1 + n_jobs)


def _has_all_processors() -> bool:
    """Tell whether nobody has shared them out, as over threads or the workers of a pool."""
    # The workers of multiprocessing's pools, and so of joblib's backend of that name, are daemons.
    is_worker = multiprocessing.current_process().daemon
    return threading.current_thread() is threading.main_thread() and not is_worker


def _most_threads() -> int:
    """Numba's number of threads. To ask it starts the layer, which no forked child should do."""
    global _used
    if _forked:
        return int(numba.config.NUMBA_NUM_THREADS)
    _used = True  # before it is: a fork may come in between
    return int(numba.get_num_threads())


class Cancelled(BaseException):
    """A training was given up because its thread was asked to.

    Not an Exception: one that comes out of a fit is a score of NaN to scikit-learn's searches.
    """


_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


@contextmanager
def cancelled_by(event: threading.Event) -> Iterator[None]:
    """Give up what this thread trains inside, by `Cancelled`, once the event is set."""
    token = _cancelled.set(event)
    try:
        yield
    finally:
        _cancelled.reset(token)


def raise_if_cancelled() -> None:
    """Raise Cancelled where this thread was asked to give up."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise Cancelled


class Pace:
    """Plans compiled calls: how long each may be, and on how many threads.

    A call lasts a tenth of a second, so that Ctrl-C is heard between two. Threads wait for one
    another twice a mini-batch: where another process has one of the cores, that can cost far more
    than the work. Results are the same bits either way, so one thread and several are both timed,
    and the slower is tried again from time to time, in short calls. Several must be faster by a
    tenth. What is over sooner than a thread that sleeps would come, some 50 microseconds, is done
    on one, and tells nothing.

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
    LEAST_SECONDS = 0.0002  # of a call for which others are started
    TELLING_SECONDS = 0.002  # of a call that counts where it is slower: a region has its cost
    TRIAL_SECONDS = 0.0025
    WORTHWHILE = 0.9  # of the time on one
    TRIAL_CALLS = 3  # each as long as the one before lets hope; the best counts
    # The slower is tried again after so many times what a trial costs: soon at first, and after the
    # faster has become slower, which may be a disturbance; less and less often while that stays.
    LEAST_RETRY, MOST_RETRY = 2.0, 20.0

    def __init__(self, n_threads: int, patience: float, unit_seconds: float) -> None:
        self.n_threads = n_threads
        self.patience = patience
        self._guess = unit_seconds
        # Seconds of a unit in the last calls, by number of threads.
        self._timed: dict[int, deque[float]] = {n: deque(maxlen=3) for n in (1, n_threads)}
        self._since_trial = 0.0
        self._retry = self.LEAST_RETRY
        self._trials: list[int] = []  # calls to come, as numbers of threads

    def plan(self, remaining: int) -> tuple[int, int]:
        """Return the number of threads, and how many of the remaining units, for the next call."""
        if self.n_threads == 1:
            return 1, max(1, min(remaining, int(self.CALL_SECONDS / self._expected(1))))
        if self._is_short(remaining):
            return 1, remaining
        if remaining * self._expected(1) < self.TRIAL_SECONDS:
            self._trials = []  # too little is left to tell
        elif not self._trials and self._since_trial > self._patience():
            slower = self._ranked()[1]
            self._trials = [slower] * self.TRIAL_CALLS
        if self._trials:
            n_threads, seconds = self._trials[0], self.TRIAL_SECONDS
        else:
            n_threads, seconds = self._ranked()[0], self.CALL_SECONDS
            if not self._timed[self.n_threads]:
                left = self.patience - self._since_trial
                seconds = min(seconds, max(left, self.TRIAL_SECONDS))
        return n_threads, max(1, min(remaining, int(seconds / self._expected(n_threads))))

    def record(self, n_threads: int, units: int, seconds: float) -> None:
        """Learn how long such a call took."""
        timed, fastest = self._timed[n_threads], self._ranked()[0]
        if n_threads == 1 and self._is_short(units):
            return
        is_slower = bool(timed) and seconds / units >= self._expected(n_threads)
        if seconds < self.TELLING_SECONDS and is_slower and not self._trials:
            return  # it may be the region's cost
        if len(self._trials) == self.TRIAL_CALLS:
            timed.clear()
        timed.append(seconds / units)
        if self._trials:
            tried = self._trials.pop()
            self._since_trial = 0.0
            if not self._trials:
                best = min(timed)
                timed.clear()
                timed.append(best)
                is_faster = self._ranked()[0] == tried
                self._retry = (
                    self.MOST_RETRY if is_faster else min(2 * self._retry, self.MOST_RETRY)
                )
        else:
            self._since_trial += seconds
            if self._ranked()[0] != fastest:
                self._retry, self._since_trial = self.LEAST_RETRY, 0.0

    def _is_short(self, units: int) -> bool:
        return self.n_threads > 1 and units * self._expected(1) < self.LEAST_SECONDS

    def _patience(self) -> float:
        """Seconds until the slower is tried, for the first time or again."""
        slower = self._ranked()[1]
        if not self._timed[slower]:
            return self.patience
        trial = self.TRIAL_CALLS * max(self.TRIAL_SECONDS, self._expected(slower))
        return self._retry * trial

    def _ranked(self) -> tuple[int, int]:
        """The numbers of threads to choose from, the faster first as far as is known."""
        if self._timed[self.n_threads] and (
            not self._timed[1]
            or self._expected(self.n_threads) < self.WORTHWHILE * self._expected(1)
        ):
            return self.n_threads, 1
        return 1, self.n_threads

    def _expected(self, n_threads: int) -> float:
        """Seconds of a unit: as timed, or with threads of which nothing is known much longer."""
        timed = sorted(self._timed[n_threads])
        if timed:
            return timed[(len(timed) - 1) // 2]  # of two the better, of three the median
        return 100 * self._expected(1) if n_threads > 1 and self._timed[1] else self._guess


def run_on_threads(function: int, plan: Plan, n_threads: int, compile_it: bool) -> int:
    """Call a compiled function of a plan on a team of threads.

    Parameters
    ----------
    function : int
        Its address.
    plan : Plan
    n_threads : int
        The most; as many as ``plan.workspace.bounds`` says.
    compile_it : bool
        Whether it is worth some seconds to compile what starts threads, where it is in no cache.

    Returns
    -------
    int
        ``n_threads``, or 1 where it ran on the calling thread.
    """
    if n_threads > 1:
        team = plan.workspace.team
        system = yield_address(), affinity_addresses()
        arguments = function, plan.address, team, n_threads, *system
        if is_ready(run_team, arguments, compile_it):
            with parallel_region(n_threads) as parallel:
                if parallel:
                    run_team(*arguments)
                    team[:] = 0
                    return n_threads
    run_apart(function, plan)
    return 1


@contextmanager
def parallel_region(n_threads: int) -> Iterator[bool]:
    """Set Numba's threads for the calls inside; gives False where they must be serial ones."""
    locked = False
    if _layer() not in ("omp", "tbb"):
        locked = _one_at_a_time.acquire(blocking=False)
        if not locked:
            yield False
            return
    before = _most_threads()
    numba.set_num_threads(min(n_threads, before))
    try:
        yield True
    finally:
        numba.set_num_threads(before)
        if locked:
            _one_at_a_time.release()


def start_layer() -> str:
    """Start Numba's threads, where they may be; return the name of the layer that runs them."""
    global _used
    if not _forked:
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
hold_at_forks(_blas_lock)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread while any fit is inside: it is called from threads of ours.

    The limit is the process's, so it is set by the first fit to enter and lifted by the last to
    leave. In a process that was forked meanwhile the first fit lifts it.
    """
    global _blas_users, _blas_limit
    with _blas_lock:
        _blas_users += 1
        if _blas_limit is None:
            _blas_limit = threadpool_limits(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.restore_original_limits()
                _blas_limit = None
