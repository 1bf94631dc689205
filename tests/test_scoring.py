"""The estimators' own scores are scikit-learn's, bit for bit, whatever y is."""

import warnings
from unittest.mock import patch

import numpy as np
import pytest
from sklearn.base import ClassifierMixin, RegressorMixin

from fastbp import BPClassifier, BPRegressor

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
K = (X[:, 0] > 0) * 1 + (X[:, 1] > 0.5) * 1
CLASSES = {
    "three": K,
    "two": K % 2,
    "one": 0 * K,
    "bool": K > 0,
    "words": np.array(["a", "b", "cc"])[K],
    "objects": np.array(["a", "b", "cc"], object)[K],
    "bytes": K.astype("i1"),
    "floats": K / 1.0,
    "labels": np.column_stack([K > 0, K > 1]).astype(int),
    "many": np.arange(N) // 2,
}
NUMBERS = {
    "float64": X[:, 0] + X[:, 1] ** 2,
    "float32": (X[:, 0] + X[:, 1] ** 2).astype("f4"),
    "integers": K * 7,
    "constant": np.ones(N),
    "columns": X[:, :2] ** 2,
    "a column": X[:, :1] ** 2,
}


def outcome(score, *data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = score(*data)
        except (TypeError, ValueError) as error:
            result = str(error)
    return repr(result), [str(warning.message) for warning in caught]


def variants(y):
    """Return other forms that y may have when the score is asked for."""
    return [
        y, y.tolist(), y[:1], y[:7], y[::-1], y[:-1], y.astype(str), np.full(y.shape, 9),
        y[:, None] if y.ndim == 1 else y[:, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of", [*CLASSES, *NUMBERS])
@pytest.mark.filterwarnings("ignore")
def test_scores(of, dtype):
    y = CLASSES.get(of, NUMBERS.get(of))
    kind, mixin = (
        (BPClassifier, ClassifierMixin) if of in CLASSES else (BPRegressor, RegressorMixin)
    )
    model = kind(hidden_layer_sizes=(4,), max_iter=20, random_state=0, dtype=dtype).fit(X, y)
    for other in variants(y):
        data = X[: len(other)], other
        assert outcome(model.score, *data) == outcome(lambda *d: mixin.score(model, *d), *data)
        weighted = *data, np.arange(len(other)) % 4
        assert outcome(model.score, *weighted) == outcome(
            lambda *d: mixin.score(model, *d), *weighted
        )
    if y.dtype.kind == "f" and of != "floats":
        y = y.copy()
        y[3] = np.nan
        assert outcome(model.score, X, y) == outcome(lambda *d: mixin.score(model, *d), X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_is_not_asked_about_what_is_plain():
    classifier = BPClassifier((4,), max_iter=5).fit(X, K)
    regressor = BPRegressor(hidden_layer_sizes=(4,), max_iter=5).fit(X, X[:, 0])
    with (
        patch("fastbp.estimators.classifier.accuracy_score", side_effect=AssertionError),
        patch("fastbp.estimators.regressor.r2_score", side_effect=AssertionError),
    ):
        assert 0 <= classifier.score(X, K) <= 1
        assert regressor.score(X, X[:, 0]) <= 1
