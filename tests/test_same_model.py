"""The same parameters and the same seed give the model that scikit-learn gives."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from common import (
    CLASSIFIED,
    TARGETS,
    assert_same,
    assert_same_model,
    call_both,
    cover,
    make_data,
    make_pair,
    make_weights,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastbp import BPClassifier, BPRegressor, keep_training_state

CONTAINERS = {"dense": np.asarray, "csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}


def check_fit(pair, X, y, sample_weight=None, rtol=1e-8):
    call_both(pair, "fit", X, y, sample_weight=sample_weight)
    assert_same_model(pair, X, y, rtol)
    return pair


# --------------------------------------------------------------- every option with every other

SCHEDULES = {
    "constant": {},
    "invscaling": {"power_t": 0.3},
    # an epoch without an improvement of 1 is a halt, so the rate is cut twice in six epochs
    "adaptive": {"tol": 1.0, "n_iter_no_change": 1},
}
RULES = {"adam": {"solver": "adam", "learning_rate_init": 0.01}} | {
    f"sgd-{momentum}-{nesterov}-{schedule}": {
        "solver": "sgd",
        "momentum": momentum,
        "nesterovs_momentum": nesterov,
        "learning_rate": schedule,
        "learning_rate_init": 0.003,
        **more,
    }
    for momentum in (0, 0.9)
    for nesterov in (False, True)
    for schedule, more in SCHEDULES.items()
}
AXES = {
    "rule": RULES,
    "target": TARGETS,
    "activation": ("identity", "logistic", "tanh", "relu"),
    "hidden": ((), (7,), (9, 5), (6, 5, 4)),
    "batch_size": ("auto", 1, 13, 1000),
    "weighted": (False, True),
    "container": tuple(CONTAINERS),
}
CASES = cover(3, {name: list(values) for name, values in AXES.items()})


def test_cases_hold_every_option_with_every_kind_of_target():
    for name, values in AXES.items():
        assert {(case["target"], case[name]) for case in CASES} == {
            (target, value)
            for target in TARGETS
            for value in values
            if name != "target" or value == target
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_options(case):
    X, y = make_data(case["target"])
    pair = make_pair(
        case["target"],
        hidden_layer_sizes=case["hidden"],
        activation=case["activation"],
        batch_size=case["batch_size"],
        alpha=0.05,
        max_iter=6,
        random_state=7,
        **RULES[case["rule"]],
    )
    sample_weight = make_weights() if case["weighted"] else None
    check_fit(pair, CONTAINERS[case["container"]](X), y, sample_weight)


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0},
        {"alpha": 10},
        {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1},
        {"beta_1": 0, "beta_2": 0},
        {"solver": "sgd", "momentum": 1, "alpha": 3},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 2, "learning_rate_init": 0.5},
        {"shuffle": False},
        {"shuffle": False, "batch_size": 13},
        {"shuffle": False, "batch_size": 1, "solver": "sgd"},
        {"hidden_layer_sizes": 8},
        {"hidden_layer_sizes": np.array([8, 3])},
        {"batch_size": np.int64(20)},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", TARGETS)
def test_other_parameters(target, parameters):
    parameters = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 2, **parameters}
    check_fit(make_pair(target, **parameters), *make_data(target))


@pytest.mark.parametrize(
    ("n_samples", "n_features", "parameters"),
    [
        (450, 6, {}),  # three batches of 200, the last of them shorter
        (1300, 6, {"batch_size": 1200}),  # more rows than are buffered at a time
        (60, 600, {"hidden_layer_sizes": (500, 3)}),  # weights too large for the cache
        (5, 1, {"hidden_layer_sizes": (1, 1)}),
        (1, 6, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("target", ["regression", "multilabel"])
def test_sizes(n_samples, n_features, parameters, container, target):
    X, y = make_data(target, n_samples, n_features)
    parameters = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 2, **parameters}
    pair = make_pair(target, **parameters)
    call_both(pair, "fit", CONTAINERS[container](X), y)
    ours, theirs = pair
    assert_same(ours.loss_curve_, theirs.loss_curve_, 1e-8)
    assert_same(ours.coefs_, theirs.coefs_, 1e-8)
    assert_same(ours.intercepts_, theirs.intercepts_, 1e-8)
    assert_same(ours.predict(X), theirs.predict(X), 1e-8)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_of_zero(target):
    X, y = make_data(target)
    sample_weight = make_weights()
    sample_weight[::3] = 0
    check_fit(make_pair(target, max_iter=5, random_state=0, batch_size=25), X, y, sample_weight)


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        ("binary", [False, True]),
        ("binary", [-1.0, 1.0]),
        ("binary", ["no", "yes"]),
        ("binary", np.array(["no", "yes"], dtype=object)),
        ("binary", np.array([7, 200], dtype=np.uint8)),
        ("multiclass", ["x", "a", "u", "b", "t", "c"]),
        ("multiclass", np.array(["x", "a", "u", "bb", "t", "c"], dtype=object)),
        ("multiclass", [9, 1, 8, -2, 7, -3]),
    ],
    ids=str,
)
def test_labels(target, labels):
    X, y = make_data(target)
    check_fit(make_pair(target, max_iter=5, random_state=0), X, np.asarray(labels)[y])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("values", [(0, 2), (1, 2), (-1, 1), (0.0, 3.0)])
def test_several_labels_of_other_values_than_0_and_1(values, solver):
    """Anything but 0 counts as 1, as in scikit-learn."""
    X, y = make_data("multilabel")
    y = np.asarray(values)[y]
    pair = make_pair("multilabel", max_iter=5, random_state=0, solver=solver)
    ours, theirs = call_both(pair, "fit", X, y)
    assert_same(ours.loss_, theirs.loss_, 1e-8)
    assert_same_model(pair, X, y)


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_matrix", "coo_array"])
def test_sparse_indicators(kind):
    X, y = make_data("multilabel")
    pair = make_pair("multilabel", max_iter=5, random_state=0)
    ours, theirs = call_both(pair, "fit", X, getattr(scipy.sparse, kind)(y))
    assert_same(ours.loss_curve_, theirs.loss_curve_, 1e-8)
    assert scipy.sparse.issparse(theirs.predict(X))
    assert type(ours.predict(X)) is type(theirs.predict(X))
    np.testing.assert_array_equal(ours.predict(X).toarray(), theirs.predict(X).toarray())


def test_sparse_numbers():
    X, y = make_data("multioutput")
    pair = make_pair("multioutput", max_iter=5, random_state=0)
    call_both(pair, "fit", X, scipy.sparse.csr_array(y))
    assert_same_model(pair, X, y)


@pytest.mark.parametrize("target", TARGETS)
def test_single_column(target):
    X, y = make_data(target)
    y = y[:, :1] if y.ndim == 2 else y.reshape(-1, 1)
    pair = make_pair(target, max_iter=5, random_state=0)
    call_both(pair, "fit", X, y)  # both warn of it
    assert_same_model(pair, X, y.ravel())


# ------------------------------------------------------------------------------ randomness


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_generators_move_on_alike(target, early_stopping):
    X, y = make_data(target)
    pair = make_pair(target, max_iter=5, early_stopping=early_stopping)
    for model in pair:
        model.random_state = np.random.RandomState(3)
    for _ in range(2):  # the second fit continues the random sequence of the first
        check_fit(pair, X, y)
        ours, theirs = (model.random_state.get_state() for model in pair)
        np.testing.assert_array_equal(ours[1], theirs[1])
        assert ours[2:] == theirs[2:]


def test_no_seed_draws_from_the_generator_of_numpy():
    X, y = make_data("multiclass")
    pair = make_pair("multiclass", max_iter=5)
    before = np.random.get_state()  # noqa: NPY002
    try:
        for model in pair:
            np.random.seed(11)  # noqa: NPY002
            with pytest.warns(match="Maximum iterations"):
                model.fit(X, y)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert_same_model(pair, X, y)


# --------------------------------------------------------------- when training comes to a halt


@pytest.mark.parametrize("n_iter_no_change", [1, 3, 7])
@pytest.mark.parametrize("tol", [1e-4, 0.003, 0.02])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("target", ["multiclass", "regression"])
def test_loss_stops_training(target, solver, tol, n_iter_no_change):
    pair = make_pair(
        target,
        solver=solver,
        learning_rate_init=0.03,
        batch_size=10,
        tol=tol,
        n_iter_no_change=n_iter_no_change,
        hidden_layer_sizes=(6,),
        max_iter=150,
        random_state=4,
    )
    check_fit(pair, *make_data(target, seed=5), rtol=1e-6)
    if tol > 1e-4:
        assert pair[0].n_iter_ < 150


def test_infinite_patience():
    pair = make_pair("binary", tol=1e9, n_iter_no_change=np.inf, max_iter=30, random_state=0)
    check_fit(pair, *make_data("binary"))
    assert pair[0].n_iter_ == 30


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("target", ["binary", "multioutput"])
def test_adaptive_rate_down_to_its_stop(target, early_stopping):
    pair = make_pair(
        target,
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.1,
        tol=0.01,
        n_iter_no_change=2,
        early_stopping=early_stopping,
        validation_fraction=0.2,
        hidden_layer_sizes=(6,),
        max_iter=300,
        random_state=0,
    )
    check_fit(pair, *make_data(target, 60))
    assert pair[0].n_iter_ < 300
    rates = [model._optimizer.learning_rate for model in pair]
    assert rates[0] == rates[1] < 1e-6  # the last cut was the eighth, of a rate above 1e-6


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_early_stopping(target, weighted, container):
    X, y = make_data(target, 90)
    pair = make_pair(
        target,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=4,
        learning_rate_init=0.05,
        batch_size=25,
        hidden_layer_sizes=(8,),
        max_iter=100,
        random_state=1,
    )
    check_fit(pair, CONTAINERS[container](X), y, make_weights(90) if weighted else None, 1e-7)
    scores = pair[0].validation_scores_
    assert len(scores) < 100  # stopped
    assert scores[-1] < max(scores) or scores.index(max(scores)) < len(scores) - 1  # restored


def test_early_stopping_with_strings():
    X, y = make_data("multiclass", 90)
    pair = make_pair("multiclass", early_stopping=True, max_iter=12, random_state=1)
    check_fit(pair, X, np.array(list("abcdef"), dtype=object)[y])


def test_early_stopping_without_shuffles():
    pair = make_pair("binary", early_stopping=True, shuffle=False, max_iter=12, random_state=1)
    check_fit(pair, *make_data("binary", 90))


HALTS = {"tol": 0.01, "n_iter_no_change": 2}


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_iter": 4},
        {"solver": "adam", **HALTS},
        {"solver": "sgd", "learning_rate": "invscaling", **HALTS},
        {"solver": "sgd", "learning_rate": "adaptive", **HALTS},
        {"solver": "adam", "early_stopping": True, **HALTS},
        {"solver": "sgd", "learning_rate": "adaptive", "early_stopping": True, **HALTS},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["multiclass", "regression"])
def test_verbose_prints_the_same(target, parameters, capsys):
    X, y = make_data(target, 60)
    parameters = {"verbose": True, "hidden_layer_sizes": (6,), "random_state": 0, **parameters}
    said = []
    for model in make_pair(target, **parameters):
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit(X, y)
            if not model.early_stopping:
                model.partial_fit(X, y)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Iteration 3, loss = " in said[0]
    assert parameters.get("tol") is None or "did not improve more than tol=0.010000" in said[0]
    assert parameters.get("early_stopping") is None or "Validation score: " in said[0]


# --------------------------------------------------------------------------- continued training


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "adam"},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", TARGETS)
def test_warm_start(target, parameters):
    X, y = make_data(target)
    parameters = {"warm_start": True, "max_iter": 5, "random_state": 3, **parameters}
    pair = make_pair(target, hidden_layer_sizes=(7,), **parameters)
    check_fit(pair, X, y)
    check_fit(pair, X, y)
    for model in pair:
        model.set_params(alpha=1, batch_size=10, learning_rate_init=0.02, activation="tanh")
    check_fit(pair, X, y, make_weights())


@pytest.mark.parametrize("target", ["binary", "regression"])
def test_warm_start_with_early_stopping(target):
    X, y = make_data(target, 60)
    pair = make_pair(
        target,
        warm_start=True,
        early_stopping=True,
        learning_rate_init=0.01,
        max_iter=3,
        random_state=3,
    )
    check_fit(pair, X, y)
    best = pair[0].best_validation_score_
    for model in pair:
        model.set_params(max_iter=20)
    check_fit(pair, X, y)
    assert pair[0].best_validation_score_ > best


def test_warm_start_that_finds_nothing_better_keeps_the_best_weights():
    # scikit-learn keeps the last ones: its copy of the best weights is what it trains
    X, y = make_data("binary", 60)
    ours, _ = make_pair("binary", warm_start=True, early_stopping=True, max_iter=3, random_state=3)
    with pytest.warns(ConvergenceWarning):
        ours.fit(X, y)
    best, score = [w.copy() for w in ours.coefs_], ours.best_validation_score_
    with pytest.warns(ConvergenceWarning):
        ours.set_params(max_iter=1, learning_rate_init=10).fit(X, y)
    assert ours.best_validation_score_ == score
    for kept, before in zip(ours.coefs_, best, strict=True):
        np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize("target", ["multiclass", "regression"])
def test_warm_start_with_another_solver(target):
    X, y = make_data(target)
    pair = make_pair(target, warm_start=True, max_iter=5, random_state=3)
    check_fit(pair, X, y)
    for model in pair:
        model.set_params(solver="sgd", learning_rate_init=0.02)
    check_fit(pair, X, y)
    for model in pair:
        model.set_params(solver="lbfgs", tol=1e-9)
    check_fit(pair, X, y, rtol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "adam"},
        {"solver": "sgd", "momentum": 0},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 2},
        {"solver": "adam", "batch_size": 8, "shuffle": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", TARGETS)
def test_partial_fit(target, parameters):
    X, y = make_data(target, 90)
    sample_weight = make_weights(90)
    pair = make_pair(target, hidden_layer_sizes=(7,), **parameters)
    for model in pair:
        model.random_state = np.random.RandomState(5)
    options = {"classes": range(6) if target == "multiclass" else [0, 1]}
    if target == "multilabel":
        options = {"classes": [0, 1, 2]}
    if target not in CLASSIFIED:
        options = {}
    bounds = [(0, 30), (30, 50), (50, 51), (51, 90), (0, 90), (0, 90), (0, 90), (0, 90)]
    for i, (start, stop) in enumerate(bounds):
        if i % 3 == 2:
            options["sample_weight"] = sample_weight[start:stop]
        call_both(pair, "partial_fit", X[start:stop], y[start:stop], **options)
        assert_same_model(pair, X, y)
        options = {}


def test_classes_that_come_later():
    X, y = make_data("multiclass", 60)
    names = np.array(list("abcdef"))[y]
    pair = make_pair("multiclass", random_state=0)
    first = y < 4
    call_both(pair, "partial_fit", X[first], names[first], classes=list("fbda"))
    call_both(pair, "partial_fit", X[~first], names[~first])
    assert_same_model(pair, X, names)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("target", TARGETS)
def test_fit_and_partial_fit_in_turns(target, solver):
    X, y = make_data(target)
    pair = make_pair(target, solver=solver, learning_rate="invscaling", max_iter=4, random_state=6)
    for method in ("fit", "partial_fit", "partial_fit", "fit", "partial_fit"):
        call_both(pair, method, X, y)
        assert_same_model(pair, X, y)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 20},
        {"learning_rate_init": 0.1},
        {"momentum": 0.2},
        {"learning_rate": "adaptive"},
        {"beta_1": 0.1, "epsilon": 1},
        {"batch_size": 7},
        {"shuffle": False},
        {"activation": "tanh"},
        {"random_state": 9},
        {"tol": 10, "n_iter_no_change": 1},
        {"solver": "adam"},
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_parameters_changed_between_calls(solver, change):
    X, y = make_data("regression")
    pair = make_pair("regression", solver=solver, random_state=6)
    call_both(pair, "partial_fit", X, y)
    for model in pair:
        model.set_params(**change)
    for _ in range(3):
        call_both(pair, "partial_fit", X, y)
        assert_same_model(pair, X, y)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_weights_set_by_users(solver):
    X, y = make_data("regression")
    pair = make_pair("regression", solver=solver, hidden_layer_sizes=(7,), random_state=6)
    call_both(pair, "partial_fit", X, y)
    for model in pair:
        model.coefs_[0][2] = 0.25
        model.intercepts_[1] = np.array([3.0])
    assert_same_model(pair, X, y)
    call_both(pair, "partial_fit", X, y)
    assert_same_model(pair, X, y)


def pickled_with_its_solver(model):
    with keep_training_state():
        return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled_with_its_solver])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("target", TARGETS)
def test_pickles_go_on_alike(target, solver, duplicate):
    X, y = make_data(target)
    if (target, solver) == ("multioutput", "lbfgs"):
        y = y[:, 0]
    parameters = {"solver": solver, "hidden_layer_sizes": (7,), "max_iter": 4, "random_state": 6}
    pair = make_pair(target, warm_start=True, **parameters)
    call_both(pair, "fit", X, y)
    pair = [duplicate(model) for model in pair]
    assert_same_model(pair, X, y, 1e-7)
    call_both(pair, "fit" if solver == "lbfgs" else "partial_fit", X, y)
    assert_same_model(pair, X, y, 1e-7)


# ---------------------------------------------------------------------------------- L-BFGS


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", AXES["activation"])
@pytest.mark.parametrize("target", [target for target in TARGETS if target != "multioutput"])
def test_lbfgs(target, activation, weighted, container):
    X, y = make_data(target)
    pair = make_pair(
        target,
        solver="lbfgs",
        activation=activation,
        hidden_layer_sizes=(6, 4),
        alpha=0.1,
        tol=1e-9,
        max_iter=15,
        random_state=2,
    )
    sample_weight = make_weights() if weighted else None
    ours, theirs = call_both(pair, "fit", CONTAINERS[container](X), y, sample_weight=sample_weight)
    assert ours.n_iter_ == theirs.n_iter_ == 15
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
    assert_same_model(pair, X, y, 1e-4)


@pytest.mark.parametrize(("limit", "n"), [("max_iter", 3), ("max_fun", 9)])
def test_lbfgs_is_limited(limit, n):
    X, y = make_data("multiclass")
    pair = make_pair("multiclass", solver="lbfgs", random_state=2, **{limit: n})
    check_fit(pair, X, y, rtol=1e-7)  # both warn of it


def test_lbfgs_of_several_targets_minimises_the_sum_of_their_errors():
    # scikit-learn's uses the gradient of the sum but the value of the mean
    X, y = make_data("multioutput")
    ours, _ = make_pair("multioutput", solver="lbfgs", hidden_layer_sizes=(), alpha=2, tol=1e-9)
    ridge = Ridge(alpha=2).fit(X, y)
    np.testing.assert_allclose(ours.fit(X, y).predict(X), ridge.predict(X), rtol=1e-3, atol=1e-3)


# --------------------------------------------------------------------------------- float32


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("target", TARGETS)
def test_float32(target, solver, container):
    X, y = make_data(target)
    X = CONTAINERS[container](X.astype(np.float32))
    if target not in CLASSIFIED:
        y = y.astype(np.float32)
    pair = make_pair(target, solver=solver, batch_size=20, max_iter=5, random_state=2)
    ours, theirs = call_both(pair, "fit", X, y)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-3)
    assert_same(ours.coefs_, theirs.coefs_, 1e-3)
    assert_same(ours.intercepts_, theirs.intercepts_, 1e-3)
    for method in ("predict_proba",) if target in CLASSIFIED else ("predict",):
        assert_same(getattr(ours, method)(X), getattr(theirs, method)(X), 1e-3)


# ------------------------------------------------------------------------------- signatures

CLASSES = [(BPClassifier, MLPClassifier), (BPRegressor, MLPRegressor)]
METHODS = [
    (ours, theirs, name)
    for ours, theirs in CLASSES
    for name in dir(theirs)
    if name == "__init__" or (not name.startswith("_") and callable(getattr(theirs, name)))
]


def test_there_are_public_methods():
    names = {name for _, _, name in METHODS}
    assert names >= {"__init__", "fit", "partial_fit", "predict", "predict_proba", "score"}


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    METHODS,
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_signatures(ours, theirs, name):
    """Any call of scikit-learn's method is a valid call of ours with the same meaning."""
    here, there = (inspect.signature(getattr(cls, name)).parameters for cls in (ours, theirs))
    for parameter in there.values():
        mine = here[parameter.name]
        assert (mine.kind, mine.default) == (parameter.kind, parameter.default)
    positional = [key for key, p in there.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(here)[: len(positional)] == positional
    for key in here.keys() - there.keys():  # new parameters must not change existing calls
        assert here[key].kind is inspect.Parameter.KEYWORD_ONLY
        assert here[key].default is not inspect.Parameter.empty


@pytest.mark.parametrize("theirs", [MLPClassifier, MLPRegressor])
def test_lists_of_methods_and_parameters_are_no_shorter(theirs):
    ours = {MLPClassifier: BPClassifier, MLPRegressor: BPRegressor}[theirs]
    assert theirs().get_params().items() <= ours().get_params().items()
    assert {name for name in dir(theirs) if name[0] != "_"} <= set(dir(ours))
    assert hasattr(ours(), "partial_fit")
    assert not hasattr(ours(solver="lbfgs"), "partial_fit")
