"""After `warmup` nothing is left to compile."""

import subprocess
import sys

CODE = """
import numpy as np
import fastbp
from fastbp import threads
from fastbp.kernels import epoch
from fastbp.training import engine

kernels = epoch.train_serial, epoch.train_parallel, epoch.predict_serial, epoch.predict_parallel
threads.LEAST_WORK, engine.ASKED_PATIENCE, threads.Pace.CALL_SECONDS = 0, 0.0, 1e-4
fastbp.warmup(["float32"])
before = [set(kernel.overloads) for kernel in kernels]
assert all(len(overloads) == 1 for overloads in before), before
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
for n_jobs in (1, 2):
    for estimator, y in (
        (fastbp.BPClassifier, X[:, 0] > 0),
        (fastbp.BPClassifier, np.digitize(X[:, 0], [-1, 1])),
        (fastbp.BPRegressor, X[:, :2]),
    ):
        model = estimator(hidden_layer_sizes=(4,), max_iter=3, n_jobs=n_jobs)
        model.fit(X, y, X[:, 0] ** 2).predict(X)
assert [set(kernel.overloads) for kernel in kernels] == before
"""


def test_nothing_is_left_to_compile():
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True)
