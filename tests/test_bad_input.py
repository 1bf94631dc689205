"""Invalid data and parameters are refused as by scikit-learn; unusual layouts are accepted."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from common import make_data, make_pair, run_python
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError

from fastbp import BPClassifier, BPRegressor
from fastbp.compiler import jit

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ("multiclass", "regression")
N = 45
X, _ = make_data("regression", N)
Y = {kind: make_data(kind, N)[1] for kind in (*KINDS, "binary", "multilabel", "multioutput")}
CSR = scipy.sparse.csr_array(X)
NUMBERED = np.arange(N)
CLASSES = {"multiclass": {"classes": range(6)}, "binary": {"classes": [0, 1]}, "regression": {}}


def pair_of(kind, **parameters):
    return make_pair(kind, **{"max_iter": 2, "random_state": 0, **parameters})


def but(array, index, value):
    """Return a copy of the array with one element changed."""
    array = np.array(array, dtype=object if isinstance(value, str | None) else float)
    array[index] = value
    return array


def with_unaligned(array):
    """Return a copy that begins one byte after an aligned address."""
    copy = np.empty(array.nbytes + 16, np.uint8)
    start = -copy.ctypes.data % 16 + 1
    copy = copy[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert array.itemsize == 1 or not copy.flags.aligned
    return copy


def error_of(call, *arguments, **options):
    """Return the exception that the call raises."""
    with warnings.catch_warnings(action="ignore"), pytest.raises(Exception) as caught:  # noqa: PT011
        call(*arguments, **options)
    return caught.value


def public_type(error):
    """Return the nearest type of an exception that users can name: built-in, or scikit-learn's."""
    for cls in type(error).__mro__:
        if cls.__module__ == "builtins" or cls.__module__.startswith("sklearn"):
            return cls
    raise AssertionError


def assert_refused(call_ours, call_theirs, *arguments, match, **options):
    """Check that both raise, and that code which catches scikit-learn's exception catches ours."""
    theirs = error_of(call_theirs, *arguments, **options)
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(public_type(theirs), match=match) as caught,
    ):
        call_ours(*arguments, **options)
    assert not isinstance(caught.value, SystemError | AssertionError)


# ------------------------------------------------------------------------------------ the data

BAD_X = {
    "nan": (but(X, (3, 2), np.nan), "Input X contains NaN"),
    "infinity": (but(X, (3, 2), -np.inf), "Input X contains infinity"),
    "nan-float32": (but(X, (3, 2), np.nan).astype(np.float32), "Input X contains NaN"),
    "nan-sparse": (scipy.sparse.csc_array(but(X, (3, 2), np.nan)), "Input X contains NaN"),
    "missing-in-frame": (pd.DataFrame(X).mask(X > 1), "Input X contains NaN"),
    "missing-integer": (
        pd.DataFrame({str(j): pd.array([None, *range(N - 1)], dtype="Int64") for j in range(6)}),
        "Input X contains NaN",
    ),
    "vector": (X[:, 0], "Expected 2D array, got 1D array"),
    "cube": (X.reshape(N, 3, 2), "dim 3"),
    "number": (3.0, "Expected 2D array, got scalar"),
    "none": (None, "Expected 2D array"),
    "no-rows": (X[:0], "0 sample"),
    "no-rows-sparse": (CSR[:0], "0 sample"),
    "no-columns": (X[:, :0], "0 feature"),
    "no-columns-sparse": (CSR[:, :0], "0 feature"),
    "complex": (X + 1j, "Complex data not supported"),
    "complex-sparse": (CSR * 1j, "Complex data not supported"),
    "words": (np.full((N, 6), "ten"), "could not convert string to float"),
    "object-with-word": (but(X, (3, 2), "ten"), "could not convert string to float: 'ten'"),
    "categories": (pd.DataFrame({"a": ["x"] * N}), "could not convert string to float"),
    "ragged": ([[1.0, 2], [3]] * 20, "inhomogeneous"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict"])
@pytest.mark.parametrize("bad", BAD_X)
def test_bad_x(bad, method, kind):
    x, match = BAD_X[bad]
    ours, theirs = pair_of(kind)
    if method == "predict":
        calls = [model.fit(X, Y[kind]).predict for model in (ours, theirs)]
        assert_refused(*calls, x, match=match)
        return
    n = len(x) if isinstance(x, np.ndarray) else N
    options = CLASSES[kind] if method == "partial_fit" else {}
    calls = getattr(ours, method), getattr(theirs, method)
    assert_refused(*calls, x, Y[kind][:n], match=match, **options)


BAD_Y = {
    "none": (None, "y"),
    "short": (np.arange(N - 1) % 3, r"inconsistent numbers of samples: \[45, 44\]"),
    "nan": (but(NUMBERED % 3, 3, np.nan), "Input y contains NaN"),
    "infinity": (but(NUMBERED % 3, 3, np.inf), "Input y contains infinity"),
    "missing": (pd.Series([None, *range(N - 1)], dtype="Int64"), "Input y contains NaN"),
    "complex": (X[:, 0] + 1j, "Complex data not supported"),
    "cube": (np.zeros((N, 2, 2)), "dim 3"),
    "number": (1, "at least 1 dimension"),
    "no-columns": (np.zeros((N, 0)), "0 feature"),
    "ragged": ([[0, 1], [1], [0]] * 15, "inhomogeneous"),
    "sparse-column": (scipy.sparse.csr_array((NUMBERED % 2)[:, None]), "for y"),
}
BAD_LABELS = {
    "continuous": (X[:, 0] + 0.5, "Unknown label type"),
    "two-columns": (np.c_[NUMBERED % 3, NUMBERED % 3], "Multioutput target"),
    "two-continuous-columns": (X[:, :2], "Multioutput target"),
    "words-and-numbers": (np.array([1, "a", 2] * 15, dtype=object), "not supported between"),
    "bytes": (np.array([b"a", b"b", b"c"])[NUMBERED % 3], "bytes"),
}
BAD_NUMBERS = {
    "words": (np.array(["one", "two", "ten"])[NUMBERED % 3], r"\by\b"),
    "digits": (np.array(["1", "2", "3"])[NUMBERED % 3], r"\by\b"),
    "dates": (NUMBERED.astype("datetime64[D]"), r"\by\b"),
    "objects-with-word": (but(X[:, 0], 3, "ten"), "could not convert string to float: 'ten'"),
}


@pytest.mark.parametrize(
    ("kind", "y", "match"),
    [
        pytest.param(kind, *bad, id=f"{kind}-{name}")
        for kind, group in (
            ("multiclass", BAD_Y | BAD_LABELS),
            ("regression", BAD_Y | BAD_NUMBERS),
        )
        for name, bad in group.items()
    ],
)
def test_bad_y(kind, y, match):
    ours, theirs = pair_of(kind)
    assert_refused(ours.fit, theirs.fit, X, y, match=match)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("value", [1, 7.0, "a", True])
def test_one_class_is_learnt(value, solver):
    y = np.full(N, value)
    for model in pair_of("binary", solver=solver):
        model.fit(X, y)
        np.testing.assert_array_equal(model.predict(X), y)
        assert model.predict(X).dtype == y.dtype


@pytest.mark.parametrize("parameters", [{}, {"solver": "lbfgs"}, {"out_activation": "softplus"}])
def test_poisson_refuses_negative_targets(parameters):
    model = BPRegressor(loss="poisson", **parameters)
    with pytest.raises(ValueError, match=r"loss='poisson' requires y >= 0"):
        model.fit(X, but(np.ones(N), 7, -1e-9))


@pytest.mark.parametrize("out_activation", ["identity", "relu", "tanh"])
def test_poisson_refuses_outputs_that_may_be_negative(out_activation):
    model = BPRegressor(loss="poisson", out_activation=out_activation)
    with pytest.raises(ValueError, match="out_activation"):
        model.fit(X, np.ones(N))


BAD_WEIGHTS = {
    "zeros": (np.zeros(N), "weights must contain at least one non-zero"),
    "short": (np.ones(N - 1), "sample_weight.shape"),
    "long": (np.ones(N + 1), "sample_weight.shape"),
    "column": (np.ones((N, 1)), "Sample weights must be 1D"),
    "nan": (but(np.ones(N), 3, np.nan), "Input sample_weight contains NaN"),
    "infinity": (but(np.ones(N), 3, np.inf), "Input sample_weight contains infinity"),
    "complex": (np.ones(N) + 1j, "Complex data not supported"),
    "words": (np.full(N, "one"), "could not convert string to float"),
    "sparse": (scipy.sparse.csr_array(np.ones((1, N))), "for sample_weight"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("bad", BAD_WEIGHTS)
def test_bad_sample_weight(bad, method, kind):
    weights, match = BAD_WEIGHTS[bad]
    calls = [getattr(model, method) for model in pair_of(kind)]
    options = CLASSES[kind] if method == "partial_fit" else {}
    assert_refused(*calls, X, Y[kind], sample_weight=weights, match=match, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_negative_sample_weight(solver, kind):
    # scikit-learn maximises the loss of such samples
    ours, _ = pair_of(kind, solver=solver)
    with pytest.raises(ValueError, match=r"Negative values .* `sample_weight`"):
        ours.fit(X, Y[kind], but(np.ones(N), 3, -1e-9))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_without_weight(kind):
    # scikit-learn raises ZeroDivisionError
    ours, _ = pair_of(kind, batch_size=9, shuffle=False)
    ours.fit(X, Y[kind], np.r_[np.zeros(9), np.ones(N - 9)])
    assert np.isfinite(ours.loss_curve_).all()
    assert all(np.isfinite(w).all() for w in ours.coefs_)


@pytest.mark.parametrize("kind", [*KINDS, "multilabel"])
def test_validation_without_weight(kind):
    weights = but(np.zeros(N), 0, 1)  # the split puts this sample in the training part
    ours, theirs = pair_of(kind, early_stopping=True)
    assert_refused(ours.fit, theirs.fit, X, Y[kind], weights, match="weights")


# ------------------------------------------------------------------------------ the parameters

BAD_PARAMETERS = {
    "hidden_layer_sizes": [0, -1, 2.5, "a", None],
    "activation": ["nope", "softmax", None, 3],
    "alpha": [-1, np.nan, "a", None],
    "batch_size": [0, -1, 2.5, "nope", None],
    "learning_rate": ["nope", None],
    "learning_rate_init": [0, -1, np.nan, "a", None],
    "power_t": [-1, "a", None],
    "max_iter": [0, -1, 2.5, None],
    "shuffle": [2, "yes", None],
    "random_state": [-1, 2.5, "a", 2**33, np.random.default_rng(0)],
    "tol": [-1, "a", None],
    "verbose": [-1, "a", None],
    "warm_start": [2, "yes", None],
    "momentum": [-0.1, 1.1, None],
    "nesterovs_momentum": [3, None],
    "early_stopping": [3, None],
    "validation_fraction": [-0.1, 1, 1.5, None],
    "beta_1": [-0.1, 1, None],
    "beta_2": [-0.1, 1, None],
    "epsilon": [0, -1, None],
    "n_iter_no_change": [0, -1, 2.5, None],
    "max_fun": [0, -1, 2.5, None],
}


def named(parameters):
    return [
        pytest.param(name, value, id=f"{name}={value!r:.20}")
        for name, values in parameters.items()
        for value in values
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("name", "value"), named(BAD_PARAMETERS))
def test_bad_parameter(name, value, method, kind):
    calls = [getattr(model, method) for model in pair_of(kind, **{name: value})]
    options = CLASSES[kind] if method == "partial_fit" else {}
    assert_refused(*calls, X, Y[kind], match=name, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["nope", None, 3])
def test_bad_solver(solver, kind):
    ours, theirs = pair_of(kind, solver=solver)
    assert_refused(ours.fit, theirs.fit, X, Y[kind], match="solver")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [(3, 0), (3, -2), (2.5,), (3.0,), [[3]], (True,), ("3",), (None,)], ids=str
)
def test_bad_hidden_layer_sizes(sizes, kind):
    ours, theirs = pair_of(kind, hidden_layer_sizes=sizes)
    assert_refused(ours.fit, theirs.fit, X, Y[kind], match="hidden_layer_sizes")


NO_RATE = [-0.1, 1, 1.5, np.nan, "a", None, 1j]
OUR_BAD_PARAMETERS = {
    "dtype": ["float16", "f8", np.float32, None],
    "n_jobs": [0, 1.5, "all", True],
    "init": ["nope", None],
    "activation": [
        *((), ("relu",), ("relu",) * 3, ("relu", "nope"), ("relu", "exp"), (3, 3), (["relu"], 3)),
        np.array("relu"),
    ],
    "learning_rate": [0.1, ("cosine",), True, "Cosine"],
    "warmup_epochs": [-1, np.nan, np.inf, "a", None, [1]],
    "decay_rate": [0, -1, 1.1, np.nan, "a", None],
    "decay_epochs": [0, -1, np.nan, np.inf, "a", None],
    "dropout": [
        *NO_RATE,
        *((0.1, rate) for rate in NO_RATE),
        *((), (0.1,), [0.1] * 3, np.zeros(3), np.array(1.0), [[0.1], [0.1]], (0.1, True), False),
        *({0: 0.1, 1: 0.1}, "ab", (rate for rate in (0.1, 0.1))),
    ],
    "l1": [-1, np.nan, np.inf, "a", None, [0.1]],
    "clip_norm": [0, -1, np.nan, np.inf, "a", [1.0]],
    "max_time": [0, -1, np.nan, np.inf, "a", [1.0]],
}
SMALL = {"hidden_layer_sizes": (4, 3), "max_iter": 2, "random_state": 0, "batch_size": 9}


def of_both(parameters):
    """Return cases for both estimators: these parameters, and those of one estimator only."""
    labels = {"loss": ["hinge", "poisson", None], "label_smoothing": NO_RATE}
    numbers = {"loss": ["log_loss", None], "out_activation": ["nope", "softmax", None]}
    return [
        pytest.param(estimator, *case.values, id=f"{estimator.__name__}-{case.id}")
        for estimator, more in ((BPClassifier, labels), (BPRegressor, numbers))
        for case in named(parameters) + named(OUR_BAD_PARAMETERS | more)
    ]


@pytest.mark.parametrize(("estimator", "name", "value"), of_both({}))
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_parameter_of_ours(estimator, name, value, method):
    model = estimator(**{**SMALL, name: value})
    given = {"classes": [0, 1]} if (estimator, method) == (BPClassifier, "partial_fit") else {}
    with pytest.raises(ValueError, match=name):
        getattr(model, method)(X, Y["binary"], **given)
    assert not hasattr(model, "coefs_")


def assert_unharmed(model, twin):
    """Check that both predict the same, and continue training alike."""
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))
    assert_same_bits(*(m.partial_fit(X, Y["binary"]) for m in (model, twin)))


@pytest.mark.parametrize(("estimator", "name", "value"), of_both(BAD_PARAMETERS))
def test_a_fit_with_a_bad_parameter_loses_nothing(estimator, name, value):
    model, twin = (estimator(**SMALL).fit(X, Y["binary"]) for _ in range(2))
    with pytest.raises((TypeError, ValueError), match=name):
        model.set_params(**{name: value}).fit(X, Y["binary"])
    assert_unharmed(model.set_params(**twin.get_params()), twin)


@pytest.mark.parametrize("name", ["alpha", "activation", "batch_size", "tol", "verbose", "solver"])
@pytest.mark.parametrize("estimator", [BPClassifier, BPRegressor])
def test_partial_fit_looks_at_the_parameters_each_time(estimator, name):
    model, twin = (estimator(**SMALL).fit(X, Y["binary"]) for _ in range(2))
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        model.set_params(**{name: "x"}).partial_fit(X, Y["binary"])
    assert_unharmed(model.set_params(**twin.get_params()), twin)


def test_a_first_fit_that_fails_decides_on_no_classes():
    model = BPClassifier(warm_start=True, **SMALL)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, Y["binary"], sample_weight=[1.0])
    assert model.fit(X, Y["multiclass"]).n_outputs_ == len(np.unique(Y["multiclass"]))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_first_call_that_fails_leaves_nothing(method):
    model, given = BPClassifier(**SMALL), {"classes": [0, 1]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match="sample_weight"):
        getattr(model, method)(X, Y["binary"], sample_weight=[1.0], **given)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="'alpha' parameter"):
        model.set_params(alpha=-1).partial_fit(X, Y["multiclass"], classes=range(6))
    model.set_params(alpha=0).partial_fit(X, Y["multiclass"], classes=range(6))
    assert model.n_outputs_ == 6


FOR_STOCHASTIC_SOLVERS = [
    ("dropout", 0.1),
    ("dropout", (0.1, 0.0)),
    ("dropout", np.array([0.1, 0.2])),
    ("l1", 1e-9),
    ("clip_norm", 1.0),
]


@pytest.mark.parametrize(("name", "value"), FOR_STOCHASTIC_SOLVERS, ids=str)
@pytest.mark.parametrize("estimator", [BPClassifier, BPRegressor])
def test_what_lbfgs_has_not(estimator, name, value):
    model, twin = (estimator(**SMALL).fit(X, Y["binary"]) for _ in range(2))
    with pytest.raises(ValueError, match=f"^{name}=.* is for stochastic solvers, not for 'lbfgs'"):
        model.set_params(solver="lbfgs", **{name: value}).fit(X, Y["binary"])
    assert_unharmed(model.set_params(**twin.get_params()), twin)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"label_smoothing": 0.1, "loss": "squared_error"}, "label_smoothing is for"),
        ({"dropout": (0.1,)}, "dropout must be one rate, or one for each of the 2"),
        ({"dropout": (0.1, 1.0)}, "dropout must be 0 or more and less than 1, got 1.0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_does_not_go_together(method, parameters, match):
    model, twin = (BPClassifier(**SMALL).fit(X, Y["binary"]) for _ in range(2))
    with pytest.raises(ValueError, match=match):
        getattr(model.set_params(**parameters), method)(X, Y["binary"])
    assert_unharmed(model.set_params(**twin.get_params()), twin)


@pytest.mark.parametrize("dropout", [0, (0.0, 0), np.zeros(2)], ids=str)
def test_lbfgs_without_dropout(dropout):
    plain, model = (BPRegressor(**SMALL, solver="lbfgs") for _ in range(2))
    plain.fit(X, Y["regression"])
    assert_same_bits(model.set_params(dropout=dropout).fit(X, Y["regression"]), plain)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup_epochs", np.int8(30)),  # times 5 steps exceeds an int8
        ("decay_epochs", np.int8(30)),
        ("decay_rate", np.float32(0.5)),
        ("dropout", np.float32(0.25)),
        ("dropout", np.array(0.25)),
        ("dropout", np.array([0.25, 0])),
        ("l1", np.float32(0.25)),
        ("clip_norm", np.float16(0.25)),
        ("label_smoothing", np.float32(0.25)),
        ("max_time", np.int8(100)),
    ],
    ids=repr,
)
def test_numbers_of_numpy(name, value):
    models = [
        BPClassifier(**SMALL, learning_rate="exponential", **{name: number})
        for number in (value, value.tolist())
    ]
    assert_same_bits(*(model.fit(X, Y["binary"]) for model in models))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"coef_init": []}, "coef_init must hold 2 arrays, got 0"),
        ({"coef_init": 3}, "coef_init must hold 2 arrays, got 3"),
        ({"coef_init": ["a", "b"]}, r"coef_init\[0\] must be an array of numbers"),
        ({"coef_init": [np.ones((6, 4))]}, "coef_init must hold 2 arrays, got 1"),
        ({"coef_init": [np.ones((6, 4)), np.ones((1, 4))]}, r"coef_init\[1\] must have shape"),
        ({"coef_init": [np.ones(24), np.ones((4, 1))]}, r"coef_init\[0\] must have shape"),
        ({"coef_init": [np.full((6, 4), np.nan), np.ones((4, 1))]}, r"coef_init\[0\] contains NaN"),
        ({"coef_init": [np.ones((6, 4)), [[1], [2], [np.inf], [4]]]}, r"coef_init\[1\] contains"),
        ({"intercept_init": [np.ones(4)] * 3}, "intercept_init must hold 2 arrays, got 3"),
        ({"intercept_init": [np.ones(4), np.ones((1, 1))]}, r"intercept_init\[1\] must have shape"),
        ({"intercept_init": [[0, 0, np.nan, 0], [0]]}, r"intercept_init\[0\] contains NaN"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_bad_initial_weights(kind, given, match):
    ours, _ = pair_of(kind, hidden_layer_sizes=4, warm_start=True)
    expected = ours.fit(X, Y[kind]).predict(X)
    with pytest.raises(ValueError, match=match):
        ours.fit(X, Y[kind], **given)
    np.testing.assert_array_equal(ours.predict(X), expected)


@pytest.mark.parametrize("name", ["batch_size", "max_iter"])
def test_true_is_the_integer_it_is(name):
    parameters = {"max_iter": 2, "random_state": 0}
    expected = BPRegressor(**{**parameters, name: 1}).fit(X, Y["regression"])
    assert_same_bits(BPRegressor(**{**parameters, name: True}).fit(X, Y["regression"]), expected)


# ------------------------------------------------------------------------- calls out of order


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "score"])
@pytest.mark.parametrize("kind", KINDS)
def test_unfitted(kind, method):
    ours, theirs = pair_of(kind)
    if not hasattr(theirs, method):
        assert not hasattr(ours, method)
        return
    arguments = (X, Y[kind]) if method == "score" else (X,)
    assert isinstance(error_of(getattr(theirs, method), *arguments), NotFittedError)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(ours, method)(*arguments)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize("method", ["predict", "partial_fit"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_number_of_features(kind, method, make):
    ours, theirs = (model.fit(X, Y[kind]) for model in pair_of(kind))
    arguments = (make(X[:, :5]),) if method == "predict" else (make(X[:, :5]), Y[kind])
    calls = getattr(ours, method), getattr(theirs, method)
    assert_refused(*calls, *arguments, match="X has 5 features, but BP.* is expecting 6")


FRAME = pd.DataFrame(X, columns=list("abcdef"))


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (FRAME[list("bacdef")], "must be in the same order"),
        (FRAME.rename(columns={"b": "other"}), "unseen at fit time:\n- other"),
        (FRAME.drop(columns="c"), "yet now missing:\n- c"),
        (FRAME.rename(columns={"b": 3}), "string names"),
    ],
    ids=["order", "other", "missing", "mixed"],
)
@pytest.mark.parametrize("method", ["predict", "partial_fit"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_feature_names(kind, method, frame, match):
    ours, theirs = (model.fit(FRAME, Y[kind]) for model in pair_of(kind))
    arguments = (frame,) if method == "predict" else (frame, Y[kind])
    assert_refused(getattr(ours, method), getattr(theirs, method), *arguments, match=match)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("sizes", [(), 5, (4, 4), (4, 3, 2)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_going_on_with_other_layers(kind, sizes, method):
    # scikit-learn continues with the first sizes, or fails in a matrix product
    ours, _ = pair_of(kind, hidden_layer_sizes=(4, 3), warm_start=True)
    ours.fit(X, Y[kind])
    before = [w.copy() for w in ours.coefs_]
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        getattr(ours.set_params(hidden_layer_sizes=sizes), method)(X, Y[kind])
    for w, expected in zip(ours.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_with_more_targets(method):
    ours, theirs = (
        model.fit(X, Y["regression"]) for model in pair_of("regression", warm_start=True)
    )
    calls = getattr(ours, method), getattr(theirs, method)
    assert_refused(*calls, X, Y["multioutput"], match="shapes")


BAD_PARTIAL_FITS = {
    "no-classes": ([(Y["multiclass"], None)], "classes must be passed"),
    "too-few-classes": ([(Y["multiclass"], [1, 3])], r"`y` has classes not in `self.classes_`"),
    "classes-of-another-kind": ([(Y["multiclass"], list("abc"))], "not in `self.classes_`"),
    "nan-among-classes": ([(Y["multiclass"], [1, 3, 5, np.nan])], "contains NaN"),
    "new-class": ([(Y["multiclass"], [1, 3, 5]), (Y["multiclass"] + 2, None)], "'y' has"),
    "words": (
        [(Y["multiclass"], [1, 3, 5]), (np.array(list("abc"))[NUMBERED % 3], None)],
        "not in `self.classes_`",
    ),
    "other-classes": (
        [(Y["multiclass"], [1, 3, 5]), (Y["multiclass"], [1, 3, 7])],
        "not the same as on last call",
    ),
    "continuous": ([(Y["multiclass"], [1, 3, 5]), (X[:, 0] + 0.5, None)], "Unknown label type"),
    "several-labels": (
        [(Y["multiclass"], [1, 3, 5]), (np.c_[NUMBERED % 2, NUMBERED % 2] * 1, None)],
        "`y`",
    ),
    "more-labels": (
        [(Y["multilabel"], [0, 1, 2]), (np.c_[Y["multilabel"], NUMBERED % 2], None)],
        "not in `self.classes_`",
    ),
}


@pytest.mark.parametrize("bad", BAD_PARTIAL_FITS)
def test_bad_partial_fit(bad):
    calls, match = BAD_PARTIAL_FITS[bad]
    models = pair_of("multiclass")
    *before, (y, classes) = calls
    for model in models:
        for earlier_y, earlier_classes in before:
            model.partial_fit(X, earlier_y, classes=earlier_classes)
    ours, theirs = (model.partial_fit for model in models)
    assert_refused(ours, theirs, X, y, classes=classes, match=match)


def test_warm_start_with_other_classes():
    ours, theirs = (
        model.fit(X, Y["multiclass"]) for model in pair_of("multiclass", warm_start=True)
    )
    assert_refused(ours.fit, theirs.fit, X, Y["binary"], match="same classes .* previous call")


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_with_early_stopping(kind):
    calls = [model.partial_fit for model in pair_of(kind, early_stopping=True)]
    assert_refused(*calls, X, Y[kind], match="early_stopping", **CLASSES[kind])


BAD_VALIDATION = {
    "no-x": ({"X_val": None}, "X_val and y_val"),
    "no-y": ({"y_val": None}, "X_val and y_val"),
    "weight-alone": (
        {"X_val": None, "y_val": None, "sample_weight_val": np.ones(N)},
        "X_val and y_val",
    ),
    "no-rows": ({"X_val": X[:0], "y_val": NUMBERED[:0]}, "X_val"),
    "other-features": ({"X_val": X[:, :5]}, "X_val"),
    "x-nan": ({"X_val": but(X, (3, 2), np.nan)}, "X_val"),
    "x-words": ({"X_val": np.full((N, 6), "ten")}, "X_val"),
    "y-nan": ({"y_val": but(NUMBERED % 3, 3, np.nan)}, "y_val"),
    "y-short": ({"y_val": np.ones(N - 1)}, "y_val"),
    "y-words": ({"y_val": np.full(N, "ten")}, "y_val"),
    "y-of-two-columns": ({"y_val": np.c_[NUMBERED % 2, NUMBERED % 2]}, "y_val must"),
    "weight-short": ({"sample_weight_val": np.ones(N - 1)}, "sample_weight_val"),
    "weight-nan": ({"sample_weight_val": but(np.ones(N), 3, np.nan)}, "sample_weight_val"),
    "weight-negative": ({"sample_weight_val": but(np.ones(N), 3, -1)}, "sample_weight_val"),
    "weight-zero": ({"sample_weight_val": np.zeros(N)}, "sample_weight_val"),
}
BAD_LABELS_OF_VALIDATION = {
    "new-class": ({"y_val": Y["multiclass"] + 2}, r"y_val has classes that are not in y: \[7\]"),
    "continuous": ({"y_val": X[:, 0] + 0.5}, "y_val"),
}


@pytest.mark.parametrize(
    ("kind", "given", "match"),
    [
        pytest.param(kind, *bad, id=f"{kind}-{name}")
        for kind, group in (
            ("multiclass", BAD_VALIDATION | BAD_LABELS_OF_VALIDATION),
            ("regression", BAD_VALIDATION),
        )
        for name, bad in group.items()
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_validation(method, kind, given, match):
    model, twin = (pair_of(kind, early_stopping=True)[0].fit(X, Y[kind]) for _ in range(2))
    with pytest.raises((TypeError, ValueError), match=match):
        getattr(model, method)(X, Y[kind], **{"X_val": X, "y_val": Y[kind], **given})
    assert_same_bits(model, twin)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))


@pytest.mark.parametrize(
    ("kind", "other"), [("multilabel", "multiclass"), ("multioutput", "regression")]
)
def test_targets_of_validation_of_another_kind(kind, other):
    """Class numbers would match, and the losses would be broadcast."""
    model = pair_of(kind, early_stopping=True)[0].set_params(scoring="loss")
    with pytest.raises(ValueError, match="y_val must"):
        model.fit(X, Y[kind], X_val=X, y_val=Y[other] // 2)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_that_would_not_be_used(kind, method):
    model, _ = pair_of(kind)
    options = CLASSES[kind] if method == "partial_fit" else {}
    with pytest.raises(ValueError, match="X_val and y_val are for early_stopping=True"):
        getattr(model, method)(X, Y[kind], X_val=X, y_val=Y[kind], **options)


@pytest.mark.parametrize(
    ("kind", "n", "fraction", "match"),
    [
        ("regression", 2, 0.1, "validation set is too small"),
        ("regression", 9, 0.1, "validation set is too small"),
        ("multilabel", 9, 0.1, "validation set is too small"),
        ("binary", 9, 0.1, "test_size = 1 should be greater"),
        ("regression", 1, 0.1, "train set will be empty"),
        ("multiclass", 20, 0.99, "train set will be empty"),
    ],
)
def test_early_stopping_on_too_few_samples(kind, n, fraction, match):
    ours, theirs = pair_of(kind, early_stopping=True, validation_fraction=fraction)
    assert_refused(ours.fit, theirs.fit, X[:n], Y[kind][:n], match=match)


def test_early_stopping_without_a_part_to_validate_with():
    """scikit-learn's error mentions test_size instead."""
    ours, theirs = pair_of("multiclass", early_stopping=True, validation_fraction=0)
    with pytest.raises(ValueError, match="validation_fraction must be more than 0"):
        ours.fit(X, Y["multiclass"])
    with pytest.raises(ValueError, match="test_size=0"):
        theirs.fit(X, Y["multiclass"])


def test_early_stopping_with_one_sample_of_a_class():
    ours, theirs = pair_of("binary", early_stopping=True)
    y = (NUMBERED == 3).astype(int)
    assert_refused(ours.fit, theirs.fit, X, y, match="least populated classes in y")


# ------------------------------------------------------------------------ weights that blow up


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize(
    ("kind", "parameters", "scale"),
    [
        ("multiclass", {"solver": "sgd", "learning_rate_init": 1e308}, 1),
        ("regression", {"solver": "sgd", "learning_rate_init": 1e308}, 1),
        ("regression", {"solver": "sgd", "learning_rate_init": 1e308, "momentum": 0}, 1),
        ("multiclass", {"solver": "adam", "learning_rate_init": 1e308}, 1),
        ("regression", {"solver": "adam", "learning_rate_init": 1e308}, 1),
        ("multiclass", {"solver": "sgd"}, 1e305),
        ("regression", {"solver": "sgd"}, 1e160),
        ("regression", {"solver": "adam"}, 1e305),
        ("regression", {"solver": "sgd", "alpha": 1e308}, 1),
    ],
    ids=str,
)
def test_weights_that_are_not_finite(kind, parameters, scale, make, method):
    parameters = {"max_iter": 50, "batch_size": 5, "hidden_layer_sizes": (8,), **parameters}
    ours, theirs = pair_of(kind, **parameters)
    options = CLASSES[kind] if method == "partial_fit" else {}
    x, y = make(X * scale), Y[kind]
    calls = getattr(ours, method), getattr(theirs, method)
    assert_refused(*calls, x, y, match="non-finite parameter weights", **options)


@pytest.mark.parametrize("solver", ["adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_our_solvers_that_are_not_finite(kind, solver):
    ours, _ = pair_of(kind, solver=solver, learning_rate_init=1e308, batch_size=5, max_iter=50)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        ours.fit(X, Y[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_weights_that_are_not_finite(kind):
    ours = pair_of(kind)[0].set_params(dtype="float32")
    with pytest.raises(ValueError, match=r"non-finite|too large"):
        ours.fit(X * 1e60, Y[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_models_do_not_predict_nan(kind):
    # X is finite, but not in the precision of the model
    ours, theirs = (model.fit(X.astype(np.float32), Y[kind]) for model in pair_of(kind))
    method = "predict_proba" if kind == "multiclass" else "predict"
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        assert np.isfinite(getattr(theirs, method)(X * 1e60)).all()
    try:
        outputs = getattr(ours, method)(X * 1e60)
    except ValueError:
        return  # refused, since X is too large for float32
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize(
    ("parameters", "scale"),
    [({}, 1e200), ({"alpha": 1e308}, 1), ({"activation": "identity"}, 1e305)],
    ids=str,
)
def test_lbfgs_that_cannot_begin(parameters, scale):
    # the loss is infinite and the weights stay as initialised; scikit-learn's loss is NaN
    for model in pair_of("regression", solver="lbfgs", **parameters):
        with (
            np.errstate(all="ignore"),
            pytest.warns(ConvergenceWarning, match="ABNORMAL"),
        ):
            model.fit(X * scale, Y["regression"])
        assert not np.isfinite(model.loss_)
        assert all(np.isfinite(w).all() for w in model.coefs_)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_keeps_weights_from_before(kind, solver):
    for model in pair_of(
        kind, solver=solver, learning_rate_init=1e308, max_iter=30, early_stopping=True
    ):
        with np.errstate(all="ignore"):
            model.fit(X, Y[kind])
        assert all(np.isfinite(w).all() for w in model.coefs_)
        assert not np.isfinite(model.loss_)


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_without_a_score_says_so_where_the_weights_run_off():
    """It once stopped silently, since the loss had not improved for long enough."""
    ours, _ = pair_of("regression", solver="sgd", learning_rate_init=1e100, max_iter=30)
    ours.set_params(early_stopping=True, n_iter_no_change=3)
    with np.errstate(all="ignore"), pytest.warns(ConvergenceWarning, match="have diverged"):
        ours.fit(X, Y["regression"])
    assert ours.n_iter_ < 30


# ------------------------------------------------------------------------------------ layouts


def frozen(array):
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def every_second(array):
    """Return the same values as a view of every second element along each axis of an array."""
    wide = np.repeat(array, 2, axis=0)
    wide = np.repeat(wide, 2, axis=1) if array.ndim == 2 else wide
    return wide[::2, ::2] if array.ndim == 2 else wide[::2]


def backwards(array):
    return np.array(array[::-1])[::-1]


def swapped(array):
    return array.astype(array.dtype.newbyteorder(">"))


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": every_second,
    "backwards": backwards,
    "read-only": frozen,
    "read-only-strided": lambda array: frozen(np.repeat(array, 2, axis=0))[::2],
    "unaligned": with_unaligned,
    "big-endian": swapped,
    "big-endian-fortran": lambda array: np.asfortranarray(swapped(array)),
    "big-endian-unaligned": lambda array: with_unaligned(swapped(array)),
    "big-endian-read-only": lambda array: frozen(swapped(array)),
    "list": lambda array: array.tolist(),
}
TRAINED = [
    {"solver": "adam", "batch_size": 20},
    {"solver": "sgd", "early_stopping": True, "validation_fraction": 0.3},
    {"solver": "lbfgs"},
]


def assert_same_bits(model, expected):
    assert model.loss_ == expected.loss_
    for name in ("coefs_", "intercepts_"):
        for w, other in zip(getattr(model, name), getattr(expected, name), strict=True):
            assert w.dtype == other.dtype
            np.testing.assert_array_equal(w, other)


def check_layout(kind, odd, plain, parameters):
    """Check that X, y and sample_weight in an odd layout give the same bits as plain copies."""
    (expected, _), (model, _) = pair_of(kind, **parameters), pair_of(kind, **parameters)
    expected.fit(*plain)
    model.fit(*odd)
    assert_same_bits(model, expected)
    np.testing.assert_array_equal(model.predict(odd[0]), expected.predict(plain[0]))
    if "early_stopping" not in parameters and parameters.get("solver") != "lbfgs":
        assert_same_bits(model.partial_fit(*odd), expected.partial_fit(*plain))


@pytest.mark.parametrize("parameters", TRAINED, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_x(layout, dtype, parameters):
    plain = np.ascontiguousarray(X * 5, dtype)
    odd = LAYOUTS[layout](plain)
    if layout == "list" and dtype == np.float32:
        plain = plain.astype(np.float64)  # a list has no precision of its own
    for kind in KINDS:
        check_layout(kind, (odd, Y[kind], None), (plain, Y[kind], None), parameters)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_memory_mapped_x(kind, dtype, tmp_path):
    plain = X.astype(dtype)
    np.save(tmp_path / "x.npy", plain)
    np.save(tmp_path / "y.npy", Y[kind])
    odd = np.load(tmp_path / "x.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r")
    assert isinstance(odd[0], np.memmap)
    check_layout(kind, (*odd, None), (plain, Y[kind], None), {})
    raw = np.memmap(tmp_path / "raw", dtype=dtype, mode="w+", offset=1, shape=plain.shape)
    raw[...] = plain
    raw.flush()
    raw = np.memmap(tmp_path / "raw", dtype=dtype, mode="r", offset=1, shape=plain.shape)
    check_layout(kind, (raw, Y[kind], None), (plain, Y[kind], None), {})


def mixed_frame(plain):
    return pd.DataFrame({str(j): plain[:, j].astype("f4" if j % 2 else "f8") for j in range(6)})


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (pd.DataFrame, np.float64),
        (lambda plain: pd.DataFrame(plain.astype(np.float32)), np.float32),
        (mixed_frame, np.float64),
        (lambda plain: pd.DataFrame(plain).astype("Float64"), np.float64),
        (lambda plain: pd.DataFrame(plain).astype({0: int, 1: "Int16", 2: bool}), np.float64),
        (lambda plain: pd.DataFrame(plain, dtype=object), np.float64),
        (lambda plain: pd.DataFrame(plain)[::-1].iloc[::-1], np.float64),
    ],
    ids=["float64", "float32", "mixed", "nullable", "integers", "objects", "backwards"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_frames(kind, make, dtype):
    frame = make(np.round(X * 5))
    plain = np.ascontiguousarray(frame.to_numpy(dtype=dtype))
    index = np.random.default_rng(0).permutation(N)  # an index that must be ignored
    odd = frame, pd.Series(Y[kind], index=index), pd.Series(np.ones(N), index=index)
    check_layout(kind, odd, (plain, Y[kind], np.ones(N)), {})


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "fortran" not in name])
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint64, np.bool_, np.float64])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_layout_of_y(kind, dtype, layout):
    plain = Y["binary"].astype(dtype)
    check_layout(kind, (X, LAYOUTS[layout](plain), None), (X, plain, None), {})
    check_layout(kind, (X, LAYOUTS[layout](plain), None), (X, plain.astype(float), None), {})


@pytest.mark.parametrize("kind", [*KINDS, "binary"])
@pytest.mark.parametrize("class_weight", [None, {1: 2.0}])
def test_y_may_be_a_column(kind, class_weight):
    parameters = {"early_stopping": True, "scoring": "loss"}
    parameters |= {} if kind == "regression" else {"class_weight": class_weight}
    y, weight = Y[kind], 1 + NUMBERED % 3
    flat, column = (pair_of(kind)[0].set_params(**parameters) for _ in range(2))
    flat.fit(X, y, weight, X_val=X, y_val=y, sample_weight_val=weight)
    with pytest.warns(DataConversionWarning):
        column.fit(X, y[:, None], weight, X_val=X, y_val=y[:, None], sample_weight_val=weight)
    assert_same_bits(column, flat)
    assert column.validation_scores_ == flat.validation_scores_


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["multilabel", "multioutput"])
def test_layout_of_several_columns_of_y(kind, layout):
    check_layout(kind, (X, LAYOUTS[layout](Y[kind]), None), (X, Y[kind], None), {})


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"]).astype(">U1"),
        np.array(["a", "bb", "ccc"], dtype=object),
        np.array([5, 6, 200], dtype=np.uint64),
        np.array([-5, 6, 100], dtype=np.int8),
        np.array([-5, 6, 100], dtype=">i4"),
        np.array([1, 2, 3.0], dtype=">f8"),
        pd.array(["a", "b", "c"]),
    ],
    ids=lambda labels: str(labels.dtype),
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_labels_have_no_influence(solver, labels):
    numbers = Y["multiclass"] // 2
    (expected, _), (model, _) = (pair_of("multiclass", solver=solver) for _ in range(2))
    expected.fit(X, numbers)
    assert_same_bits(model.fit(X, labels[numbers]), expected)
    np.testing.assert_array_equal(model.predict(X), np.asarray(labels[expected.predict(X)]))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "fortran" not in name])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
@pytest.mark.parametrize("parameters", TRAINED, ids=str)
def test_layout_of_sample_weight(parameters, dtype, layout):
    plain = (1 + NUMBERED % 4 / (2 if np.issubdtype(dtype, np.floating) else 1)).astype(dtype)
    odd = LAYOUTS[layout](plain)
    for kind in KINDS:
        plainest = X, Y[kind], plain.astype(np.float64)
        check_layout(kind, (X, Y[kind], odd), plainest, parameters)


@pytest.mark.parametrize("scalar", [2, 2.0, np.float32(2)])
def test_one_weight_for_all(scalar):
    check_layout("binary", (X, Y["binary"], scalar), (X, Y["binary"], np.full(N, 2.0)), {})


SPARSE = ("csc_array", "coo_array", "lil_array", "dok_array", "csr_matrix", "csc_matrix")


def with_arrays(change, *names):
    """Return X as CSR with some of its three arrays changed."""
    sparse = CSR.copy()
    for name in names:
        setattr(sparse, name, change(getattr(sparse, name)))
    return sparse


@pytest.mark.parametrize(
    "make",
    [
        *(lambda kind=kind: getattr(scipy.sparse, kind)(X) for kind in SPARSE),
        lambda: scipy.sparse.csr_array(X[::-1])[::-1],
        lambda: with_arrays(frozen, "data", "indices", "indptr"),
        lambda: with_arrays(with_unaligned, "data"),
        lambda: with_arrays(with_unaligned, "indices", "indptr"),
        lambda: with_arrays(every_second, "data", "indices", "indptr"),
        lambda: with_arrays(swapped, "data"),
        lambda: with_arrays(lambda index: index.astype(np.int64), "indices", "indptr"),
        lambda: with_arrays(lambda index: index.astype(np.uint32), "indices"),
    ],
    ids=[
        *SPARSE,
        *("backwards", "read-only", "unaligned-data", "unaligned-index", "strided"),
        *("big-endian-data", "int64-index", "uint32-index"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_layout_of_sparse_x(kind, make):
    odd = make()
    if odd.format == "csr" and odd.data.dtype.isnative:
        np.testing.assert_array_equal(odd.toarray(), X)
    check_layout(kind, (odd, Y[kind], None), (CSR, Y[kind], None), {})


def unsorted(sparse):
    """Return the same matrix with each row's entries stored in reverse order."""
    copy = sparse.copy()
    for start, stop in zip(copy.indptr, copy.indptr[1:], strict=False):
        copy.indices[start:stop] = copy.indices[start:stop][::-1]
        copy.data[start:stop] = copy.data[start:stop][::-1]
    copy.has_sorted_indices = False
    return copy


def with_duplicates(sparse):
    """Return the same matrix with each entry stored as two halves."""
    halves = np.repeat(sparse.data / 2, 2), np.repeat(sparse.indices, 2), 2 * sparse.indptr
    return scipy.sparse.csr_array(halves, sparse.shape)


def with_zeros(sparse):
    """Return the same matrix with its zeros stored explicitly."""
    return scipy.sparse.bsr_array(sparse, blocksize=sparse.shape).tocsr()


@pytest.mark.parametrize("change", [unsorted, with_duplicates, with_zeros])
@pytest.mark.parametrize("kind", KINDS)
def test_entries_of_sparse_x(kind, change):
    odd = change(CSR)
    np.testing.assert_array_equal(odd.toarray(), X)
    before = odd.copy()
    expected, model = (pair_of(kind)[0] for _ in range(2))
    expected.fit(CSR, Y[kind])
    model.fit(odd, Y[kind])
    for w, other in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(w, other, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(model.predict(odd), expected.predict(CSR), rtol=1e-10)
    assert_unchanged([odd], [before])


@pytest.mark.parametrize("change", [frozen, with_unaligned, every_second, swapped])
def test_odd_layouts_have_no_kernel_compiled(change):
    def fit(x, y, sample_weight):
        BPRegressor(max_iter=1).fit(x, y, sample_weight).predict(x)
        return len(jit._c_functions)

    arrays = Y["regression"], np.ones(N)
    fit(X, *arrays)
    compiled = fit(CSR, *arrays)
    assert fit(change(X), *map(change, arrays)) == compiled
    if change is frozen:
        assert fit(with_arrays(frozen, "data", "indices", "indptr"), *arrays) == compiled


BROKEN_MATRICES = """
import sys, warnings
import numpy as np, scipy.sparse
from fastbp import BPRegressor
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(20, 3))
def change(name, index=None, value=None, dtype=None, keep=None, kind="csr_array"):
    sparse = getattr(scipy.sparse, kind)(X)
    array = getattr(sparse, name)
    if index is not None:
        array[index] = value
    setattr(sparse, name, array[:keep].astype(dtype or array.dtype))
    return sparse
cases = eval(sys.argv[1])
for method in ("fit", "predict"):
    for case in cases:
        sparse = change(**case)
        model = BPRegressor(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(X, X[:, 0])
        expected = model.predict(X)
        try:
            if method == "fit":
                model.fit(sparse, X[:, 0])
            print("same" if np.allclose(model.predict(sparse), expected) else "DIFFERENT")
        except Exception as error:
            print(type(error).__name__)
        sys.stdout.flush()
"""


def run_broken(cases):
    return run_python(BROKEN_MATRICES, repr(cases)).stdout.split()


def test_big_endian_sparse_indices():
    names = ("indices", "indptr")
    cases = [{"name": name, "dtype": ">i4"} for name in names]
    assert run_broken(cases) == ["same"] * 4


def test_sparse_indices_out_of_range():
    # scikit-learn reads and writes past the ends of its arrays
    cases = [
        {"name": "indices", "index": 5, "value": 3},
        {"name": "indices", "index": 5, "value": 10**9},
        {"name": "indices", "index": 5, "value": -1},
        {"name": "indptr", "index": -1, "value": 10**9},
        {"name": "indptr", "index": 5, "value": 1},
        {"name": "indptr", "index": 5, "value": -(10**9)},
        {"name": "indptr", "keep": 10},
        {"name": "indices", "keep": 10},
        {"name": "data", "keep": 10},
    ]
    assert run_broken(cases) == ["ValueError"] * 18


def test_sparse_columns_out_of_range():
    cases = [
        {"kind": "csc_array", "name": "indices", "index": 5, "value": 20},
        {"kind": "csc_array", "name": "indices", "index": 5, "value": 10**9},
        {"kind": "csc_array", "name": "indptr", "index": 1, "value": 10**9},
    ]
    assert run_broken(cases) == ["ValueError"] * 6


# ------------------------------------------------------------------ the caller's arrays


def copies_of(arrays):
    return [a.copy() for a in arrays]


def assert_unchanged(arrays, copies):
    for array, copy in zip(arrays, copies, strict=True):
        if scipy.sparse.issparse(array):
            for name in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(array, name), getattr(copy, name))
                assert getattr(array, name).dtype == getattr(copy, name).dtype
        else:
            np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("make", [np.array, scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize(
    ("kind", "parameters", "bad"),
    [
        ("regression", {"learning_rate_init": 1e308, "max_iter": 50, "batch_size": 5}, None),
        ("multiclass", {"solver": "sgd", "learning_rate_init": 1e308, "max_iter": 50}, None),
        ("regression", {"early_stopping": True, "validation_fraction": 0}, None),
        ("multiclass", {"hidden_layer_sizes": -1}, None),
        ("regression", {}, np.nan),
        ("multiclass", {}, -1.0),
    ],
    ids=str,
)
def test_a_failed_fit_changes_nothing(kind, parameters, bad, make):
    sample_weight = np.ones(N) if bad is None else but(np.ones(N), 3, bad)
    arrays = [make(X), Y[kind].copy(), sample_weight]
    copies = copies_of(arrays)
    ours, _ = pair_of(kind, **parameters)
    with warnings.catch_warnings(action="ignore"), pytest.raises(ValueError, match=r"."):
        ours.fit(*arrays)
    assert_unchanged(arrays, copies)


@pytest.mark.parametrize("parameters", TRAINED, ids=str)
@pytest.mark.parametrize(
    "make", [np.array, scipy.sparse.csr_array, scipy.sparse.csc_array, lambda x: unsorted(CSR)]
)
@pytest.mark.parametrize("kind", [*KINDS, "multilabel", "multioutput"])
def test_a_fit_changes_nothing(kind, make, parameters):
    coefs = [np.ones((6, 4)), np.ones((4, 1 if kind == "regression" else 3))]
    arrays = [make(X), Y[kind].copy(), np.ones(N)]
    copies = copies_of([*arrays, *coefs])
    ours, _ = pair_of(kind, hidden_layer_sizes=4, **parameters)
    ours.fit(*arrays, coef_init=coefs).predict(arrays[0])
    assert_unchanged([*arrays, *coefs], copies)
