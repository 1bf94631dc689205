"""Calls of scikit-learn's callbacks during training."""

from collections.abc import Callable
from typing import Any

__all__ = ["Watch"]


class Watch:
    """Notifies the callbacks of an estimator of its fit and of each epoch.

    Parameters
    ----------
    estimator : BaseBP
        An estimator with callbacks.
    method : {'fit', 'partial_fit'}
        The name of the task.
    n_epochs : int
        Maximum number of epochs.
    data : dict
        X, y and metadata, as scikit-learn's hooks take them.

    Attributes
    ----------
    publish : callable
        Updates the estimator's attributes, and returns those that a copy needs to be as if training
        had ended there.
    keeps_state : bool
        Whether a callback saves the state of the training.
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
        """Notify the callbacks that an epoch begins."""
        self._epoch = self._context.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def end_epoch(self) -> bool:
        """Notify the callbacks that the epoch has ended; return whether one asks to stop."""
        attributes = self.publish()
        stop: bool = self._epoch.call_on_fit_task_end(
            **self._told, reconstruction_attributes=attributes
        )
        return stop

    def end(self) -> None:
        """Notify the callbacks that the fit has ended."""
        self._context.call_on_fit_task_end(**self._told, reconstruction_attributes={})
