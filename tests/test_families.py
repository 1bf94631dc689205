"""Families of networks against the same fits run one by one, and which fits are in families."""

import ctypes
import os
import pickle
import sys
import threading
import time
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from common import wait_until
from searches import (
    CLASSIFIER,
    LONER,
    OURS,
    STOCK,
    assert_same,
    counting_epochs,
    halving_search,
)
from sklearn import config_context, get_config
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, UndefinedMetricWarning
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BPClassifier, BPRegressor
from fastbp.callbacks import TimeLimit
from fastbp.cancellation import cancelled_by
from fastbp.compiler import jit
from fastbp.compiler.memory import memory_view
from fastbp.kernels.arrays import HALTED, N_WATCH
from fastbp.model_selection import (
    backend,
    batches,
    evaluation,
    families,
    family,
    members,
    tables,
)
from fastbp.model_selection.fits import put_training_state_back, take_apart
from fastbp.model_selection.standing import Kept
from fastbp.model_selection.survivors import Survivor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite"),
    pytest.mark.skipif(jit.DISABLED, reason="plain Python has no families"),
]

GRIDS = {
    "sizes": {"hidden_layer_sizes": [(3,), (4, 4), (), (40,)], "activation": ["relu", "tanh"]},
    "activations": {"activation": ["logistic", "gelu", ["selu"], "softplus"]},
    "solvers": {"solver": ["adam", "sgd", "adamw", "adagrad", "rmsprop"], "alpha": [0.0, 0.1]},
    "momentum": {"solver": ["sgd"], "nesterovs_momentum": [True, False], "momentum": [0.0, 0.5]},
    "rates": {"learning_rate_init": [0.1, 1e-3], "batch_size": [1, 7, "full"]},
    "orders": {"shuffle": [True, False], "random_state": [1, 2], "init": ["auto", "he_normal"]},
    "schedules": {
        "learning_rate": ["cosine", "one_cycle", "exponential", "step"],
        "warmup_epochs": [0, 2],
    },
    "falls": {
        "solver": ["sgd", "rmsprop"],
        "learning_rate": ["adaptive", "plateau", "constant"],
        "max_iter": [100],
        "tol": [0.0, 0.1],
        "n_iter_no_change": [1, 2],
        "early_stopping": [True, False],
    },
    "decays": {
        "solver": ["sgd", "adamw"],
        "learning_rate": ["invscaling"],
        "power_t": [0.5, 1.0],
        "warmup_epochs": [0, 2.5],
        "batch_size": [7, "auto"],
        "early_stopping": [True, False],
    },
    "dropouts": {
        "dropout": [0.5, (0.0,), (0.3,)],
        "random_state": [1, 2],
        "solver": ["adam", "sgd"],
    },
    "clips": {"clip_norm": [0.01, 1.0, None], "solver": ["adam", "sgd"], "dropout": [0.0, 0.5]},
    "halts": {"tol": [0.0, 0.1], "n_iter_no_change": [1, 3], "max_iter": [1, 30]},
    "penalties": {"l1": [0, 0.1], "label_smoothing": [0, 0.2]},
    "kinds": {"dtype": ["float32", "float64"], "loss": ["log_loss", "squared_error"]},
    "stopping": {
        "early_stopping": [True],
        "n_iter_no_change": [1, 3],
        "validation_fraction": [0.1, 0.3],
        "tol": [0.0, 0.05],
        "max_iter": [1, 40],
    },
    "validation": {
        "early_stopping": [True],
        "random_state": [1, 2],
        "batch_size": [5, 40, "auto"],
        "shuffle": [True, False],
        "solver": ["adam", "sgd"],
    },
    "classes": {"class_weight": ["balanced", {0: 3.0}, None]},
}


def small_iris():
    X, y = load_iris(return_X_y=True)
    return X[::2], y[::2]


@pytest.fixture
def in_families(monkeypatch):
    """Record how many fits of each search run in families."""
    counts, run = [], families.run_families

    def count(found, n_workers, done):
        if found:
            counts.append(sum(map(len, found)))
        return run(found, n_workers, done)

    monkeypatch.setattr(families, "run_families", count)
    return counts


def find_none(evaluator, fits):
    return [], list(range(len(fits)))


def assert_the_same_one_by_one(search, X, y, **fit):
    """Check that a search gives the same results without families, bit for bit."""
    together = clone(search).fit(X, y, **fit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "find_families", find_none)
        alone = clone(search).fit(X, y, **fit)
    assert_same(together.cv_results_, alone.cv_results_)
    return together


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_results(grid, n_classes, n_jobs, in_families):
    X, y = small_iris()
    search = OURS.GridSearchCV(
        CLASSIFIER, GRIDS[grid], cv=3, n_jobs=n_jobs, refit=False, return_train_score=n_jobs == 1
    )
    together = assert_the_same_one_by_one(search, X, y % n_classes)
    assert in_families == [3 * len(together.cv_results_["params"])]


def test_weights_of_samples(in_families):
    """Sample weights that count in training only, and that count in the score."""
    X, y = small_iris()
    fit = {"sample_weight": 0.5 + np.arange(len(y)) % 3}
    search = OURS.GridSearchCV(clone(CLASSIFIER), {"alpha": [0.1, 1.0]}, cv=2, refit=False)
    scores = [assert_the_same_one_by_one(search, X, y, **fit).cv_results_["mean_test_score"]]
    with config_context(enable_metadata_routing=True):
        search.estimator.set_fit_request(sample_weight=True)
        for in_score in (True, False):
            search.estimator.set_score_request(sample_weight=in_score)
            together = assert_the_same_one_by_one(search, X, y, **fit)
            scores.append(together.cv_results_["mean_test_score"])
    assert in_families == [4, 4, 4]
    assert scores[1].tolist() != scores[2].tolist()


def test_a_training_in_many_calls(in_families, monkeypatch):
    monkeypatch.setattr(family, "CALL_SECONDS", 1e-9)
    grid = {"solver": ["adam", "sgd"], "learning_rate": ["constant", "cosine"]}
    search = OURS.GridSearchCV(clone(CLASSIFIER).set_params(batch_size=10), grid, cv=2)
    assert_the_same_one_by_one(search, *small_iris())
    assert in_families == [8]


def test_a_training_of_many_epochs(in_families):
    """More epochs than the engine is asked for at a time, with rates computed on the way."""
    network = clone(CLASSIFIER).set_params(max_iter=2500, tol=0, n_iter_no_change=10**6)
    grid = {"learning_rate": ["constant", "cosine", "step"], "solver": ["adam", "sgd"]}
    search = OURS.GridSearchCV(network, grid, cv=2, refit=False)
    assert_the_same_one_by_one(search, *small_iris())
    assert in_families == [12]


def test_folds_of_different_lengths(in_families):
    """Folds with other mini-batches, or only with another number of them."""
    X, y = small_iris()
    cv = [(np.arange(0, 60), np.arange(60, 75)), (np.arange(20, 75), np.arange(3))]
    for batch_size in ("auto", 49, 30):
        network = clone(CLASSIFIER).set_params(batch_size=batch_size, solver="sgd")
        grid = {"learning_rate": ["constant", "invscaling"], "early_stopping": [False, True]}
        search = OURS.GridSearchCV(network, grid, cv=cv, return_train_score=True)
        assert_the_same_one_by_one(search, X, y)
    assert in_families == [8, 8, 8]


LBFGS = {
    "several": {
        "solver": ["lbfgs", "adam"],
        "alpha": [0.1, 1.0],
        "hidden_layer_sizes": [3, (4, 3)],
    },
    "full mini-batches": {"solver": ["adagrad", "lbfgs"], "batch_size": ["full", 1]},
    "limits": {"max_fun": [4, 9, 100], "tol": [1e-4, 0.1, 2.0], "batch_size": [7]},
    "activations": {"activation": ["tanh", "relu", "gelu"], "random_state": [0, 1]},
    "many steps": {"max_iter": [500], "tol": [0], "alpha": [0.01, 0.1]},
    "kinds": {"dtype": ["float32", "float64"], "hidden_layer_sizes": [8, (20, 17), ()]},
}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grid", LBFGS)
def test_lbfgs(grid, dtype, n_classes, in_families):
    X, y = small_iris()
    X = X.astype(dtype)
    network = clone(CLASSIFIER).set_params(solver="lbfgs")
    search = OURS.GridSearchCV(network, LBFGS[grid], cv=3, return_train_score=True, refit=False)
    together = assert_the_same_one_by_one(search, X, y % n_classes)
    assert in_families == [3 * len(together.cv_results_["params"])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson"])
def test_lbfgs_of_regressors(loss, dtype, in_families):
    """Several targets, weights, more samples than a chunk, and line searches that fail."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 3))
    y = np.exp(X @ rng.normal(size=(3, 2)) / 2)
    X = X.astype(dtype)
    network = BPRegressor(
        hidden_layer_sizes=(5,), solver="lbfgs", loss=loss, max_iter=60, tol=0, random_state=0
    )
    search = OURS.GridSearchCV(network, {"alpha": [0.1, 1.0, 3.0]}, cv=2, refit=False)
    weights = rng.random(len(y))
    y = y[:, 0] if loss == "poisson" else y
    assert_the_same_one_by_one(search, X, y, sample_weight=weights)
    assert in_families == [6]


@pytest.fixture
def in_turns(monkeypatch):
    """Train all networks in turns, and in many turns, on one thread, too."""
    made_for = family.Family
    monkeypatch.setattr(families, "Family", lambda members, _: made_for(members, 2))
    monkeypatch.setattr(family, "LAST", 1000)
    monkeypatch.setattr(tables, "TURNS", 64)


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize(
    ("solver", "grid"), [("adam", name) for name in GRIDS] + [("lbfgs", name) for name in LBFGS]
)
def test_networks_in_turns(solver, grid, n_jobs, in_turns, in_families):
    network = clone(CLASSIFIER).set_params(solver=solver)
    grid = (LBFGS if solver == "lbfgs" else GRIDS)[grid]
    search = OURS.GridSearchCV(network, grid, cv=3, n_jobs=n_jobs, refit=False)
    together = assert_the_same_one_by_one(search, *small_iris())
    assert in_families == [3 * len(together.cv_results_["params"])]


def test_whose_turn_it_is(monkeypatch):
    """The network with most left has its turn; the first take none, halted ones need none."""
    made_for, addresses_of, kernel = family.Family, family.kernel.addresses_of, family.kernel
    fields = ("network", "parameters"), ("run", "first"), ("run", "last"), ("run", "watch")
    n_epochs = [60, 50, 40, 39, 20, 10]
    trained = {}  # how far each network has come, by its address
    turns, places = [], []

    def train(plan, *_):
        integers = memory_view(plan, np.int64, (max(places) + 1,))
        network, first, last, watch = integers[places].tolist()
        assert first == trained.get(network, 0)
        trained[network] = last
        number = list(trained).index(network)
        halts = number == 4 and last == 15
        memory_view(watch, np.float64, (N_WATCH,))[HALTED] = halts
        turns.append((number, 0 if halts else n_epochs[number] - last))

    called = ctypes.CFUNCTYPE(None, *4 * [ctypes.c_int64])(train)

    def note(plans, *others):
        places[:] = (plans[0].place(*field) for field in fields)
        addresses = addresses_of(plans, *others)
        addresses[kernel._TRAIN] = ctypes.cast(called, ctypes.c_void_p).value
        return addresses

    monkeypatch.setattr(families, "Family", lambda members, _: made_for(members, 2))
    monkeypatch.setattr(tables, "TURNS", 5)
    monkeypatch.setattr(kernel, "addresses_of", note)
    cv, network = [(np.arange(50), np.arange(25))], clone(CLASSIFIER).set_params(batch_size="full")
    search = OURS.GridSearchCV(network, {"max_iter": n_epochs}, cv=cv, n_jobs=1, refit=False)
    search.fit(*small_iris())
    assert list(trained.values()) == [60, 50, 40, 39, 15, 10]
    n_first = [number for number, _ in turns].index(2)
    assert turns[:n_first] == sorted(turns[:n_first], key=lambda turn: turn[0])
    left = dict(enumerate(n_epochs[2:], 2))
    last = turns[n_first][0]
    for number, n_left in turns[n_first:]:
        assert left[number] == max(left.values())
        assert last == number or left[last] in (0, *range(left[number]))  # or the same one goes on
        left[number], last = n_left, number


def test_networks_that_run_off_leave_nothing_to_the_next(in_families):
    """They diverge on two of three folds, because of a sample far away."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    y = np.exp(X @ [1.0, 0.5, -1.0])
    X[0] *= 1e160
    network = BPRegressor(hidden_layer_sizes=(20,), max_iter=9, random_state=0, loss="poisson")
    grid = {"solver": ["lbfgs", "adam"], "alpha": [0.1, 0.2, 1.0, 2.0]}
    search = OURS.GridSearchCV(network, grid, cv=3, n_jobs=1, refit=False)
    together = assert_the_same_one_by_one(search, X, y)
    scores = together.cv_results_["split0_test_score"]
    assert in_families == [24]
    assert len(set(scores)) == len(scores)


def test_lbfgs_warns_of_its_end(in_families, monkeypatch):
    network = clone(CLASSIFIER).set_params(solver="lbfgs", max_iter=3)
    search = OURS.GridSearchCV(network, {"max_fun": [2, 100]}, cv=2, refit=False)
    for find in (families.find_families, find_none):
        monkeypatch.setattr(families, "find_families", find)
        with pytest.warns(ConvergenceWarning) as caught:
            search.fit(*small_iris())
        said = sorted(str(warning.message) for warning in caught)
        assert sum("EVALUATIONS EXCEEDS LIMIT" in text for text in said) == 2
        assert sum("ITERATIONS REACHED LIMIT" in text for text in said) == 2
    assert in_families == [4]


@pytest.mark.parametrize("batch_size", [513, 600, 1025, "full"])
def test_mini_batches_of_several_chunks(batch_size, in_families, monkeypatch, request):
    """With a short last mini-batch, and with and without a gradient that is kept."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2600, 3))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    network = clone(CLASSIFIER).set_params(batch_size=batch_size, max_iter=6)
    grid = {
        "learning_rate": ["constant", "cosine"],
        "early_stopping": [False, True],
        "clip_norm": [None, 0.1],
        "dropout": [0.0, 0.5],
    }
    search = OURS.GridSearchCV(network, grid, cv=2, refit=False)
    assert_the_same_one_by_one(search, X, y)
    monkeypatch.setattr(family, "CALL_SECONDS", 1e-9)
    assert_the_same_one_by_one(search, X, y)
    request.getfixturevalue("in_turns")
    assert_the_same_one_by_one(search, X, y)
    assert in_families == [32, 32, 32]


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "lbfgs", "early_stopping": True},
        {"early_stopping": True, "scoring": "f1_macro"},
        {"early_stopping": True, "scoring": "loss"},
        {"learning_rate": "plateau"},
        {"learning_rate": "adaptive", "solver": "sgd", "warmup_epochs": 1},
        {"learning_rate": lambda t, n: 1.0},
        {"max_time": 100.0},
        {"warm_start": True},
        {"max_iter": 20_001, "tol": 1.0},
        {"batch_size": 1000},
    ],
    ids=lambda parameters: "-".join(parameters),
)
@pytest.mark.filterwarnings("ignore:Got `batch_size`")
def test_who_is_in_no_family(parameters, in_families):
    network = clone(CLASSIFIER).set_params(**parameters)
    grid = {"alpha": [0.1, 1.0]}
    assert_the_same_one_by_one(OURS.GridSearchCV(network, grid, cv=2), *small_iris())
    assert in_families == []


@pytest.mark.filterwarnings(
    "ignore:Failed candidates", "ignore:(?s).*fits failed", "ignore:F-score"
)
def test_who_can_be_validated(in_families):
    """Those with a validation set that can be drawn."""
    X, y = small_iris()
    grid = {"early_stopping": [True], "validation_fraction": [0.001, 0.3]}
    search = OURS.GridSearchCV(CLASSIFIER, grid, cv=2, refit=False, scoring="f1_macro")
    scores = assert_the_same_one_by_one(search, X, y).cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [False, True]
    assert in_families == [2]
    search.set_params(estimator=BPRegressor(max_iter=8, random_state=0), scoring="r2")
    assert_the_same_one_by_one(search, X, y, sample_weight=np.arange(len(y)) % 2)
    assert in_families == [2, 2]


VALIDATED = {
    "classes": (BPClassifier(), lambda y: y),
    "two classes": (BPClassifier(), lambda y: y > 1),
    "labels": (BPClassifier(), lambda y: np.eye(3, dtype=int)[y]),
    "numbers": (BPRegressor(), lambda y: y - 0.3),
    "columns": (BPRegressor(loss="huber"), lambda y: np.column_stack([y, y == 2, -y])),
    "one number": (BPRegressor(), lambda y: np.ones(len(y))),
}


@pytest.mark.parametrize("batch_size", [7, 20])
def test_validation_sets_of_two_sizes(batch_size, in_families):
    """They share a family on the same folds, since the mini-batches are equally long."""
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(early_stopping=True, batch_size=batch_size)
    grid = {"validation_fraction": [0.1, 0.4], "learning_rate": ["constant", "cosine"]}
    search = OURS.GridSearchCV(network, grid, cv=2, scoring="neg_log_loss", refit=False)
    assert_the_same_one_by_one(search, np.vstack([X, X]), np.concatenate([y, y]))
    assert in_families == [8]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("of", VALIDATED)
def test_what_early_stopping_goes_by(of, weighted, dtype, in_families):
    network, make_y = VALIDATED[of]
    X, y = small_iris()
    fit = {"sample_weight": 0.5 + np.arange(len(y)) % 3} if weighted else {}
    network = clone(network).set_params(
        early_stopping=True, hidden_layer_sizes=(5,), max_iter=50, random_state=0, dtype=dtype
    )
    grid = {"validation_fraction": [0.1, 0.4], "learning_rate_init": [0.003, 0.1], "tol": [0, 0.1]}
    scoring = "neg_mean_absolute_error" if isinstance(network, BPRegressor) else "accuracy"
    search = OURS.GridSearchCV(
        network, grid | {"n_iter_no_change": [3]}, cv=3, scoring=scoring, n_jobs=2, refit=False
    )
    assert_the_same_one_by_one(search, X, make_y(y), **fit)
    assert in_families == [24]


def test_a_validation_set_whose_weights_are_zero(in_families):
    """The fit fails when such a validation set is drawn."""
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(early_stopping=True, validation_fraction=0.03)
    search = OURS.GridSearchCV(
        network, {"random_state": range(40)}, cv=2, refit=False, error_score=-1
    )
    with pytest.warns(FitFailedWarning, match="needs some positive weights"):
        together = assert_the_same_one_by_one(search, X, y, sample_weight=np.arange(len(y)) % 5 < 1)
    assert in_families == [80]
    assert set(np.sign(together.cv_results_["split0_test_score"])) == {-1, 1}


def test_layers_for_blas_are_in_none(matmul, in_families):
    grid = {"alpha": [0.1, 1.0]}
    assert_the_same_one_by_one(OURS.GridSearchCV(CLASSIFIER, grid, cv=2), *small_iris())
    assert in_families == ([] if matmul == "blas" else [4])


def test_searches_that_ask_for_more(in_families):
    X, y = small_iris()
    for search in (
        OURS.GridSearchCV(CLASSIFIER, {}, scoring=lambda m, X, y: 1.0, cv=2),
        OURS.GridSearchCV(CLASSIFIER, {}, scoring=make_scorer(lambda y, p: 1.0), cv=2),
        OURS.GridSearchCV(
            CLASSIFIER,
            {},
            scoring={"f": "f1_macro", "g": make_scorer(lambda y, p: 1.0)},
            refit="f",
            cv=2,
        ),
        OURS.GridSearchCV(clone(CLASSIFIER).set_callbacks(TimeLimit(100)), {}, cv=2),
    ):
        search.fit(X, y)
    OURS.cross_validate(CLASSIFIER, X, y, cv=2, return_estimator=True)
    assert in_families == []
    OURS.GridSearchCV(CLASSIFIER, {}, scoring=make_scorer(accuracy_score), cv=2).fit(X, y)
    OURS.GridSearchCV(CLASSIFIER, {}, scoring="accuracy", cv=2).fit(X, y)
    OURS.GridSearchCV(Pipeline([("net", CLASSIFIER)]), {}, cv=2).fit(X, y)
    OURS.cross_validate(CLASSIFIER, X, y, cv=2)
    assert in_families == [2, 2, 2, 2]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "scoring",
    [
        "f1_macro",
        "roc_auc_ovr",
        ["accuracy"],
        ["neg_log_loss", "balanced_accuracy"],
        {"loss": "neg_log_loss", "f": make_scorer(f1_score, average="micro")},
    ],
    ids=str,
)
def test_other_scorers(scoring, n_classes, in_families):
    X, y = small_iris()
    search = OURS.GridSearchCV(
        CLASSIFIER,
        {"alpha": [0.1, 1.0], "hidden_layer_sizes": [3, 4]},
        scoring=scoring,
        cv=3,
        refit=False,
        return_train_score=True,
    )
    together = assert_the_same_one_by_one(search, X, y % n_classes)
    stock = STOCK.GridSearchCV(**search.get_params(deep=False)).fit(X, y % n_classes)
    assert_same(together.cv_results_, stock.cv_results_)
    assert in_families == [12]


LOGARITHMIC = OURS.GridSearchCV(
    BPRegressor(hidden_layer_sizes=(5,), max_iter=100, random_state=0),
    {"learning_rate_init": [0.1, 1e-9]},
    scoring="neg_mean_squared_log_error",  # undefined for predictions below -1
    cv=3,
    refit=False,
)


@pytest.mark.filterwarnings("ignore:Scoring failed", "ignore:(?s).*fits failed")
def test_a_metric_that_fails(in_families):
    """It fails for some networks: with the error or without a score, as asked for."""
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60], y[:60] * 0.01
    X[:, 0] *= 1e4
    scores = assert_the_same_one_by_one(LOGARITHMIC, X, y).cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [True, False]
    assert in_families == [6]
    with pytest.raises(ValueError, match="contain values less than"):
        clone(LOGARITHMIC).set_params(error_score="raise").fit(X, y)


def test_after_ctrl_c_none_is_scored_any_more(monkeypatch):
    judge, judged = family.judge_outputs, []

    def press(*of):
        judged.append(of)
        if len(judged) == 2:
            raise KeyboardInterrupt
        return judge(*of)

    monkeypatch.setattr(family, "judge_outputs", press)
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1, 1.0]}, scoring="f1_macro", cv=2)
    with pytest.raises(KeyboardInterrupt, match="1 of 4 fits were done"):
        search.fit(*small_iris())
    assert len(judged) == 2
    scores = [search.cv_results_[f"split{fold}_test_score"] for fold in (0, 1)]
    assert np.isfinite(scores).sum() == 1


def test_many_rows_are_not_scored_by_one_thread(in_families, monkeypatch):
    monkeypatch.setattr(members, "MOST_SCORED", 24)
    for scoring in ("f1_macro", "accuracy"):
        OURS.GridSearchCV(CLASSIFIER, {}, scoring=scoring, cv=3).fit(*small_iris())
    assert in_families == [3]


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize(
    "scoring", [None, "r2", "neg_mean_squared_error", ["r2", "neg_mean_absolute_error"]]
)
@pytest.mark.parametrize("target", ["float", "float32", "int", "constant", "two"])
def test_regressors(target, scoring, dtype, in_families):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:80], y[:80]
    y = {
        "float": y,
        "float32": y.astype(np.float32),
        "int": y.astype(int),
        "constant": np.ones(80),
        "two": np.stack([y, y[::-1]], axis=1),
    }[target]
    network = BPRegressor(hidden_layer_sizes=(5,), max_iter=8, random_state=0, dtype=dtype)
    search = OURS.GridSearchCV(
        network,
        {"learning_rate_init": [0.01, 0.1], "loss": ["squared_error", "huber"]},
        scoring=scoring,
        cv=3,
        refit=False,
        return_train_score=True,
    )
    together = assert_the_same_one_by_one(search, X, y)
    stock = STOCK.GridSearchCV(**search.get_params(deep=False)).fit(X, y)
    assert_same(together.cv_results_, stock.cv_results_)
    assert in_families == [12]


@pytest.mark.filterwarnings("ignore:R")
def test_the_r2_of_one_sample_is_scikit_learns():
    X, y = load_diabetes(return_X_y=True)
    cv = [(np.arange(50), np.array([50])), (np.arange(50), np.arange(50, 60))]
    network = BPRegressor(hidden_layer_sizes=(5,), max_iter=8, random_state=0)
    found = []
    for module in (STOCK, OURS):
        search = module.GridSearchCV(network, {"alpha": [0.1]}, cv=cv, refit=False)
        with pytest.warns(UndefinedMetricWarning, match="less than two samples"):
            found.append(search.fit(X, y).cv_results_)
    assert_same(*found)


class Counting(StandardScaler):
    """A scaler that counts how often it is fitted."""

    times = 0

    def fit(self, X, y=None, sample_weight=None):
        Counting.times += 1
        return super().fit(X, y, sample_weight)


def test_steps_before_the_network(in_families, monkeypatch):
    """They are fitted once for each fold and setting, even if some fits are in no family."""
    pipeline = Pipeline([("scale", Counting()), ("net", CLASSIFIER)])
    grid = {
        "scale__with_mean": [True, False],
        "net__hidden_layer_sizes": [3, 4],
        "net__max_time": [None, 1e6],
    }
    search = OURS.GridSearchCV(pipeline, grid, cv=3, refit=False, n_jobs=2)
    assert_the_same_one_by_one(search, *small_iris())
    assert in_families == [12]
    assert Counting.times == 2 * 2 * 3
    halving = halving_search(OURS, "net__").set_params(n_jobs=2)
    assert_the_same_one_by_one(halving, *small_iris())
    assert in_families == [12, 36, 12, 4]
    search.set_params(param_grid={"net__alpha": [0.1, 1.0]}, cv=2)
    for name, too_little in (("MOST_TRANSFORMED", 2 * 75 * 4 - 1), ("STEPS_SECONDS", 0.0)):
        with monkeypatch.context() as patch:
            patch.setattr(members, name, too_little)
            search.fit(*small_iris())
    assert in_families == [12, 36, 12, 4]
    search.fit(*small_iris())
    assert in_families == [12, 36, 12, 4, 4]


def test_families_and_others_in_one_search(in_families):
    grid = {"alpha": [0.1, 1.0], "max_time": [None, 1e6], "hidden_layer_sizes": [3, 4]}
    assert_the_same_one_by_one(OURS.GridSearchCV(CLASSIFIER, grid, cv=2, n_jobs=2), *small_iris())
    assert in_families == [8]


def test_a_seed_of_none_is_drawn_for_each(in_families):
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(random_state=None)
    scores = []
    for module in (STOCK, OURS):
        np.random.seed(0)  # noqa: NPY002
        search = module.GridSearchCV(network, {"alpha": [0.1] * 8}, cv=2).fit(X, y)
        scores.append(search.cv_results_["mean_test_score"])
    assert len(set(scores[1])) > 1
    assert in_families == [16]


def test_a_network_that_takes_much_memory_is_in_none(in_families, monkeypatch):
    monkeypatch.setattr(families, "MOST_BYTES", 50_000)
    grid = {"hidden_layer_sizes": [3, 1000]}
    assert_the_same_one_by_one(OURS.GridSearchCV(CLASSIFIER, grid, cv=5), *small_iris())
    assert in_families == [5]


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_many_networks_are_several_families_a_few_at_a_time(n_jobs, in_families, monkeypatch):
    monkeypatch.setattr(families, "MOST_BYTES", 50_000)
    monkeypatch.setattr(families, "MOST_AHEAD", 100_000)
    original, made = families.Family.__init__, []

    def note(self, *arguments):
        made.append(self)
        assert sum(family.n_bytes_left for family in made[:-1]) < 100_000
        original(self, *arguments)

    monkeypatch.setattr(families.Family, "__init__", note)
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": np.logspace(-5, 1, 20)}, cv=5, n_jobs=n_jobs)
    assert_the_same_one_by_one(search, *small_iris())
    assert in_families == [100]
    assert len(made) > 10
    assert not any(family._tables for family in made)


class Standin:
    """A stand-in for a family: its threads stay until eight are at work."""

    made, all_are_there = [], threading.Event()

    def __init__(self, members, n_threads):
        self.n_before = sum(other.n_here for other in self.made)
        self.n_coming = self.n_here = self.n_bytes_left = 0
        self.is_told = False
        self.made.append(self)

    @property
    def work_for_one_more(self):
        return 0.0 if self.all_are_there.is_set() else 1 / (1 + self.n_here + self.n_coming)

    def work(self, begins):
        begins()
        self.n_here += 1
        if sum(other.n_here for other in self.made) == 8:
            self.all_are_there.set()
        assert self.all_are_there.wait(60)

    def results(self, in_time):
        return []


def test_threads_come_as_families_are_prepared_and_go_where_most_is_left(monkeypatch):
    monkeypatch.setattr(families, "Family", Standin)
    monkeypatch.setattr(families, "TELLING_SECONDS", 60.0)  # so one after the other
    groups = [[SimpleNamespace(cost=cost)] * 8 for cost in (3.0, 3.0, 1.0, 1.0)]
    assert families.run_families(groups, 8, pytest.fail) == ([], False)
    assert [standin.n_before for standin in Standin.made] == [0, 3, 4, 4]
    assert [standin.n_here for standin in Standin.made] == [3, 2, 2, 1]


def test_work_for_one_more(monkeypatch):
    original, made = family.Family.__init__, []

    def note(self, of, n_threads):
        original(self, of, n_threads)
        made.append(self)
        found = []
        for n_coming in (1, len(of) - 1, len(of), 0):
            self.n_coming = n_coming
            found.append(self.work_for_one_more * (1 + n_coming))
        work = pytest.approx(sum(member.cost for member in of))
        assert found == [work, work, 0, work]

    monkeypatch.setattr(family.Family, "__init__", note)
    grid = {"hidden_layer_sizes": [3, 4], "max_iter": [5, 10]}
    OURS.GridSearchCV(CLASSIFIER, grid, cv=2, n_jobs=2).fit(*small_iris())
    assert made
    assert not any(each.work_for_one_more or each.n_coming for each in made)
    begun = []
    made[0].work(lambda: begun.append(True))  # a thread that comes late calls `begins`, too
    assert begun


def test_what_is_left_of_a_network(monkeypatch):
    """The state of a network after training, also with rates that fall at halts."""
    made, original = [], tables.Tables.__init__

    def note(self, *arguments):
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(tables.Tables, "__init__", note)
    network = clone(CLASSIFIER).set_params(
        solver="sgd", learning_rate_init=0.1, tol=0.01, n_iter_no_change=2, max_iter=400
    )
    grid = {"learning_rate": ["constant", "adaptive"], "early_stopping": [False, True]}
    OURS.GridSearchCV(network, grid, cv=3, n_jobs=2, refit=False).fit(*small_iris())
    jobs, kernel = np.vstack([each.jobs for each in made]), family.kernel
    left = jobs[:, kernel.CHUNKS] - jobs[:, kernel.NEXT_CHUNK]
    assert left.max() > 0
    np.testing.assert_array_equal(jobs[:, kernel.LEFT], left)


def test_what_is_done_is_told_while_others_are_prepared(in_families, monkeypatch):
    """Results are reported early, so that they take no memory."""
    monkeypatch.setattr(families, "MOST_BYTES", 50_000)
    original, made = family.Family.__init__, []

    def note(self, *arguments):
        wait_until(lambda: not any(not each.is_told and not is_done(each) for each in made))
        untold.append(sum(not each.is_told for each in made))
        original(self, *arguments)
        made.append(self)

    def is_done(each):
        kernel, tables = family.kernel, each._tables
        return tables is None or (tables.jobs[:, kernel.STATE] == kernel.DONE).all()

    untold = []
    monkeypatch.setattr(family.Family, "__init__", note)
    grid = {"alpha": np.logspace(-5, 1, 20)}
    OURS.GridSearchCV(CLASSIFIER, grid, cv=5, n_jobs=2).fit(*small_iris())
    assert in_families == [100]
    assert len(untold) > 10
    assert max(untold) <= 1


def changing_halving(**parameters):
    """A halving search over rates that soon fall, with and without early stopping."""
    grid = {
        "solver": ["sgd", "rmsprop", "adagrad"],
        "learning_rate": ["adaptive", "plateau", "invscaling"],
        "early_stopping": [False, True],
    }
    parameters = {"n_iter_no_change": 1, "tol": 0.1} | parameters
    return halving_search(OURS, "", **parameters).set_params(param_grid=grid)


def plain_halving(**parameters):
    """A halving search over neither."""
    grid = {
        "solver": ["adam", "sgd", "rmsprop"],
        "alpha": [0.0, 0.1, 1.0],
        "shuffle": [True, False],
    }
    parameters = {"n_iter_no_change": 5, "tol": 0.01} | parameters
    return halving_search(OURS, "", **parameters).set_params(param_grid=grid)


def mixed_halving(**parameters):
    """A halving search with half of its fits in families."""
    search = plain_halving(**parameters)
    grid = {**search.param_grid, "shuffle": [True], "max_time": [None, 1e6]}
    return search.set_params(param_grid=grid)


HALVINGS = [changing_halving, plain_halving, mixed_halving]


@pytest.mark.parametrize("n_jobs", [1, 4])
@pytest.mark.parametrize("make", HALVINGS)
def test_halving_goes_on_from_families(make, n_jobs, in_families):
    """Networks continue with their full state and their solver's."""
    X, y = small_iris()
    found = []
    for find in (families.find_families, find_none):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(families, "find_families", find)
            search = make().set_params(n_jobs=n_jobs)
            kept, do = [], backend.SideBySide._do

            def keep(self, taken, kept=kept, do=do):
                do(self, taken)
                kept.append(dict(self._kept))

            patch.setattr(backend.SideBySide, "_do", keep)
            found.append((search.fit(X, y), kept))
    (ours, of_families), (alone, one_by_one) = found
    assert in_families[0] == 18 if make is mixed_halving else in_families == [36, 12, 4]
    assert_same(ours.cv_results_, alone.cv_results_)
    last = {}  # the last round of each candidate
    for mine, theirs in zip(of_families, one_by_one, strict=True):
        assert mine.keys() == theirs.keys()
        last |= {key: (mine[key], theirs[key]) for key in mine}
    for mine, theirs in last.values():
        assert_left_alike(mine, theirs)


def test_one_that_has_halted_is_judged_again(in_families):
    """It is not trained further, and there is no warning that it has not converged."""
    X, y = small_iris()
    search = plain_halving(n_iter_no_change=2, tol=10.0)
    together = assert_the_same_one_by_one(search, X, y)
    assert in_families == [36, 12, 4]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(search).fit(X, y)
    assert sum(w.category is ConvergenceWarning for w in caught) == 36  # all in the first round
    assert len(together.cv_results_["params"]) == 18 + 6 + 2


@pytest.mark.parametrize(
    "make",
    [
        changing_halving,
        partial(changing_halving, n_iter_no_change=8),
        plain_halving,
        partial(plain_halving, n_iter_no_change=6, tol=10.0),
    ],
)
@pytest.mark.parametrize("in_turn", [0, 1])
def test_rounds_are_in_families_or_not(in_turn, make, in_families, monkeypatch):
    X, y = small_iris()
    find, rounds = families.find_families, []

    def find_in_turn(evaluator, fits):
        rounds.append(len(fits))
        return (find if len(rounds) % 2 == in_turn else find_none)(evaluator, fits)

    with monkeypatch.context() as patch:
        patch.setattr(families, "find_families", find_in_turn)
        together = make().fit(X, y)
    assert in_families == ([12], [36, 4])[in_turn]
    assert_same(together.cv_results_, make().fit(X, y).cv_results_)


def lbfgs_halving(module=OURS, prefix="", **parameters):
    """A halving search over iterations of L-BFGS, of which some end early or reach no limit."""
    grid = {
        "alpha": [0.0, 0.1, 1.0],
        "tol": [1e-4, 0.05],
        "max_fun": [11, 15_000],
        "random_state": [0, 1],
    }
    return halving_search(module, prefix, solver="lbfgs", **parameters).set_params(
        param_grid={prefix + name: values for name, values in grid.items()},
        min_resources=4,
        max_resources=36,
    )


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize(
    ("prefix", "parameters", "sizes"),
    [
        ("", {}, [48, 16, 6]),
        ("net__", {}, [48, 16, 6]),
        ("", {"dtype": "float32"}, [48, 16, 6]),
        ("", {"hidden_layer_sizes": (7, 6), "activation": "tanh"}, [48, 16, 6]),
    ],
)
def test_halving_of_lbfgs(prefix, parameters, sizes, n_jobs, in_families):
    """The same as from scratch: in families, one by one, or alternately."""
    X, y = small_iris()
    stock = lbfgs_halving(STOCK, prefix, **parameters).fit(X, y)
    search = lbfgs_halving(OURS, prefix, **parameters).set_params(n_jobs=n_jobs)
    ours = assert_the_same_one_by_one(search, X, y)
    assert_same(ours.cv_results_, stock.cv_results_)
    assert in_families == sizes
    for in_turn in (0, 1):
        find, rounds = families.find_families, []

        def find_in_turn(*asked, rounds=rounds, find=find, in_turn=in_turn):
            rounds.append(asked)
            return (find if len(rounds) % 2 == in_turn else find_none)(*asked)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(families, "find_families", find_in_turn)
            assert_same(clone(search).fit(X, y).cv_results_, ours.cv_results_)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_lbfgs_leaves_goes_to_another_process(dtype, in_families, monkeypatch):
    X, y = small_iris()
    here = lbfgs_halving(dtype=dtype).fit(X, y).cv_results_
    send_to(batches.evaluate_batch, monkeypatch)
    for find in (families.find_families, find_none):
        monkeypatch.setattr(families, "find_families", find)
        assert_same(lbfgs_halving(dtype=dtype).fit(X, y).cv_results_, here)
    assert in_families == 2 * [48, 16, 6]


def test_halving_of_lbfgs_anew_where_its_state_is_large(in_families, monkeypatch):
    monkeypatch.setattr(families, "find_families", find_none)
    X, y = small_iris()
    there = lbfgs_halving().fit(X, y).cv_results_
    monkeypatch.setattr(evaluation, "LARGEST_MEMORY", 0)
    with counting_epochs() as anew:
        assert_same(lbfgs_halving().fit(X, y).cv_results_, there)
    with counting_epochs() as from_scratch:
        lbfgs_halving(STOCK).fit(X, y)
    assert len(anew) == len(from_scratch)


def test_the_cost_of_halving_of_lbfgs(monkeypatch):
    monkeypatch.setattr(families, "find_families", find_none)
    search = lbfgs_halving().set_params(param_grid={"random_state": range(9)}, estimator__tol=0)
    with counting_epochs() as going_on:
        search.fit(*small_iris())
    with counting_epochs() as from_scratch:
        STOCK.HalvingGridSearchCV(**search.get_params(deep=False)).fit(*small_iris())
    assert search.n_resources_ == [4, 12, 36]
    # Nine, three and one candidates on two folds; most iterations take one evaluation.
    assert len(from_scratch) >= 2 * (9 * 5 + 3 * 13 + 37)
    again = 2 * (3 * 5 + 13)  # two evaluations per network repeat the same point
    assert len(going_on) - len(from_scratch) <= 2 * (3 + 1) - again


def assert_left_alike(mine, theirs):
    names = {"loss_curve_", "best_loss_", "n_iter_", "t_", "_no_improvement_count", "loss_"}
    for name in names | {"best_validation_score_"}:
        assert getattr(mine.network, name) == getattr(theirs.network, name), name
    for name in ("epoch", "loss", "gradient_norm"):
        column = theirs.network.history_[name]
        np.testing.assert_array_equal(mine.network.history_[name], column)
    assert vars(mine.network).keys() == vars(theirs.network).keys()
    for kind in ("first", "second"):
        a, b = (getattr(kept.network._optimizer, kind) for kept in (mine, theirs))
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a.flat, b.flat)
    for name in ("steps_taken", "learning_rate"):
        assert getattr(mine.network._optimizer, name) == getattr(theirs.network._optimizer, name)
    for name in ("held_out", "best", "latest"):
        a, b = getattr(mine.state, name), getattr(theirs.state, name)
        assert (a is None) == (b is None), name
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(mine.network._weights.flat, theirs.network._weights.flat)
    np.testing.assert_array_equal(mine.state.order, theirs.state.order)
    assert mine.state.goes_on == theirs.state.goes_on
    assert mine.state.n_iter == theirs.state.n_iter
    assert mine.state.random_state.randint(1 << 30) == theirs.state.random_state.randint(1 << 30)


def test_what_is_left_goes_to_another_process_as_any_other():
    """As after a round that was run here, with its workers lost, when the next is sent out."""
    kept, do = [], backend.SideBySide._do

    def keep(self, taken):
        do(self, taken)
        kept.append(dict(self._kept))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.SideBySide, "_do", keep)
        changing_halving().fit(*small_iris())
    left = [one for one in kept[0].values() if isinstance(one, Survivor)]
    assert len(left) == 36
    for mine in left:
        theirs = pickle.loads(pickle.dumps(mine))
        assert type(theirs) is Kept
        for name in ("first", "second"):
            a, b = (getattr(one.network._optimizer, name) for one in (mine, theirs))
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a.flat, b.flat)
        np.testing.assert_array_equal(mine.network._weights.flat, theirs.network._weights.flat)
        for name in ("order", "best", "latest"):
            a, b = (getattr(one.state, name) for one in (mine, theirs))
            np.testing.assert_array_equal(a, b)
        assert mine.state.random_state.randint(99) == theirs.state.random_state.randint(99)


def send_to(worker, monkeypatch):
    """Run batches of fits by a function in place of a worker of another backend."""

    def do(self, numbers, fits, done):
        sent, shared = pickle.loads(pickle.dumps(take_apart(fits)))
        batch = shared, list(enumerate(sent)), get_config(), list(warnings.filters)
        for i, result, kept in worker(*batch)[0]:
            fits[i].kept = kept
            done(i, put_training_state_back(result))

    monkeypatch.setattr(backend.SideBySide, "_do_here", do)


@pytest.mark.parametrize("make", HALVINGS)
def test_batches_in_workers(make, in_families, monkeypatch):
    """Families are used where possible, and their survivors are pickled between rounds."""
    X, y = small_iris()
    here = make().fit(X, y).cv_results_
    done_here, in_families[:] = list(in_families), []
    send_to(batches.evaluate_batch, monkeypatch)
    assert_same(make().fit(X, y).cv_results_, here)
    assert in_families == done_here


def test_a_batch_that_nobody_waits_for_is_given_up(in_families, monkeypatch):
    """It is given up before any network has ended."""
    nobody_waits, before = threading.Event(), set(threading.enumerate())

    def give_up(*batch):
        nobody_waits.set()
        with cancelled_by(nobody_waits):
            results, _ = batches.evaluate_batch(*batch)
        given_up.append(results)
        raise KeyboardInterrupt

    given_up = []
    send_to(give_up, monkeypatch)
    slow = {"hidden_layer_sizes": (200, 200), "batch_size": 4, "max_iter": 1000}
    network = BPClassifier(**slow, tol=0.0, n_iter_no_change=10**6, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        OURS.GridSearchCV(network, {"alpha": [0.1]}, cv=2).fit(*small_iris())
    assert given_up == [[]]
    assert in_families == [2]
    wait_for_all_but(before)


@pytest.mark.parametrize(
    ("grid", "category"),
    [
        ({"max_iter": [2, 500], "tol": [0.0, 10.0], "n_iter_no_change": [3]}, ConvergenceWarning),
        ({"batch_size": [20, 99], "alpha": [0.1, 1.0]}, UserWarning),
    ],
    ids=["not converged", "large batches"],
)
def test_of_each_fit_it_is_said_once(grid, category):
    X, y = small_iris()
    said = []
    for find in (families.find_families, find_none):
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            patch.setattr(families, "find_families", find)
            OURS.GridSearchCV(CLASSIFIER, grid, cv=2, refit=False, n_jobs=2).fit(X, y)
        said.append(sorted(str(w.message) for w in caught if w.category is category))
    assert said[0] == said[1]
    assert len(said[0]) > 0


@pytest.mark.filterwarnings("ignore:Failed candidates")
def test_warnings_that_are_errors_fail_the_fit():
    X, y = small_iris()
    search = OURS.GridSearchCV(CLASSIFIER, {"max_iter": [1, 2]}, cv=2, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ValueError, match=r"(?s)All the 4 fits failed.*ConvergenceWarning"):
            search.fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (CLASSIFIER, {"shuffle": [True, "True"]}),
        (CLASSIFIER, {"shuffle": [True, 1]}),
        (CLASSIFIER, {"alpha": [0.1, np.array(0.2)]}),
        (
            Pipeline([("scale", StandardScaler()), ("network", CLASSIFIER)]),
            {"network": [CLASSIFIER, clone(CLASSIFIER).set_params(alpha=-1.0)]},
        ),
    ],
    ids=["a word", "a number", "an array", "a network"],
)
def test_what_only_looks_like_a_valid_candidate_fails(estimator, grid):
    with pytest.warns(FitFailedWarning):
        search = OURS.GridSearchCV(estimator, grid, cv=2, refit=False).fit(*small_iris())
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


@pytest.mark.filterwarnings("ignore:(?s).*fits failed", "ignore:Failed candidates")
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_one_that_diverges_harms_no_other(in_families):
    grid = {"learning_rate_init": [1e-3, 1e30, 1e-2], "solver": ["sgd"], "max_iter": [50]}
    search = OURS.GridSearchCV(CLASSIFIER, grid, cv=2, refit=False)
    scores = assert_the_same_one_by_one(search, *small_iris()).cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [True, False, True]
    assert in_families == [6]


@pytest.mark.filterwarnings("ignore:(?s).*fits failed", "ignore:Failed candidates")
def test_a_wrong_parameter_fails_as_without(in_families):
    grid = {"alpha": [-1.0, 1.0], "label_smoothing": [0.0, 0.1], "loss": ["squared_error"]}
    search = OURS.GridSearchCV(CLASSIFIER, grid, cv=2, refit=False)
    scores = assert_the_same_one_by_one(search, *small_iris()).cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [False, False, True, False]
    assert in_families == [2]


def test_times_are_shares_of_all(monkeypatch):
    """Times are divided in proportion to the arithmetic of each network."""
    describe, times = family._describe, {}

    def note(tables, k, *of_fit):
        times[tables.members[k].candidate.network.max_iter] = of_fit
        return describe(tables, k, *of_fit)

    monkeypatch.setattr(family, "_describe", note)
    monkeypatch.setattr(families, "TELLING_SECONDS", 60.0)  # so that all are reported at once
    network = clone(CLASSIFIER).set_params(tol=0.0, n_iter_no_change=1000)
    search = OURS.GridSearchCV(
        network, {"max_iter": [10, 300]}, cv=[(range(60), range(60, 75))], n_jobs=1
    )
    began = time.perf_counter()
    search.fit(*small_iris())
    assert 0 < sum(map(sum, times.values())) < time.perf_counter() - began
    assert times[300][0] == pytest.approx(30 * times[10][0])
    assert times[10][0] == pytest.approx(10 * 3 * 60 / 15 * times[10][1])
    assert times[300][1] == pytest.approx(times[10][1])


def wait_for_all_but(before):
    """Wait until all threads except these have ended."""
    wait_until(lambda: not set(threading.enumerate()) - before)


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    """Fits under way are given up within the grace period, and no others begin."""
    slow = {"max_iter": [1000], "batch_size": [4], "hidden_layer_sizes": [(500, 500)]}
    grid = [{"max_iter": [5]}, slow]
    network = BPClassifier(tol=0.0, n_iter_no_change=10**6, random_state=0)
    original, told = families.Family.results, []

    def results(self, *options):
        for result in original(self, *options):
            yield result
            told.append(result)
            if len(told) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(families.Family, "results", results)
    find = families.find_families
    monkeypatch.setattr(families, "find_families", lambda *of: (find(*of)[0][::-1], []))
    search = OURS.GridSearchCV(network, grid, cv=2, refit=False, n_jobs=1)
    began, before = time.perf_counter(), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt, match="2 of 4 fits were done; they are in cv_results_"):
        search.fit(*small_iris())
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert time.perf_counter() - began < 30
    wait_for_all_but(before)


def test_an_error_of_a_thread_is_raised(monkeypatch):
    def fail(*_):
        raise MemoryError("no more")

    original, made = family.Family.__init__, []

    def note(self, *arguments):
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(family.Family, "__init__", note)
    monkeypatch.setattr(family.kernel, "addresses_of", fail)
    monkeypatch.setattr(families, "TELLING_SECONDS", 60.0)
    grid = {"hidden_layer_sizes": [3, 4, 5]}
    with pytest.raises(MemoryError, match="no more"):
        OURS.GridSearchCV(CLASSIFIER, grid, cv=2, n_jobs=2).fit(*small_iris())
    assert len(made) == 1  # no other family is prepared


@pytest.mark.parametrize("max_time", [None, 100.0])  # in families, or in none
def test_who_hears_of_ctrl_c_holds_no_lock_then(max_time, monkeypatch):
    """Ctrl-C comes between any two lines of Python, and some in `threading` hold a lock."""
    enter, held, room = threading.Condition.__enter__, [], os.path.dirname(families.__file__)

    def note(self):
        if threading.get_ident() == threading.main_thread().ident:
            callers = [sys._getframe(k).f_code for k in (1, 2)]
            held.extend(code.co_name for code in callers if code.co_filename.startswith(room))
        return enter(self)

    monkeypatch.setattr(threading.Condition, "__enter__", note)
    network = clone(CLASSIFIER).set_params(max_time=max_time)
    OURS.GridSearchCV(network, {"hidden_layer_sizes": [3, 4]}, cv=2, n_jobs=2).fit(*small_iris())
    assert not held


def test_a_plan_is_left_as_it_was_for_the_next(in_families):
    """The next plan of the same shape has other arrays."""
    X, y = small_iris()
    search = OURS.GridSearchCV(CLASSIFIER, {"solver": ["sgd", "adam"]}, cv=2, n_jobs=2)
    expected = LONER.fit(X, y).loss_curve_, clone(CLASSIFIER).fit(X, y).loss_curve_
    for _ in range(2):
        search.fit(X, y)
        assert (LONER.fit(X, y).loss_curve_, clone(CLASSIFIER).fit(X, y).loss_curve_) == expected
    assert in_families == [4, 4]


def test_where_one_cannot_be_prepared_the_threads_end(monkeypatch):
    original = families.Family.__init__

    def fail(self, of, n_threads):
        if of[0].form.shape.units[1] == 3:  # the smaller network comes second
            raise MemoryError("no more")
        original(self, of, n_threads)

    monkeypatch.setattr(families.Family, "__init__", fail)
    before = set(threading.enumerate())
    search = OURS.GridSearchCV(CLASSIFIER, {"hidden_layer_sizes": [3, 30]}, cv=2, n_jobs=2)
    with pytest.raises(MemoryError, match="no more"):
        search.fit(*small_iris())
    wait_for_all_but(before)
