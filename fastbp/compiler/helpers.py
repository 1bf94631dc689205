"""Helper processes that compile too, when much is missing from the cache.

Numba compiles one function at a time per process, whatever its threads do, so helpers are started.
Each gets the remaining tasks and works backwards from a different place, the first from the end,
while the calling process goes on from the front. What one saves in the cache the others load, and
`turn` keeps two from compiling the same function. Without helpers, everything is still compiled.
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
FEWEST_TASKS = 3  # remaining per helper, which takes most of a second to start

# The package without its public names, which take one more second to import.
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
    """Run tasks that compile or load something; return the result of each.

    Once a task has had to compile, the rest is shared with as many helpers as there are processors
    for, unless this process has waited for another that compiles, which then has helpers.

    Parameters
    ----------
    tasks : sequence of callable
        They must be picklable.
    """
    results: list[Any] = []
    helpers: list[Any] = []
    n_compiled, n_waits, may_start = turn.n_compiled, turn.n_waits, _can_start()
    try:
        for task in tasks:
            results.append(task())
            if may_start and turn.n_compiled > n_compiled and turn.n_waits == n_waits:
                may_start = False
                with suppress(Exception):  # then this process compiles everything
                    _start_helpers(tasks[len(results) :], helpers)
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()  # wait until it has ended, and close the pipe
    return results


def _can_start() -> bool:
    """Return whether there is an interpreter to start; a frozen application has none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def _start_helpers(tasks: Sequence[Callable[[], Any]], helpers: list[Any]) -> None:
    """Start helpers, adding each to the list as soon as it is running."""
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
            [sys.executable, *flags, "-I", "-c", _START],  # import nothing from the current folder
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not reach it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        helpers.append(helper)
        helper.stdin.write(request)
        helper.stdin.flush()


def _count_processors() -> int:
    """Return how many processors may be used; pools limit their workers by Numba's setting."""
    has_affinity = hasattr(os, "sched_getaffinity")
    available = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(available, int(numba.config.NUMBA_NUM_THREADS))


def work(tasks: bytes) -> None:
    """Run pickled tasks in a helper process, until its standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    for task in pickle.loads(tasks):
        task()


def _end_with_input() -> None:
    while os.read(0, 1):  # unbuffered: a buffer's lock could not be acquired at exit
        pass
    os._exit(0)
