"""What is accepted without scikit-learn's checks, which would have accepted it, too."""

import warnings

import numpy as np
import pytest
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_X_y

from fastbp import BPClassifier, BPRegressor
from fastbp.estimators import base
from fastbp.estimators.checks import are_plain, check_layers, fit_binarizer

N = 40
K = np.arange(N)
YS = {
    **{f"{kind} of {n}": (K % n).astype(kind) for kind in ("i1", "u2", "i4", "i8", "f8", ">i4")
       for n in (1, 2, 5, 19, 20, 21, 40)},
    "bool": K % 2 > 0,
    "words": np.array(["b", "a", "cc"])[K % 3],
    "objects": np.array(["b", "a", "cc"], object)[K % 3],
    "bytes": np.array([b"b", b"a"])[K % 2],
    "several labels": np.column_stack([K % 2, K % 3 > 1]),
    "a column": (K % 3)[:, None],
    "continuous": K / 3,
    "dates": K.astype("M8[D]"),
    "not finite": np.where(K == 3, np.nan, K % 2),
    "none": K[:0],
    "few": np.array([3, 1, 3]),
}  # fmt: skip


def outcome(fit, y):
    """Return the outcome of a fit: attributes or an error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = vars(fit(y))
        except (TypeError, ValueError) as error:
            result = str(error)
    return result, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", YS)
def test_a_binarizer(name):
    y = YS[name]
    mine, theirs = (outcome(fit, y) for fit in (fit_binarizer, LabelBinarizer().fit))
    assert mine[1] == theirs[1]
    if isinstance(theirs[0], str):
        assert mine[0] == theirs[0]
        return
    assert mine[0].keys() == theirs[0].keys()
    for attribute, value in theirs[0].items():
        np.testing.assert_array_equal(mine[0][attribute], value)
    assert mine[0]["classes_"].dtype == theirs[0]["classes_"].dtype


@pytest.mark.parametrize("y", [K % 2, K % 2 > 0, np.array(["b", "a"])[K % 2], 0 * K + 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_two_classes_or_of_one(y, dtype):
    model = BPClassifier((2,), max_iter=1)
    targets, labels = model._validate_targets(y, np.dtype(dtype), False)
    expected = LabelBinarizer().fit(y).transform(y)
    assert labels is None
    assert targets.dtype == dtype
    np.testing.assert_array_equal(targets, expected.reshape(N, 1))


X = np.random.default_rng(0).normal(size=(N, 3))


def with_value(value):
    changed = X.copy()
    changed[2, 1] = value
    return changed


XS = {
    "plain": X,
    "float32": X.astype("f4"),
    "of one column": X[:, :1].copy(),
    "Fortran's order": np.asfortranarray(X),
    "every second": X[:, ::2],
    "swapped": X.astype(">f8"),
    "half": X.astype("f2"),
    "integers": X.astype(int),
    "objects": X.astype(object),
    "one-dimensional": X[:, 0],
    "without columns": X[:, :0],
    "without rows": X[:0],
    "nan": with_value(np.nan),
    "infinity": with_value(np.inf),
    "a large sum": np.full((N, 3), 1e308),
    "a list": X.tolist(),
    "a subclass": X.view(np.ma.MaskedArray),
    "of other length": X[1:],
}


@pytest.mark.parametrize("of_y", ["plain", "bool", "not finite", "words", "a column", "a list"])
@pytest.mark.parametrize("name", XS)
def test_what_is_plain(name, of_y):
    plain = K % 2
    y = {"plain": plain, "a list": plain.tolist(), **YS}[of_y]
    is_plain = are_plain(XS[name], y)
    expected = name in ("plain", "float32", "of one column") and of_y in ("plain", "bool")
    assert is_plain == expected
    if is_plain:
        checked = check_X_y(XS[name], y, order="C", dtype=[np.float64, np.float32])
        assert checked[0] is XS[name]
        assert checked[1].dtype == y.dtype
        np.testing.assert_array_equal(checked[1], y)


def test_names_of_features_are_forgotten():
    pd = pytest.importorskip("pandas")
    model = BPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", max_iter=2, tol=1e3)
    model.fit(pd.DataFrame(X, columns=list("abc")), X[:, 0])
    assert model.feature_names_in_.tolist() == list("abc")
    model.fit(X[:, :2].copy(), X[:, 0])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 2


def test_parameters_are_checked_once(monkeypatch):
    monkeypatch.setattr(base, "_valid", set())
    monkeypatch.setattr(base, "MOST_VALID", 3)
    for value in (0.1, 1, 1.0, 0.2, 0.3):
        for _ in range(2):
            BPClassifier(alpha=value)._validate_params()
    assert len(base._valid) == 2  # it was full, and emptied, once
    for value in (-1, "a", None, np.nan):
        for _ in range(2):
            with pytest.raises(ValueError, match="'alpha' parameter"):
                BPClassifier(alpha=value)._validate_params()
    assert len(base._valid) == 2
    BPRegressor(alpha=0.3)._validate_params()
    assert len(base._valid) == 3
    BPClassifier(alpha=0.3, activation=["relu"])._validate_params()  # a list may change later
    assert len(base._valid) == 3


def test_a_layer_of_no_units():
    with pytest.raises(ValueError, match="must have the shapes of layers"):
        check_layers([np.ones((3, 0)), np.ones((0, 1))], [np.ones(0), np.ones(1)], 3, 1)
