"""The score used for early stopping, computed from outputs, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

from fastbp import BPClassifier, BPRegressor
from fastbp.estimators.early_stopping import Judge
from fastbp.samples import Samples

N = 40


def judge(model, y, rows, weight, dtype):
    """Return a new network's outputs for some rows, y in comparable form, and the score."""
    X = np.random.default_rng(0).normal(size=(N, 3)).astype(dtype)
    model.fit(X, y)
    targets, labels = model._validate_targets(y, X.dtype, False)
    samples = Samples(X, targets, labels, weight)
    names = (*model._check_network()[1], model.out_activation_)
    own = Judge(model, samples, rows, names)
    score, _ = own()
    own.close()
    return model._predictor(names, X, 1, rows), score


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [[0, 3], [5, 1, 1, 38], np.arange(N)], ids=len)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestScores:
    @pytest.fixture
    def weight(self, weighted):
        return np.arange(N) % 4 + 0.25 if weighted else None

    @pytest.mark.parametrize("make_y", [
        lambda x: x, lambda x: np.column_stack([x, 100 * x, x**2]), lambda x: 0 * x + 3,
        lambda x: np.column_stack([x, 0 * x + 2]),
    ])  # fmt: skip
    def test_r2(self, make_y, rows, weight, dtype):
        y = make_y(np.linspace(-1, 2, N))
        model = BPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
        outputs, score = judge(model, y, rows, weight, dtype)
        of_rows = None if weight is None else weight[rows]
        expected = r2_score(y[rows], outputs.astype(float), sample_weight=of_rows)
        assert score == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)

    @pytest.mark.parametrize("make_y", [
        lambda k: k % 2, lambda k: k % 5, lambda k: np.column_stack([k % 2, k % 3 > 1]),
    ])  # fmt: skip
    def test_accuracy(self, make_y, rows, weight, dtype):
        y = make_y(np.arange(N))
        model = BPClassifier((4,), max_iter=3, random_state=0)
        outputs, score = judge(model, y, rows, weight, dtype)
        of_rows = None if weight is None else weight[rows]
        expected = accuracy_score(y[rows], model._decide(outputs), sample_weight=of_rows)
        assert score == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_no_r2(value):
    X, y = np.ones((N, 2)), np.arange(N) / N
    model = BPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=9).fit(X, y)
    model.intercepts_[-1][:] = value
    own = Judge(model, Samples(X, y[:, None]), np.arange(N), ("relu", "identity"))
    assert np.isnan(own()[0])


def test_one_sample_has_no_r2():
    X, y = np.ones((N, 2)), np.arange(N) / N
    model = BPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=9).fit(X, y)
    assert np.isnan(Judge(model, Samples(X, y[:, None]), np.array([3]), ("relu", "identity"))()[0])


@pytest.mark.parametrize("y", [np.arange(N) % 3, np.arange(N) % 2])
def test_the_first_nan_is_the_largest_output(y):
    """As in NumPy."""
    X = np.ones((N, 2))
    model = BPClassifier((4,), solver="lbfgs", max_iter=9).fit(X, y)
    model.intercepts_[-1][-1] = np.nan
    names = "relu", model.out_activation_
    _, labels = model._validate_targets(y, X.dtype, False)
    targets = None if labels is not None else y[:, None].astype(float)
    outputs = model._predictor(names, X, 1)
    score, _ = Judge(model, Samples(X, targets, labels), np.arange(N), names)()
    assert score == accuracy_score(y, model._decide(outputs))
