"""Things that take long to make, kept from one use to the next of the same kind.

A small network is trained and predicts in less time than the memory and the plan for it take to
make.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from fastbp.forks import hold_at_forks

__all__ = ["Pool"]

T = TypeVar("T")


class Pool(Generic[T]):
    """Things by their kind; used from several threads at once.

    Parameters
    ----------
    most : int
        Things kept; the kind that was not used for longest goes first.
    most_bytes : int, default=64 MB
        Memory they may take in all. One that takes over an eighth of it is not kept: to make it
        costs little beside its use.
    """

    def __init__(self, most: int, most_bytes: int = 1 << 26) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, list[tuple[T, int]]] = OrderedDict()
        self.n_kept = self.n_bytes = 0
        self._lock = threading.Lock()
        hold_at_forks(self._lock)

    def take(self, kind: Hashable, make: Callable[[], T]) -> T:
        """Return a thing of this kind, that is nobody else's until it is given back."""
        with self._lock:
            if self._kept.get(kind):
                return self._pop(kind)
        return make()

    def give(self, kind: Hashable, thing: T, n_bytes: int = 0) -> None:
        """Give it back, with the memory that it takes, for the next to take."""
        if 8 * n_bytes > self.most_bytes:
            return
        with self._lock:
            self._kept.setdefault(kind, []).append((thing, n_bytes))
            self._kept.move_to_end(kind)
            self.n_kept += 1
            self.n_bytes += n_bytes
            while self.n_kept > self.most or self.n_bytes > self.most_bytes:
                oldest = next(iter(self._kept))
                if self._kept[oldest]:
                    self._pop(oldest)
                else:
                    del self._kept[oldest]

    def _pop(self, kind: Hashable) -> T:
        thing, n_bytes = self._kept[kind].pop()
        self.n_kept -= 1
        self.n_bytes -= n_bytes
        return thing
