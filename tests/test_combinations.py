"""Schedules, dropout, L1, clipping and smoothed labels combined, on data of every kind."""

import numpy as np
import pytest
import scipy.sparse
from common import CLASSIFIED, TARGETS, make_data, make_pair, make_weights
from sklearn.metrics import log_loss
from test_threads import run_in_threads
from trainings import assert_same_bits

from fastbp.pace import Pace
from fastbp.training import engine as engine_module
from fastbp.training.solvers import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def make_model(target, **parameters):
    together = {
        "learning_rate": "one_cycle",
        "warmup_epochs": 0.5,
        "dropout": (0.2, 0.4),
        "l1": 0.05,
        "clip_norm": 0.3,
        **({"label_smoothing": 0.1} if target in CLASSIFIED else {}),
    }
    network = {"hidden_layer_sizes": (9, 7), "activation": "tanh", "batch_size": 13}
    settings = {"learning_rate_init": 0.02, "epsilon": 1e-4, "max_iter": 4, "random_state": 0}
    model, _ = make_pair(target, **network, **settings)
    return model.set_params(**together | parameters)


def assert_close(model, expected, rtol):
    for mine, theirs in zip(
        model.coefs_ + model.intercepts_, expected.coefs_ + expected.intercepts_, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=rtol)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("target", TARGETS)
def test_sparse_is_dense(target, solver, weighted):
    X, y = make_data(target)
    sample_weight = make_weights() if weighted else None
    dense, sparse = (
        make_model(target, solver=solver).fit(x, y, sample_weight)
        for x in (X, scipy.sparse.csr_array(X))
    )
    assert_close(sparse, dense, 1e-9)


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("target", TARGETS)
def test_single_precision(target, solver):
    """Both precisions drop the same units."""
    X, y = make_data(target)
    double, single = (
        make_model(target, solver=solver, dtype=dtype).fit(X, y) for dtype in ("float64", "float32")
    )
    assert single.coefs_[0].dtype == np.float32
    assert_close(single, double, 1e-3)


@pytest.fixture
def used(monkeypatch):
    """Record each call's number of threads, which is always `n_jobs`, however small the work."""
    used = []

    def run(function, plan, n_threads, compile_it):
        used.append(n_threads)
        return run_in_threads(function, plan, n_threads, compile_it)

    monkeypatch.setattr(engine_module, "choose_threads", lambda n_jobs, work: n_jobs)
    monkeypatch.setattr(engine_module, "run_on_threads", run)
    monkeypatch.setattr(Pace, "plan", lambda pace, remaining: (pace.n_threads, remaining))
    return used


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["multiclass", "multioutput"])
def test_the_same_bits_on_any_number_of_threads(target, dtype, make, used):
    X, y = make_data(target)
    models = [make_model(target, dtype=dtype, n_jobs=n).fit(make(X), y) for n in (1, 2, 3)]
    assert set(used) == {1, 2, 3}
    for model in models[1:]:
        assert_same_bits(model, models[0])
        assert model.loss_curve_ == models[0].loss_curve_


JUDGED = {"early_stopping": True, "scoring": "loss"}
LOSSES = "squared_error", "absolute_error", "huber", "quantile", "log_cosh", "poisson", "gamma"
FEATURES = {
    "weights of classes": ("multiclass", {"class_weight": "balanced"}),
    "weights of two classes": ("binary", {"class_weight": {1: 3.0}, **JUDGED}),
    "squares of classes": ("multiclass", {"loss": "squared_error", "label_smoothing": 0.0}),
    "a scorer": ("multiclass", {"class_weight": "balanced", **JUDGED, "scoring": "f1_macro"}),
    "a schedule that waits": ("regression", {"learning_rate": "plateau", "tol": 0.1, **JUDGED}),
    **{loss: ("regression", {"loss": loss, "quantile": 0.8}) for loss in LOSSES},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_on_data_of_any_kind_and_any_number_of_threads(feature, used):
    """With weights, and with a validation set for early stopping."""
    target, parameters = FEATURES[feature]
    X, y = make_data(target)
    y = y - y.min() + 0.1 if target == "regression" else y
    models = {}
    for dtype in ("float64", "float32"):
        for make in (np.asarray, scipy.sparse.csr_array):
            data = {"X": make(X.astype(dtype)), "y": y, "sample_weight": make_weights()}
            if parameters.get("early_stopping"):
                data |= {"X_val": make(X[:20].astype(dtype)), "y_val": y[:20]}
            for n_jobs in (1, 2, 3):
                model = make_model(target, n_jobs=n_jobs, **parameters).fit(**data)
                assert_same_bits(model, models.setdefault((dtype, make), model))
                assert model.coefs_[0].dtype == dtype
    assert set(used) == {1, 2, 3}
    expected = models["float64", np.asarray]
    for (dtype, _), model in models.items():
        assert_close(model, expected, 1e-9 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("target", ["binary", "multiclass"])
def test_the_validation_loss_is_that_of_the_data(target):
    """It leaves out penalty, smoothing and dropout."""
    X, y = make_data(target)
    model = make_model(target, early_stopping=True, scoring="loss")
    model.fit(X, y, X_val=X[:20], y_val=y[:20])
    expected = log_loss(y[:20], model.predict_proba(X[:20]))
    assert min(model.history_["validation_loss"]) == pytest.approx(expected, rel=1e-12)
