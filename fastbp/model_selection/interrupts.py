"""Deferral of Ctrl-C during a search.

KeyboardInterrupt may be raised between any two bytecodes of the main thread, and there are places
in which it is lost or does harm: joblib takes it for the error of a task and goes on,
`Thread.start` leaves a lock held, the callback of a weak reference swallows it, and scikit-learn
drops results that are not in its table yet. So from the first fit until the results are in the
table a search only notes Ctrl-C, and raises it where it is `Listening`.

Nothing is deferred in threads other than the main one, or if the program handles SIGINT itself.
"""

import signal
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Self

from fastbp.forks import call_in_child

__all__ = ["GRACE", "Deferring", "Listening", "defer", "has_come", "wait_for"]

GRACE = 0.7  # seconds that Ctrl-C waits for fits to end

_of_thread = threading.local()


class Deferring:
    """A context in which Ctrl-C is only noted once `defer` is called; it is raised at the end."""

    def __init__(self) -> None:
        self.before: Any = None  # the handler that is replaced while Ctrl-C is deferred
        self.is_heard = self.has_come = False

    def __enter__(self) -> Self:
        self._outer, _of_thread.innermost = _innermost(), self
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _of_thread.innermost = self._outer
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
        if kind is None and self.has_come:
            raise KeyboardInterrupt

    def __call__(self, *_: object) -> None:
        """Handle SIGINT."""
        self.has_come = True
        if self.is_heard:
            self.is_heard = False  # the handling of KeyboardInterrupt is not to be interrupted
            raise KeyboardInterrupt


class Listening:
    """A context in which Ctrl-C is raised all the same, at once if it has been noted before."""

    def __enter__(self) -> Self:
        self._deferring = _innermost()
        if self._deferring is not None:
            self._deferring.is_heard = True
            if self._deferring.has_come:
                self.__exit__(KeyboardInterrupt)
                raise KeyboardInterrupt
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._deferring is not None:
            self._deferring.is_heard = False
            if kind is KeyboardInterrupt:
                self._deferring.has_come = False


def defer() -> None:
    """Defer Ctrl-C from now to the end of the innermost `Deferring`."""
    deferring, before = _innermost(), signal.getsignal(signal.SIGINT)
    # A handler of this kind belongs to a search that encloses this one.
    is_known = before is signal.default_int_handler or isinstance(before, Deferring)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and is_known and deferring is not None and deferring.before is None:
        deferring.before = before
        signal.signal(signal.SIGINT, deferring)


def has_come() -> bool:
    """Return whether Ctrl-C has been noted and not been raised yet."""
    deferring = _innermost()
    return deferring is not None and deferring.has_come


def wait_for(queue: SimpleQueue[None], seconds: float) -> bool:
    """Take an element from a queue; return False if none comes within so many seconds.

    Of the means of waiting for a thread only a SimpleQueue stays intact where Ctrl-C interrupts it:
    an Event or `Thread.join` may leave a lock held.
    """
    with suppress(Empty):
        queue.get(timeout=seconds)
        return True
    return False


def _innermost() -> Deferring | None:
    return getattr(_of_thread, "innermost", None)


@call_in_child
def _end_in_child() -> None:
    """Restore Python's handler in a process that a fit forks."""
    if isinstance(signal.getsignal(signal.SIGINT), Deferring):
        signal.signal(signal.SIGINT, signal.default_int_handler)
