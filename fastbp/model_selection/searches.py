"""The searches and the functions of cross-validation, with scikit-learn's interface."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, Self

from joblib import parallel_config
from sklearn import model_selection as stock
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from fastbp.model_selection.backend import SideBySide
from fastbp.model_selection.evaluation import reason_against_search
from fastbp.model_selection.interrupts import Deferring, defer
from fastbp.model_selection.row_numbers import PackingSplitter

DIFFERENCE = """
fastbp's networks, alone or at the end of a Pipeline, are trained side by side on threads of this
process: X is held once, the steps before the network are fitted once for each fold and setting, and
`n_jobs=None` means all processors. Inside ``joblib.parallel_config`` with a backend of processes or
of a cluster, the fits are sent out in batches, and the steps are fitted once for each batch. One
FitFailedWarning, in addition to scikit-learn's, names the candidates that fail, with their errors.
`verbose` values above 1 print no more than 1 does: how many fits are done, and what is left to
scikit-learn, as any other estimator is.{more} The rest of this text is scikit-learn's.
"""
OF_SEARCHES = """
In a halving search with `resource="max_iter"`, networks continue from the previous round. Ctrl-C
leaves the finished results in `cv_results_`."""


def _use_side_by_side(
    contexts: ExitStack,
    estimator: Any,
    n_jobs: int | None,
    verbose: int,
    resource: str | None = None,
    incremental: bool = False,
) -> SideBySide | None:
    """Run fits on `SideBySide` until the contexts end, if the estimator allows it."""
    reason = reason_against_search(estimator)
    if incremental:
        reason = "exploit_incremental_learning trains one network step by step"
    if reason:
        if verbose:
            print(f"fastbp leaves this to scikit-learn: {reason}.")
        return None
    backend = SideBySide(n_jobs, resource, verbose)
    with Deferring():
        defer()  # half set, it would stay set
        contexts.enter_context(parallel_config(backend=backend))
    return backend


class _Search:
    """Mixin for a scikit-learn search whose fits run side by side."""

    estimator: Any
    n_jobs: int | None
    verbose: int
    _checked_cv_orig: Any  # the splitter
    _finished: Any  # results of all rounds so far

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        self._finished = self._backend = None
        with ExitStack() as self._contexts:
            resource = getattr(self, "resource", None)
            try:
                self._backend = _use_side_by_side(
                    self._contexts, self.estimator, self.n_jobs, self.verbose, resource
                )
                return super().fit(X, y, **params)  # type: ignore[misc,no-any-return]
            except KeyboardInterrupt:
                if self._finished is not None:
                    self.cv_results_ = self._finished
                raise
            finally:
                if self._backend is not None:
                    self._backend.forget()
                del self._backend, self._contexts, self._finished

    fit.__doc__ = stock.GridSearchCV.fit.__doc__

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any) -> None:
        def evaluate(candidates: Any, cv: Any = None, **kwargs: Any) -> Any:
            cv = cv or self._checked_cv_orig
            if self._backend is not None:
                cv = PackingSplitter(cv)
            with Deferring():
                self._finished = evaluate_candidates(candidates, cv, **kwargs)
                if self._backend is not None:
                    self._backend.raise_if_interrupted("; they are in cv_results_")
            return self._finished

        super()._run_search(evaluate, callback_ctx=callback_ctx)  # type: ignore[misc]
        with Deferring():
            defer()
            self._contexts.close()  # the refit that follows runs without the backend
        if self._backend is not None:
            self._backend.forget()


def _describe(what: Any, more: str = OF_SEARCHES) -> str:
    """Return scikit-learn's docstring with the differences inserted after its summary."""
    summary, rest = inspect.cleandoc(what.__doc__ or "").split("\n", 1)
    rest = rest.replace("``None`` means 1 unless in", "``None`` means all processors unless in")
    return f"{summary}\n\n{DIFFERENCE.format(more=more)}\n{rest}"


class GridSearchCV(_Search, stock.GridSearchCV):  # type: ignore[misc]  # noqa: D101
    __doc__ = _describe(stock.GridSearchCV)


class RandomizedSearchCV(_Search, stock.RandomizedSearchCV):  # type: ignore[misc]  # noqa: D101
    __doc__ = _describe(stock.RandomizedSearchCV)


class HalvingGridSearchCV(_Search, stock.HalvingGridSearchCV):  # type: ignore[misc]  # noqa: D101
    __doc__ = _describe(stock.HalvingGridSearchCV)


class HalvingRandomSearchCV(_Search, stock.HalvingRandomSearchCV):  # type: ignore[misc]  # noqa: D101
    __doc__ = _describe(stock.HalvingRandomSearchCV)


def _side_by_side(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of scikit-learn's whose fits are done side by side."""

    @wraps(function)
    def validate(
        estimator: Any, *args: Any, n_jobs: int | None = None, verbose: int = 0, **kwargs: Any
    ) -> Any:
        with Deferring(), ExitStack() as contexts:
            incremental = kwargs.get("exploit_incremental_learning", False)
            backend = _use_side_by_side(
                contexts, estimator, n_jobs, verbose, incremental=incremental
            )
            try:
                results = function(estimator, *args, n_jobs=n_jobs, verbose=verbose, **kwargs)
            finally:
                if backend is not None:
                    backend.forget()
            if backend is not None:
                backend.raise_if_interrupted()
            return results

    validate.__doc__ = _describe(function, more="")
    validate.__module__ = __name__  # for pickle
    return validate


cross_validate = _side_by_side(stock.cross_validate)
cross_val_score = _side_by_side(stock.cross_val_score)
learning_curve = _side_by_side(stock.learning_curve)
validation_curve = _side_by_side(stock.validation_curve)
