"""fastbp and scikit-learn, with the same parameters and the same call of `fit`."""

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.problems import ALPHA, SEED, Problem
from fastbp import BPClassifier, BPRegressor


class Estimator:
    """A classifier and a regressor with scikit-learn's parameters."""

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
        """Return whether the estimator supports the problem's activation and solver."""
        return True

    def fitted(self, epochs: int) -> Any:
        """Return a new estimator that was trained for `epochs` epochs."""
        estimator = self.kind(max_iter=epochs, **self.parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return estimator.fit(self.X, self.y)

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch, or L-BFGS's final loss alone."""
        estimator = self.fitted(epochs)
        return [estimator.loss_] if estimator.solver == "lbfgs" else estimator.loss_curve_


class ScikitLearn(Estimator):
    """scikit-learn's networks; their threads are those of NumPy's BLAS."""

    given = "`MLPClassifier.fit` or `MLPRegressor.fit`, with matrix products by NumPy's BLAS"
    classifier, regressor = MLPClassifier, MLPRegressor

    @classmethod
    def takes(cls, problem: Problem) -> bool:
        """Return whether scikit-learn has the activation (of four) and the solver (of three)."""
        return problem.activation in ("identity", "logistic", "tanh", "relu") and (
            problem.solver in ("lbfgs", "sgd", "adam")
        )


class Fastbp(Estimator):
    """fastbp's networks, on one thread or on all."""

    given = "`BPClassifier.fit` or `BPRegressor.fit`, with n_jobs=1 for one thread and -1 for all"
    classifier, regressor = BPClassifier, BPRegressor

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        super().__init__(problem, dtype, threads)
        self.parameters["n_jobs"] = 1 if threads == 1 else -1
