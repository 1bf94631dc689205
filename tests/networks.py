"""Random networks and samples of given shapes, for fastbp's engine and the oracle alike."""

import itertools
from dataclasses import dataclass

import naive
import numpy as np
import scipy.sparse

from fastbp.kernels import lbfgs
from fastbp.network import Weights, transpose_weights
from fastbp.samples import Samples
from fastbp.training.engine import Engine, sum_squares
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.solvers import Optimizer

SEED = 7 << 32 | 3  # of dropout


@dataclass
class Case:
    """A network with its samples; y is one-hot if the output is a softmax."""

    coefs: list
    intercepts: list
    names: tuple
    loss: str
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    sparse: bool = False
    dropout: tuple = ()
    smoothing: float = 0.0

    def samples(self, dtype):
        X = self.X.astype(dtype)
        X = scipy.sparse.csr_matrix(X) if self.sparse else X
        if self.names[-1] == "softmax":
            return Samples(X, None, self.y.argmax(axis=1).astype(np.int32), self.weight)
        return Samples(X, np.ascontiguousarray(self.y, dtype), None, self.weight)

    def engine(self, dtype=np.float64, batch_size=None, n_jobs=1, keep_gradient=True, **options):
        weights = Weights.of(self.coefs, self.intercepts, dtype)
        size = batch_size or len(self.X)
        parameter = self.smoothing or naive.PARAMETERS.get(self.loss, 0.0)
        return Engine(
            weights,
            self.names,
            "smoothed_log_loss" if self.smoothing else self.loss,
            self.samples(dtype),
            size,
            n_jobs,
            keep_gradient,
            parameter,
            self.dropout,
            SEED,
            **options,
        )

    def targets(self):
        """The targets as the loss sees them, with label smoothing."""
        share = self.smoothing / (self.y.shape[1] if self.names[-1] == "softmax" else 2)
        return (1 - self.smoothing) * self.y + share


def make_case(units, names, loss, n_samples=11, *, weighted=False, sparse=False, seed=0):
    """Draw weights, and samples that suit the output and the loss."""
    rng = np.random.default_rng(seed)
    coefs = [rng.normal(0, 1 / np.sqrt(shape[0]), shape) for shape in itertools.pairwise(units)]
    intercepts = [rng.normal(0, 0.3, n) for n in units[1:]]
    X = rng.normal(size=(n_samples, units[0]))
    if sparse:
        X *= rng.random(X.shape) < 0.4
    n_outputs = units[-1]
    if names[-1] == "softmax":
        y = np.eye(n_outputs)[rng.integers(0, n_outputs, n_samples)]
    elif loss == "log_loss":
        y = rng.integers(0, 2, (n_samples, n_outputs)).astype(float)
    elif loss == "poisson":
        y = rng.poisson(2.0, (n_samples, n_outputs)).astype(float)
    elif loss == "gamma":
        y = rng.gamma(2.0, size=(n_samples, n_outputs))
    else:
        y = rng.normal(size=(n_samples, n_outputs))
    weight = rng.random(n_samples) if weighted else None
    return Case(coefs, intercepts, tuple(names), loss, X, y, weight, sparse)


def evaluate(engine, rows, alpha):
    """Return objective, gradient and loss, as L-BFGS sees them; the weights are not changed."""
    weights = engine.weights
    before = weights.flat.copy()
    transpose_weights(engine.plan.network)  # the test may have changed the weights
    engine.sum_squares = sum_squares(weights)
    memory = LimitedMemory(weights)
    memory.begin(engine, rows, alpha=alpha, halts=False, tol=0, max_iter=1, max_fun=1)
    list(engine.train(rows, 1, memory))
    weights.flat[...] = before
    objective = memory.rule()["second"][lbfgs.OBJECTIVE_BEFORE]
    return objective, engine.workspace.gradient.copy(), memory.loss


def make_optimizer(solver="adam", **parameters):
    """Return an optimizer with the estimators' defaults."""
    defaults = {
        "learning_rate_init": 0.01,
        "alpha": 1e-3,
        "schedule": "constant",
        "power_t": 0.5,
        "momentum": 0.9,
        "nesterovs_momentum": True,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
    }
    return Optimizer(solver, **{**defaults, **parameters})
