"""After `warmup`, nothing is left to compile."""

import subprocess
import sys

import pytest

import fastbp

CODE = """
import numpy as np
import scipy.sparse
import fastbp
from fastbp import pace, threads
from fastbp.compiler import jit
from fastbp.kernels import activations
from fastbp.kernels.team import run_team
from fastbp.model_selection import GridSearchCV
from fastbp.training import engine

threads.LEAST_WORK, engine.ASKED_PATIENCE = 0, 0.0
pace.Pace.CALL_SECONDS, pace.Pace.LEAST_SECONDS = 1e-4, 0.0
fastbp.warmup(["float32"])
before = len(jit._c_functions), len(run_team.overloads)
assert before[0] > 20 and before[1] == 1, before
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
for n_jobs in (1, 2):
    for estimator, y in (
        (fastbp.BPClassifier, X[:, 0] > 0),
        (fastbp.BPClassifier, np.digitize(X[:, 0], [-1, 1])),
        (fastbp.BPRegressor, X[:, :2]),
    ):
        model = estimator(hidden_layer_sizes=(4,), max_iter=3, n_jobs=n_jobs)
        model.fit(X, y, X[:, 0] ** 2).predict(X)
        model.fit(scipy.sparse.csr_matrix(X), y).predict(X)
        model.set_params(dtype="float32").fit(X.astype(float), y).predict(X.astype(float))
        model.fit(scipy.sparse.csr_matrix(X.astype(float)), y)
for activation in set(activations.CODES) - {"softmax", "exp"}:
    fastbp.BPClassifier((4,), activation, max_iter=1).fit(X, X[:, 0] > 0)
for solver in ("sgd", "lbfgs"):
    for y in (X[:, 0] > 0, np.digitize(X[:, 0], [-1, 1]), X[:, :2] > 0):
        fastbp.BPClassifier((4,), solver=solver, max_iter=3, early_stopping=True).fit(X, y)
    model = fastbp.BPRegressor(hidden_layer_sizes=(4,), solver=solver, early_stopping=True)
    model.fit(X, X[:, :2]).fit(scipy.sparse.csr_matrix(X), X[:, :2])
grid = {"alpha": [0, 1], "solver": ["adam", "lbfgs"]}
search = GridSearchCV(fastbp.BPClassifier((4,), max_iter=1), grid, n_jobs=2)
search.fit(X, X[:, 0] > 0)
fastbp.BPRegressor("poisson", (4,), max_iter=1).fit(X, X[:, 0] ** 2)
assert (len(jit._c_functions), len(run_team.overloads)) == before
"""


def test_nothing_is_left_to_compile():
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True)


@pytest.mark.parametrize("dtypes", ["float16", ["float32", "int8"], [None]])
def test_an_unknown_dtype(dtypes):
    with pytest.raises(ValueError, match="dtypes must be 'float32' or 'float64'"):
        fastbp.warmup(dtypes)
