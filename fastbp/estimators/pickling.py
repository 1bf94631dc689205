"""What a pickle of an estimator holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["keep_solver_state", "keeps_solver_state"]

_keeps: ContextVar[bool] = ContextVar("keeps", default=False)


@contextmanager
def keep_solver_state() -> Iterator[None]:
    """Let pickles that are made inside hold the solver's state too.

    A pickle holds what prediction needs, the curves of the training and the callbacks, and a
    solver's state is up to twice the size of the weights. Without it `partial_fit` begins with a
    fresh solver, and says so.

    Examples
    --------
    >>> import pickle
    >>> import fastbp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = fastbp.BPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    >>> with fastbp.keep_solver_state():
    ...     pickled = pickle.dumps(model)
    >>> len(pickle.dumps(model)) < len(pickled) / 2
    True
    """
    token = _keeps.set(True)
    try:
        yield
    finally:
        _keeps.reset(token)


def keeps_solver_state() -> bool:
    """Tell whether a pickle that is made here holds the solver's state."""
    return _keeps.get()
