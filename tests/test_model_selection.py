"""fastbp.model_selection against scikit-learn's own searches over the same estimators."""

import gc
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from contextlib import nullcontext, suppress
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from common import print_to_a_terminal, run_python, wait_until
from joblib import parallel_config
from joblib.parallel import get_active_backend
from scipy.stats import loguniform
from searches import (
    CANDIDATES,
    CLASSIFIER,
    EPOCHS,
    EPOCHS_GOING_ON,
    LONER,
    OURS,
    STOCK,
    assert_same,
    counting_epochs,
    equal,
    halving_search,
    scaled,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.callback import ProgressBar
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import FitFailedWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection

from fastbp import BPClassifier, BPRegressor, baton, threads
from fastbp.callbacks import EarlyStopping, TimeLimit
from fastbp.cancellation import Cancelled, cancelled_by
from fastbp.model_selection import backend, evaluation, family, workers
from fastbp.model_selection.folds import transform_fold
from fastbp.model_selection.interrupts import Deferring, Listening, Tokens, defer
from fastbp.samples import Rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the (test|train) scores are non-finite"),
]


def small_iris():
    X, y = load_iris(return_X_y=True)
    return X[::2], y[::2]


def search_twice(estimator, grid, X, y, name="GridSearchCV", fit=None, **parameters):
    """Run scikit-learn's search and ours, and check that they give the same results."""
    searches = []
    for module in (STOCK, OURS):
        search = getattr(module, name)(clone(estimator), grid, **parameters)
        searches.append(search.fit(X, y, **(fit or {})))
    stock, ours = searches
    assert_same(ours.cv_results_, stock.cv_results_)
    assert ours.n_splits_ == stock.n_splits_
    if ours.refit:
        assert str(ours.best_params_) == str(stock.best_params_)
        if not callable(ours.refit):
            assert equal(ours.best_score_, stock.best_score_)
        np.testing.assert_array_equal(ours.predict(X), stock.predict(X))
    return ours


@pytest.fixture
def fits(monkeypatch):
    """Record the fits that run side by side, and are not left to scikit-learn."""
    done = []
    original = evaluation.Evaluator._evaluate

    def evaluate(self, fit):
        result = original(self, fit)
        done.append(fit)
        return result

    describe = family._describe

    def describe_and_count(tables, k, *times):
        done.append(tables.members[k].fit)
        return describe(tables, k, *times)

    monkeypatch.setattr(evaluation.Evaluator, "_evaluate", evaluate)
    monkeypatch.setattr(family, "_describe", describe_and_count)
    return done


REGRESSOR = BPRegressor(hidden_layer_sizes=(5,), max_iter=8, random_state=0)
TINY = BPClassifier(hidden_layer_sizes=(2,), max_iter=1, random_state=0)
GRIDS = {
    "sizes": {"hidden_layer_sizes": [(3,), (4, 4), ()], "activation": ["relu", "tanh"]},
    "solvers": {"solver": ["adam", "sgd", "adamw", "adagrad", "rmsprop", "lbfgs"]},
    "rates": [
        {"solver": ["sgd"], "learning_rate": ["adaptive", "invscaling"], "tol": [0.1]},
        {"learning_rate_init": [0.1, 0.001], "batch_size": [7, "full"], "shuffle": [True, False]},
    ],
    "stopping": {"early_stopping": [True], "n_iter_no_change": [1, 3], "random_state": [1, 2]},
    "weights": {"class_weight": ["balanced", {0: 3.0}, None], "scoring": [None, "loss"]},
    "kinds": {"dtype": ["float32", "float64"], "loss": ["log_loss", "squared_error"]},
    "schedules": [
        {"learning_rate": ["cosine", "one_cycle", lambda t, n: 1 - t / n], "warmup_epochs": [0, 2]},
        {"learning_rate": ["exponential", "step"], "decay_rate": [0.5], "decay_epochs": [1, 2.5]},
        {"learning_rate": ["plateau"], "solver": ["adam", "sgd"], "tol": [10], "max_time": [1e6]},
    ],
    "regularisation": {
        "dropout": [0.0, (0.4,)],
        "l1": [0, 0.1],
        "clip_norm": [None, 0.1],
        "label_smoothing": [0, 0.2],
    },
}


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_results(grid, n_jobs, fits):
    X, y = small_iris()
    parameters = {"cv": 3, "n_jobs": n_jobs, "scoring": "neg_log_loss"}
    search = search_twice(CLASSIFIER, GRIDS[grid], X, y, **parameters)
    assert len(fits) == 3 * len(search.cv_results_["params"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_the_same_results_on_data_of_any_kind(dtype, fits):
    X, y = small_iris()
    grid = {"alpha": [0.1, 1e-3]}
    search_twice(CLASSIFIER, grid, X.astype(dtype), y, cv=2, return_train_score=True)
    search_twice(CLASSIFIER, grid, scipy.sparse.csc_matrix(X.astype(dtype)), y, cv=2)
    search_twice(CLASSIFIER, grid, pd.DataFrame(X.astype(dtype)), pd.Series(y).map(str), cv=2)
    search_twice(CLASSIFIER, grid, X.tolist(), y.tolist(), cv=2)
    search_twice(CLASSIFIER, grid, X, y > 1, cv=2)
    assert len(fits) == 20


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_results_of_every_loss_and_feature(dtype, container, fits):
    X, y = small_iris()
    X, y_positive = container(X.astype(dtype)), X[:, 0] + 1
    weight = {"sample_weight": np.random.default_rng(0).random(len(y))}
    n_fits = 0
    for name in ("weights", "schedules", "regularisation"):
        search = search_twice(CLASSIFIER, GRIDS[name], X, y, cv=2, fit=weight)
        n_fits += 2 * len(search.cv_results_["params"])
    losses = "squared_error", "absolute_error", "huber", "quantile", "log_cosh", "poisson", "gamma"
    grid = {"loss": losses, "early_stopping": [False, True], "scoring": ["loss"]}
    search_twice(REGRESSOR, grid, X, y_positive, cv=2, fit=weight)
    assert len(fits) == n_fits + 28


def test_the_same_results_of_other_tasks(fits):
    X, Y = make_multilabel_classification(60, 6, random_state=0)
    search_twice(CLASSIFIER, {"alpha": [0.1, 1e-3]}, X, Y, cv=2)
    X, Y = make_regression(60, 6, n_targets=3, random_state=0)
    grid = {"solver": ["adam", "lbfgs"], "early_stopping": [False, True]}
    search_twice(REGRESSOR, grid, X, Y, cv=2, return_train_score=True)
    poisson = {"loss": ["squared_error", "poisson"]}
    search_twice(REGRESSOR, poisson, X, np.abs(Y[:, 0]) // 50, cv=2)
    assert len(fits) == 16


@pytest.mark.parametrize(
    "scoring",
    [
        "neg_log_loss",
        ["accuracy", "roc_auc_ovr"],
        make_scorer(lambda y, p: float((y == p).sum())),
        lambda model, X, y: float(X.shape[0] + model.score(X, y)),
        lambda model, X, y: {"accuracy": model.score(X, y), "first": float(X[0, 0])},
    ],
)
def test_the_same_results_for_any_scoring(scoring, fits):
    X, y = small_iris()
    parameters = {"scoring": scoring, "refit": "accuracy", "return_train_score": True}
    if not isinstance(scoring, list):
        parameters["refit"] = False
    search_twice(CLASSIFIER, {"alpha": [0.1, 1.0]}, X, y, cv=2, **parameters)
    assert len(fits) == 4


def test_sample_weight_and_folds_of_any_kind(fits):
    X, y = small_iris()
    weight = np.random.default_rng(0).random(len(y))
    grid = {"alpha": [0.1, 1.0], "early_stopping": [False, True]}
    search_twice(CLASSIFIER, grid, X, y, cv=2, fit={"sample_weight": weight})
    groups = np.arange(len(y)) % 4
    search_twice(CLASSIFIER, grid, X, y, cv=GroupKFold(3), fit={"groups": groups})
    bootstrap = [(np.arange(len(y)).repeat(2)[::3], np.arange(20)), (np.arange(60), np.arange(5))]
    search_twice(CLASSIFIER, grid, X, y, cv=bootstrap)
    search_twice(CLASSIFIER, grid, X, y, cv=PredefinedSplit(groups == 0))
    assert len(fits) == 8 + 12 + 8 + 8
    grid = {"net__alpha": [0.1, 1.0]}
    search_twice(scaled(CLASSIFIER), grid, X, y, cv=2, fit={"net__sample_weight": weight})
    assert len(fits) == 40


WAYS_TO_NAME_ROWS = {
    "int32": lambda rows: rows.astype(np.int32),
    "uint8": lambda rows: rows.astype(np.uint8),
    "mask": lambda rows: np.isin(np.arange(75), rows),
    "negative": lambda rows: rows - 75,
    "list": list,
    "some twice": lambda rows: np.r_[rows, rows[:3]],
}


@pytest.mark.parametrize("way", WAYS_TO_NAME_ROWS)
@pytest.mark.parametrize("estimator", [CLASSIFIER, scaled(CLASSIFIER)], ids=["network", "pipeline"])
def test_rows_of_a_fold_are_named_in_any_way(way, estimator, fits):
    X, y = small_iris()
    cv = [tuple(map(WAYS_TO_NAME_ROWS[way], fold)) for fold in KFold(2, shuffle=True).split(X)]
    parameters = {"cv": cv, "scoring": "neg_log_loss", "return_train_score": True}
    search_twice(estimator, {}, X, y, **parameters)
    if estimator is CLASSIFIER:
        search_twice(estimator, {}, scipy.sparse.csr_matrix(X), y, **parameters)
    scoring = {"scoring": lambda model, X, y: float(X.sum() + model.score(X, y))}
    search_twice(estimator, {}, X, y, **parameters | scoring)
    assert len(fits) == (6 if estimator is CLASSIFIER else 4)


class Pairwise(TransformerMixin, BaseEstimator):
    """Takes a kernel matrix, of which a fold has some rows and columns, and keeps four columns."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        return tags

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X[:, :4]


def nested(*steps):
    return Pipeline([("before", make_pipeline(*steps)), ("net", CLASSIFIER)])


def with_alpha(alpha, **parameters):
    return clone(CLASSIFIER).set_params(alpha=alpha, **parameters)


UNSEEDED = clone(CLASSIFIER).set_params(random_state=None)
UNION = FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())])
ALPHAS = {"alpha": [0.1, 1.0]}
NET_ALPHAS = {"net__alpha": [0.1, 1.0]}
DISTRIBUTION = {"alpha": loguniform(1e-4, 1)}
SEVERAL = ["accuracy", "neg_log_loss"]
VARIANTS = {  # estimator, grid, parameters of the search
    "duplicates": (CLASSIFIER, {"alpha": [0.1, 0.1, 1.0]}, {}),
    "a refit of one's own": (CLASSIFIER, ALPHAS, {"refit": lambda results: 1}),
    "a refit by name": (CLASSIFIER, ALPHAS, {"scoring": SEVERAL, "refit": "neg_log_loss"}),
    "a RandomState": (UNSEEDED, {"random_state": [np.random.RandomState(3), 1]}, {}),
    "warm_start": (clone(CLASSIFIER).set_params(warm_start=True), ALPHAS, {}),
    "distributions": (
        CLASSIFIER,
        DISTRIBUTION,
        {"name": "RandomizedSearchCV", "n_iter": 3, "random_state": 0},
    ),
    "other networks": (
        scaled(UNSEEDED),
        {"net": [CLASSIFIER, with_alpha(9.0, dtype="float32")], "net__activation": ["relu"]},
        {},
    ),
    "other steps": (
        scaled(CLASSIFIER),
        {"scale": [MinMaxScaler(), "passthrough", None], **NET_ALPHAS},
        {},
    ),
    "steps that cannot be pickled": (
        nested(FunctionTransformer()),
        {"before__functiontransformer__func": [np.log1p, lambda X: 2 * X]},
        {},
    ),
    "a Pipeline in a Pipeline": (
        nested(StandardScaler(), MinMaxScaler()),
        {"before__standardscaler__with_mean": [True, False], **NET_ALPHAS},
        {},
    ),
    "a FeatureUnion": (
        nested(UNION),
        {"before__featureunion__b": ["drop", "passthrough"], **NET_ALPHAS},
        {},
    ),
    "an encoder of targets": (
        scaled(CLASSIFIER).set_params(scale=TargetEncoder(cv=KFold(3))),
        NET_ALPHAS,
        {},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_results_of_variants(variant, fits):
    X, y = small_iris()
    estimator, grid, parameters = VARIANTS[variant]
    parameters = {"cv": 3, "scoring": "neg_log_loss", "return_train_score": True} | parameters
    search = search_twice(estimator, grid, np.round(X), y, **parameters)
    assert len(fits) == 3 * len(search.cv_results_["params"])


def test_the_same_results_on_a_kernels_matrix(fits):
    X, y = small_iris()
    pipeline = Pipeline([("rows", Pairwise()), ("net", CLASSIFIER)])
    for scoring in ("neg_log_loss", lambda model, X, y: float(X.shape[1] + model.score(X, y))):
        search_twice(pipeline, NET_ALPHAS, X @ X.T, y, scoring=scoring, return_train_score=True)
    assert len(fits) == 20


def test_the_same_results_on_what_has_no_shape(fits):
    X = [["a"] * (1 + i % 3) for i in range(75)]
    pipeline = Pipeline([("hash", FeatureHasher(8, input_type="string")), ("net", CLASSIFIER)])
    search_twice(pipeline, NET_ALPHAS, X, small_iris()[1], cv=2)
    assert len(fits) == 4


def test_routed_metadata(fits):
    X, y = small_iris()
    weight = np.random.default_rng(0).random(len(y))
    with config_context(enable_metadata_routing=True):
        asking = clone(CLASSIFIER).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        search_twice(asking, ALPHAS, X, y, cv=2, fit={"sample_weight": weight})
        other = clone(CLASSIFIER).set_fit_request(sample_weight=False)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        search_twice(other, ALPHAS, X, y, cv=2, scoring=scorer, fit={"sample_weight": weight})
        groups = {"groups": np.arange(len(y)) % 4}
        search_twice(other, ALPHAS, X, y, cv=GroupKFold(3), fit=groups)
        assert len(fits) == 4 + 4 + 6
        pipeline = scaled(asking)
        pipeline[0].set_fit_request(sample_weight=True)
        search_twice(pipeline, NET_ALPHAS, X, y, cv=2, fit={"sample_weight": weight})
    assert len(fits) == 14


def test_what_a_pipelines_score_does_not_ask_for_is_an_error():
    X, y = small_iris()
    params = {"sample_weight": np.ones(len(y))}
    with config_context(enable_metadata_routing=True):
        pipeline = scaled(clone(CLASSIFIER).set_fit_request(sample_weight=False))
        pipeline[0].set_fit_request(sample_weight=False)
        for module in (STOCK, OURS):
            with pytest.raises(UnsetMetadataPassedError, match="score"):
                module.cross_validate(pipeline, X, y, params=params, error_score="raise", cv=2)


def test_a_scorer_sees_the_parameters_of_the_user(fits):
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(n_jobs=3)
    search_twice(network, ALPHAS, X, y, cv=2, scoring=lambda model, X, y: float(model.n_jobs))
    assert len(fits) == 4


WAYS_TO_TAKE_Y = {
    "net__class_weight": [None, "balanced"],
    "net__loss": ["log_loss", "squared_error"],
}


class Counting(TransformerMixin, BaseEstimator):
    """A multiplication that counts its fits and transforms."""

    fits = transforms = 0

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        Counting.fits += 1
        self.fitted_ = True
        return self

    def transform(self, X):
        Counting.transforms += 1
        return X * self.factor


def test_a_pipelines_steps_are_fitted_once_for_a_setting_and_fold(fits):
    X, y = small_iris()
    pipeline = Pipeline([("times", Counting()), ("scale", StandardScaler()), ("net", CLASSIFIER)])
    grid = {"times__factor": [1.0, 2.0], **WAYS_TO_TAKE_Y}
    search_twice(pipeline, grid, X, y, cv=3, return_train_score=True)
    grid["net"] = [CLASSIFIER, with_alpha(1.0)]
    for judged in (False, True):
        Counting.fits = Counting.transforms = 0
        search = OURS.GridSearchCV(pipeline, grid, cv=3, refit=False, return_train_score=judged)
        search.set_params(n_jobs=1).fit(X, y)
        assert Counting.fits == 2 * 3
        assert Counting.transforms == (3 if judged else 2) * 2 * 3  # to train on, and to score
    assert len(fits) == 24 + 2 * 48
    # Column names seen by one network are seen by the next, too.
    pipeline = Pipeline([("scale", StandardScaler()), ("net", CLASSIFIER)])
    pipeline.set_output(transform="pandas")
    scoring = {"scoring": lambda model, X, y: model.score(X, y)}
    search_twice(pipeline, WAYS_TO_TAKE_Y, pd.DataFrame(X).add_prefix("x"), y, cv=2, **scoring)
    assert len(fits) == 24 + 2 * 48 + 8


def test_a_pipeline_of_columns(fits):
    X, y = small_iris()
    table = pd.DataFrame(X, columns=list("abcd")).assign(e=np.where(X[:, 0] > 5, "long", "short"))
    columns = make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["e"]), remainder="drop"
    )
    pipeline = make_pipeline(columns, CLASSIFIER)
    grid = {"bpclassifier__hidden_layer_sizes": [(3,), (6,)]}
    search_twice(pipeline, grid, table, y, cv=2, scoring=["accuracy", "neg_log_loss"], refit=False)
    search_twice(pipeline, grid, table, y, cv=2, scoring=lambda m, X, y: float(X["a"].sum()))
    search_twice(Pipeline([("bpclassifier", CLASSIFIER)]), grid, X, y, cv=2)
    assert len(fits) == 12


def large_data(dtype=np.float32):
    rng = np.random.default_rng(0)
    return (100 * rng.random((20_000, 300))).astype(dtype), rng.integers(0, 2, 20_000)


def copies_of_x(estimator, grid, X, y, **parameters):
    """Return the memory of a search in copies of X, at the peak and afterwards."""
    parameters = {"cv": 5, "refit": False, "n_jobs": 2, **parameters}
    search = OURS.GridSearchCV(estimator, grid, **parameters)
    search.fit(X, y)
    gc.collect()
    gc.disable()  # so that memory is freed by reference counts alone
    tracemalloc.start()
    search.fit(X, y)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    return peak / X.nbytes, held / X.nbytes


def test_x_is_not_copied(tmp_path):
    X, y = large_data()
    np.save(tmp_path / "X.npy", X)
    for given in (X, np.load(tmp_path / "X.npy", mmap_mode="r")):
        assert copies_of_x(TINY, {"alpha": [0.1, 1.0]}, given, y)[0] < 0.12


def test_rows_of_folds_are_not_kept_as_numbers():
    """For 20 folds they would take 20 times X, beside up to 26 for two folds in use."""
    X, y = large_data()
    pipeline = make_pipeline(StandardScaler(), clone(TINY).set_params(clip_norm=1e3))
    assert copies_of_x(pipeline, {"bpclassifier__alpha": [0.1, 1.0]}, X[:, :2], y, cv=20)[0] < 30


@pytest.mark.parametrize("refit", [False, True])
def test_x_is_converted_once(refit):
    grid = {"class_weight": [None, "balanced"]}
    peak, held = copies_of_x(TINY, grid, *large_data(np.int32), refit=refit)
    assert peak < 2.3  # as float64 X is twice as long
    assert held < 0.1


@pytest.mark.parametrize(("n_jobs", "most"), [(1, 1.7), (2, 2.8)])
@pytest.mark.parametrize("grid", [{"net__alpha": [0.1, 1.0]}, WAYS_TO_TAKE_Y])
def test_x_of_a_pipeline_is_there_once_at_a_time(grid, n_jobs, most):
    """Four fifths of X, before and after the step, and what another worker still trains on."""
    pipeline = Pipeline([("times", Counting(2.0)), ("net", TINY)])
    peak, held = copies_of_x(pipeline, grid, *large_data(), n_jobs=n_jobs)
    assert peak < most
    assert held < 0.1


def test_a_pipelines_fold_has_no_row_numbers():
    """All rows of the steps' output are used."""
    X, y = load_iris(return_X_y=True)
    train, test = np.arange(0, 150, 3), np.arange(1, 150, 2)
    fold = transform_fold(scaled(TINY), X, y, None, train, test, is_train_judged=True)
    assert [fold.rows, fold.train.rows.numbers, fold.test.rows.numbers] == [None] * 3
    assert [len(fold.train.rows), len(fold.test.rows)] == [50, 75]
    np.testing.assert_array_equal(fold.order(), np.arange(50))


@pytest.mark.parametrize(("n_features", "of_numbers"), [(65_536, np.uint16), (65_537, np.int32)])
def test_numbers_of_a_sparse_folds_columns_are_short_where_they_fit(n_features, of_numbers):
    """The step's own output is not changed: the step may have kept it."""
    X = scipy.sparse.random(60, n_features, 0.001, "csr", random_state=0)
    X.indices[X.indptr[1:] - 1] = n_features - 1  # the last entry of each row
    kept = []
    step = FunctionTransformer(lambda x: kept.append(x) or x, accept_sparse=True)
    parts = np.arange(40), np.arange(40, 60)
    fold = transform_fold(
        make_pipeline(step, TINY), X, np.arange(60) % 2, None, *parts, is_train_judged=True
    )
    for made, taken in zip(kept, (fold.samples, fold.train.rows, fold.test.rows), strict=True):
        assert [made.indices.dtype, taken.X.indices.dtype] == [np.int32, of_numbers]
        np.testing.assert_array_equal(made.indices, taken.X.indices)
        assert np.shares_memory(made.data, taken.X.data)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_sparse_fold(solver, fits):
    """With each form of y, with held-out samples, and scored on its training samples."""
    X = np.random.default_rng(0).integers(0, 9, (90, 4))
    y = X[:, 0] % 3
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), clone(CLASSIFIER))
    pipeline.set_params(bpclassifier__solver=solver)
    grid = {f"bpclassifier__{key[5:]}": values for key, values in WAYS_TO_TAKE_Y.items()}
    if solver == "adam":
        grid["bpclassifier__early_stopping"] = [False, True]
    search_twice(pipeline, grid, X, y, cv=2, n_jobs=2, return_train_score=True)
    assert {fit.data.n_fits for fit in fits} == {len(fits) // 2}


def test_what_a_step_makes_is_freed_as_it_is_converted():
    pipeline = Pipeline([("times", Counting(2)), ("net", TINY)])
    grid = {"net__alpha": [0.1, 1.0]}
    peak, _ = copies_of_x(pipeline, grid, *large_data(np.int32), n_jobs=1)
    assert peak < 2.6  # four fifths, of int32 and of float64


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("RandomizedSearchCV", {"n_iter": 4, "random_state": 0}),
        ("HalvingGridSearchCV", {"random_state": 0, "factor": 2, "min_resources": 24}),
        ("HalvingRandomSearchCV", {"random_state": 0, "factor": 2, "min_resources": 24}),
    ],
)
def test_other_searches(name, parameters, fits):
    X, y = small_iris()
    grid = {"alpha": [1e-3, 0.1, 1.0, 10.0], "hidden_layer_sizes": [(3,), (4,)]}
    search_twice(CLASSIFIER, grid, X, y, name, cv=2, n_jobs=2, **parameters)
    assert len(fits) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("prefix", ["", "net__"])
def test_halving_goes_on_from_the_round_before(prefix, dtype):
    """The results are the same as from scratch, bit for bit, at the cost of the added epochs."""
    X, y = small_iris()
    searches, epochs = [], []
    parameters = {"dtype": dtype, "tol": 0.0, "hidden_layer_sizes": (20, 30)}
    for module in (STOCK, OURS):
        with counting_epochs() as losses:
            searches.append(halving_search(module, prefix, **parameters).fit(X, y))
        epochs.append(len(losses))
    stock, ours = searches
    assert ours.n_candidates_ == CANDIDATES
    assert_same(ours.cv_results_, stock.cv_results_)
    assert epochs == [EPOCHS, EPOCHS_GOING_ON]


@pytest.mark.parametrize("parameters", [{"solver": "lbfgs"}, {"learning_rate": "cosine"}, {}])
def test_halving_over_networks(parameters):
    """Whether a fit continues depends on the candidate's network, not on the one it replaces."""
    X, y = small_iris()
    networks = {"net": [with_alpha(alpha, **parameters) for alpha in (0.1, 1.0, 2.0)]}
    halving = {"resource": "net__max_iter", "max_resources": 18, "min_resources": 2, "factor": 3}
    halving |= {"scoring": "neg_log_loss", "cv": 2, "random_state": 0}
    search_twice(scaled(CLASSIFIER), networks, X, y, "HalvingGridSearchCV", **halving)


def test_halving_over_what_cannot_be_pickled():
    X, y = small_iris()
    grid = {"scoring": [None, lambda model, X, y: model.score(X, y)], "early_stopping": [True]}
    halving = {"resource": "max_iter", "max_resources": 6, "min_resources": 2, "factor": 2, "cv": 2}
    search_twice(CLASSIFIER, grid, X, y, "HalvingGridSearchCV", **halving)


def test_halving_starts_anew_where_the_schedule_depends_on_the_length():
    X, y = small_iris()
    grid = {"learning_rate": ["cosine", "one_cycle", "step", lambda t, n: 1 - t / n]}
    grid |= {"dropout": [0.0, 0.3], "warmup_epochs": [0, 2]}
    parameters = {"resource": "max_iter", "max_resources": 18, "min_resources": 2}
    parameters |= {"cv": 2, "factor": 3, "refit": False}
    search = OURS.HalvingGridSearchCV(CLASSIFIER, grid, **parameters).fit(X, y)
    stock = STOCK.HalvingGridSearchCV(CLASSIFIER, grid, **parameters).fit(X, y)
    assert_same(search.cv_results_, stock.cv_results_)


def test_cross_validate(fits):
    X, y = small_iris()
    pipeline = make_pipeline(StandardScaler(), CLASSIFIER)
    for estimator in (CLASSIFIER, pipeline):
        parameters = {"cv": 3, "return_train_score": True, "return_estimator": True}
        stock = STOCK.cross_validate(estimator, X, y, return_indices=True, **parameters)
        ours = OURS.cross_validate(estimator, X, y, return_indices=True, n_jobs=2, **parameters)
        assert ours.keys() == stock.keys()
        np.testing.assert_array_equal(ours["test_score"], stock["test_score"])
        np.testing.assert_array_equal(ours["train_score"], stock["train_score"])
        for mine, theirs in zip(ours["estimator"], stock["estimator"], strict=True):
            np.testing.assert_array_equal(mine.predict_proba(X), theirs.predict_proba(X))
            assert str(mine) == str(theirs)
    assert len(fits) == 6
    assert OURS.cross_validate.__doc__.startswith("Evaluate metric")


@pytest.mark.parametrize(
    ("name", "asked", "n_fits"),
    [
        ("cross_val_score", {"scoring": "f1_macro"}, 3),
        ("learning_curve", {"train_sizes": [0.3, 1.0], "shuffle": True, "random_state": 0}, 6),
        ("learning_curve", {"exploit_incremental_learning": True}, 0),
        ("validation_curve", {"param_name": "alpha", "param_range": [1e-4, 1.0]}, 6),
    ],
)
def test_scores_and_curves(name, asked, n_fits, fits):
    X, y = small_iris()
    stock, ours = (
        getattr(module, name)(CLASSIFIER, X, y, cv=3, n_jobs=1, **asked) for module in (STOCK, OURS)
    )
    assert type(ours) is type(stock)
    for mine, theirs in zip(ours, stock, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(fits) == n_fits


def test_what_has_failed_is_left_as_it_was_given():
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(early_stopping=True)
    rows = np.arange(len(y))
    cv = [(rows[:9], rows), (rows, rows)]  # one of nine samples is held out, which is too few
    with pytest.warns(FitFailedWarning):
        found = OURS.cross_validate(network, X, y, cv=cv, error_score=0.0, return_estimator=True)
    for estimator in found["estimator"]:
        assert estimator.get_params() == network.get_params()


@pytest.mark.parametrize("early_stopping", [False, True])
def test_numpys_error_state_is_that_of_the_search(early_stopping):
    X, y = small_iris()
    network, seen = clone(CLASSIFIER).set_params(early_stopping=early_stopping), []

    def score(model, X, y):
        seen.append(np.geterr()["over"])
        return 0.0

    with np.errstate(over="ignore"):
        OURS.cross_validate(network, X, y, scoring=score, cv=2)
    assert seen == ["ignore"] * 2
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        OURS.cross_validate(
            network, X, y, scoring=lambda *of: np.log(0.0), cv=2, error_score="raise"
        )


# What cannot run side by side -------------------------------------------------------------------


def test_any_other_estimator_is_left_to_scikit_learn(fits, capsys):
    X, y = small_iris()
    search_twice(LogisticRegression(), {"C": [0.1, 1.0]}, X, y, cv=2, verbose=1)
    assert "fastbp leaves this to scikit-learn: LogisticRegression" in capsys.readouterr().out
    grid = {"net": [CLASSIFIER, LogisticRegression()], "scale": [StandardScaler(), "passthrough"]}
    search_twice(scaled(CLASSIFIER), grid, X, y, cv=2)
    assert len(fits) == 4

    class Custom(BPClassifier):
        def fit(self, X, y):
            return super().fit(-np.asarray(X), y)

    custom = Custom(hidden_layer_sizes=(3,), max_iter=3, random_state=0)
    search_twice(custom, {"alpha": [0.1, 1.0]}, X, y, cv=2)
    init = [np.ones((4, 5)), np.ones((5, 3))]
    grid = {"alpha": [0.1, 1.0]}
    search_twice(CLASSIFIER, grid, X, y, cv=2, fit={"coef_init": init}, verbose=1)
    assert "left 4 fits to scikit-learn: fit is given coef_init." in capsys.readouterr().out
    assert len(fits) == 4


def test_what_watches_or_validates_is_left_to_scikit_learn(fits, capsys):
    """And the reason is printed."""
    X, y = small_iris()
    watched = clone(CLASSIFIER).set_callbacks(TimeLimit(1000))
    stopping = clone(CLASSIFIER).set_params(early_stopping=True)
    transforming = Pipeline(scaled(CLASSIFIER).steps, transform_input=["X_val"])
    validation = {"X_val": X[::5], "y_val": y[::5]}
    for estimator, callbacks, given, reason in (
        (watched, [], {}, "the estimator has callbacks"),
        (CLASSIFIER, [ProgressBar()], {}, "the search has callbacks"),
        (stopping, [], validation, "fit is given X_val, y_val"),
        (transforming, [], {}, "the Pipeline has transform_input"),
    ):
        prefix = "net__" if estimator is transforming else ""
        search = OURS.GridSearchCV(estimator, {f"{prefix}alpha": [0.1, 1.0]}, cv=2, verbose=1)
        with config_context(enable_metadata_routing=estimator is transforming):
            search.set_callbacks(*callbacks).fit(X, y, **given)
        assert reason in capsys.readouterr().out
        assert np.isfinite(search.best_score_)
    assert not fits


@pytest.mark.parametrize("place", ["alone", "in a pipeline", "candidate"])
def test_networks_with_callbacks_are_left_to_scikit_learn(place, fits):
    X, y = small_iris()
    network = clone(CLASSIFIER).set_params(max_iter=50)
    network.set_callbacks(EarlyStopping("loss", patience=1, tol=1e9))
    grid = {"net": [network]} if place == "candidate" else {}
    estimator = network if place == "alone" else scaled(CLASSIFIER if grid else network)

    def count_epochs(model, X, y):
        return float((model[-1] if isinstance(model, Pipeline) else model).n_iter_)

    search = search_twice(estimator, grid, X, y, cv=2, scoring=count_epochs)
    assert search.cv_results_["mean_test_score"] < 10
    assert not fits


def test_a_regressor_of_transformed_targets_is_left_to_scikit_learn(fits):
    X, _ = small_iris()
    estimator = TransformedTargetRegressor(REGRESSOR, transformer=StandardScaler())
    search_twice(estimator, {"regressor__alpha": [0.1, 1.0]}, X, X[:, 0], cv=2)
    assert not fits


def test_an_error_of_our_own_is_not_hidden(monkeypatch, capsys):
    def fail(*_):
        raise AttributeError("no such thing")

    monkeypatch.setattr(evaluation, "accuracies", fail)
    X, y = small_iris()
    search_twice(LONER, {"alpha": [0.1, 1.0]}, X, y, cv=2, verbose=1)
    said = "left 4 fits to scikit-learn: AttributeError: no such thing."
    assert said in capsys.readouterr().out


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grid", [{"no_such": [1]}, {}, {"alpha": []}, {"alpha": 1.0}, [{"alpha": [1.0]}, {"n": [1]}]]
)
def test_a_bad_grid_is_scikit_learns_error(grid):
    X, y = small_iris()
    errors = []
    for module in (STOCK, OURS):
        try:
            module.GridSearchCV(CLASSIFIER, grid, cv=2).fit(X, y)
            errors.append(None)
        except Exception as error:
            errors.append((type(error), str(error)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "folds",
    [
        (np.arange(50), np.arange(70, 80)),
        (np.arange(50.0), np.arange(50, 75)),
        (np.arange(50).reshape(5, 10), np.arange(50, 75)),
        (slice(50), slice(50, 75)),
        ([], np.arange(50)),
        (np.ones(60, bool), np.ones(75, bool)),
    ],
    ids=["far", "float", "2d", "slice", "empty", "short"],
)
def test_bad_folds_are_scikit_learns_errors(folds):
    X, y = small_iris()
    for module in (STOCK, OURS):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            module.GridSearchCV(CLASSIFIER, {}, cv=[folds], error_score="raise").fit(X, y)
        if module is STOCK:
            expected = caught
    assert (caught.type, str(caught.value)) == (expected.type, str(expected.value))


@pytest.mark.parametrize(
    ("estimator", "n_jobs"), [(CLASSIFIER, 0), (CLASSIFIER, "x"), (Pipeline([]), 1)]
)
def test_a_bad_search_is_scikit_learns_error(estimator, n_jobs):
    X, y = small_iris()
    errors = []
    for module in (STOCK, OURS):
        with pytest.raises((TypeError, ValueError)) as caught:
            module.GridSearchCV(estimator, {}, n_jobs=n_jobs).fit(X, y)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": -1.0},
        {"solver": "none"},
        {"max_iter": "x"},
        {"max_iter": None},
        {"hidden_layer_sizes": (0,)},
        {"hidden_layer_sizes": None},
        {"hidden_layer_sizes": "abc"},
        {"hidden_layer_sizes": ("a",)},
        {"hidden_layer_sizes": ((3,), (4, 5))},
    ],
    ids=str,
)
def test_a_candidate_that_fails_leaves_the_others_unharmed(bad):
    X, y = small_iris()
    grid = [{"alpha": [0.1]}, {name: [value] for name, value in bad.items()}]
    with pytest.warns(FitFailedWarning) as caught:
        search_twice(CLASSIFIER, grid, X, y, cv=2, error_score=-7.0)
    messages = [str(warning.message) for warning in caught]
    assert sum("2 fits failed" in message for message in messages) == 2
    assert sum(f"Failed candidates:\n{bad}: " in message for message in messages) == 1
    assert not any("During handling" in message for message in messages)
    for module in (STOCK, OURS):
        with pytest.raises(Exception, match=next(iter(bad))):
            module.GridSearchCV(CLASSIFIER, grid, cv=2, error_score="raise").fit(X, y)


@pytest.mark.filterwarnings("ignore:(?s)Scoring failed")
def test_a_candidates_error_is_told_by_its_first_line():
    X, y = small_iris()
    X[0, 0] = np.nan
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1]}, cv=2, refit=False)
    with pytest.warns(FitFailedWarning) as caught:
        search.fit(X, y)
    messages = [str(warning.message) for warning in caught]
    assert "Failed candidates:\n{'alpha': 0.1}: ValueError: Input X contains NaN." in messages


def test_what_is_lost_on_the_way_to_workers_is_told(monkeypatch):
    def fail(*_):
        raise OSError("no space is left")
        yield

    monkeypatch.setattr(backend.SideBySide, "_share_out", fail)
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [1.0]}, cv=2, n_jobs=2)
    message = r"2 fits were lost with their workers, 2 times \(OSError\('no space is left'\)\)"
    with parallel_config("loky"), pytest.warns(RuntimeWarning, match=message):
        search.fit(*small_iris())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.filterwarnings("error")
def test_all_candidates_fail_where_warnings_are_errors():
    for module in (STOCK, OURS):
        with pytest.raises(ValueError, match="All the 2 fits failed"):
            module.GridSearchCV(CLASSIFIER, {"alpha": [-1.0]}, cv=2).fit(*small_iris())


@pytest.mark.filterwarnings("ignore:Failed candidates", "ignore:(?s).*fits failed")
@pytest.mark.filterwarnings("ignore:(?s)Scoring failed")
@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss"])
@pytest.mark.parametrize("what", ["nothing to judge by", "weights of 0"])
def test_folds_that_cannot_be(what, scoring):
    """Such folds were once trained on or scored all the same."""
    X, y = small_iris()
    n, fit = len(X), {}
    folds = [(np.arange(0, n, 2), np.arange(1, n, 2)), (np.arange(1, n, 2), np.arange(0, n, 2))]
    if what == "weights of 0":
        fit = {"sample_weight": np.arange(n) % 2}
    else:
        folds[0] = folds[0][0], np.array([], int)
    grid = {"alpha": [0.1, 1.0]}
    parameters = {"cv": folds, "scoring": scoring, "refit": False}
    ours = search_twice(CLASSIFIER, grid, X, y, fit=fit, error_score=-7.0, **parameters)
    assert ours.cv_results_["split0_test_score"].tolist() == [-7, -7]
    for module in (STOCK, OURS):
        with pytest.raises(ValueError, match=r"0 sample|non-zero"):
            module.GridSearchCV(CLASSIFIER, grid, error_score="raise", **parameters).fit(
                X, y, **fit
            )


@pytest.mark.filterwarnings("ignore:Failed candidates", "ignore:(?s).*fits failed")
@pytest.mark.filterwarnings("ignore:(?s)Scoring failed")
def test_random_states_of_steps_are_as_they_were_where_a_fold_fails():
    X, y = small_iris()
    X[0, 0] = np.nan
    step = GaussianRandomProjection(3, random_state=np.random.RandomState(1))
    model = make_pipeline(step, CLASSIFIER)
    scores = [
        module.cross_validate(
            model, X, y, cv=KFold(3), scoring="neg_log_loss", return_train_score=True
        )["train_score"]
        for module in (STOCK, OURS)
    ]
    assert np.isfinite(scores[0][0])
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("bad", [{"solver": np.arange(2)}, {"learning_rate": np.arange(2)}])
def test_halving_with_a_candidate_that_fails(bad):
    X, y = small_iris()
    grid = [{"alpha": [0.1, 1.0]}, {name: [value] for name, value in bad.items()}]
    halving = {"resource": "max_iter", "max_resources": 6, "min_resources": 2, "factor": 3, "cv": 2}
    with pytest.warns(FitFailedWarning):
        search_twice(CLASSIFIER, grid, X, y, "HalvingGridSearchCV", **halving)


def test_a_candidate_that_diverges_is_named():
    X, y = small_iris()
    model = clone(CLASSIFIER).set_params(solver="sgd", max_iter=200)
    grid = {"learning_rate_init": [0.01, 1e20]}
    with np.errstate(all="ignore"), pytest.warns(FitFailedWarning) as caught:
        search = OURS.GridSearchCV(model, grid, cv=2, n_jobs=2).fit(X * 1e3, y)
    assert any("'learning_rate_init': 1e+20" in str(warning.message) for warning in caught)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_a_fold_with_a_class_of_its_own():
    X, y = small_iris()
    grid = {"alpha": [0.1, 1.0]}
    with pytest.warns(UserWarning, match="Scoring failed"):
        search_twice(CLASSIFIER, grid, X, y, cv=KFold(3), scoring="neg_log_loss")
    search_twice(CLASSIFIER, grid, X, y, cv=KFold(3))


def test_a_scorer_that_fails():
    X, y = small_iris()
    calls = []

    def score(model, X, y):
        calls.append(model)
        if model.alpha > 0.5:
            raise ZeroDivisionError("no score")
        return model.score(X, y)

    with pytest.warns(UserWarning, match=r"(?s)Scoring failed.*no score"):
        search_twice(CLASSIFIER, {"alpha": [0.1, 1.0]}, X, y, cv=2, scoring=score)
    for module in (STOCK, OURS):
        search = module.GridSearchCV(
            CLASSIFIER, {"alpha": [1.0] * 4}, cv=2, scoring=score, error_score="raise", n_jobs=1
        )
        calls.clear()
        with pytest.raises(ZeroDivisionError):
            search.fit(X, y)
        assert len(calls) == 1


def test_bad_rows_fail_their_folds_only():
    X, y = small_iris()
    X[:3] = np.nan
    folds = [(np.arange(10, 60), np.arange(60, 75)), (np.arange(40), np.arange(40, 75))]
    with pytest.warns(FitFailedWarning) as caught:
        OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1]}, cv=folds, refit=False).fit(X, y)
    assert any("1 fits failed" in str(warning.message) for warning in caught)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scoring", [None, "accuracy"])
@pytest.mark.parametrize("odd", [7, None, 0.5])
def test_labels_that_scikit_learn_cannot_score(scoring, odd):
    """An unknown label in the rows not trained on: only the scores are lost."""
    X, y = small_iris()
    y = y.astype(float) if odd == 0.5 else np.array(list("abc"), object)[y]
    y[3] = odd
    folds = [(range(20, 60), range(20)), (range(40), range(40, 60))]
    asked = {"cv": folds, "scoring": scoring, "return_train_score": True}
    results = [module.cross_validate(CLASSIFIER, X, y, **asked) for module in (STOCK, OURS)]
    for name in ("test_score", "train_score"):
        np.testing.assert_array_equal(results[1][name], results[0][name])
    assert np.isnan(results[1]["test_score"]).all()


# Interruption, progress, backends ---------------------------------------------------------------

INTERRUPTED = """
import threading, time, os, signal, warnings
import numpy as np
from fastbp import BPClassifier
from fastbp.model_selection import GridSearchCV
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(2000, 20)), rng.integers(0, 2, 2000)
model = BPClassifier(random_state=0, tol=0, n_iter_no_change=10**7)
GridSearchCV(model, {"max_iter": [1]}, cv=2).fit(X, y)
pressed = []
def press():
    while getattr(search, "_backend", None) is None or search._backend.n_done < 4:
        time.sleep(0.01)
    pressed.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
grid = [{"max_iter": [2]}, {"max_iter": [3]}, {"max_iter": [10**6, 10**6 + 1]}]
search = GridSearchCV(model, grid, cv=2, n_jobs=2, pre_dispatch=4)
threading.Thread(target=press, daemon=True).start()
try:
    search.fit(X, y)
except KeyboardInterrupt as error:
    assert "4 of 8 fits were done" in str(error), error
    assert time.monotonic() - pressed[0] < 30
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [True, True, False, False], scores
    print("fine")
"""


presses_ctrl_c = pytest.mark.skipif(
    os.name != "posix", reason="Ctrl-C is sent by os.kill, which ends the process on Windows"
)


@pytest.mark.parametrize(
    ("grace", "presses"), [(0.1, 1), (600.0, 2)], ids=["it is not waited for", "pressed again"]
)
@presses_ctrl_c
def test_ctrl_c_in_what_does_not_hear_of_it(grace, presses, monkeypatch):
    """A scorer runs on, and its result is ignored."""
    X, y = small_iris()
    monkeypatch.setattr(workers, "GRACE", grace)
    before, suppress = set(threading.enumerate()), workers.suppress
    over, is_heard, calls = threading.Event(), threading.Event(), []

    def hear(*errors):
        if errors == (KeyboardInterrupt,):
            is_heard.set()
        return suppress(*errors)

    monkeypatch.setattr(workers, "suppress", hear)

    def score(model, X, y):
        calls.append(model)
        if len(calls) == 2:
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)
                is_heard.wait(60)  # two signals at once would count as one
                time.sleep(0.3)
            over.wait(60)
        return 1.0

    def interrupted(search):
        calls.clear()
        over.clear()
        is_heard.clear()
        with pytest.raises(KeyboardInterrupt, match="1 of 4 fits were done"):
            search()
        assert set(threading.enumerate()) - before
        over.set()
        wait_until(lambda: not set(threading.enumerate()) - before)
        assert len(calls) == 2

    search = OURS.GridSearchCV(CLASSIFIER, ALPHAS, cv=2, scoring=score, n_jobs=1)
    interrupted(lambda: search.fit(X, y))
    scores = [search.cv_results_[f"split{fold}_test_score"] for fold in range(2)]
    assert np.isnan(scores).sum() == 3
    interrupted(lambda: OURS.cross_validate(CLASSIFIER, X, y, cv=4, scoring=score, n_jobs=1))


def test_a_fit_that_scikit_learn_does_can_be_given_up():
    """Were Cancelled an Exception, scikit-learn would record NaN and begin the next fit."""
    X, y = small_iris()
    stop = threading.Event()
    stop.set()
    with cancelled_by(stop), pytest.raises(Cancelled):
        STOCK.cross_validate(CLASSIFIER, X, y, cv=2)


@presses_ctrl_c
def test_ctrl_c_keeps_what_is_finished():
    assert run_python(INTERRUPTED, timeout=120).stdout == "fine\n"


INTERRUPTED_IN_A_TERMINAL = """
import fcntl, termios
import numpy as np
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # whose Ctrl-C now goes to this process
from fastbp import BPClassifier
from fastbp.model_selection import GridSearchCV
rng = np.random.default_rng(0)
X, y = rng.normal(size=(2000, 20)), rng.integers(0, 2, 2000)
model = BPClassifier(random_state=0, tol=0, n_iter_no_change=10**7)
grid = [{"max_iter": [2]}, {"max_iter": [3]}, {"max_iter": [10**6, 10**6 + 1]}]
search = GridSearchCV(model, grid, cv=2, n_jobs=2, pre_dispatch=4, verbose=1)
try:
    search.fit(X, y)
except KeyboardInterrupt:
    print("finished:", np.isfinite(search.cv_results_["mean_test_score"]).tolist())
"""


@presses_ctrl_c
def test_ctrl_c_in_a_terminal_leaves_it_in_order():
    """Pressed while the second round's bar is shown; the first round has the quick candidates."""
    import pty  # neither module exists on Windows
    import termios

    terminal, inside = pty.openpty()
    settings = termios.tcgetattr(inside)
    code = [sys.executable, "-W", "ignore", "-c", INTERRUPTED_IN_A_TERMINAL]
    with subprocess.Popen(
        code,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    ) as child:
        limit = threading.Timer(120, child.kill)
        limit.start()
        shown, is_pressed = b"", False
        while child.poll() is None or select.select([terminal], [], [], 0)[0]:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 1 << 16)
            if not is_pressed and b"0/4" in shown.partition(b"4 of 4 fits")[2]:
                os.write(terminal, termios.tcgetattr(inside)[6][termios.VINTR])
                is_pressed = True
        limit.cancel()
    assert child.returncode == 0, shown[-2000:]
    assert b"finished: [True, True, False, False]" in shown
    assert shown.count(b"\x1b[?25l") == 2  # the cursor is hidden,
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # and shown again
    assert termios.tcgetattr(inside) == settings
    os.close(terminal)
    os.close(inside)


def drop_what_presses():
    """Let go of what presses Ctrl-C as it ends: Python drops what is raised there."""
    thing = threading.Event()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


PRESS = partial(signal.raise_signal, signal.SIGINT)
# Whose call is preceded by it, the how manieth, and how many fits are done then.
PRESSED_AT = {
    "joblib hears of a result": (backend.SideBySide, "retrieve_result_callback", 3, 4, PRESS),
    "joblib hands out a fit": (backend.SideBySide, "submit", 6, 4, PRESS),
    "a weak reference ends": (backend, "run_on_workers", 2, 4, drop_what_presses),
    "the table is made": (BaseSearchCV, "_format_results", 1, 12, PRESS),
    "joblib is left": (parallel_config, "unregister", 1, 12, PRESS),
}


@pytest.mark.parametrize(
    ("owner", "name", "time", "n_done", "press"), PRESSED_AT.values(), ids=PRESSED_AT
)
def test_ctrl_c_where_others_would_lose_it(owner, name, time, n_done, press, monkeypatch):
    """It is put off; what the fits have come to is kept, and joblib is as it was."""
    original, times = getattr(owner, name), itertools.count(1)

    def pressed(*arguments, **named):
        if next(times) == time:
            press()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, pressed)
    search = OURS.GridSearchCV(LONER, {"alpha": np.logspace(-5, 1, 6)}, cv=2, pre_dispatch=4)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*small_iris())
    scores = [search.cv_results_[f"split{fold}_test_score"] for fold in range(2)]
    assert n_done <= np.isfinite(scores).sum() <= n_done + 4 * (press is drop_what_presses)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not isinstance(get_active_backend()[0], backend.SideBySide)


@presses_ctrl_c
def test_a_wait_ends_in_time_whatever_a_slow_handler_does():
    before = signal.signal(signal.SIGINT, lambda *_: time.sleep(0.03))
    presser = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    try:
        presser.start()
        began = time.monotonic()
        assert not Tokens().take(0.02)
        assert time.monotonic() - began < 10
        presser.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_each_token_is_taken_once():
    tokens, taken = Tokens(), []
    takers = [
        threading.Thread(target=lambda: taken.extend(tokens.take(60) for _ in range(100)))
        for _ in range(3)
    ]
    for taker in takers:
        taker.start()
    for _ in range(300):
        tokens.put()
    for taker in takers:
        taker.join()
    assert taken == [True] * 300
    assert not tokens.take(0)


def test_ctrl_c_that_is_swallowed_is_raised_at_the_next_occasion():
    with Deferring():
        defer()
        with Listening(), suppress(KeyboardInterrupt):
            PRESS()
        with pytest.raises(KeyboardInterrupt):
            Listening().__enter__()


def test_an_error_does_not_hide_ctrl_c():
    deferring = Deferring()
    deferring.__enter__()
    defer()
    PRESS()
    with pytest.raises(KeyboardInterrupt):
        deferring.__exit__(ValueError)


def test_ctrl_c_is_left_to_who_handles_it():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        with Deferring():
            defer()
            PRESS()
            assert pressed == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_at(time, monkeypatch):
    """Raise Ctrl-C when fits are grouped for this time; return a list of the group sizes."""
    original, times = workers.group_by_data, []

    def interrupted(fits):
        times.append(len(fits))
        if len(times) == time:
            raise KeyboardInterrupt
        return original(fits)

    monkeypatch.setattr(workers, "group_by_data", interrupted)
    return times


def test_ctrl_c_between_fits(monkeypatch):
    """joblib hands over four fits at a time; fits not begun before Ctrl-C are not begun."""
    times = interrupt_at(2, monkeypatch)
    grid = {"alpha": np.logspace(-5, 1, 6)}
    search = OURS.GridSearchCV(LONER, grid, cv=2, pre_dispatch=4)
    with pytest.raises(KeyboardInterrupt, match="4 of 12 fits were done; they are in cv_results_"):
        search.fit(*small_iris())
    assert times == [4, 4]
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True] * 2 + [False] * 4


def test_ctrl_c_between_rounds(monkeypatch):
    search = halving_search(OURS, "", max_time=1e6)  # in no family
    interrupt_at(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="36 of 48 fits were done"):
        search.fit(*small_iris())
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).tolist() == [True] * 18 + [False] * 6


INTERRUPTED_AT_THE_START = """
import threading
from sklearn.datasets import load_iris
from fastbp import BPClassifier
from fastbp.model_selection import GridSearchCV, workers
workers.GRACE = 600
original, started = threading.Thread.start, []
def start(thread):
    started.append(thread)
    if len(started) == {time}:
        raise KeyboardInterrupt
    original(thread)
threading.Thread.start = start
try:
    network = BPClassifier(max_iter=10**9, tol=0, n_iter_no_change=10**9)
    GridSearchCV(network, {{}}, cv=2, n_jobs=2).fit(*load_iris(return_X_y=True))
except KeyboardInterrupt as error:
    print(error)
"""


@pytest.mark.parametrize("time", [1, 2])
def test_ctrl_c_as_threads_start(time):
    """Threads that were not started are not waited for, which would take ten minutes."""
    shown = run_python(INTERRUPTED_AT_THE_START.format(time=time), timeout=120).stdout
    assert "0 of 2 fits were done; they are in cv_results_" in shown


class Interrupted(StandardScaler):
    """A scaler that raises Ctrl-C when it is fitted to all of iris."""

    def fit(self, X, y=None, sample_weight=None):
        if len(X) == 150:
            raise KeyboardInterrupt
        return super().fit(X, y, sample_weight)


def test_ctrl_c_in_the_last_fit():
    X, y = load_iris(return_X_y=True)
    search = OURS.GridSearchCV(Pipeline([("scale", Interrupted()), ("net", TINY)]), {}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_ctrl_c_as_the_bar_is_drawn_first(monkeypatch):
    terminal = print_to_a_terminal(monkeypatch)

    def draw(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.add_task", draw)
    with pytest.raises(KeyboardInterrupt, match="0 of 2 fits were done"):
        OURS.GridSearchCV(TINY, {}, cv=2, verbose=1).fit(*small_iris())
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_progress_is_printed_when_asked_for(capsys):
    X, y = small_iris()
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1, 1.0]}, cv=2)
    search.fit(X, y)
    assert capsys.readouterr().out == ""
    search.set_params(verbose=1).fit(X, y)
    assert "4 of 4 fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"return_train_score": True, "scoring": ["accuracy"]},
        {"scoring": lambda model, X, y: {"accuracy": model.score(X, y)}},
    ],
    ids=["one score", "several", "a function of several"],
)
def test_what_was_not_done_has_the_keys_of_what_was(asked, monkeypatch):
    """In any order: scikit-learn takes the keys of the first result."""
    X, y = small_iris()
    original = backend.run_on_workers

    def interrupted(evaluator, fits, n_workers, done):
        original(evaluator, fits[1:], n_workers, lambda i, *result: done(i + 1, *result))
        return True

    monkeypatch.setattr(backend, "run_on_workers", interrupted)
    search = OURS.GridSearchCV(LONER, {"alpha": [0.1, 1.0]}, cv=2, refit=False, **asked)
    with pytest.raises(KeyboardInterrupt, match="3 of 4 fits were done"):
        search.fit(X, y)
    name = "mean_test_accuracy" if asked else "mean_test_score"
    assert np.isnan(search.cv_results_[name]).tolist() == [True, False]
    monkeypatch.setattr(backend, "run_on_workers", original)
    expected = clone(search).fit(X, y).cv_results_
    assert search.cv_results_.keys() == expected.keys()


def test_in_a_terminal_progress_is_a_bar(monkeypatch):
    terminal = print_to_a_terminal(monkeypatch)
    OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1, 1.0]}, cv=2, verbose=1).fit(*small_iris())
    printed = terminal.getvalue()
    assert "\x1b[" in printed
    assert "4/4" in printed
    assert "4 of 4 fits" in printed


@pytest.mark.parametrize("estimator", [CLASSIFIER, scaled(CLASSIFIER)], ids=["network", "pipeline"])
@pytest.mark.parametrize(
    ("context", "n_jobs"),
    [({}, None), ({}, 2), ({"n_jobs": 2}, None), ({"backend": "threading", "n_jobs": 2}, None)],
    ids=str,
)
def test_fits_are_done_at_once(context, n_jobs, estimator, monkeypatch):
    """One fit for each fold; each would wait for the other for ever."""
    monkeypatch.setattr(threads, "_most_threads", lambda: 2)
    X, y = small_iris()
    both = threading.Barrier(2)

    def score(model, X, y):
        both.wait(timeout=20)
        return 1.0

    with parallel_config(**context) if context else nullcontext():
        for fit in ({}, {"coef_init": None}):  # left to scikit-learn
            prefix = "net__" if estimator is not CLASSIFIER else ""
            fit = {prefix + name: value for name, value in fit.items()}
            search = OURS.GridSearchCV(
                estimator, {}, cv=2, n_jobs=n_jobs, scoring=score, error_score="raise", refit=False
            )
            search.fit(X, y, **fit)


class Holding(StandardScaler):
    """A scaler that records whether the thread that fits it holds a baton."""

    told: list[bool]

    def fit(self, X, y=None, sample_weight=None):
        self.told.append(holds_baton())
        return super().fit(X, y, sample_weight)


def holds_baton():
    return getattr(baton._of_thread, "hand", None) is not None


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_workers_pass_a_baton_on_and_lay_it_down_for_the_users_code(n_jobs, monkeypatch):
    train, trained, Holding.told = evaluation.Evaluator._train, [], []

    def tell(*arguments):
        trained.append(holds_baton())
        return train(*arguments)

    def score(model, X, y):
        Holding.told.append(holds_baton())
        return 1.0

    monkeypatch.setattr(evaluation.Evaluator, "_train", tell)
    pipeline = Pipeline([("scale", Holding()), ("net", TINY)])
    for fit in ({}, {"net__coef_init": None}):  # left to scikit-learn
        search = OURS.GridSearchCV(pipeline, {}, cv=2, n_jobs=n_jobs, scoring=score, refit=False)
        search.fit(*small_iris(), **fit)
    assert trained == [n_jobs > 1] * 2
    assert Holding.told == [False] * 8


class Telling(StandardScaler):
    """A scaler that sets an event when it is fitted a second time, on the second fold."""

    begun: threading.Event
    times: itertools.count

    def fit(self, X, y=None, sample_weight=None):
        if next(self.times) == 1:
            self.begun.set()
        return super().fit(X, y, sample_weight)


def test_the_next_fold_is_made_while_networks_of_this_one_are_trained(monkeypatch):
    """With two workers, scorers wait for it from the fifth of eight networks on, up to 20 s."""
    monkeypatch.setattr(threads, "_most_threads", lambda: 2)
    Telling.begun, Telling.times, judged = threading.Event(), itertools.count(), itertools.count()

    def score(model, X, y):
        return float(next(judged) < 4 or Telling.begun.wait(20))

    search = OURS.GridSearchCV(
        Pipeline([("scale", Telling()), ("net", TINY)]),
        {"net__alpha": np.logspace(-5, 2, 8)},
        cv=2,
        n_jobs=2,
        scoring=score,
        refit=False,
    )
    search.fit(*small_iris())
    assert search.cv_results_["mean_test_score"].tolist() == [1.0] * 8


def test_the_longest_comes_first(fits):
    X, y = small_iris()
    sizes, epochs = [(2,), (30, 20), (8,)], [1, 9]
    grid = {"net__hidden_layer_sizes": sizes, "net__max_iter": epochs}
    OURS.GridSearchCV(scaled(LONER), grid, cv=2, n_jobs=1, refit=False).fit(X, y)
    done = [tuple(fit.parameters.values()) for fit in fits]
    expected = [((30, 20), 9), ((30, 20), 1), ((8,), 9), ((2,), 9), ((8,), 1), ((2,), 1)]
    assert done == 2 * expected  # once for each fold


@pytest.mark.parametrize("name", ["loky", "multiprocessing", "threading", "sequential"])
def test_under_the_users_own_backend(name):
    X, y = load_digits(return_X_y=True)
    grid = {"alpha": [0.1, 1.0, 10.0], "hidden_layer_sizes": [(5,), (8,)]}
    with parallel_config(backend=name, n_jobs=2):
        search_twice(CLASSIFIER, grid, X[:300], y[:300], cv=2, scoring=["accuracy"], refit=False)
        grid = {f"net__{name}": values for name, values in grid.items()}
        search_twice(scaled(CLASSIFIER), grid, X[:300], y[:300], cv=2)


def test_a_search_that_was_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1]}).predict([[0.0] * 4])


def test_accuracy_asked_for_by_name_is_counted_without_scikit_learns_checks(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("scikit-learn's scorer was called")

    X, y = small_iris()
    arguments = clone(CLASSIFIER), {"alpha": [0.1, 0.01]}
    expected = STOCK.GridSearchCV(*arguments, scoring="accuracy").fit(X, y)
    monkeypatch.setattr("fastbp.model_selection.scoring._score", fail)
    search = OURS.GridSearchCV(*arguments, scoring="accuracy").fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def test_test_and_train_are_predicted_at_once_unless_by_blas(matmul, monkeypatch):
    """BLAS may round a row differently at another position."""
    X, y = small_iris()
    predict, numbers = BPClassifier._predict_outputs, []

    def count(self, rows):
        if isinstance(rows, Rows):
            numbers.append(len(rows))
        return predict(self, rows)

    monkeypatch.setattr(BPClassifier, "_predict_outputs", count)
    options = {"cv": 3, "return_train_score": True, "refit": False, "n_jobs": 1}
    search_twice(LONER, {"alpha": [0.1, 1.0]}, X, y, **options)
    assert numbers == ([25, 50] * 6 if matmul == "blas" else [75] * 6)
