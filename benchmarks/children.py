"""Child processes on a given number of processors, for one call or for repeated requests.

A library decides how many threads to start when it is imported: NumPy's BLAS, Numba, PyTorch and
JAX all ask which processors they may run on. So a child restricts itself to some processors before
it imports any of them, which treats all alike. A child that waits for its next request is blocked
reading: its libraries' threads, once they have stopped spinning, leave the processors to others.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]

CAN_CHOOSE_PROCESSORS = hasattr(os, "sched_setaffinity")


def count_processors() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0)) if CAN_CHOOSE_PROCESSORS else os.cpu_count() or 1


def doubled(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to `most`, which is always the last."""
    return sorted({1 << i for i in range(most.bit_length())} | {most})


class Child:
    """An object in a process of its own; its methods are called over a pipe, one line per call.

    The constructor returns at once, so that several children can import at the same time.

    Parameters
    ----------
    function : str
        ``"module:name"`` of the function that makes the object. The child prints to standard error.
    threads : int, default=None
        How many processors the child may use; None for all of this process's.
    environment : dict, default=None
        Additional environment variables.
    **arguments
        For the function. JSON must be able to express these and all other arguments and results.
    """

    def __init__(
        self, function: str, *, threads: int | None = None,
        environment: dict[str, str] | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        self.function = function
        limits = {} if threads is None or CAN_CHOOSE_PROCESSORS else _limits(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.children"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **limits, **(environment or {})},
        )
        self._send(function=function, threads=threads, arguments=arguments)

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call a method of the object, and wait for its result."""
        self._send(method=method, arguments=arguments)
        return self._receive()

    def made(self) -> Any:
        """Return the object itself, if JSON can express it."""
        self._send(method=None)
        return self._receive()

    def _send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._give_up()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._give_up()
        return json.loads(line)

    def _give_up(self) -> None:
        status = self._process.wait()
        raise RuntimeError(f"The child of {self.function} ended with exit status {status}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()  # closes the child's input, at whose end it exits


def run(function: str, **options: Any) -> Any:
    """Call a function in a child process and return its result; the arguments are `Child`'s."""
    with Child(function, **options) as child:
        return child.made()


def _limits(threads: int) -> dict[str, str]:
    """Return environment variables for systems where a process cannot choose its processors."""
    names = "OMP", "OPENBLAS", "MKL", "NUMBA"
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    if threads == 1:
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return limits


def _be_the_child() -> None:
    """Make the object that the first line asks for; answer each further line with a line."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keeps prints out of the replies
    task = json.loads(sys.stdin.readline())
    if task["threads"] is not None and CAN_CHOOSE_PROCESSORS:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["threads"]])
    module, name = task["function"].split(":")
    made = getattr(import_module(module), name)(**task["arguments"])
    for line in sys.stdin:
        request = json.loads(line)
        method = request["method"]
        result = made if method is None else getattr(made, method)(**request["arguments"])
        print(json.dumps(result), file=replies, flush=True)


if __name__ == "__main__":
    _be_the_child()
