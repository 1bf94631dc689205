"""How a training is given up by whoever waits for it, as a search that Ctrl-C has come to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Cancelled", "cancelled_by", "raise_if_cancelled"]


class Cancelled(BaseException):
    """A training was given up because its thread was asked to.

    Not an Exception: one that comes out of a fit is a score of NaN to scikit-learn's searches.
    """


_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


@contextmanager
def cancelled_by(event: threading.Event) -> Iterator[None]:
    """Give up what this thread trains inside, by `Cancelled`, once the event is set."""
    token = _cancelled.set(event)
    try:
        yield
    finally:
        _cancelled.reset(token)


def raise_if_cancelled() -> None:
    """Raise Cancelled where this thread was asked to give up."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise Cancelled
