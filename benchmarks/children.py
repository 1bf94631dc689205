"""Runs a function in a fresh process, on so many processors, and returns its result.

How many threads a library starts is decided when it is imported: NumPy's BLAS, Numba, PyTorch and
JAX all ask which processors they may run on. So a child restricts itself to some processors before
it imports any of them, which treats all alike.
"""

import contextlib
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

CAN_CHOOSE_PROCESSORS = hasattr(os, "sched_setaffinity")


def count_processors() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0)) if CAN_CHOOSE_PROCESSORS else os.cpu_count() or 1


def run(
    function: str, *, threads: int | None = None, environment: dict[str, str] | None = None,
    **arguments: Any,
) -> Any:  # fmt: skip
    """Call a function in a child process.

    Parameters
    ----------
    function : str
        ``"module:name"``. What it prints goes to the standard error.
    threads : int, default=None
        How many processors the child may use; None for all of this process's.
    environment : dict, default=None
        Variables to set in addition.
    **arguments
        For the function; they, and its result, must be what JSON can express.
    """
    task = {"function": function, "threads": threads, "arguments": arguments}
    limits = {} if threads is None or CAN_CHOOSE_PROCESSORS else _limits(threads)
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.children"],
        input=json.dumps(task),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **limits, **(environment or {})},
    )
    return json.loads(child.stdout)


def _limits(threads: int) -> dict[str, str]:
    """For systems on which a process cannot choose its processors."""
    names = "OMP", "OPENBLAS", "MKL", "NUMBA"
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    if threads == 1:
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return limits


def _be_the_child() -> None:
    task = json.load(sys.stdin)
    if task["threads"] is not None and CAN_CHOOSE_PROCESSORS:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["threads"]])
    module, name = task["function"].split(":")
    with contextlib.redirect_stdout(sys.stderr):
        result = getattr(import_module(module), name)(**task["arguments"])
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _be_the_child()
