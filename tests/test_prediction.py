"""Prediction: by single rows, in whole arrays, and from several threads at once."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

from fastbp import BPClassifier, BPRegressor
from fastbp.estimators import base

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum iterations")

X = np.random.default_rng(0).normal(size=(400, 20))


@pytest.fixture(params=["binary", "classes", "targets"])
def model(request):
    parameters = {"hidden_layer_sizes": (40, 9), "max_iter": 3, "random_state": 0}
    if request.param == "binary":
        return BPClassifier(**parameters).fit(X, X[:, 0] > 0)
    if request.param == "classes":
        return BPClassifier(**parameters).fit(X, np.digitize(X[:, 0], [-1, 0, 0.5, 1, 2]))
    return BPRegressor(**parameters).fit(X, X[:, :3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_one_by_one(model, dtype):
    x = X.astype(dtype)
    single = np.concatenate([model.predict(row[None]) for row in x])
    np.testing.assert_array_equal(single, model.predict(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_validation_that_is_skipped_changes_nothing(model, dtype, monkeypatch):
    x = X[:5].astype(dtype)
    assert model._may_skip_validation(x)
    expected = model.predict(x)
    monkeypatch.setattr(base, "MOST_SKIPPED", 0)
    assert not model._may_skip_validation(x)
    np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X[:1, :19], "19 features"),
        (X[:0], "0 sample"),
        (X[0], "1D array"),
        (np.full((1, 20), np.nan), "NaN"),
        (np.full((1, 20), np.inf), "infinity"),
        (X[:1] + 1j, "Complex"),
        (np.full((1, 20), "a"), "convert"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_rows_are_not_let_through(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.predict(bad)


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.astype(">f8"),
        lambda x: x.tolist(),
        scipy.sparse.csr_matrix,
    ],
    ids=["F order", "strided", "big-endian", "list", "sparse"],
)
def test_any_layout_gives_the_same(model, convert):
    expected = model.predict(X[:3])
    np.testing.assert_allclose(model.predict(convert(X[:3])), expected, rtol=1e-12)


def test_feature_names_are_still_looked_at():
    pandas = pytest.importorskip("pandas")
    names = [f"x{i}" for i in range(20)]
    model = BPRegressor(max_iter=1, hidden_layer_sizes=(3,))
    model.fit(pandas.DataFrame(X, columns=names), X[:, 0])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X[:1])


def test_many_threads_on_one_estimator(model):
    expected = [model.predict(X[i : i + 1 + i % 30]) for i in range(256)]
    with ThreadPoolExecutor(8) as pool:
        actual = pool.map(lambda i: model.predict(X[i : i + 1 + i % 30]), range(256))
        for mine, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_x_is_not_kept_alive(model):
    for n in (1, 100):
        x = X[:n].copy()
        gone = weakref.ref(x)
        outputs = model.predict(x)
        del x
        assert gone() is None
        assert len(outputs) == n


def test_what_is_written_into_the_weights_predicts(model):
    before = model.predict(X[:2])
    model.coefs_[-1][...] = 0
    model.intercepts_[-1][...] = 0
    after = model.predict_proba(X[:2]) if hasattr(model, "predict_proba") else model.predict(X[:2])
    assert np.ptp(after) == 0
    assert before.shape[0] == after.shape[0]
