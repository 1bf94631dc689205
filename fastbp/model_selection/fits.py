"""The fits that a search asks for: each one's description, and how it goes to another process.

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

# Arguments of scikit-learn's function that many fits have in common, and those of this process.
SHARED = ("train", "test", "fit_params", "score_params", "scorer")
LOCAL = ("caller", "callback_ctx")


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
    is_begun: bool = False  # its data are made: what fails now would fail in scikit-learn, too
    data: FoldData = field(init=False)  # set in the process that does it

    def __post_init__(self) -> None:
        self.parameters = self.asked.get("parameters") or {}
        # A candidate may put another network in the last step's place.
        last = self.prefix.removesuffix("__")
        self.network = find_network(self.parameters.get(last, self.estimator))
        if self.network is not None and self.of_network("random_state") is None:
            self.seed = int(check_random_state(None).randint(2**31))

    def key_to_go_on(self, resource: str | None, digests: dict[int, str]) -> str | None:
        """Return what names it in all rounds in which this parameter grows, if it can go on.

        Fits share candidates and folds: the digest of each is made once, and kept by its id.
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
        """Return the fit that `take_apart` took apart, from the data `receive` has returned."""
        fit = copy(self)
        fit.X, fit.y = shared[self.X], shared[self.y]
        fit.asked = {k: shared[v] if k in SHARED else v for k, v in self.asked.items()}
        return fit

    def rows(self, part: str) -> Array:
        """Return the numbers of the samples of a part, "test" or "train"."""
        return np.asarray(self.asked[part])

    @property
    def prefix(self) -> str:
        """What the names of the network's parameters begin with."""
        if isinstance(self.estimator, Pipeline):
            return f"{self.estimator.steps[-1][0]}__"
        return ""

    def of_network(self, name: str) -> Any:
        """Return a parameter of the network, as the candidate has it."""
        return self.parameters.get(self.prefix + name, getattr(self.network, name, None))

    def seed_of(self, network: BaseBP) -> Any:
        """Return what the training of its network is drawn by."""
        return network.random_state if self.seed is None else self.seed

    def cost(self) -> float:
        """Return about how many multiply-adds it takes; 0 where its parameters make no sense."""
        shape: Sequence[int] = getattr(self.X, "shape", ())
        try:
            hidden = np.atleast_1d(self.of_network("hidden_layer_sizes"))
            units = [shape[1] if len(shape) == 2 else 1, *hidden, 1]
            weights = float(sum(n_in * n_out for n_in, n_out in pairwise(units)))
            return float(weights * self.of_network("max_iter") * len(self.asked["train"]))
        except (OverflowError, TypeError, ValueError):
            return 0.0

    def key_of_fold(self) -> tuple[Any, ...]:
        """Return what tells data apart: the samples, and the steps that come before the network."""
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
        """Whether the data of its fold may be asked for again, and take little memory."""
        rows = self.asked["train"], self.asked["test"]
        are_known = all(isinstance(part, PackedRows) for part in rows)
        return self.key is not None and are_known and not self.has_steps

    @property
    def has_steps(self) -> bool:
        """Whether there are steps before the network."""
        return isinstance(self.estimator, Pipeline) and len(self.estimator.steps) > 1

    def call(self) -> dict[str, Any]:
        """Do what scikit-learn does, with the configuration and filters of warnings that are set.

        Its wrapper would set them for each fit, and the filters are those of all threads.
        """
        function = getattr(self.function, "function", self.function)
        asked = self.asked | {part: unpack_rows(self.asked[part]) for part in ("train", "test")}
        with laid_down():
            result: dict[str, Any] = function(clone(self.estimator), self.X, self.y, **asked)
        return result


def find_network(estimator: Any) -> BaseBP | None:
    """Return the estimator, or a Pipeline's last step, where it is a network of fastbp's own."""
    if type(estimator) is Pipeline:
        estimator = estimator.steps[-1][1] if estimator.steps else None
    return estimator if type(estimator) in (BPClassifier, BPRegressor) else None


def add_training_state(result: dict[str, Any]) -> dict[str, Any]:
    """Return a fit's result with what a pickle leaves out of the network in it, if there is one."""
    network = find_network(result.get("estimator"))
    if network is not None:
        kept = {name: value for name, value in vars(network).items() if name in OF_TRAINING}
        result["training_state"] = kept
    return result


def put_training_state_back(result: dict[str, Any]) -> dict[str, Any]:
    """Return what `add_training_state` was given, in another process."""
    if "training_state" in result:
        vars(find_network(result["estimator"])).update(result.pop("training_state"))
    return result


def digest(parameters: dict[str, Any]) -> str:
    """Return what tells parameters from others: their values, as far as these can be pickled.

    Of those that cannot, as functions without a name, it is which objects they are.
    """
    if are_constant(parameters.values()):
        return repr(sorted(parameters.items()))
    try:
        return str(joblib.hash(sorted(parameters.items())))
    except Exception:  # pickling runs code of the users' classes
        return repr([(name, id(value)) for name, value in sorted(parameters.items())])


def group_by_data(fits: Sequence[Fit]) -> list[list[int]]:
    """Group fits, by their numbers, as their data are made: in each group the longest comes first.

    Of fits with steps before the network, those of one fold and setting are a group; all others are
    one, whose data are made from the same table.
    """
    groups: dict[Any, list[int]] = {}
    for i, fit in enumerate(fits):
        groups.setdefault(fit.key_of_fold() if fit.has_steps else None, []).append(i)
    return [sorted(group, key=lambda i: -fits[i].cost()) for group in groups.values()]


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
