"""Processes that help to compile, where much is in no cache.

Numba compiles one function at a time in a process, whatever its threads do; so others are started.
Each gets what is left to compile and begins at another place, the first at the end, while whoever
asked goes on from the front. What one saves in the cache the others load, and no two compile the
same function: `turn` sees to that. Without any of them, all is compiled all the same.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

from fastbp.compiler.turn import turn

__all__ = ["compile_together"]

MOST_HELPERS = 3
FEWEST_TASKS = 3  # left for each helper: it takes most of a second to start

# The package without all that it offers to users, which takes a second more to import.
_START = """
import pickle, sys, types
sys.path, folder, tasks = pickle.load(sys.stdin.buffer)
package = types.ModuleType("fastbp")
package.__path__ = [folder]
sys.modules["fastbp"] = package
from fastbp.compiler.helpers import work
work(tasks)
"""


@turn
def compile_together(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do tasks that compile something, or load it; return what each of them returns.

    Once one was in no cache, the rest is shared with helpers, as many as there are processors for.
    Where another process compiles, too, that has them.

    Parameters
    ----------
    tasks : sequence of callable
        They can be pickled.
    """
    results: list[Any] = []
    helpers: list[Any] = []
    n_compiled, n_waits, may_start = turn.n_compiled, turn.n_waits, _can_start()
    try:
        for task in tasks:
            results.append(task())
            if may_start and turn.n_compiled > n_compiled and turn.n_waits == n_waits:
                may_start = False
                with suppress(Exception):  # who asked compiles all the same
                    _start_helpers(tasks[len(results) :], helpers)
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()  # it has ended, and the pipe is closed
    return results


def _can_start() -> bool:
    """Tell whether there is an interpreter to start: an application may be all in one."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def _start_helpers(tasks: Sequence[Callable[[], Any]], helpers: list[Any]) -> None:
    """Add helpers to a list, each as soon as it is there."""
    n_helpers = min(_count_processors() - 1, len(tasks) // FEWEST_TASKS, MOST_HELPERS)
    folder = str(Path(__file__).parents[1])
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    environment = dict(os.environ)
    if numba.config.CACHE_DIR:
        environment["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR
    for number in range(n_helpers):
        last = len(tasks) - len(tasks) * number // n_helpers
        share = [*tasks[last:], *tasks[:last]][::-1]
        request = pickle.dumps((sys.path, folder, pickle.dumps(share)))
        helper: Any = subprocess.Popen(
            [sys.executable, *flags, "-I", "-c", _START],  # no module of the current folder
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        helpers.append(helper)
        helper.stdin.write(request)
        helper.stdin.flush()


def _count_processors() -> int:
    """Return how many this process may use; who starts workers tells them by Numba's setting."""
    has_affinity = hasattr(os, "sched_getaffinity")
    available = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(available, int(numba.config.NUMBA_NUM_THREADS))


def work(tasks: bytes) -> None:
    """Do pickled tasks in a process of one's own, until its standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    for task in pickle.loads(tasks):
        task()


def _end_with_input() -> None:
    while os.read(0, 1):  # not by a buffer, whose lock would be missed as the process ends
        pass
    os._exit(0)
