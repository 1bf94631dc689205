"""Cache of objects that take long to create, for the next user of the same kind.

A small network trains and predicts in less time than it takes to allocate its memory and make its
plan.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from fastbp.forks import hold_at_forks

__all__ = ["Pool"]

T = TypeVar("T")


class Pool(Generic[T]):
    """Objects by their kind; safe to use from several threads at once.

    Parameters
    ----------
    most : int
        Maximum number of objects kept; the least recently used kind is dropped first.
    most_bytes : int, default=64 MB
        Maximum memory of all objects. An object of over an eighth of it is not kept, because making
        it costs little compared with using it.
    """

    def __init__(self, most: int, most_bytes: int = 1 << 26) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, list[tuple[T, int]]] = OrderedDict()
        self.n_kept = self.n_bytes = 0
        self._lock = threading.Lock()
        hold_at_forks(self._lock)

    def take(self, kind: Hashable, make: Callable[[], T]) -> T:
        """Return an object of this kind for exclusive use until `give` is called."""
        with self._lock:
            if self._kept.get(kind):
                return self._pop(kind)
        return make()

    def give(self, kind: Hashable, thing: T, n_bytes: int = 0) -> None:
        """Give an object that takes `n_bytes` of memory back, for the next `take`."""
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
