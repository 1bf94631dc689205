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
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any, Self

from fastbp.forks import call_in_child

__all__ = ["GRACE", "Deferring", "Listening", "Tokens", "defer", "has_come"]

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
        if self.has_come and (kind is None or issubclass(kind, Exception)):
            raise KeyboardInterrupt

    def __call__(self, *_: object) -> None:
        """Handle SIGINT."""
        self.has_come = True
        if self.is_heard:
            raise KeyboardInterrupt


class Listening:
    """A context in which Ctrl-C is raised all the same, at once if it has been noted before."""

    def __enter__(self) -> Self:
        self._deferring = _innermost()
        if self._deferring is not None:
            try:
                self._deferring.is_heard = True
                if self._deferring.has_come:
                    raise KeyboardInterrupt
            except KeyboardInterrupt as interrupt:
                self.__exit__(type(interrupt))
                raise
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


class Tokens:
    """What threads tell one another by, and wait for: tokens that one puts and another takes.

    Whatever a signal interrupts, nothing is left locked, as an Event or `Thread.join` may leave a
    lock; and the wait ends in time, as `SimpleQueue.get` of Python 3.11 may not if a handler that
    raises nothing returns after the timeout.
    """

    def __init__(self) -> None:
        self._tokens = deque[None]()
        self._changed = threading.Lock()  # free if there may be tokens
        self._changed.acquire()

    def put(self) -> None:
        """Add a token."""
        self._tokens.append(None)
        self._wake_one()

    def take(self, seconds: float) -> bool:
        """Take a token; return False if there is none within so many seconds."""
        until = monotonic() + seconds
        while True:
            with suppress(IndexError):
                self._tokens.popleft()
                self._wake_one()
                return True
            left = until - monotonic()
            if left <= 0:
                return False
            self._changed.acquire(timeout=left)

    def _wake_one(self) -> None:
        if self._tokens:
            with suppress(RuntimeError):  # it is free already
                self._changed.release()


def _innermost() -> Deferring | None:
    return getattr(_of_thread, "innermost", None)


@call_in_child
def _end_in_child() -> None:
    """Restore Python's handler in a process that a fit forks."""
    if isinstance(signal.getsignal(signal.SIGINT), Deferring):
        signal.signal(signal.SIGINT, signal.default_int_handler)
