"""One candidate on one fold: fitted and scored as scikit-learn's searches ask for it.

The `Evaluator` does for networks what scikit-learn's `_fit_and_score` does, with the same results,
on data that are checked once and shared. Anything unusual, errors included, is left to that
function.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import validate_parameter_constraints

from fastbp.baton import laid_down
from fastbp.estimators.base import BaseBP
from fastbp.estimators.cloning import clone_parameters, is_constant
from fastbp.model_selection.fits import Fit, find_network
from fastbp.model_selection.folds import CheckedData, Fold, FoldData, retarget, transform_fold
from fastbp.model_selection.scoring import accuracies, asks_for_accuracy, judge, judged_parts
from fastbp.model_selection.standing import Kept
from fastbp.randomness import borrowed_random_state, make_random_state
from fastbp.training.stochastic import State

__all__ = ["Evaluator", "describe", "reason_against_fit", "reason_against_search", "set_parameters"]

LARGEST_MEMORY = 1 << 23  # bytes; a larger L-BFGS state is not kept for a network's next round


def reason_against_search(estimator: Any) -> str:
    """Return why fits of an estimator cannot be run side by side; empty if they can."""
    network = find_network(estimator)
    if network is None:
        name = type(estimator).__name__
        return f"{name} is neither a fastbp network nor a Pipeline that ends in one"
    if isinstance(estimator, Pipeline) and getattr(estimator, "transform_input", None):
        return "the Pipeline has transform_input"
    if getattr(estimator, "_skl_callbacks", None) or getattr(network, "_skl_callbacks", None):
        return "the estimator has callbacks"
    return ""


class Evaluator:
    """Runs fits one by one; several threads may use it at once."""

    def __init__(self) -> None:
        self._checked_data: dict[Any, CheckedData] = {}  # by the network's type and dtype
        self._data: dict[Any, FoldData] = {}  # by `Fit.key_of_fold`
        self._valid: set[int] = set()  # ids of candidates whose parameters have been checked
        self._checked: set[frozenset[str]] = set()  # the sets of parameter names that they set
        self._values: set[tuple[str, str]] = set()  # ... and the names with constant values
        self.left: Counter[str] = Counter()  # fits left to scikit-learn, by reason
        self._lock = threading.Lock()

    def expect(self, fits: Iterable[Fit]) -> None:
        """Register the coming fits: they share their folds' data and the time to make them."""
        self._valid.clear()
        self._checked.clear()
        self._values.clear()
        before, self._data = self._data, {}
        for fit in fits:
            key = fit.key_of_fold()
            if key not in self._data:
                self._data[key] = FoldData(before[key].in_next_round() if key in before else {})
            fit.data = self._data[key]
            fit.data.n_fits += 1
            fit.data.n_left += 1

    def evaluate(self, fit: Fit) -> dict[str, Any]:
        """Return what scikit-learn's `_fit_and_score` would return, from the same random bits."""
        reason = reason_against_fit(fit)
        if reason:
            self._count_left(reason)
            return fit.call()
        try:
            return self._evaluate(fit)
        except Exception as error:
            if fit.is_begun and fit.asked["error_score"] == "raise":
                raise
            reason = f"{type(error).__name__}: {error}"
        # Outside the `except`, so that a traceback from here does not show the first error, too.
        fit.kept = None
        result = fit.call()
        if not result["fit_error"]:  # the candidate itself is valid
            self._count_left(reason)
        return result

    def end(self, fit: Fit) -> None:
        """Free the fold's data if this fit was the last to need them; one thread at a time."""
        fit.data.n_left -= 1
        if fit.data.n_left == 0 and not fit.comes_back:
            fit.data.folds.clear()

    def forget(self) -> None:
        """Free all data."""
        for data in self._data.values():
            data.folds.clear()
        self._data.clear()
        self._checked_data.clear()

    def _count_left(self, reason: str) -> None:
        with self._lock:
            self.left[reason] += 1

    def _evaluate(self, fit: Fit) -> dict[str, Any]:
        asked = fit.asked
        estimator = set_parameters(fit.estimator, fit.parameters)
        network, reason = find_network(estimator), reason_against_search(estimator)
        if network is None or reason:
            raise TypeError(reason)
        parameters = list(vars(network))
        self.validate(network, fit)
        fold = self.fold(fit, network)
        fit.is_begun = True
        n_jobs, network.n_jobs = network.n_jobs, 1
        try:
            began = time.perf_counter()
            trained = self._train(fit, network, fold)
            ended = time.perf_counter()
            parts = judged_parts(fit)
            if asks_for_accuracy(fit, trained):
                scores = accuracies(fit, trained, fold, parts)
            else:
                scores = [judge(fit, trained, fold, part, n_jobs) for part in parts]
            n_judged = [len(fold.judged(part).rows) for part in parts]
            score_time = (time.perf_counter() - ended) * n_judged[0] / sum(n_judged)
        finally:
            network.n_jobs = n_jobs
        result = describe(fit, fold, scores, ended - began, score_time)
        if asked.get("return_estimator"):
            if fold.steps:
                estimator.steps[:-1] = fold.steps
            result["estimator"] = estimator
        elif fit.key is None:  # the estimator lives until the search ends: free what it has learnt
            network.__dict__ = {name: vars(network)[name] for name in parameters}
        return result

    def validate(self, network: BaseBP, fit: Fit) -> None:
        """Check a candidate's parameters, once for all its folds.

        The full check runs for the first candidate that sets a given set of names. Later ones with
        these names have only their own values checked, and not even these if each is a constant
        that an earlier candidate has set.
        """
        key, names = id(fit.asked.get("parameters")), frozenset(fit.parameters)
        if key in self._valid:
            return
        own = {name.removeprefix(fit.prefix): value for name, value in fit.parameters.items()}
        values = {(name, repr(value)) for name, value in own.items() if is_constant(value)}
        if names not in self._checked or not own.keys() <= vars(network).keys():
            network._validate_params()
        elif len(values) < len(own) or not values <= self._values:
            constraints, name = network._parameter_constraints, type(network).__name__
            validate_parameter_constraints(constraints, own, caller_name=name)
        self._valid.add(key)
        self._checked.add(names)
        self._values |= values

    def fold(self, fit: Fit, network: BaseBP) -> Fold:
        """Return the data of the fit, made by the first fit that asks for them."""
        special = [getattr(network, name, None) for name in ("out_activation", "class_weight")]
        of_X = (type(network), network.dtype)  # these decide how X is checked and converted
        of_y = (network.loss, str(special))
        folds = fit.data.folds
        if (of_X, of_y) not in folds:
            with laid_down(), fit.data.making:
                if (of_X, of_y) not in folds:
                    began = time.perf_counter()
                    alike = [fold for (of, _), fold in folds.items() if of == of_X]
                    fold = self._make_fold(fit, network, of_X, alike)
                    fold.seconds = time.perf_counter() - began
                    folds[of_X, of_y] = fold
        return folds[of_X, of_y]

    def _make_fold(self, fit: Fit, network: BaseBP, of_X: Any, alike: list[Fold]) -> Fold:
        """Make the data of the fit; the folds in `alike` hold X in the form that it needs."""
        asked = fit.asked
        train, test = asked["train"], asked["test"]
        weight = (asked.get("fit_params") or {}).get(fit.prefix + "sample_weight")
        if not fit.has_steps:
            with self._lock:
                if of_X not in self._checked_data:
                    self._checked_data[of_X] = CheckedData(network, fit.X, fit.y, weight)
                return self._checked_data[of_X].fold(network, train, test)
        if alike:
            return retarget(alike[0], network, fit.X, fit.y, weight, train)
        is_train_judged = bool(asked.get("return_train_score"))
        return transform_fold(fit.estimator, fit.X, fit.y, weight, train, test, is_train_judged)

    def _train(self, fit: Fit, network: BaseBP, fold: Fold) -> BaseBP:
        """Return the trained network: the given one, or that of the previous round."""
        if fit.kept is not None:
            kept, state = fit.kept.network, fit.kept.state
            kept.max_iter, kept.n_jobs = network.max_iter, 1
            return kept._learn(fold.samples, kept._weights, state)
        fold.tell(network)
        seed = fit.seed_of(network)
        if fit.key is None:
            with borrowed_random_state(seed) as random_state:
                self._begin(network, fold, random_state)
        else:
            state = self._begin(network, fold, make_random_state(seed))
            if state.memory is None or state.memory.vectors.nbytes <= LARGEST_MEMORY:
                fit.kept = Kept(network, state)
        return network

    def _begin(self, network: BaseBP, fold: Fold, random_state: np.random.RandomState) -> State:
        """Train a network from initial weights, and return the final training state."""
        weights = network._begin(fold.samples, random_state)
        state = State(fold.order(), random_state)
        network._learn(fold.samples, weights, state)
        return state


def describe(
    fit: Fit, fold: Fold, scores: Sequence[Any], fit_time: float, score_time: float
) -> dict[str, Any]:
    """Return a result in the form of scikit-learn's `_fit_and_score`; one score for each part."""
    asked = fit.asked
    result: dict[str, Any] = {"fit_error": None}
    parts = judged_parts(fit)
    result |= {f"{part}_scores": score for part, score in zip(parts, scores, strict=True)}
    if asked.get("return_n_test_samples"):
        result["n_test_samples"] = len(fold.test.rows)
    if asked.get("return_times"):
        result["fit_time"] = fit_time + fold.seconds / fit.data.n_fits
        result["score_time"] = score_time
    if asked.get("return_parameters"):
        result["parameters"] = asked["parameters"]
    return result


def reason_against_fit(fit: Fit) -> str:
    """Return why a fit must be left to scikit-learn; empty if it can be run here."""
    unknown = set(fit.asked.get("fit_params") or {}) - {fit.prefix + "sample_weight"}
    if unknown:
        return f"fit is given {', '.join(sorted(unknown))}"
    if getattr(fit.asked.get("callback_ctx"), "_callbacks", None):
        return "the search has callbacks"
    if "steps" in fit.parameters:
        return "the candidates replace steps of the Pipeline"
    return reason_against_search(fit.estimator) or ("there is no y" if fit.y is None else "")


def set_parameters(estimator: Any, parameters: dict[str, Any]) -> Any:
    """Set copies of parameters; for a network, skip the slow signature check of `set_params`."""
    parameters = clone_parameters(parameters)
    if isinstance(estimator, BaseBP) and set(parameters) <= set(vars(estimator)):
        estimator.__dict__.update(parameters)
        return estimator
    return estimator.set_params(**parameters)
