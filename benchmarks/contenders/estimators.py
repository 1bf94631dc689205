"""fastbp and scikit-learn: the same parameters, the same call of `fit`."""

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.problems import ALPHA, SEED, Problem
from fastbp import BPClassifier


class Estimator:
    """A classifier of scikit-learn's kind."""

    kind: ClassVar[type]

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        self.X, self.y = problem.data(dtype)
        self.parameters: dict[str, Any] = {
            "hidden_layer_sizes": problem.hidden,
            "solver": problem.solver,
            "alpha": ALPHA,
            "batch_size": problem.batch_size,
            "tol": 0,
            "n_iter_no_change": np.inf,
            "random_state": SEED,
        }

    def fitted(self, epochs: int) -> Any:
        """Return a new estimator, trained for so many epochs."""
        estimator = self.kind(max_iter=epochs, **self.parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return estimator.fit(self.X, self.y)

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch."""
        return self.fitted(epochs).loss_curve_


class ScikitLearn(Estimator):
    """Its threads are those of NumPy's BLAS."""

    given = "`MLPClassifier.fit`, its products by NumPy's BLAS"
    kind = MLPClassifier


class Fastbp(Estimator):
    """All threads, or one."""

    given = "`BPClassifier.fit`, n_jobs=1 for one thread and -1 for all"
    kind = BPClassifier

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        super().__init__(problem, dtype, threads)
        self.parameters["n_jobs"] = 1 if threads == 1 else -1
