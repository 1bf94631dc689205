"""How many threads a fit or a prediction runs on, and when it may use only one.

Numba's `workqueue` layer aborts the process when two threads enter it at once, and GNU OpenMP does
not survive a fork. The results have the same bits on any number of threads, so in both cases the
work runs on one.
"""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
from numba import prange

from fastbp.baton import run_apart
from fastbp.compiler.jit import DISABLED, is_ready, parallel_kernel
from fastbp.forks import call_in_child
from fastbp.kernels.plan import Plan
from fastbp.kernels.scheduler import affinity_addresses, yield_address
from fastbp.kernels.team import run_team

__all__ = [
    "choose_threads",
    "count_workers",
    "parallel_region",
    "run_on_threads",
    "start_layer",
]

# Threads are worth starting from this many multiply-adds in a mini-batch on, and from the smaller
# number if the user asks for them; see NOTES.md.
WORK_PER_BATCH = 400_000
LEAST_WORK = 100_000

_used = False  # Numba's threading layer was requested in this process
_forked = False  # ... or in the process that this one was forked from
_one_at_a_time = threading.Lock()


@call_in_child
def _after_fork() -> None:
    global _forked, _one_at_a_time
    _forked = _forked or _used or _layer() is not None
    _one_at_a_time = threading.Lock()


def choose_threads(n_jobs: int | None, work: float) -> int:
    """Return the number of threads for kernels that do `work` multiply-adds between two waits.

    Parameters
    ----------
    n_jobs : int or None
        As the estimators' parameter. None decides by `work`, and means one thread outside the main
        thread and in workers of a pool, because the caller has already divided the cores.
    work : float
    """
    # Plain Python has no atomic operations, by which threads wait for one another.
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
        As the estimators' parameter. None means all processors in the main thread, and 1 in other
        threads and in workers of a pool.
    """
    most = _most_threads()
    if n_jobs is None:
        return most if _has_all_processors() else 1
    return _count(n_jobs, most)


def _count(n_jobs: int, most: int) -> int:
    """Return how many threads are requested: -1 is all, -2 all but one."""
    return n_jobs if n_jobs > 0 else max(1, most + 1 + n_jobs)


def _has_all_processors() -> bool:
    """Return whether the processors are not already divided among threads or a pool's workers."""
    # The workers of multiprocessing's pools, and so of joblib's backend of that name, are daemons.
    is_worker = multiprocessing.current_process().daemon
    return threading.current_thread() is threading.main_thread() and not is_worker


def _most_threads() -> int:
    """Numba's number of threads. Asking starts the layer, which a forked child must not do."""
    global _used
    if _forked:
        return int(numba.config.NUMBA_NUM_THREADS)
    _used = True  # set before the call, because a fork may come in between
    return int(numba.get_num_threads())


def run_on_threads(function: int, plan: Plan, n_threads: int, compile_it: bool) -> int:
    """Call a compiled function on a plan with a team of threads.

    Parameters
    ----------
    function : int
        The address of the function.
    plan : Plan
    n_threads : int
        The size of the team; at most that for which ``plan.workspace.bounds`` was made.
    compile_it : bool
        Whether to spend some seconds compiling the code that starts threads, if it is not cached.

    Returns
    -------
    int
        ``n_threads``, or 1 if the function ran on the calling thread.
    """
    team = plan.workspace.team
    team[:] = 0  # a call that Ctrl-C interrupted leaves stale entries
    if n_threads > 1:
        system = yield_address(), affinity_addresses()
        arguments = function, plan.address, team, n_threads, *system
        if is_ready(run_team, arguments, compile_it):
            with parallel_region(n_threads) as parallel:
                if parallel:
                    run_team(*arguments)
                    return n_threads
    run_apart(function, plan)
    return 1


@contextmanager
def parallel_region(n_threads: int) -> Iterator[bool]:
    """Set Numba's number of threads for the block; yield False if its calls must be serial."""
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
    """Start Numba's threads unless this process was forked; return the threading layer's name."""
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
