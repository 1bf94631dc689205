"""Sweeps: whole searches, by scikit-learn over its networks and fastbp's, and by fastbp."""

import os
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import sklearn.model_selection
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fastbp.model_selection
from benchmarks import cells, machine
from benchmarks.children import Child, count_processors, doubled
from benchmarks.options import Options
from benchmarks.problems import SOURCES
from benchmarks.race import Turns
from fastbp import BPClassifier, BPRegressor

BUDGET = 60.0  # seconds for the turns of a row
EXACT = {"tol": 0.0, "n_iter_no_change": np.inf}  # train for exactly max_iter epochs


class Networks(NamedTuple):
    """scikit-learn's network and fastbp's."""

    MLP: Any
    BP: Any


CLASSIFIERS = Networks(MLPClassifier(), BPClassifier())
REGRESSORS = Networks(MLPRegressor(), BPRegressor())


class Sweep(NamedTuple):
    """A search: data, the network's parameters, the grid, and how candidates are scored."""

    load: Callable[[], tuple[Any, Any]]
    parameters: dict[str, Any]
    grid: dict[str, list[Any]]
    folds: int
    halving: dict[str, Any] | None = None
    in_pipeline: bool = False
    networks: Networks = CLASSIFIERS
    scoring: str | None = None

    @property
    def candidates(self) -> int:
        """The number of candidates in the grid."""
        return int(np.prod([len(values) for values in self.grid.values()]))

    def search(self, module: Any, network: Any, n_jobs: int) -> Any:
        """Return a module's search over a network, without a final refit."""
        estimator, grid = clone(network).set_params(random_state=0, **self.parameters), self.grid
        if self.in_pipeline:
            columns = make_column_transformer(
                (OneHotEncoder(dtype=np.float32, handle_unknown="ignore"), _words),
                (StandardScaler(), _numbers),
            )
            name = type(network).__name__.lower()
            estimator = make_pipeline(columns, estimator)
            grid = {f"{name}__{key}": values for key, values in grid.items()}
        common = {"cv": self.folds, "n_jobs": n_jobs, "refit": False, "scoring": self.scoring}
        if self.halving:
            return module.HalvingGridSearchCV(estimator, grid, **common, **self.halving)
        return module.GridSearchCV(estimator, grid, **common)


_words = make_column_selector(dtype_include=["object", "category", "string"])
_numbers = make_column_selector(dtype_include="number")


def _scaled(X: Any, y: Any, dtype: type = np.float32) -> tuple[Any, Any]:
    return StandardScaler().fit_transform(X).astype(dtype), y


def _adult() -> tuple[Any, Any]:
    from fastbp.datasets import load_adult

    X, y = load_adult(return_X_y=True, as_frame=True)
    numbers = X.select_dtypes("number").columns
    return X.astype(dict.fromkeys(numbers, np.float32)), y.to_numpy()


_SMALL = {
    "hidden_layer_sizes": [(8,), (16,), (32,), (16, 16)],
    "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    "learning_rate_init": [1e-3, 3e-3, 1e-2],
}
ROWS = {
    "digits": Sweep(
        lambda: _scaled(*SOURCES["digits"](1797)),
        {"max_iter": 50, **EXACT},
        {
            "hidden_layer_sizes": [(16,), (32,), (64,)],
            "alpha": [1e-4, 1e-2],
            "learning_rate_init": [1e-3, 3e-3],
        },
        folds=3,
    ),
    "iris": Sweep(lambda: _scaled(*SOURCES["iris"](150)), {}, _SMALL, folds=5),
    "wine": Sweep(lambda: _scaled(*load_wine(return_X_y=True)), {}, _SMALL, folds=5),
    "diabetes": Sweep(
        lambda: _scaled(*load_diabetes(return_X_y=True)), {}, _SMALL, folds=5, networks=REGRESSORS
    ),
    "cancer": Sweep(
        lambda: _scaled(*load_breast_cancer(return_X_y=True)),
        {"early_stopping": True},
        {
            "hidden_layer_sizes": [(16,), (32,), (16, 16)],
            "activation": ["relu", "tanh"],
            "solver": ["adam", "sgd"],
            "alpha": [1e-4, 1e-2],
            "learning_rate": ["constant", "adaptive"],
        },
        folds=5,
        scoring="f1",
    ),
    "lbfgs": Sweep(
        lambda: _scaled(*load_breast_cancer(return_X_y=True), np.float64),
        {"solver": "lbfgs"},
        {
            "hidden_layer_sizes": [(8,), (16,), (32,), (16, 16)],
            "alpha": [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
            "activation": ["relu", "tanh", "logistic"],
        },
        folds=5,
    ),
    "adult": Sweep(
        _adult,
        {"max_iter": 10, **EXACT},
        {
            "hidden_layer_sizes": [(16,), (32,), (64,), (32, 16)],
            "alpha": [1e-4, 1e-2],
            "learning_rate_init": [1e-3, 3e-3],
        },
        folds=3,
        in_pipeline=True,
    ),
    "halving": Sweep(
        lambda: _scaled(*SOURCES["digits"](1797)),
        EXACT,
        {
            "hidden_layer_sizes": [(16,), (32,), (64,)],
            "alpha": [1e-4, 1e-3, 1e-2],
            "learning_rate_init": [1e-3, 3e-3, 1e-2],
            "batch_size": [50, 100, 200],
        },
        folds=3,
        halving={"resource": "max_iter", "min_resources": 2, "max_resources": 54, "factor": 3},
    ),
}
STOCK, OURS = sklearn.model_selection, fastbp.model_selection
CONTENDERS = {  # each a module's search over a network
    "MLP": (STOCK, "MLP"),
    "BP": (STOCK, "BP"),
    "fastbp": (OURS, "BP"),
}
OWN_BUDGET = 15.0  # ... and for fastbp's search on different numbers of threads
BESIDE = "as many processes as processors"  # all search at once, each on one thread
EVERY = 0.005  # seconds between samples of the memory in use


def run(options: Options) -> cells.Result:
    """Measure on all processors, then fastbp's search on fewer as well."""
    most, measured = count_processors(), []
    counts = options.threads or doubled(most)
    with ExitStack() as stack:

        def start(name: str, n_jobs: int, processors: int) -> Child:
            child = Child(
                "benchmarks.sweeps:Searcher", threads=processors, name=name, n_jobs=n_jobs
            )
            return stack.enter_context(child)

        rivals = {name: start(name, most, most) for name in CONTENDERS}
        by_threads = {n: start("fastbp", n, n) for n in sorted({1, *counts, most})}
        beside = [start("fastbp", 1, most) for _ in range(most)]
        threads = stack.enter_context(ThreadPoolExecutor(most))

        def search_beside() -> float:
            return max(threads.map(_sample, beside))

        for row in options.choose_rows(ROWS):
            prepare = partial(_prepare, row=row, quick=options.quick)
            list(threads.map(prepare, [*rivals.values(), *by_threads.values(), *beside]))
            samples = _race(
                {name: partial(_sample, child) for name, child in rivals.items()},
                options.turns(BUDGET),
            )
            own = {str(n): partial(_sample, child) for n, child in by_threads.items()}
            own_samples = _race(own | {BESIDE: search_beside}, options.turns(OWN_BUDGET))
            children = rivals | {f"fastbp, {n}": child for n, child in by_threads.items()}
            measured.append(_cell(row, samples, own_samples, children))
            print(row, file=sys.stderr, flush=True)
    different = [cell["row"] for cell in measured if not cell["same_scores"]]
    return {
        "machine": machine.describe(("scikit-learn", "fastbp")),
        "settings": options.settings,
        "cells": measured,
        "complaints": [f"The scores of fastbp's search differ from the stock search's: {row}."
                       for row in different],
    }  # fmt: skip


def _prepare(child: Child, row: str, quick: bool) -> None:
    child.call("prepare", row=row, quick=quick)


def _sample(child: Child) -> float:
    seconds: float = child.call("sample")
    return seconds


def _race(contenders: dict[str, Callable[[], float]], turns: Turns) -> dict[str, list[float]]:
    """Return the seconds of each contender, measured in turns."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    began = time.perf_counter()
    for turn in range(turns.most):
        for name, sample in contenders.items():
            samples[name].append(sample())
        spent = time.perf_counter() - began
        if turn + 1 >= turns.least and spent * (turn + 2) / (turn + 1) > turns.seconds:
            break
    return samples


def _cell(
    row: str,
    samples: dict[str, list[float]],
    by_threads: dict[str, list[float]],
    children: dict[str, Child],
) -> cells.Result:
    first, one = samples["MLP"], by_threads["1"]
    scores = {name: child.call("scores") for name, child in children.items()}
    together = by_threads.pop(BESIDE)
    most = max(by_threads, key=int)
    return {
        "row": row,
        "candidates": ROWS[row].candidates,
        "folds": ROWS[row].folds,
        "samples": samples | {f"fastbp, {n}": values for n, values in by_threads.items()},
        "seconds": {name: median(values) for name, values in samples.items()},
        "speedup": {name: cells.median_ratio(first, values) for name, values in samples.items()},
        "threads": {
            n: [median(values), cells.median_ratio(one, values)] for n, values in by_threads.items()
        },
        "processes": int(most) * cells.median_ratio(one, together),
        "of_stock": cells.median_ratio(samples["fastbp"], samples["BP"]),
        "same_scores": all(scores[name] == scores["BP"] for name in scores if name != "MLP"),
        "memory": {n: children[f"fastbp, {n}"].call("memory") for n in ("1", most)},
    }


class Searcher:
    """One contender's search, repeated in a child process."""

    def __init__(self, name: str, n_jobs: int) -> None:
        self.module, self.network = CONTENDERS[name]
        self.n_jobs = n_jobs
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # for joblib's workers

    def prepare(self, row: str, quick: bool) -> None:
        """Load the data, and search once to warm the pools and load the kernels."""
        self.sweep = ROWS[row]
        if quick:
            grid = {name: values[:1] for name, values in self.sweep.grid.items()}
            self.sweep = self.sweep._replace(grid=grid)
        self.X, self.y = self.sweep.load()
        self.sample()

    def sample(self) -> float:
        """Return the seconds of a search."""
        search = self._make_search()
        began = time.perf_counter()
        self.search = search.fit(self.X, self.y)
        return time.perf_counter() - began

    def _make_search(self) -> Any:
        network = getattr(self.sweep.networks, self.network)
        return self.sweep.search(self.module, network, self.n_jobs)

    def scores(self) -> list[float]:
        """Return the mean scores of the candidates."""
        scores: list[float] = self.search.cv_results_["mean_test_score"].tolist()
        return scores

    def memory(self) -> dict[str, float]:
        """Return the memory that Python and NumPy hold, as the median over time and the peak.

        The unit is the size of X in bytes. In a Pipeline, X means the output of the steps before
        the network, and these steps cause the peak.
        """
        X = self.X
        if self.sweep.in_pipeline:
            X = clone(self.search.estimator[:-1]).fit_transform(X, self.y)
        arrays = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
        n_bytes = sum(array.nbytes for array in arrays)
        held, done = [], threading.Event()

        def look() -> None:
            while not done.wait(EVERY):
                held.append(tracemalloc.get_traced_memory()[0])

        search = self._make_search()
        tracemalloc.start()
        looking = threading.Thread(target=look, daemon=True)  # must not outlive a failed search
        looking.start()
        search.fit(self.X, self.y)
        done.set()
        looking.join()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"bytes_of_X": n_bytes, "held": median(held) / n_bytes, "peak": peak / n_bytes}
