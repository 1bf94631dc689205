"""Cancellation of trainings by the code that waits for them, such as a search on Ctrl-C."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Cancelled", "cancelled_by", "raise_if_cancelled"]


class Cancelled(BaseException):
    """A training was cancelled because its thread was asked to stop.

    Not an Exception, because scikit-learn's searches turn one raised by a fit into a score of NaN.
    """


_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


@contextmanager
def cancelled_by(event: threading.Event) -> Iterator[None]:
    """Make trainings of this thread in the block raise `Cancelled` once the event is set."""
    token = _cancelled.set(event)
    try:
        yield
    finally:
        _cancelled.reset(token)


def raise_if_cancelled() -> None:
    """Raise Cancelled if this thread has been asked to stop."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise Cancelled
