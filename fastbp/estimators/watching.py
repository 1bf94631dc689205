"""scikit-learn's callbacks, called as a network is trained."""

from collections.abc import Callable
from typing import Any

__all__ = ["Watch"]


class Watch:
    """Tells the callbacks of an estimator of its fit and of each epoch in it.

    Parameters
    ----------
    estimator : BaseBP
        With callbacks.
    method : {'fit', 'partial_fit'}
        The name of the task.
    n_epochs : int
        The most.
    data : dict
        X, y and metadata, as scikit-learn's hooks take them.

    Attributes
    ----------
    publish : callable
        Brings the estimator's attributes up to date, and returns those that a copy of it needs to
        be as if training had ended there.
    keeps_state : bool
        Whether a callback writes down where the training stands.
    """

    publish: Callable[[], dict[str, Any]]

    def __init__(self, estimator: Any, method: str, n_epochs: int, data: dict[str, Any]) -> None:
        self._told = {"estimator": estimator, **data}
        self.keeps_state = any(
            getattr(callback, "keeps_state", False) for callback in estimator._skl_callbacks
        )
        self._context = estimator._init_callback_context(method, max_subtasks=n_epochs)
        self._context.call_on_fit_task_begin(**self._told)
        self._epoch: Any = None

    def begin_epoch(self) -> None:
        """Tell that an epoch begins."""
        self._epoch = self._context.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def end_epoch(self) -> bool:
        """Tell that it has ended, and return whether a callback asks to stop."""
        attributes = self.publish()
        stop: bool = self._epoch.call_on_fit_task_end(
            **self._told, reconstruction_attributes=attributes
        )
        return stop

    def end(self) -> None:
        """Tell that the fit has ended."""
        self._context.call_on_fit_task_end(**self._told, reconstruction_attributes={})
