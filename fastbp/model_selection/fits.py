"""The fits that a search asks for: how each is described, and how it goes to another process.

scikit-learn's searches and `cross_validate` call one function for each fit, `_fit_and_score`; a
`Fit` is such a call.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from fastbp.baton import laid_down
from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.cloning import are_constant
from fastbp.estimators.pickling import OF_TRAINING
from fastbp.estimators.regressor import BPRegressor
from fastbp.model_selection.folds import FoldData
from fastbp.model_selection.row_numbers import PackedRows, unpack_rows
from fastbp.model_selection.standing import Kept
from fastbp.training.schedules import needs_length

__all__ = [
    "Fit",
    "add_training_state",
    "find_network",
    "group_by_data",
    "put_training_state_back",
    "receive",
    "take_apart",
]

Array = NDArray[Any]

# Arguments of `_fit_and_score` that many fits share, and those that must stay in this process.
SHARED = ("train", "test", "fit_params", "score_params", "scorer")
LOCAL = ("caller", "callback_ctx")


@dataclass
class Fit:
    """A call of scikit-learn's function: one candidate on one fold."""

    function: Callable[..., Any]  # scikit-learn's wrapper of it, with its configuration
    estimator: Any
    X: Any
    y: Any
    asked: dict[str, Any]  # the function's other arguments
    seed: int | None = None  # replaces a random_state of None, which threads would share
    key: str | None = None  # identifies it in all rounds of a search, if it can be continued
    kept: Kept | None = None  # the state to continue from; after the fit, the state it reached
    is_begun: bool = False  # its data are made: an error from here on is scikit-learn's error, too
    data: FoldData = field(init=False)  # set in the process that runs the fit

    def __post_init__(self) -> None:
        self.parameters = self.asked.get("parameters") or {}
        # A candidate may replace the last step by another network.
        last = self.prefix.removesuffix("__")
        self.network = find_network(self.parameters.get(last, self.estimator))
        if self.network is not None and self.of_network("random_state") is None:
            self.seed = int(check_random_state(None).randint(2**31))

    def key_to_go_on(self, resource: str | None, digests: dict[int, str]) -> str | None:
        """Return a key that identifies the fit in all rounds in which `resource` grows.

        It is None if the training cannot be continued. Fits share candidates and folds, so the
        digest of each is computed once, and kept in `digests` by its id.
        """
        if self.network is None or resource != self.prefix + "max_iter":
            return None
        solver, rate = self.of_network("solver"), self.of_network("learning_rate")
        if not (isinstance(solver, str) and isinstance(rate, str)):
            return None
        if solver != "lbfgs" and needs_length(rate):
            return None
        candidate, train = self.parameters, self.asked["train"]
        if id(candidate) not in digests:
            rest = {name: value for name, value in candidate.items() if name != resource}
            digests[id(candidate)] = digest(rest)
        if id(train) not in digests:
            digests[id(train)] = joblib.hash(train)
        return f"{digests[id(candidate)]} {digests[id(train)]}"

    def put_together(self, shared: Sequence[Any]) -> "Fit":
        """Return the fit that `take_apart` took apart, with the data that `receive` returned."""
        fit = copy(self)
        fit.X, fit.y = shared[self.X], shared[self.y]
        fit.asked = {k: shared[v] if k in SHARED else v for k, v in self.asked.items()}
        return fit

    def rows(self, part: str) -> Array:
        """Return the row numbers of a part, "test" or "train"."""
        return np.asarray(self.asked[part])

    @property
    def prefix(self) -> str:
        """The prefix of the network's parameter names: "" or the name of the last step and "__"."""
        if isinstance(self.estimator, Pipeline):
            return f"{self.estimator.steps[-1][0]}__"
        return ""

    def of_network(self, name: str) -> Any:
        """Return a parameter of the network, with the candidate's value if it sets one."""
        return self.parameters.get(self.prefix + name, getattr(self.network, name, None))

    def seed_of(self, network: BaseBP) -> Any:
        """Return the seed or generator that the network's training draws from."""
        return network.random_state if self.seed is None else self.seed

    def cost(self) -> float:
        """Return about how many multiply-adds the fit takes; 0 if its parameters are invalid."""
        shape: Sequence[int] = getattr(self.X, "shape", ())
        try:
            hidden = np.atleast_1d(self.of_network("hidden_layer_sizes"))
            units = [shape[1] if len(shape) == 2 else 1, *hidden, 1]
            weights = float(sum(n_in * n_out for n_in, n_out in pairwise(units)))
            return float(weights * self.of_network("max_iter") * len(self.asked["train"]))
        except (OverflowError, TypeError, ValueError):
            return 0.0

    def key_of_fold(self) -> tuple[Any, ...]:
        """Return a key of the fold's data: the rows, and the settings of the steps before."""
        steps = ""
        if self.has_steps:
            last = self.prefix.removesuffix("__")
            before = {
                name: value
                for name, value in self.parameters.items()
                if name != last and not name.startswith(self.prefix)
            }
            steps = digest(before) if before else ""
        rows = self.asked["train"], self.asked["test"]
        return steps, *(part if isinstance(part, PackedRows) else id(part) for part in rows)

    @property
    def comes_back(self) -> bool:
        """Whether a later round may ask for the fold's data again, and they take little memory."""
        rows = self.asked["train"], self.asked["test"]
        are_known = all(isinstance(part, PackedRows) for part in rows)
        return self.key is not None and are_known and not self.has_steps

    @property
    def has_steps(self) -> bool:
        """Whether a Pipeline has steps before the network."""
        return isinstance(self.estimator, Pipeline) and len(self.estimator.steps) > 1

    def call(self) -> dict[str, Any]:
        """Call `_fit_and_score` itself, under the current configuration and warning filters.

        scikit-learn's wrapper would set both for each fit, while threads share the filters.
        """
        function = getattr(self.function, "function", self.function)
        asked = self.asked | {part: unpack_rows(self.asked[part]) for part in ("train", "test")}
        with laid_down():
            result: dict[str, Any] = function(clone(self.estimator), self.X, self.y, **asked)
        return result


def find_network(estimator: Any) -> BaseBP | None:
    """Return the estimator, or a Pipeline's last step, if it is one of fastbp's own networks."""
    if type(estimator) is Pipeline:
        estimator = estimator.steps[-1][1] if estimator.steps else None
    return estimator if type(estimator) in (BPClassifier, BPRegressor) else None


def add_training_state(result: dict[str, Any]) -> dict[str, Any]:
    """Return a fit's result with the attributes that pickling drops from the network in it."""
    network = find_network(result.get("estimator"))
    if network is not None:
        kept = {name: value for name, value in vars(network).items() if name in OF_TRAINING}
        result["training_state"] = kept
    return result


def put_training_state_back(result: dict[str, Any]) -> dict[str, Any]:
    """Undo `add_training_state` in another process."""
    if "training_state" in result:
        vars(find_network(result["estimator"])).update(result.pop("training_state"))
    return result


def digest(parameters: dict[str, Any]) -> str:
    """Return a digest of parameters: of their values, or of their ids if they cannot be pickled.

    Lambdas, for example, cannot be pickled.
    """
    if are_constant(parameters.values()):
        return repr(sorted(parameters.items()))
    try:
        return str(joblib.hash(sorted(parameters.items())))
    except Exception:  # of any kind: pickling runs code of the users' classes
        return repr([(name, id(value)) for name, value in sorted(parameters.items())])


def group_by_data(fits: Sequence[Fit]) -> list[list[int]]:
    """Group the numbers of fits by the data they need, the longest fit of each group first.

    Fits with steps before the network form a group for each fold and setting of the steps; all
    other fits form one group, whose data come from the same table.
    """
    groups: dict[Any, list[int]] = {}
    for i, fit in enumerate(fits):
        groups.setdefault(fit.key_of_fold() if fit.has_steps else None, []).append(i)
    return [sorted(group, key=lambda i: -fits[i].cost()) for group in groups.values()]


def take_apart(fits: Iterable[Fit]) -> tuple[list[Fit], list[Any]]:
    """Return fits to send elsewhere, with indices in place of their data, and the data."""
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
    """Return data from elsewhere, with arrays aligned as compiled code needs them."""
    return [np.require(v, requirements="A") if type(v) is np.ndarray else v for v in shared]
