"""The lock by which threads and processes take turns to compile.

Numba compiles one function at a time per process. A function that is in no cache is compiled by one
process; others wait for it and load what it has saved.
"""

import gc
import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core.compiler_lock import global_compiler_lock

from fastbp.compiler.passes import our_passes
from fastbp.forks import hold_at_forks

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["turn"]

PATIENCE = 60.0  # seconds per turn to wait for other processes, before compiling all here

hold_at_forks(global_compiler_lock)  # a child could not finish what is half compiled


class _Turn(ContextDecorator):
    """A lock: inside, other threads wait, and code is optimised by `our_passes`.

    Other processes wait for single functions: each function that is in no cache is locked by a byte
    of a file, which the system unlocks if the process dies. Where files cannot be locked, each
    process compiles for itself. A function is locked before those that it calls, so that no two
    processes wait for one another.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._inside = ExitStack()  # closed on leaving the outermost turn
        self._files: dict[Path, Any] = {}  # the lock file of each folder, whose bytes are locked
        self._patience = PATIENCE  # seconds that are left of it
        self.n_compiled = 0  # functions that this process has compiled
        self.n_waits = 0  # how often it has waited for another process to compile one

    def __enter__(self) -> None:
        global_compiler_lock.acquire()
        if self._depth == 0:
            self._patience = PATIENCE
            self._inside.enter_context(_no_collection())
            self._inside.enter_context(our_passes())
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._inside.close()
            self._files.clear()
        global_compiler_lock.release()

    def lock(self, path: Path) -> None:
        """Lock the function saved in this file; wait for a process that has it, within limits."""
        with suppress(OSError):
            if path.parent not in self._files:
                lock_file = (path.parent / "fastbp.lock").open("ab")  # closing it unlocks all
                self._files[path.parent] = self._inside.enter_context(lock_file)
            file, byte = self._files[path.parent], _byte_of(path)
            if not _lock(file, byte):
                self.n_waits += 1
                until = time.monotonic() + self._patience
                while not _lock(file, byte) and time.monotonic() < until:
                    time.sleep(0.01)
                self._patience = max(0.0, until - time.monotonic())

    def unlock(self, path: Path) -> None:
        """Let other processes load the function saved in this file."""
        if path.parent in self._files:
            with suppress(OSError):
                _unlock(self._files[path.parent], _byte_of(path))


turn = _Turn()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection, which took a tenth of the time: the compiler allocates much."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            if gc.get_freeze_count() == 0:
                gc.freeze()  # marks all objects as old: else they would be scanned at once
                gc.unfreeze()
            gc.enable()


def _byte_of(path: Path) -> int:
    """Return the offset of the byte that stands for a file, one of 2**31; it need not exist."""
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big") // 2


def _lock(file: Any, byte: int) -> bool:
    """Lock a byte of a file; return False if another process has locked it."""
    try:
        if sys.platform == "win32":
            file.seek(byte)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(file: Any, byte: int) -> None:
    if sys.platform == "win32":
        file.seek(byte)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
