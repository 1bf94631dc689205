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
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, list[T]] = OrderedDict()
        self._n_kept = 0
        self._lock = threading.Lock()
        hold_at_forks(self._lock)

    def take(self, kind: Hashable, make: Callable[[], T]) -> T:
        """Return a thing of this kind, that is nobody else's until it is given back."""
        with self._lock:
            if self._kept.get(kind):
                self._n_kept -= 1
                return self._kept[kind].pop()
        return make()

    def give(self, kind: Hashable, thing: T) -> None:
        """Give it back, for the next to take."""
        with self._lock:
            self._kept.setdefault(kind, []).append(thing)
            self._kept.move_to_end(kind)
            self._n_kept += 1
            while self._n_kept > self.most:
                oldest = next(iter(self._kept))
                if self._kept[oldest]:
                    self._kept[oldest].pop()
                    self._n_kept -= 1
                else:
                    del self._kept[oldest]
