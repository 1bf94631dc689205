"""The contents of an estimator's pickle."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["OF_TRAINING", "keep_training_state", "keeps_training_state"]

OF_TRAINING = ("_optimizer", "_history")  # attributes that a pickle omits

_keeps: ContextVar[bool] = ContextVar("keeps", default=False)


@contextmanager
def keep_training_state() -> Iterator[None]:
    """Make pickles created in the block hold the solver's state and `history_` too.

    Otherwise a pickle holds what prediction needs, `loss_curve_`, `validation_scores_` and the
    callbacks. The solver's state is up to twice the size of the weights; without it `partial_fit`
    begins with a fresh solver, and warns. `history_` takes some 50 bytes for each of the last
    10,000 epochs; without it there is no `history_` until the next epoch. Copies made by `copy`
    have both.

    Examples
    --------
    >>> import pickle
    >>> import fastbp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = fastbp.BPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    >>> with fastbp.keep_training_state():
    ...     pickled = pickle.dumps(model)
    >>> len(pickle.dumps(model)) < len(pickled) / 2
    True
    """
    token = _keeps.set(True)
    try:
        yield
    finally:
        _keeps.reset(token)


def keeps_training_state() -> bool:
    """Return whether a pickle made in this context holds the solver's state and the history."""
    return _keeps.get()
