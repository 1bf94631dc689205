"""What several test modules share: data, pairs of estimators, their comparison, processes."""

import importlib.util
import io
import os
import random
import subprocess
import sys
import time
import warnings
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import rich
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastbp import BPClassifier, BPRegressor
from fastbp.compiler.jit import DISABLED
from fastbp.matmul.product import has_blas

CLASSIFIED = ("binary", "multiclass", "multilabel")
TARGETS = (*CLASSIFIED, "regression", "multioutput", "poisson")


def make_data(target, n_samples=45, n_features=6, seed=0):
    """Return X, a third of it zeros, and a target y of this kind that depends on X."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features)) * (rng.random((n_samples, n_features)) < 2 / 3)
    Z = X @ rng.normal(size=(n_features, 3)) + 0.5 * rng.normal(size=(n_samples, 3))
    y = {
        "binary": (Z[:, 0] > 0).astype(int),
        "multiclass": Z.argmax(axis=1) * 2 + 1,
        "multilabel": (Z > 0).astype(int),
        "regression": Z[:, 0],
        "multioutput": Z,
        "poisson": rng.poisson(np.exp(Z[:, 0] / 3)).astype(float),
    }[target]
    return X, y


def make_weights(n_samples=45):
    return np.random.default_rng(1).uniform(0.2, 3, n_samples)


def make_pair(target, **parameters):
    """Return fastbp's estimator for this kind of target, and scikit-learn's."""
    if target in CLASSIFIED:
        return BPClassifier(**parameters), MLPClassifier(**parameters)
    if target == "poisson":
        parameters["loss"] = "poisson"
    return BPRegressor(**parameters), MLPRegressor(**parameters)


def call_both(pair, method, *arguments, **options):
    """Call a method of both estimators, and check that they give the same warnings."""
    said = []
    for model in pair:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(model, method)(*arguments, **options)
        said.append([(warning.category, str(warning.message)) for warning in caught])
    assert said[0] == said[1]
    return pair


def assert_same(ours, theirs, rtol):
    """Check that both are the same kind of value, arrays of one dtype, equal within rtol."""
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b, rtol)
    elif isinstance(theirs, np.ndarray) or np.issubdtype(type(theirs), np.floating):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        assert np.shape(ours) == np.shape(theirs)
        if np.issubdtype(np.asarray(theirs).dtype, np.floating):
            # relative to the largest element, since sums may cancel to almost zero
            scale = np.max(np.abs(theirs), initial=0, where=np.isfinite(theirs))
            np.testing.assert_allclose(ours, theirs, rtol, atol=rtol * scale)
        else:
            np.testing.assert_array_equal(ours, theirs)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


def assert_same_model(pair, X, y, rtol=1e-8):
    """Check that every public attribute of scikit-learn's estimator, and predictions, agree."""
    ours, theirs = pair
    for name, value in vars(theirs).items():
        if not name.startswith("_"):
            assert name in vars(ours), name
            if name.endswith("_"):
                assert_same(getattr(ours, name), value, rtol)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(theirs, method):
            assert_same(getattr(ours, method)(X), getattr(theirs, method)(X), rtol)
    assert_same(ours.score(X, y), theirs.score(X, y), rtol)


def run_python(code, *arguments, timeout=300, **environment):
    """Run code in its own process, which must succeed in time; return the finished process."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def run_tests(command, *arguments, **environment):
    """Run tests of this folder by a Python command in its own process; they must pass."""
    finished = subprocess.run(
        [sys.executable, *command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert " passed" in finished.stdout


def wait_until(condition, seconds=60):
    """Wait for a condition that must come true in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def cover(strength, axes):
    """Return cases that together cover all combinations of values of any `strength` axes."""
    draw = random.Random(0)
    groups = list(combinations(axes, strength))
    missing = dict.fromkeys(
        tuple(zip(group, values, strict=True))
        for group in groups
        for values in product(*(axes[name] for name in group))
    )

    def found(case):
        held = (tuple((name, case[name]) for name in group) for group in groups)
        return [combination for combination in held if combination in missing]

    cases = []
    while missing:
        fixed = dict(next(iter(missing)))
        tries = [{name: draw.choice(axes[name]) for name in axes} | fixed for _ in range(20)]
        best = max(tries, key=lambda case: len(found(case)))
        for combination in found(best):
            del missing[combination]
        cases.append(best)
    return cases


def print_to_a_terminal(monkeypatch):
    """Replace standard output by a stream that claims to be a terminal, and return the stream."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(rich, "_console", None)  # rich keeps the console of an earlier test
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return terminal


def need_blas():
    """Skip if the extension was not built, for want of a C compiler; if built, it must load.

    It is optional for users. CI fails without it.
    """
    if not has_blas():
        built = importlib.util.find_spec("fastbp.matmul.blas")
        assert built is None, f"{built} does not load"
        pytest.skip("the extension was not built: there was no C compiler")


def grid(dtype, low, high, n=200_001):
    """Numbers at equal distances."""
    return np.linspace(low, high, n).astype(dtype)


compiled = pytest.mark.skipif(DISABLED, reason="as plain Python the functions are NumPy's")


class Interrupted:
    """A wrapper of a function that raises KeyboardInterrupt at the end of one of its calls."""

    def __init__(self, function, call):
        self.function, self.call, self.calls = function, call, 0

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __call__(self, *arguments):
        result = self.function(*arguments)
        self.calls += 1
        if self.calls == self.call:
            raise KeyboardInterrupt
        return result
