"""fastbp and scikit-learn: the same parameters, the same call of `fit`."""

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.problems import ALPHA, SEED, Problem
from fastbp import BPClassifier, BPRegressor


class Estimator:
    """A classifier and a regressor of scikit-learn's kind."""

    classifier: ClassVar[type]
    regressor: ClassVar[type]

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        self.X, self.y = problem.data(dtype)
        self.kind = self.regressor if problem.task == "regression" else self.classifier
        self.parameters: dict[str, Any] = {
            "hidden_layer_sizes": problem.hidden,
            "activation": problem.activation,
            "solver": problem.solver,
            "alpha": ALPHA,
            "batch_size": problem.batch_size,
            "tol": 0,
            "n_iter_no_change": np.inf,
            "random_state": SEED,
        }

    @classmethod
    def takes(cls, problem: Problem) -> bool:
        """Tell whether the estimator has the problem's settings."""
        return True

    def fitted(self, epochs: int) -> Any:
        """Return a new estimator, trained for so many epochs."""
        estimator = self.kind(max_iter=epochs, **self.parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return estimator.fit(self.X, self.y)

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch, of L-BFGS the last loss only."""
        estimator = self.fitted(epochs)
        return [estimator.loss_] if estimator.solver == "lbfgs" else estimator.loss_curve_


class ScikitLearn(Estimator):
    """Its threads are those of NumPy's BLAS."""

    given = "`MLPClassifier.fit` or `MLPRegressor.fit`, the products by NumPy's BLAS"
    classifier, regressor = MLPClassifier, MLPRegressor

    @classmethod
    def takes(cls, problem: Problem) -> bool:
        """Four activations, three solvers."""
        return problem.activation in ("identity", "logistic", "tanh", "relu") and (
            problem.solver in ("lbfgs", "sgd", "adam")
        )


class Fastbp(Estimator):
    """All threads, or one."""

    given = "`BPClassifier.fit` or `BPRegressor.fit`, n_jobs=1 for one thread and -1 for all"
    classifier, regressor = BPClassifier, BPRegressor

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        super().__init__(problem, dtype, threads)
        self.parameters["n_jobs"] = 1 if threads == 1 else -1
