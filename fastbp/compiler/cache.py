"""The disk cache of compiled code: Numba's, with keys and file names of our own."""

import hashlib
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

from fastbp.compiler.turn import turn

__all__ = ["cache_for", "find", "revision"]

_announced = threading.Event()


def _announce() -> None:
    """Tell the user, once per process, why they are about to wait."""
    if not _announced.is_set():
        _announced.set()
        print(
            "fastbp: compiling kernels that are new to this processor. This takes some seconds; "
            "later runs load them from a cache.",
            file=sys.stderr,
            flush=True,
        )


@cache
def revision() -> str:
    """Return a digest of the sources of all kernels, which is part of each key of the disk cache.

    Numba's own key reflects a change in a function, but not in what it calls from another file.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in ("compiler", "kernels", "matmul"):
        for path in sorted((package / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class _CacheFile(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's cache files of a function, with the code of each key in a file named by the key.

    Numba numbers the files from what it reads in the index, so two processes that compile for two
    types at once can choose the same number: one would then load code for the other's types.
    """

    def name_of(self, key: Any) -> str:
        """Return the name of the file with the code of a key."""
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return str(self._index_name.removesuffix("nbi") + f"{digest}.nbc")

    def save(self, key: Any, data: Any) -> None:
        """Save the code, then the index; a process that saves at the same time may drop the key."""
        name = self.name_of(key)
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, keyed by our revision and the function's options as well."""

    def __init__(self, function: Callable[..., Any], options: str) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CacheFile(self._cache_path, self._impl.filename_base, stamp)
        self._extra = (revision(), options)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), *self._extra)

    def _path(self, sig: Any, codegen: Any) -> Path:
        return Path(self._cache_path, self._cache_file.name_of(self._index_key(sig, codegen)))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature; wait if another process is compiling it."""
        found = super().load_overload(sig, target_context)
        if found is None:
            path = self._path(sig, target_context.codegen())
            turn.lock(path)
            found = super().load_overload(sig, target_context)
            if found is None:
                turn.n_compiled += 1
                _announce()
            else:
                turn.unlock(path)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code for processes that wait; if that fails, only this process has it."""
        with suppress(OSError):
            super().save_overload(sig, data)
        turn.unlock(self._path(sig, data.codegen))


class _NoCache(NullCache):  # type: ignore[misc]
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _announce()


def cache_for(function: Callable[..., Any], options: str) -> Any:
    """Return the cache of a function that is compiled with these options."""
    try:
        return _Cache(function, options)
    except (RuntimeError, OSError):  # no writable folder: compile in each process
        return _NoCache()


def find(cache: Any, signature: Any, target_context: Any) -> Any:
    """Return the code in a cache, or None; unlike `load_overload`, do not prepare to compile."""
    if not isinstance(cache, _Cache):
        return None
    return FunctionCache.load_overload(cache, signature, target_context)
