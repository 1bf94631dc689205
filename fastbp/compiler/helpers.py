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
    n_compiled, n_waits = turn.n_compiled, turn.n_waits
    try:
        for task in tasks:
            results.append(task())
            if turn.n_compiled > n_compiled and turn.n_waits == n_waits and not helpers:
                helpers = _start_helpers(tasks[len(results) :])
                n_compiled = turn.n_compiled
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()  # it has ended, and the pipe is closed
    return results


def _start_helpers(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    n_helpers = min(_count_processors() - 1, len(tasks) // FEWEST_TASKS, MOST_HELPERS)
    helpers = []
    for number in range(n_helpers):
        last = len(tasks) - len(tasks) * number // n_helpers
        share = [*tasks[last:], *tasks[:last]][::-1]
        try:
            helper: Any = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            helpers.append(helper)
            folder = str(Path(__file__).parents[1])
            pickle.dump((sys.path, folder, pickle.dumps(share)), helper.stdin)
            helper.stdin.flush()
        except OSError:  # none can be started, or it has ended at once
            break
    return helpers


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
    sys.stdin.buffer.read()
    os._exit(0)
