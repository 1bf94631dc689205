"""Callbacks for `set_callbacks`, which watch a fit and may stop it.

They follow scikit-learn's protocol (`sklearn.callback`) and are notified of each epoch, or of each
iteration of 'lbfgs'. A callback is set on the network itself, also in a Pipeline or a search:
``pipeline[-1].set_callbacks``. Each call of `partial_fit` is one epoch and a task of its own, whose
`context.task_name` is 'partial_fit'.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np

from fastbp.estimators.base import BaseBP
from fastbp.files import check_path
from fastbp.persistence import save_training

__all__ = ["Checkpoint", "EarlyStopping", "LogEvery", "StopOnNaN", "TimeLimit"]

# The quantities that can be monitored, and whether lower is better.
_MONITORED = {
    "loss": True,
    "validation_loss": True,
    "validation_score": False,
    "gradient_norm": True,
}


def _check(name: str, value: Any, kind: Any, what: str, least: float | None = None) -> None:
    """Raise ValueError unless an argument is of this kind, and at least `least`, so not NaN."""
    is_kind = isinstance(value, kind) and not isinstance(value, bool)
    if not (is_kind and (least is None or value >= least)):
        raise ValueError(f"{name} must be {what}, got {value!r}.")


class _Callback:
    """Base of the callbacks; keeps a separate state for each of several concurrent fits."""

    def __init__(self) -> None:
        self._runs: dict[int, Any] = {}

    def _begin(self, estimator: Any) -> Any:
        """Return the initial state of a fit."""

    def _after_epoch(self, estimator: Any, run: Any) -> bool:
        """Return whether to stop."""
        return False

    def setup(self, estimator: Any, context: Any) -> None:
        """Prepare for a fit."""
        if not isinstance(estimator, BaseBP):
            raise ValueError(
                f"{type(self).__name__} is for the network itself, not for a "
                f"{type(estimator).__name__}: set it on the network, for example by "
                "pipeline[-1].set_callbacks or search.estimator.set_callbacks."
            )
        self._runs[id(estimator)] = self._begin(estimator)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Discard the state of this fit."""
        self._runs.pop(id(estimator), None)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Handle the beginning of the fit or of an epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Handle the end of the fit or of an epoch; return whether to stop."""
        is_epoch = context.task_name == "epoch"
        return is_epoch and self._after_epoch(estimator, self._runs[id(estimator)])


@dataclass
class _Best:
    """The best value so far, with its epoch and weights, and the last epoch examined."""

    value: float = math.inf
    epoch: int = 0
    waited: int = 0
    seen: int = 0
    weights: list[Any] | None = None


def _views(estimator: Any) -> list[Any]:
    return [*estimator.coefs_, *estimator.intercepts_]


def _put_back(estimator: Any, weights: list[Any] | None) -> None:
    """Write weights into the estimator, if there are any."""
    if weights is not None:
        for view, w in zip(_views(estimator), weights, strict=True):
            view[...] = w


class _HistoryCallback(_Callback):
    """Base of the callbacks that read `history_`."""

    def setup(self, estimator: Any, context: Any) -> None:
        """Prepare for a fit; raise ValueError for 'lbfgs', which has no `history_`."""
        if isinstance(estimator, BaseBP) and estimator.solver == "lbfgs":
            who = type(self).__name__
            raise ValueError(f"{who} is for stochastic solvers: 'lbfgs' has no history_.")
        super().setup(estimator, context)


class EarlyStopping(_HistoryCallback):
    """Stop once a quantity of `history_` has not improved for more than `patience` epochs.

    Parameters
    ----------
    monitor : {'loss', 'validation_loss', 'validation_score', 'gradient_norm'}, default='loss'
        The quantity. Those of the validation set need `early_stopping=True` and, if this callback
        alone is to decide, `n_iter_no_change=inf`.
    patience : int or inf, default=10
        Epochs without improvement that are tolerated; the next one stops training.
    tol : float, default=0.0
        An epoch counts as an improvement only if it beats the best by more than `tol`.
    restore_best : bool, default=True
        Restore the weights of the best epoch at the end.

    Attributes
    ----------
    best_ : float
        The best value.
    best_epoch_ : int
        The epoch of the best value, counted from 1.

    Raises
    ------
    ValueError
        If a parameter is invalid. In `fit`, if the solver is 'lbfgs', the estimator is not a
        network, `monitor` is of the validation set without `early_stopping=True`, or it has not
        been finite in any epoch; in `partial_fit`, always.

    Examples
    --------
    >>> from fastbp import BPClassifier
    >>> from fastbp.callbacks import EarlyStopping
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> stopping = EarlyStopping("loss", patience=5, tol=0.01)
    >>> model = BPClassifier(random_state=0, max_iter=1000).set_callbacks(stopping).fit(X, y)
    >>> model.n_iter_ < 1000
    True
    """

    def __init__(
        self,
        monitor: str = "loss",
        patience: int = 10,
        tol: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if not isinstance(monitor, str) or monitor not in _MONITORED:
            raise ValueError(f"monitor must be among {list(_MONITORED)}, got {monitor!r}.")
        if patience != math.inf:
            _check("patience", patience, Integral, "an integer, 0 or more", 0)
        _check("tol", tol, Real, "a number, 0 or more", 0)
        if not isinstance(restore_best, bool | np.bool_):
            raise ValueError(f"restore_best must be True or False, got {restore_best!r}.")
        super().__init__()
        self.monitor, self.patience, self.tol = monitor, patience, tol
        self.restore_best = restore_best

    def _begin(self, estimator: Any) -> _Best:
        return _Best()

    def setup(self, estimator: Any, context: Any) -> None:
        """Prepare for a fit."""
        if context.task_name == "partial_fit":
            raise ValueError(
                "EarlyStopping is for fit: to stop partial_fit, use early_stopping=True with "
                "X_val and y_val."
            )
        super().setup(estimator, context)

    def _after_epoch(self, estimator: Any, run: _Best) -> bool:
        last = estimator._history.last()
        if last["epoch"] == run.seen:  # a checkpoint has counted it already
            return run.waited > self.patience
        run.seen = int(last["epoch"])
        value = last[self.monitor]
        if self.monitor.startswith("validation") and not estimator.early_stopping:
            raise ValueError(f"EarlyStopping: {self.monitor} needs early_stopping=True.")
        value = value if _MONITORED[self.monitor] else -value
        run.waited = 0 if value < run.value - self.tol else run.waited + 1
        if value < run.value:
            run.value, run.epoch = value, int(last["epoch"])
            if self.restore_best:
                run.weights = [w.copy() for w in _views(estimator)]
        stops = run.waited > self.patience
        if stops and run.epoch == 0:
            raise ValueError(f"EarlyStopping: {self.monitor} has not been finite in any epoch.")
        return stops

    def describe_run(self, estimator: Any) -> tuple[dict[str, Any], list[Any] | None]:
        """Return the state of a fit for a checkpoint: plain values, and the best weights."""
        run = self._runs[id(estimator)]
        self._after_epoch(estimator, run)
        numbers = {name: value for name, value in vars(run).items() if name != "weights"}
        return {"monitor": self.monitor, **numbers}, run.weights

    def restore_run(
        self, estimator: Any, numbers: dict[str, Any], weights: list[Any] | None
    ) -> bool:
        """Restore the state that `describe_run` returned; return whether to stop."""
        for name, kind in (("value", float), ("epoch", int), ("waited", int), ("seen", int)):
            if type(numbers[name]) is not kind:
                raise TypeError(f"{name} must be of type {kind.__name__}.")
        monitor = numbers.pop("monitor")
        if monitor != self.monitor:
            raise ValueError(
                f"resume_from holds an EarlyStopping with monitor={monitor!r}, not "
                f"{self.monitor!r}."
            )
        self._runs[id(estimator)] = run = _Best(**numbers, weights=weights)
        return run.waited > self.patience

    def teardown(self, estimator: Any, context: Any) -> None:
        """Restore the weights of the best epoch, if kept, and set `best_` and `best_epoch_`."""
        best = self._runs.pop(id(estimator), None)
        if best is None:  # setup raised
            return
        _put_back(estimator, best.weights)
        self.best_ = best.value if _MONITORED[self.monitor] else -best.value
        self.best_epoch_ = best.epoch


class Checkpoint(_Callback):
    """Write a file from which `fit` can resume, every `every` epochs.

    The file is replaced atomically: if the process is killed, either the old or the new file
    remains. ``fit(X, y, resume_from=path)`` resumes, and ends with the same bits as an
    uninterrupted fit if the callbacks are the same too. `fastbp.load` returns the model as if
    training had ended there; a parameter that is a function is then left at its default. After
    `partial_fit`, whose epochs are counted over all calls, continue with `fastbp.load` and
    `partial_fit`.

    The file identifies its data by digests. `fit` refuses to resume with another X, y,
    sample_weight, X_val, y_val or sample_weight_val, and names it: one of another shape or dtype,
    dense instead of sparse, or with other numbers in any of up to 2,048 equally spaced rows, the
    first and the last among them (fewer rows if there are more than 2,048 columns: 32 MB in
    float64). The rows between are not compared.

    Parameters
    ----------
    path : str or path-like
        The file, which is replaced each time; its folder must exist.
    every : int, default=1
        Epochs between two files, or iterations of 'lbfgs', whose state is 24 times the size of the
        weights in float64.

    Raises
    ------
    ValueError
        If a parameter is invalid. In `fit`, if the estimator is not a network, or has a parameter
        that cannot be saved.
    FileNotFoundError
        In `fit`, if the folder of `path` does not exist.
    IsADirectoryError
        In `fit`, if `path` is a folder.
    OSError
        In `fit`, if the file cannot be written.

    Examples
    --------
    >>> from fastbp import BPClassifier
    >>> from fastbp.callbacks import Checkpoint
    >>> model = BPClassifier(random_state=0).set_callbacks(Checkpoint("run.fastbp", every=10))
    """

    keeps_state = True

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        _check("path", path, (str, os.PathLike), "a str or path-like")
        _check("every", every, Integral, "an integer, 1 or more", 1)
        super().__init__()
        self.path, self.every = path, every

    def _begin(self, estimator: Any) -> None:
        check_path(self.path)  # now, not after the first epochs

    def _after_epoch(self, estimator: Any, run: None) -> bool:
        is_lbfgs = estimator.solver == "lbfgs"
        n_epochs = estimator._state.n_iter if is_lbfgs else estimator._history.n_epochs
        if n_epochs % self.every == 0:
            save_training(estimator, self.path)
        return False


class TimeLimit(_Callback):
    """Stop after the epoch in which the time since `fit` was called exceeds `seconds`.

    Each call of `fit` is timed by itself, also with `resume_from`; `partial_fit` is one epoch in
    any case.

    Parameters
    ----------
    seconds : float
        The time limit in seconds, more than 0.

    Raises
    ------
    ValueError
        If `seconds` is invalid; in `fit`, if the estimator is not a network.
    """

    def __init__(self, seconds: float) -> None:
        _check("seconds", seconds, Real, "more than 0", math.nextafter(0, 1))
        super().__init__()
        self.seconds = seconds

    def _begin(self, estimator: Any) -> float:
        return perf_counter()

    def _after_epoch(self, estimator: Any, run: float) -> bool:
        return perf_counter() - run > self.seconds


class LogEvery(_HistoryCallback):
    """Log a line for every n-th epoch.

    Parameters
    ----------
    n : int, default=10
        Log the epochs whose number in `history_` is a multiple of `n`; at least 1.
    log : callable, default=print
        Called with the line, for example a logger's `info`.

    Raises
    ------
    ValueError
        If a parameter is invalid; in `fit`, if the solver is 'lbfgs' or the estimator is not a
        network.
    """

    def __init__(self, n: int = 10, log: Callable[[str], Any] = print) -> None:
        _check("n", n, Integral, "an integer, 1 or more", 1)
        _check("log", log, Callable, "callable")
        super().__init__()
        self.n, self.log = n, log

    def _after_epoch(self, estimator: Any, run: None) -> bool:
        if estimator._history.n_epochs % self.n == 0:
            last = estimator._history.last()
            epoch = int(last.pop("epoch"))
            told = (f"{name} {value:.5g}" for name, value in last.items() if value == value)
            self.log(f"epoch {epoch}: {', '.join(told)}")
        return False


class StopOnNaN(_HistoryCallback):
    """Stop if the loss or a weight is not finite, and restore the weights before that epoch.

    Attributes
    ----------
    stopped_ : bool
        Whether the last fit was stopped by a non-finite loss or weight.

    Raises
    ------
    ValueError
        In `fit`, if the solver is 'lbfgs' or the estimator is not a network.
    """

    def _begin(self, estimator: Any) -> _Best:
        self.stopped_ = False
        return _Best()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Save the weights at the beginning of an epoch."""
        if context.task_name == "epoch":
            self._runs[id(estimator)].weights = [w.copy() for w in _views(estimator)]

    def _after_epoch(self, estimator: Any, run: _Best) -> bool:
        finite = math.isfinite(estimator._history.last()["loss"])
        if finite and all(np.isfinite(w).all() for w in _views(estimator)):
            return False
        self.stopped_ = True
        _put_back(estimator, run.weights)
        return True
