"""One candidate on one fold: fitted and scored as scikit-learn's searches ask for it.

scikit-learn's searches and `cross_validate` call one function for each fit, `_fit_and_score`. What
they ask of it is done here for networks, with the same results, on data that are checked once and
shared. Whatever is out of the ordinary, errors among it, is left to their own function.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _check_method_params

from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor
from fastbp.model_selection.folds import Fold, Table, transform_fold
from fastbp.network import Weights
from fastbp.training.stochastic import State

__all__ = ["Evaluator", "Fit", "Kept", "find_network", "receive", "take_apart", "why_not"]

Array = NDArray[Any]

# Arguments of scikit-learn's function that many fits have in common, and those of this process.
SHARED = ("train", "test", "fit_params", "score_params", "scorer")
LOCAL = ("caller", "callback_ctx")


@dataclass
class Kept:
    """A network and where its training stands, from where the next round of a search goes on."""

    network: BaseBP
    state: State

    def __getstate__(self) -> dict[str, Any]:
        # The padding is this processor's, and the rows are the fold's, wherever it goes on.
        state = self._change_vectors(Weights.without_padding)
        state.rows = state.rows[:0]
        return {"network": self.network, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.state = self._change_vectors(Weights.with_padding)
        if self.state.order is not None:  # shuffled in place, while what is received may be shared
            self.state.order = self.state.order.copy()

    def _change_vectors(self, change: Callable[[Weights, Array], Array]) -> State:
        """Return the state with its vectors of weights in another layout."""
        state = copy(self.state)
        if state.best is not None:
            state.best = change(self.network._weights, state.best)
        if state.latest is not None:
            state.latest = change(self.network._weights, state.latest)
        return state


@dataclass
class Fit:
    """A call of scikit-learn's function: one candidate on one fold."""

    function: Callable[..., Any]  # a wrapper of it, with scikit-learn's configuration
    estimator: Any
    X: Any
    y: Any
    asked: dict[str, Any]  # its other arguments
    seed: int | None = None  # in place of a random_state of None, which threads would share
    key: str | None = None  # names it in all rounds of a search, if it is one that can go on
    kept: Kept | None = None  # what it goes on from, and then what it has come to

    def __post_init__(self) -> None:
        self.parameters = self.asked.get("parameters") or {}
        network = find_network(self.estimator)
        if network is not None and self.of_network("random_state", network.random_state) is None:
            self.seed = int(check_random_state(None).randint(2**31))

    def key_to_go_on(self, resource: str | None) -> str | None:
        """Return what names it in all rounds in which this parameter grows, if it can go on."""
        network = find_network(self.estimator)
        if (
            network is None
            or resource != self.prefix + "max_iter"
            or self.of_network("solver", network.solver) == "lbfgs"
        ):
            return None
        rest = {k: v for k, v in self.parameters.items() if k != resource}
        key: str = joblib.hash((sorted(rest.items()), self.asked["train"]))
        return key

    def put_together(self, shared: Sequence[Any]) -> "Fit":
        """Return the fit that `take_apart` took apart, from the data `receive` has returned."""
        fit = copy(self)
        fit.X, fit.y = shared[self.X], shared[self.y]
        fit.asked = {k: shared[v] if k in SHARED else v for k, v in self.asked.items()}
        return fit

    @property
    def prefix(self) -> str:
        """What the names of the network's parameters begin with."""
        if isinstance(self.estimator, Pipeline):
            return f"{self.estimator.steps[-1][0]}__"
        return ""

    def of_network(self, name: str, default: Any) -> Any:
        """Return what the candidate sets a parameter of the network to."""
        return self.parameters.get(self.prefix + name, default)

    def cost(self) -> float:
        """Return about how many multiply-adds it takes."""
        network = find_network(self.estimator)
        if network is None:
            return 0.0
        hidden = np.atleast_1d(self.of_network("hidden_layer_sizes", network.hidden_layer_sizes))
        units = [np.shape(self.X)[1] if np.ndim(self.X) == 2 else 1, *hidden, 1]
        epochs = self.of_network("max_iter", network.max_iter)
        weights = sum(n_in * n_out for n_in, n_out in pairwise(units))
        return float(weights * epochs * len(self.asked["train"]))

    def key_of_fold(self) -> tuple[Any, ...]:
        """Return what tells data apart: the samples, and the steps that come before the network."""
        before = {k: v for k, v in self.parameters.items() if not k.startswith(self.prefix)}
        steps = joblib.hash(sorted(before.items())) if self.has_steps and before else ""
        return steps, id(self.asked["train"]), id(self.asked["test"])

    @property
    def has_steps(self) -> bool:
        """Whether there are steps before the network."""
        return isinstance(self.estimator, Pipeline) and len(self.estimator.steps) > 1

    def call(self) -> dict[str, Any]:
        """Do what scikit-learn does."""
        result: dict[str, Any] = self.function(clone(self.estimator), self.X, self.y, **self.asked)
        return result


def find_network(estimator: Any) -> BaseBP | None:
    """Return the estimator, or a Pipeline's last step, where it is a network of fastbp's own."""
    if type(estimator) is Pipeline:
        estimator = estimator.steps[-1][1]
    return estimator if type(estimator) in (BPClassifier, BPRegressor) else None


def take_apart(fits: Iterable[Fit]) -> tuple[list[Fit], list[Any]]:
    """Return fits as they are sent elsewhere, with numbers in place of data, and the data."""
    shared: list[Any] = []
    numbers: dict[int, int] = {}

    def number(value: Any) -> int:
        if id(value) not in numbers:
            numbers[id(value)] = len(shared)
            shared.append(value)
        return numbers[id(value)]

    sent = []
    for fit in fits:
        asked = {k: v for k, v in fit.asked.items() if k not in LOCAL}
        fit = copy(fit)
        fit.X, fit.y = number(fit.X), number(fit.y)
        fit.asked = {k: number(v) if k in SHARED else v for k, v in asked.items()}
        sent.append(fit)
    return sent, shared


def receive(shared: Iterable[Any]) -> list[Any]:
    """Return data that came from elsewhere as compiled code takes them, which may be unaligned."""
    return [np.require(v, requirements="A") if type(v) is np.ndarray else v for v in shared]


def why_not(estimator: Any) -> str:
    """Say why fits of an estimator cannot be shared; empty where they can."""
    if find_network(estimator) is None:
        return f"{type(estimator).__name__} is neither a network of fastbp nor a Pipeline to one"
    if isinstance(estimator, Pipeline) and getattr(estimator, "transform_input", None):
        return "the Pipeline has transform_input"
    if getattr(estimator, "_skl_callbacks", None):
        return "the estimator has callbacks"
    return ""


class Evaluator:
    """Does fits, from several threads at once."""

    def __init__(self) -> None:
        self._tables: dict[Any, Table] = {}
        self._folds: dict[Any, Fold] = {}
        self._expected: Counter[Any] = Counter()  # fits of each fold
        self._valid: set[int] = set()  # candidates whose parameters are
        self.left: Counter[str] = Counter()  # fits left to scikit-learn, by the reason
        self._making = threading.Lock()
        self._one_at_a_time = threading.Lock()

    def expect(self, fits: Iterable[Fit]) -> None:
        """Learn which fits are to come: they share the time that their data take."""
        self._valid.clear()
        self._expected = Counter(fit.key_of_fold() for fit in fits)

    def evaluate(self, fit: Fit) -> dict[str, Any]:
        """Return what scikit-learn's function would, from the same bits."""
        reason = _why_not_here(fit)
        if reason:
            self.left[reason] += 1
            return self._leave(fit)
        try:
            return self._evaluate(fit)
        except Exception:
            fit.kept = None
            return self._leave(fit)

    def forget_folds(self) -> None:
        """Free the data of folds."""
        self._folds.clear()

    def _leave(self, fit: Fit) -> dict[str, Any]:
        """Leave it to scikit-learn, whose handling of warnings bears one thread at a time."""
        with self._one_at_a_time:
            return fit.call()

    def _evaluate(self, fit: Fit) -> dict[str, Any]:
        asked = fit.asked
        estimator = _set(fit.estimator, clone(fit.parameters, safe=False))
        network = find_network(estimator)
        if network is None:
            raise TypeError(why_not(estimator))
        parameters = set(vars(network))
        self._validate(network, fit)
        fold = self._fold(fit, network)
        n_jobs, network.n_jobs = network.n_jobs, 1
        began = time.perf_counter()
        trained = self._train(fit, network, fold)
        ended = time.perf_counter()
        result = {"fit_error": None, "test_scores": _judge(fit, trained, fold, "test")}
        score_time = time.perf_counter() - ended
        if asked.get("return_train_score"):
            result["train_scores"] = _judge(fit, trained, fold, "train")
        network.n_jobs = n_jobs
        if asked.get("return_n_test_samples"):
            result["n_test_samples"] = len(fold.test)
        if asked.get("return_times"):
            share = fold.seconds / max(1, self._expected[fit.key_of_fold()])
            result["fit_time"] = ended - began + share
            result["score_time"] = score_time
        if asked.get("return_parameters"):
            result["parameters"] = asked["parameters"]
        if asked.get("return_estimator"):
            if fold.steps:
                estimator.steps[:-1] = fold.steps
            result["estimator"] = estimator
        elif fit.key is None:
            for name in set(vars(network)) - parameters:  # scikit-learn keeps it for long
                delattr(network, name)
        return result

    def _validate(self, network: BaseBP, fit: Fit) -> None:
        """Check a candidate's parameters, once for all its folds."""
        key = id(fit.asked.get("parameters"))
        if key not in self._valid:
            network._validate_params()
            self._valid.add(key)

    def _fold(self, fit: Fit, network: BaseBP) -> Fold:
        """Return the data of the fit, made by the first that asks for them."""
        train, test = fit.asked["train"], fit.asked["test"]
        weight = (fit.asked.get("fit_params") or {}).get(fit.prefix + "sample_weight")
        special = [getattr(network, name, None) for name in ("out_activation", "class_weight")]
        kind = (type(network), network.dtype, network.loss, str(special))
        key = (kind, fit.key_of_fold())
        with self._making:
            if key not in self._folds:
                began = time.perf_counter()
                if fit.has_steps:
                    fold = transform_fold(fit.estimator, fit.X, fit.y, weight, train, test)
                else:
                    if kind not in self._tables:
                        self._tables[kind] = Table(network, fit.X, fit.y, weight)
                    fold = self._tables[kind].fold(train, test)
                fold.seconds = time.perf_counter() - began
                self._folds[key] = fold
            return self._folds[key]

    def _train(self, fit: Fit, network: BaseBP, fold: Fold) -> BaseBP:
        """Return the trained network: the given one, or that of the round before."""
        if fit.kept is not None:
            kept, state = fit.kept.network, fit.kept.state
            kept.max_iter, kept.n_jobs, state.rows = network.max_iter, 1, fold.train.numbers
            return kept._learn(fold.samples, kept._weights, state)
        for name, value in fold.attributes.items():
            setattr(network, name, value)
        random_state = check_random_state(network.random_state if fit.seed is None else fit.seed)
        weights = network._begin(fold.samples, random_state)
        state = State(fold.train.numbers, random_state)
        network._learn(fold.samples, weights, state)
        if fit.key is not None:
            fit.kept = Kept(network, state)
        return network


def _why_not_here(fit: Fit) -> str:
    """Say why a fit asks for more than is done here; empty where it does not."""
    unknown = set(fit.asked.get("fit_params") or {}) - {fit.prefix + "sample_weight"}
    if unknown:
        return f"fit is given {', '.join(sorted(unknown))}"
    if getattr(fit.asked.get("callback_ctx"), "_callbacks", None):
        return "the search has callbacks"
    return why_not(fit.estimator) or ("there is no y" if fit.y is None else "")


def _judge(fit: Fit, network: BaseBP, fold: Fold, part: str) -> Any:
    """Return the scores of the samples of a fold, "train" or "test"."""
    rows, y = (fold.test, fold.y_test) if part == "test" else (fold.train, fold.y_train)
    scorer, numbers = fit.asked["scorer"], fit.asked[part]
    score_params = fit.asked.get("score_params") or {}
    params = _check_method_params(fit.X, params=score_params, indices=numbers)
    if not params and _is_accuracy(scorer, network) and type(y) is np.ndarray and y.ndim == 1:
        return float(np.mean(network.predict(rows) == y))  # scikit-learn takes longer than the fit
    estimator: Any = network
    X: Any = rows
    if not _asks_for_predictions_only(scorer):
        X = _safe_indexing(fit.X, numbers)
        estimator = Pipeline([*fold.steps, ("network", network)]) if fold.steps else network
    return _score(estimator, X, y, scorer, params, fit.asked["error_score"])


def _asks_for_predictions_only(scorer: Any) -> bool:
    """Tell whether a scorer hands X on to the estimator, and does nothing else with it."""
    if isinstance(scorer, _MultimetricScorer):
        return all(map(_asks_for_predictions_only, scorer._scorers.values()))
    return isinstance(scorer, (_BaseScorer, _PassthroughScorer))


def _is_accuracy(scorer: Any, network: BaseBP) -> bool:
    if not isinstance(network, BPClassifier):
        return False
    return isinstance(scorer, _PassthroughScorer) or scorer is get_scorer("accuracy")


def _set(estimator: Any, parameters: dict[str, Any]) -> Any:
    """Set parameters, of a network without the long look at its signature."""
    if isinstance(estimator, BaseBP) and set(parameters) <= set(vars(estimator)):
        estimator.__dict__.update(parameters)
        return estimator
    return estimator.set_params(**parameters)
