"""Callbacks, checkpoints, and fits that resume from them."""

import itertools
import logging
import os
import pickle
import re
import subprocess
import sys
import time
import warnings
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from common import make_data, make_weights
from scipy.sparse import csc_array, csr_array
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
import fastbp.model_selection
from fastbp import BPClassifier, BPRegressor, callbacks, files, samples
from fastbp.callbacks import Checkpoint, EarlyStopping, LogEvery, StopOnNaN, TimeLimit
from fastbp.estimators import resuming
from fastbp.kernels import lbfgs as kernel
from fastbp.pace import Pace
from fastbp.training.engine import Engine
from fastbp.training.solvers import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_data("multiclass")
FRAME = pd.DataFrame(X, columns=list("abcdef"))


class Recorder:
    """A callback that records what it is told."""

    def __init__(self, stop_at=None):
        self.told, self.stop_at = [], stop_at

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.told.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.told.append(f"end {context.task_name} {context.task_id}")
        self.seen = X, y, metadata
        if context.task_name == "epoch":
            self.fitted = fitted_estimator
            return context.task_id == self.stop_at
        return False


def fit(model, *callbacks, **data):
    return model.set_callbacks(*callbacks).fit(X, Y, **data)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_callbacks_are_told(solver):
    recorder = Recorder()
    weight = make_weights()
    fit(BPClassifier(solver=solver, max_iter=3), recorder, sample_weight=weight)
    inner = [f"{what} epoch {i}" for i in range(3) for what in ("begin", "end")]
    inner += ["begin epoch 3"] * (solver == "lbfgs")  # it begins one more epoch than it ends
    assert recorder.told == ["setup", "begin fit 0", *inner, "end fit 0", "teardown"]
    np.testing.assert_array_equal(recorder.seen[0], X)
    np.testing.assert_array_equal(recorder.seen[1], Y)
    np.testing.assert_array_equal(recorder.seen[2]["sample_weight"], weight)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_callback_changes_nothing(solver, early_stopping, dtype, tmp_path):
    settings = {"early_stopping": early_stopping, "dtype": dtype, "random_state": 0}
    model = BPClassifier((7, 5), solver=solver, max_iter=9, **settings)
    plain = clone(model).fit(X, Y)
    for callback in (Recorder(), Checkpoint(tmp_path / "run")):
        same_model(fit(clone(model), callback), plain)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_estimator_that_is_fitted_up_to_here(solver, early_stopping, dtype):
    recorder = Recorder(stop_at=2)
    settings = {"random_state": 0, "early_stopping": early_stopping, "dtype": dtype}
    settings |= {"solver": solver, "hidden_layer_sizes": (7, 5)}
    model = fit(BPClassifier(max_iter=9, **settings), recorder)
    short = BPClassifier(max_iter=3, **settings).fit(X, Y)
    assert model.n_iter_ == 3
    for stopped in (model, recorder.fitted):
        np.testing.assert_array_equal(stopped.predict_proba(X), short.predict_proba(X))


def test_scikit_learns_own_callbacks():
    monitor = ScoringMonitor(scoring="accuracy")
    model = fit(BPClassifier(max_iter=4, random_state=0), monitor)
    scores = [row["accuracy"] for row in monitor.get_logs().data]
    assert len(scores) == 5  # four epochs, and the end of the fit
    assert scores[-1] == model.score(X, Y)
    bar = ProgressBar(max_propagation_depth=None)
    pipeline = make_pipeline(StandardScaler(), BPClassifier(max_iter=3, random_state=0))
    pipeline.set_callbacks(bar).fit(X, Y)


def test_in_a_pipeline_and_in_searches():
    recorder = Recorder()
    model = BPClassifier(max_iter=2, random_state=0).set_callbacks(recorder)
    make_pipeline(StandardScaler(), model).fit(X, Y)
    assert recorder.told.count("end epoch 1") == 1
    for search in (GridSearchCV, fastbp.model_selection.GridSearchCV):
        recorder.told.clear()
        search(model, {"alpha": [0.1, 1]}, cv=2).fit(X, Y)
        assert recorder.told.count("end epoch 1") == 5  # four fits, and the refit


@pytest.mark.parametrize(
    "callback",
    [EarlyStopping(), Checkpoint("never"), TimeLimit(1), LogEvery(), StopOnNaN()],
    ids=lambda callback: type(callback).__name__,
)
def test_a_callback_is_set_on_the_network_itself(callback):
    model = BPClassifier(max_iter=2, random_state=0)
    searches = GridSearchCV, fastbp.model_selection.GridSearchCV
    for whole in (
        make_pipeline(StandardScaler(), model),
        *(search(model, {"alpha": [0.1, 1]}, cv=2) for search in searches),
    ):
        with pytest.raises(ValueError, match=r"for the network itself, not for a (Pipe|GridS)"):
            whole.set_callbacks(callback).fit(X, Y)
    assert not os.path.exists("never")
    assert callback._runs == {}


def test_errors_of_callbacks_come_through():
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("of the user's own")

    failing = Failing()
    model = BPClassifier(max_iter=3)
    with pytest.raises(RuntimeError, match="of the user's own"):
        fit(model, failing)
    assert failing.told[-1] == "teardown"
    assert model.n_iter_ == len(model.loss_curve_) == 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_copy_made_in_a_fit_is_without_its_state(solver):
    class Copying(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                assert hasattr(estimator, "_state")
                self.copies = fitted_estimator, copy(estimator)
                self.pickled = estimator.__getstate__()

    copying = Copying()
    fit(BPClassifier(solver=solver, max_iter=3), copying)
    assert not any(hasattr(each, "_state") for each in copying.copies)
    assert "_state" not in copying.pickled


def test_early_stopping_by_the_loss():
    stopping = EarlyStopping("loss", patience=3, tol=0.05)
    model = fit(BPClassifier(max_iter=500, random_state=0, n_iter_no_change=np.inf), stopping)
    losses = model.history_["loss"]
    best, waited = np.inf, []
    for loss in losses:
        waited.append(0 if loss < best - 0.05 else waited[-1] + 1)
        best = min(best, loss)
    assert model.n_iter_ == len(losses) < 500
    assert waited[-1] == 4 == max(waited)
    assert stopping.best_ == losses.min()
    assert stopping.best_epoch_ == 1 + losses.argmin()
    reference = BPClassifier(max_iter=stopping.best_epoch_, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(model.coefs_[0], reference.coefs_[0])


def test_early_stopping_by_the_validation_loss():
    stopping = EarlyStopping("validation_loss", patience=2)
    settings = {"early_stopping": True, "n_iter_no_change": np.inf, "learning_rate_init": 0.1}
    model = fit(BPClassifier(max_iter=500, random_state=0, **settings), stopping)
    losses = model.history_["validation_loss"]
    assert stopping.best_epoch_ == 1 + losses.argmin() == len(losses) - 3
    with pytest.raises(ValueError, match="needs early_stopping=True"):
        fit(BPClassifier(max_iter=5), EarlyStopping("validation_score"))


def test_early_stopping_without_any_score():
    settings = {"early_stopping": True, "n_iter_no_change": np.inf}
    model = BPClassifier(scoring=lambda *_: np.nan, max_iter=9, **settings)
    with pytest.raises(ValueError, match="validation_score has not been finite in any epoch"):
        fit(model, EarlyStopping("validation_score", patience=2))


def test_a_validation_score_of_nan_is_no_improvement():
    scores = iter([0.5, np.nan, 0.4, np.nan, 0.6, 0.7])
    model = BPClassifier(early_stopping=True, scoring=lambda *_: next(scores), max_iter=9)
    fit(model, EarlyStopping("validation_score", patience=2))
    assert model.n_iter_ == 4


def test_time_limit(monkeypatch):
    clock = iter([100.0, 100.5, 101.0, 101.5, 102.0, 103.0])  # a second passes, but not more
    monkeypatch.setattr(callbacks, "perf_counter", lambda: next(clock))
    assert fit(BPClassifier(max_iter=5), TimeLimit(1.0)).n_iter_ == 3


@pytest.mark.parametrize(
    ("monitor", "best"),
    [
        ("loss", np.argmin),
        ("validation_loss", np.argmin),
        ("gradient_norm", np.argmin),
        ("validation_score", np.argmax),
    ],
)
def test_the_best_of_every_monitor(monitor, best):
    """The first epoch, if several are equally good."""
    stopping = EarlyStopping(monitor, patience=np.inf)
    settings = {"early_stopping": True, "validation_fraction": 0.5, "n_iter_no_change": np.inf}
    model = fit(BPClassifier(max_iter=40, random_state=0, **settings), stopping)
    values = model.history_[monitor]
    assert stopping.best_epoch_ == 1 + best(values)
    assert stopping.best_ == values[best(values)]


def test_a_checkpoint_at_the_end_of_patience():
    numbers = {"monitor": "loss", "value": 1.0, "epoch": 1, "waited": 2, "seen": 3}
    stopping, model = EarlyStopping(patience=2), BPClassifier()
    assert not stopping.restore_run(model, dict(numbers), None)
    assert stopping.restore_run(model, numbers | {"waited": 3}, None)


def test_log_every(capsys, caplog):
    fit(BPClassifier(max_iter=5), LogEvery(2))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 2", "epoch 4"]
    assert "loss" in lines[0]
    assert "validation" not in lines[0]
    caplog.set_level("INFO")
    fit(BPClassifier(max_iter=2), LogEvery(1, logging.getLogger("fit").info))
    assert len(caplog.records) == 2


def test_stop_on_nan():
    settings = {"solver": "sgd", "momentum": 0, "max_iter": 400, "random_state": 0}
    model = BPRegressor(learning_rate_init=3.0, **settings)
    with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
        clone(model).fit(X, 1e3 * Y)
    stopper = StopOnNaN()
    for other in (
        {},
        # with units that do not fill the processor's vectors, the padding diverges too
        {"hidden_layer_sizes": 5, "activation": "tanh", "dtype": "float32", "batch_size": 20},
        {"early_stopping": True, "scoring": "neg_mean_squared_error", "learning_rate_init": 1e300},
    ):
        diverging = clone(model).set_params(**other).set_callbacks(stopper)
        with np.errstate(all="ignore"):
            diverging.fit(X, 1e3 * Y)
        assert stopper.stopped_
        assert all(np.isfinite(w).all() for w in diverging.coefs_)
        assert np.isfinite(diverging._weights.flat).all()
    fit(BPRegressor(max_iter=2, random_state=0), stopper)
    assert not stopper.stopped_


def test_stop_on_a_loss_that_is_not_finite():
    """Although the weights are finite."""
    stopper = StopOnNaN()
    with np.errstate(all="ignore"):
        model = BPRegressor(max_iter=5, random_state=0).set_callbacks(stopper).fit(X, 1e200 * Y)
    assert (stopper.stopped_, model.n_iter_) == (True, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping("accuracy"), "monitor must be among"),
        (lambda: EarlyStopping(["loss"]), "monitor must be among"),
        *[(lambda v=v: EarlyStopping(patience=v), "patience") for v in (-1, np.nan, "a", 1.5)],
        *[(lambda v=v: EarlyStopping(tol=v), "tol") for v in (-1, np.nan, "a", None)],
        *[(lambda v=v: Checkpoint("x", every=v), "every") for v in (0, 1.5, "a", True)],
        *[(lambda v=v: Checkpoint(v), "path") for v in (None, 3)],
        *[(lambda v=v: TimeLimit(v), "seconds") for v in (0, np.nan, "a", None)],
        *[(lambda v=v: LogEvery(v), "n must be") for v in (0, 1.5, "a")],
        *[(lambda v=v: EarlyStopping(restore_best=v), "restore_best") for v in ("x", 1, None)],
        (lambda: LogEvery(log=3), "log must be callable"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("callback", [EarlyStopping(), LogEvery(), StopOnNaN()])
def test_what_lbfgs_cannot(callback):
    with pytest.raises(ValueError, match="is for stochastic solvers"):
        fit(BPClassifier(solver="lbfgs", max_iter=5), callback)


# Checkpoints ----------------------------------------------------------------------------------

RUNS = {
    "plain": {},
    "no shuffling": {"shuffle": False},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 4, "tol": 0.2},
    "early stopping of wide layers": {"early_stopping": True, "hidden_layer_sizes": (40, 50)},
    "dropout": {"dropout": 0.3, "clip_norm": 0.5, "l1": 0.01},
    "cosine": {"learning_rate": "cosine", "warmup_epochs": 2},
    "plateau": {"learning_rate": "plateau", "tol": 0.5, "n_iter_no_change": 2},
    "invscaling": {"learning_rate": "invscaling"},
    "adaptive": {"learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 2},
    "a function": {"learning_rate": lambda t, n: 1 - t / n},
    "several chunks": {"batch_size": "full"},
}


def same_model(a, b):
    for name in ("coefs_", "intercepts_"):
        for mine, theirs in zip(getattr(a, name), getattr(b, name), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for name in ("loss_", "n_iter_", "t_"):
        assert getattr(a, name) == getattr(b, name)
    if a.solver == "lbfgs":
        return
    for name in ("loss_curve_", "validation_scores_", "best_loss_"):
        assert getattr(a, name) == getattr(b, name)
    for name, column in a.history_.items():
        if name != "seconds":
            np.testing.assert_array_equal(column, b.history_[name])


# 'lbfgs' lacks dropout and everything else that the other runs are about.
CASES = [(run, solver) for run in RUNS for solver in STOCHASTIC_SOLVERS]
CASES += [(run, "lbfgs") for run in ("plain", "early stopping of wide layers")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("run", "solver"), CASES)
def test_going_on_equals_never_having_stopped(run, solver, dtype, tmp_path):
    settings = {"solver": solver, "dtype": dtype, "random_state": 3, "hidden_layer_sizes": (7, 5)}
    settings |= {"batch_size": 8, "learning_rate_init": 0.02, **RUNS[run]}
    whole = BPClassifier(max_iter=12, **settings).fit(X, Y)
    path = tmp_path / "run"
    for k in (1, 5):
        stopped = BPClassifier(max_iter=12, **settings).set_callbacks(
            Checkpoint(path), Recorder(stop_at=k - 1)
        )
        stopped.fit(X, Y)
        gone_on = BPClassifier(max_iter=12, **settings).fit(X, Y, resume_from=path)
        same_model(gone_on, whole)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("restore_best", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
def test_going_on_with_early_stopping_by_a_callback(
    is_first, restore_best, early_stopping, tmp_path
):
    """Resume from each epoch, also the last; either callback may be called first."""
    settings = {"random_state": 0, "learning_rate_init": 0.3, "n_iter_no_change": np.inf}
    settings |= {"hidden_layer_sizes": (7, 5), "early_stopping": early_stopping}
    monitor = "validation_loss" if early_stopping else "loss"

    def make():
        stopping = EarlyStopping(monitor, patience=4, restore_best=restore_best)
        return stopping, BPClassifier(**settings)

    stopping, model = make()
    keeper = Keeper(tmp_path / "0")
    fit(model, *([keeper, stopping] if is_first else [stopping, keeper]))
    assert 8 < model.n_iter_ < 200
    for k in (1, model.n_iter_ - 5, model.n_iter_ - 3, model.n_iter_):
        again, resumed = make()
        fit(resumed, again, resume_from=tmp_path / str(k))
        same_model(resumed, model)
        assert (again.best_, again.best_epoch_) == (stopping.best_, stopping.best_epoch_)
    other = clone(model).set_callbacks(EarlyStopping("gradient_norm"))
    with pytest.raises(ValueError, match=r"monitor='.*loss', not 'gradient_norm'"):
        other.fit(X, Y, resume_from=tmp_path / "1")


def test_one_of_two_that_had_asked_to_stop_is_enough(tmp_path):
    def make():
        return EarlyStopping(patience=2), EarlyStopping(patience=1000)

    model = BPClassifier(learning_rate_init=0.3, random_state=0)
    fit(model, *make(), Checkpoint(tmp_path / "run"))
    assert model.n_iter_ < model.max_iter
    resumed = clone(model).set_callbacks()
    same_model(fit(resumed, *make(), resume_from=tmp_path / "run"), model)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_checkpoint_of_partial_fit(solver, tmp_path):
    """Epochs are counted over all calls; resumed from the file, partial_fit ends the same."""
    settings = {"early_stopping": True, "tol": 0.01, "n_iter_no_change": 3, "solver": solver}
    data = {"X": X, "y": Y, "classes": np.unique(Y), "X_val": X[:20], "y_val": Y[:20]}
    model = BPClassifier((7, 5), learning_rate_init=0.1, random_state=0, **settings)
    model.set_callbacks(Checkpoint(tmp_path / "run", every=3))
    models = {}
    for n_epochs in range(1, 30):
        model.partial_fit(**data)
        if n_epochs >= 3:
            models[n_epochs // 3] = fastbp.load(tmp_path / "run")
            assert models[n_epochs // 3].history_["epoch"][-1] == n_epochs // 3 * 3
        if model.stopped_:
            break
    assert len(models) > 1
    for loaded in models.values():
        for _ in range(loaded.history_["epoch"][-1], n_epochs):
            assert not loaded.stopped_
            loaded.partial_fit(**data)
        assert loaded.stopped_
        same_model(loaded, model)
        assert loaded.history_["epoch"][-1] == n_epochs
    with pytest.raises(ValueError, match="no training run that can be resumed"):
        clone(model).fit(X, Y, resume_from=tmp_path / "run")


def test_the_last_checkpoint_of_partial_fit_is_the_model_that_stopped(tmp_path):
    model = BPClassifier(early_stopping=True, n_iter_no_change=1, tol=1.0, random_state=0)
    model.set_callbacks(Checkpoint(tmp_path / "run"))
    data = {"classes": np.unique(Y), "X_val": X[:20], "y_val": Y[:20]}
    for _ in range(3):
        model.partial_fit(X, Y, **data)
    assert model.stopped_
    loaded = fastbp.load(tmp_path / "run")
    assert loaded.stopped_
    same_model(loaded, model)


def test_early_stopping_by_a_callback_is_not_for_partial_fit():
    model = BPClassifier().set_callbacks(EarlyStopping())
    with pytest.raises(
        ValueError, match="EarlyStopping is for fit: to stop partial_fit, use early_stopping=True"
    ):
        model.partial_fit(X, Y, classes=np.unique(Y))


@pytest.mark.parametrize("container", [np.asarray, csr_array])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("target", ["binary", "multilabel", "regression", "poisson"])
def test_going_on_with_every_kind_of_target(target, solver, container, tmp_path):
    X, y = make_data(target)
    X = container(X)
    kind = BPRegressor if target in ("regression", "poisson") else BPClassifier
    settings = {"random_state": np.random.RandomState(5), "early_stopping": target == "binary"}
    settings |= {"loss": "poisson"} if target == "poisson" else {}
    settings |= {"class_weight": "balanced"} if target == "binary" else {}
    settings["solver"] = solver
    whole = clone(kind(max_iter=6, **settings)).fit(X, y, sample_weight=make_weights())
    model = clone(kind(max_iter=3, **settings)).set_callbacks(Checkpoint(tmp_path / "run", 3))
    model.fit(X, y, sample_weight=make_weights())
    other = kind(max_iter=6, **{**settings, "random_state": np.random.RandomState(0)})
    other.fit(X, y, sample_weight=make_weights(), resume_from=tmp_path / "run")
    same_model(other, whole)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_checkpoint_is_a_model_too(solver, tmp_path):
    settings = {"solver": solver, "random_state": 0, "early_stopping": True}
    model = BPClassifier(max_iter=9, **settings)
    model.set_callbacks(Checkpoint(tmp_path / "run", every=4)).fit(X, Y)
    loaded = fastbp.load(tmp_path / "run")
    short = BPClassifier(max_iter=8, **settings).fit(X, Y)
    assert loaded.n_iter_ == short.n_iter_ == 8
    assert loaded.loss_ == short.loss_
    np.testing.assert_array_equal(loaded.predict_proba(X), short.predict_proba(X))


def test_what_is_wrong_with_a_checkpoint(tmp_path):
    path = tmp_path / "run"
    model = BPClassifier(max_iter=3, random_state=0).set_callbacks(Checkpoint(path)).fit(FRAME, Y)
    regressor = BPRegressor(max_iter=3, random_state=0)
    regressor.set_callbacks(Checkpoint(tmp_path / "regression")).fit(X, Y)
    for other, data, message in (
        (BPClassifier(random_state=0, alpha=1), (X, Y), "with alpha=0.0001, not 1"),
        (BPClassifier(random_state=1), (X, Y), "with random_state=0, not 1"),
        (BPClassifier(random_state=0), (X[1:], Y[1:]), r"on X of shape \(45, 6\)"),
        (BPClassifier(random_state=0), (X[:, 1:], Y), r"on X of shape \(45, 6\)"),
        (BPClassifier(random_state=0), (X.astype(np.float32), Y), "in float64, not in float32"),
        (BPClassifier(random_state=0), (X, Y + 1), "with the classes"),
        (BPRegressor(random_state=0), (X, Y), "of a BPClassifier"),
        (BPClassifier(random_state=0), (FRAME[list("fedcba")], Y), "with the features"),
    ):
        with pytest.raises(ValueError, match=message):
            other.fit(*data, resume_from=path)
    with pytest.raises(ValueError, match=r"no training run of a network with units \(6, 100, 2\)"):
        regressor.fit(X, np.column_stack([Y, Y]), resume_from=tmp_path / "regression")
    for given in ({"coef_init": "rubbish"}, {"intercept_init": []}):
        with pytest.raises(
            ValueError, match="coef_init and intercept_init cannot be used with resume_from"
        ):
            BPClassifier(random_state=0).fit(X, Y, **given, resume_from=path)
    with pytest.raises(ValueError, match="of 3 epochs, but max_iter is less"):
        BPClassifier(random_state=0, max_iter=2).fit(X, Y, resume_from=path)
    fastbp.save(model, path)
    with pytest.raises(ValueError, match="no training run that can be resumed"):
        BPClassifier(random_state=0).fit(X, Y, resume_from=path)
    with pytest.raises(FileNotFoundError):
        BPClassifier(random_state=0).fit(X, Y, resume_from=tmp_path / "nothing")


@pytest.mark.parametrize("name", ["order", "held_out"])
@pytest.mark.parametrize(
    "rows", [np.array([0, len(X)]), np.array([-1, 0]), np.zeros(2), np.zeros((1, 2), int), Y[:0]]
)
def test_rows_that_are_none_of_x(rows, name, tmp_path):
    """Compiled code reads X at these rows without checks."""
    model = BPClassifier(max_iter=3, random_state=0, early_stopping=True)
    model.set_callbacks(Checkpoint(tmp_path / "run")).fit(X, Y)
    contents, arrays = files.read(tmp_path / "run")
    files.write(tmp_path / "run", contents, {**arrays, f"training.{name}": rows})
    with pytest.raises(ValueError, match=f"must hold row numbers of X as training.{name}"):
        clone(model).set_callbacks().fit(X, Y, resume_from=tmp_path / "run")


def test_a_validation_set_of_ones_own_must_be_given_again(tmp_path):
    path = tmp_path / "run"
    settings = {"random_state": 0, "early_stopping": True}
    own = {"X_val": X[:20], "y_val": Y[:20]}
    whole = BPClassifier(max_iter=6, **settings).fit(X, Y, **own)
    BPClassifier(max_iter=3, **settings).set_callbacks(Checkpoint(path)).fit(X, Y, **own)
    same_model(BPClassifier(max_iter=6, **settings).fit(X, Y, **own, resume_from=path), whole)
    for other in ({}, {"X_val": X[:19], "y_val": Y[:19]}):
        with pytest.raises(ValueError, match="with an X_val of 20 samples"):
            BPClassifier(max_iter=6, **settings).fit(X, Y, **other, resume_from=path)


def drop(*names):
    return lambda contents, arrays: [
        part.pop(name, None)
        for part in (contents["training"], contents["attributes"], contents, arrays)
        for name in names
    ]


def put(*names, **values):
    """Return a function that sets values in a part of the contents, given by nested names."""

    def change(contents, arrays):
        part = contents
        for name in names:
            part = part[name]
        part.update(values)

    return change


def put_array(name, array):
    return lambda contents, arrays: arrays.update({name: array})


MALFORMED = [
    *[drop(name) for name in ("estimator", "parameters", "attributes", "labels", "optimizer")],
    *[drop(name) for name in ("n_val", "n_samples", "data", "callbacks", "seconds", "goes_on")],
    *[drop(name) for name in ("dropout_seed", "random_state", "sum_squares", "n_epochs")],
    *[drop(name) for name in ("t_", "_no_improvement_count", "validation_scores_")],
    *[drop(name) for name in ("best_validation_score_", "classes_", "coefs.0", "intercepts.1")],
    *[drop(f"history.{name}") for name in ("loss", "gradient_norm", "seconds")],
    *[put(attributes=value) for value in (None, 1, [], "x")],
    *[put("attributes", t_=value) for value in (None, "x", 1.5, True, -1, 2**70)],
    *[put("attributes", best_validation_score_=value) for value in (None, "x", {"list": [1.0]})],
    *[put("optimizer", steps_taken=value) for value in (None, -1, 0.5, 2**70)],
    *[put("optimizer", learning_rate=value) for value in (None, 1, "x")],
    *[put("optimizer", beta_1=value) for value in (None, 0.5, "x", {})],
    *[put("training", n_iter=value) for value in (None, -1, 0.5, "x")],
    *[put("training", seconds=value) for value in (None, "x", 1)],
    *[put("training", goes_on=value) for value in (None, 1, "x")],
    *[put("training", dropout_seed=value) for value in (None, -1, 1e300, 2**70)],
    *[put("training", random_state=value) for value in (None, 0, {"RandomState": {"dict": []}})],
    *[put("training", sum_squares=value) for value in ("x", 1, [])],
    *[put("training", data=value) for value in (None, 1, {})],
    *[put("training", callbacks=value) for value in (None, 1, "x")],
    *[put("training", "callbacks", **{"EarlyStopping.0": value}) for value in (None, 1, {}, [])],
    *[
        put("training", "callbacks", **{"EarlyStopping.0": {"dict": [*numbers.items()]}})
        for whole in [{"monitor": "loss", "value": 0.5, "epoch": 1, "waited": 0, "seen": 1}]
        for numbers in (
            *[{name: n for name, n in whole.items() if name != left} for left in whole],
            *[{**whole, name: "x"} for name in whole],
            {**whole, "more": 1},
        )
    ],
    put_array("training.latest", np.zeros(3)),
    put_array("callbacks.EarlyStopping.0", np.zeros(3)),
    put_array("validation_scores_", np.zeros((3, 2))),
]


@pytest.mark.parametrize("change", MALFORMED)
def test_contents_that_no_checkpoint_has(change, tmp_path):
    """Malformed files with a correct digest are refused, too."""
    model = BPClassifier((3,), early_stopping=True, max_iter=3, random_state=0)
    fit(model, EarlyStopping(), Checkpoint(tmp_path / "run"))
    contents, arrays = files.read(tmp_path / "run")
    change(contents, arrays)
    files.write(tmp_path / "run", contents, arrays)
    resumed = clone(model).set_params(max_iter=6).set_callbacks(EarlyStopping())
    with pytest.raises(ValueError, match=r"^resume_from "):
        resumed.fit(X, Y, resume_from=tmp_path / "run")


def test_errors_of_the_fit_itself_come_through(tmp_path):
    model = BPClassifier((3,), max_iter=3, random_state=0)
    fit(model, Checkpoint(tmp_path / "run"))

    class Fails(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
            raise KeyError(context.task_id)

    resumed = clone(model).set_params(max_iter=6).set_callbacks(Fails())
    with pytest.raises(KeyError):
        resumed.fit(X, Y, resume_from=tmp_path / "run")


DATA = {
    "X": X,
    "y": Y,
    "sample_weight": make_weights(),
    "X_val": X[:20] + 0.1,
    "y_val": Y[:20],
    "sample_weight_val": make_weights()[:20],
}


def changed(array):
    """Return a copy of the array with a changed last number."""
    array = np.array(array)
    array.flat[-1] = next(value for value in array.flat if value != array.flat[-1])
    return array


@pytest.mark.parametrize("container", [np.asarray, csr_array])
@pytest.mark.parametrize("kind", [BPClassifier, BPRegressor])
def test_going_on_is_refused_on_other_data(kind, container, tmp_path):
    settings = {"early_stopping": True, "random_state": 0, "max_iter": 4}
    data = {**DATA, "X": container(X), "X_val": container(DATA["X_val"])}
    kind(**settings).set_callbacks(Checkpoint(tmp_path / "run")).fit(**data)
    model = kind(**settings, n_jobs=1)
    for name, values in DATA.items():
        other = changed(values)
        other = container(other) if name.startswith("X") else other
        with pytest.raises(
            ValueError, match=f"^resume_from holds a training run on another {name}.$"
        ):
            model.fit(**{**data, name: other}, resume_from=tmp_path / "run")
        if name.startswith("sample_weight"):
            with pytest.raises(
                ValueError, match=f"^resume_from holds a training run with a {name}.$"
            ):
                model.fit(**{**data, name: None}, resume_from=tmp_path / "run")
    for name in ("X", "X_val"):
        other = np.asarray if container is csr_array else csr_array
        with pytest.raises(ValueError, match=f"training run on another {name}.$"):
            model.fit(**{**data, name: other(DATA[name])}, resume_from=tmp_path / "run")
    model.fit(**data, resume_from=tmp_path / "run")
    without = {**data, "sample_weight": None, "sample_weight_val": None}
    kind(**settings).set_callbacks(Checkpoint(tmp_path / "run")).fit(**without)
    for name in ("sample_weight", "sample_weight_val"):
        with pytest.raises(ValueError, match=f"^resume_from holds a training run without {name}.$"):
            model.fit(**{**without, name: DATA[name]}, resume_from=tmp_path / "run")


def test_the_same_data_may_lie_otherwise_in_memory(tmp_path):
    model = BPClassifier(max_iter=3, random_state=0)
    fit(clone(model), Checkpoint(tmp_path / "run"))
    whole = clone(model).set_params(max_iter=6).fit(X, Y)
    for same in (np.asfortranarray(X), X.tolist(), FRAME, X.astype(">f8")):
        resumed = clone(model).set_params(max_iter=6)
        same_model(resumed.fit(same, Y.tolist(), resume_from=tmp_path / "run"), whole)
    clone(model).set_callbacks(Checkpoint(tmp_path / "run")).fit(csr_array(X), Y)
    backwards = csr_array(X)
    for row in range(len(X)):
        part = slice(*backwards.indptr[row : row + 2])
        backwards.indices[part] = backwards.indices[part][::-1]
        backwards.data[part] = backwards.data[part][::-1]
    backwards.has_sorted_indices = False
    wide = csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for same in (csc_array(X), backwards, wide):
        clone(model).fit(same, Y, resume_from=tmp_path / "run")


class Read(np.ndarray):
    """An array that records which rows are read."""

    def __getitem__(self, rows):
        Read.rows = np.asarray(rows).tolist()
        return np.asarray(self)[rows]


def test_a_digest_reads_some_rows_from_the_first_to_the_last(monkeypatch):
    monkeypatch.setattr(samples, "MOST_ROWS", 5)
    monkeypatch.setattr(samples, "MOST_ELEMENTS", 12)
    for shape, rows in {
        (9,): [0, 2, 4, 6, 8],
        (41, 2): [0, 10, 20, 30, 40],
        (41, 4): [0, 20, 40],
        (3, 2): [0, 1, 2],
        (5, 100): [0],
    }.items():
        array = np.arange(np.prod(shape)).reshape(shape).view(Read)
        before = samples.digest_rows(array)
        assert Read.rows == rows
        for row in range(shape[0]):
            other = array.copy()
            other[row] += 1
            assert (samples.digest_rows(other) != before) == (row in rows)
    assert samples.digest_rows(csr_array((9, 4))) != samples.digest_rows(csr_array((4, 9)))
    others = np.zeros((2, 3)), np.zeros((3, 2)), np.zeros((2, 3), int)
    assert len({samples.digest_rows(array) for array in others}) == 3
    assert samples.digest_rows(None) is None


def test_there_is_no_digest_without_a_checkpoint(monkeypatch, tmp_path):
    def refuse(array):
        raise AssertionError

    monkeypatch.setattr(resuming, "digest_rows", refuse)
    model = BPClassifier(max_iter=2, random_state=0)
    model.fit(X, Y)
    fit(model, Recorder())
    model.set_callbacks(Checkpoint(tmp_path / "run")).partial_fit(X, Y)
    with pytest.raises(AssertionError):
        fit(model, Checkpoint(tmp_path / "run"))


@pytest.mark.parametrize(("wrap", "name"), [(lambda f: f, ".*falling"), (partial, "partial")])
def test_functions_are_kept_by_name(wrap, name, tmp_path):
    def falling(step, n_steps):
        return 1 - step / n_steps

    path = tmp_path / "run"
    model = BPClassifier(learning_rate=wrap(falling), max_iter=3, random_state=0)
    model.set_callbacks(Checkpoint(path)).fit(X, Y)
    with pytest.warns(
        UserWarning, match=f"only the name of a function, {name}: the parameter is left at"
    ):
        loaded = fastbp.load(path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match=f"with learning_rate={name}, not cosine"):
        BPClassifier(learning_rate="cosine", random_state=0).fit(X, Y, resume_from=path)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", lambda step, n_steps: 1.0])
def test_a_schedule_over_all_epochs_holds_them_fast(schedule, tmp_path):
    model = BPClassifier(learning_rate=schedule, max_iter=3, random_state=0)
    fit(model, Checkpoint(tmp_path / "run"))
    message = "with max_iter=3, not 6, on which learning_rate depends"
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(max_iter=6).fit(X, Y, resume_from=tmp_path / "run")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(BPClassifier(max_iter=3), Checkpoint(tmp_path / "none" / "run", every=100))
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        fit(BPClassifier(max_iter=3), Checkpoint(tmp_path, every=100))


# L-BFGS -----------------------------------------------------------------------------------------

# How a fit may end, and with which message.
ENDS = {
    "max_iter": ({"max_iter": 12}, "TOTAL NO. OF ITERATIONS REACHED LIMIT"),
    "max_fun": ({"max_fun": 9}, "EVALUATIONS EXCEEDS LIMIT"),
    "a small gradient": ({"tol": 0.01}, None),
    "the loss falls no more": ({"tol": 0, "activation": "identity", "alpha": 1}, None),
    "no step is found": ({"tol": 0}, "ABNORMAL"),
    "max_time": ({"max_time": 4}, r"Maximum time \(4 s\) reached"),
}
LOW = 0.48  # halfway between the losses of two iterations


class Keeper(Checkpoint):
    """A checkpoint that writes each iteration to a file of its own."""

    def _after_epoch(self, estimator, run):
        self.path = Path(self.path).with_name(str(estimator.n_iter_))
        return super()._after_epoch(estimator, run)


def turn_round(run):
    """Wrap Engine._run so that the gradient no longer fits the objective once the loss is low."""

    def turned(self, *arguments):
        numbers = self.plan.solver.second
        numbers[kernel.N_ERRORS] = -1 if 0 < numbers[kernel.LOSS] < LOW else 1
        return run(self, *arguments)

    return turned


def fit_and_warn(model, clock, **data):
    """Return the fitted model, and the warnings of the fit."""
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr("fastbp.training.lbfgs.perf_counter", clock)
        model.fit(X, Y, **data)
    return model, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("end", ENDS)
def test_lbfgs_goes_on_from_any_checkpoint(end, tmp_path, monkeypatch):
    settings, message = ENDS[end]
    if end == "no step is found":
        monkeypatch.setattr(Engine, "_run", turn_round(Engine._run))
        monkeypatch.setattr(Pace, "CALL_SECONDS", 0)  # each evaluation is a call of its own
    settings = {"max_iter": 1000, "random_state": 0, **settings}

    def make():
        return BPClassifier((7, 5), solver="lbfgs", **settings)

    plain, said = fit_and_warn(make(), itertools.count(1).__next__)
    assert plain.n_iter_ > 3
    assert len(said) == (message is not None)
    assert all(re.search(message, text) for text in said)
    kept = fit_and_warn(make().set_callbacks(Keeper(tmp_path / "0")), itertools.count(1).__next__)
    same_model(kept[0], plain)
    assert kept[1] == said
    for k in range(1, plain.n_iter_ + (end != "max_time"), 4):
        clock = itertools.count(k + 1).__next__
        resumed = fit_and_warn(make(), clock, resume_from=tmp_path / str(k))
        same_model(resumed[0], plain)
        assert resumed[1] == said


@pytest.mark.parametrize("limit", ["max_iter", "max_fun"])
def test_a_limit_of_lbfgs_may_be_raised(limit, tmp_path):
    settings = {"activation": ("gelu", "elu", "tanh"), "dtype": "float32", "random_state": 0}
    model = BPClassifier((7, 5, 4), solver="lbfgs", **settings)
    whole = clone(model).set_params(**{limit: 24}).fit(X, Y)
    fit(clone(model).set_params(**{limit: 12}), Checkpoint(tmp_path / "run"))
    assert fastbp.load(tmp_path / "run").n_iter_ <= 12 < whole.n_iter_ <= 24
    resumed = clone(model).set_params(**{limit: 24}).fit(X, Y, resume_from=tmp_path / "run")
    same_model(resumed, whole)


@pytest.mark.parametrize("n", [1, 8])
def test_ctrl_c_with_the_state_of_lbfgs(n, monkeypatch, tmp_path):
    model = BPClassifier(solver="lbfgs", max_iter=30, random_state=0)
    whole = clone(model).fit(X, Y)
    run = Engine._run

    def interrupted(*arguments):
        if next(calls) == n:
            raise KeyboardInterrupt
        return run(*arguments)

    left = []
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_run", interrupted)
        patch.setattr(Pace, "CALL_SECONDS", 0)  # each evaluation is a call of its own
        for callbacks in ([], [Checkpoint(tmp_path / "run")]):
            calls = itertools.count()
            with pytest.warns(UserWarning, match="interrupted by user"):
                left.append(fit(clone(model), *callbacks))
    same_model(*left)
    if n > 1:  # at least one iteration was completed
        assert left[0].n_iter_ > 0
        same_model(clone(model).fit(X, Y, resume_from=tmp_path / "run"), whole)


def altered(name, values):
    def alter(contents, arrays):
        arrays[f"lbfgs.{name}"] = values(arrays[f"lbfgs.{name}"])

    return alter


def with_number(place, value):
    def alter(numbers):
        numbers = numbers.copy()
        numbers[place] = value
        return numbers

    return altered("numbers", alter)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        *[
            (altered(name, values), f"lbfgs.{name} of shape")
            for name in ("numbers", "vectors")
            for values in (lambda a: a[1:], lambda a: a.astype(np.float32), lambda a: a[None])
        ],
        (lambda contents, arrays: arrays.pop("lbfgs.vectors"), "lbfgs.vectors of shape"),
        *[(with_number(kernel.N_UPDATES, n), "lbfgs.numbers") for n in (-1, 20, 2.5, np.nan)],
        *[(with_number(kernel.STAGE, stage), "lbfgs.numbers") for stage in (0, 1, 3, np.inf)],
    ],
)
def test_a_state_of_lbfgs_that_cannot_be(alter, message, tmp_path):
    model = BPClassifier(solver="lbfgs", max_iter=6, random_state=0)
    fit(model, Checkpoint(tmp_path / "run"))
    contents, arrays = files.read(tmp_path / "run")
    alter(contents, arrays)
    files.write(tmp_path / "run", contents, arrays)
    with pytest.raises(ValueError, match=f"^resume_from must hold {message}"):
        clone(model).fit(X, Y, resume_from=tmp_path / "run")


# Kills ------------------------------------------------------------------------------------------

KILLED = """
import sys
from common import make_data
from fastbp import BPClassifier
from fastbp.callbacks import Checkpoint
X, y = make_data("multiclass")
model = BPClassifier((300, 300), max_iter=100_000, tol=0, random_state=0, early_stopping=True)
model.set_callbacks(Checkpoint(sys.argv[1])).fit(X, y)
"""


def test_a_kill_at_any_moment_leaves_a_file_that_is_whole(tmp_path):
    path = tmp_path / "run"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    for i in range(5):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLED, path], env=environment
        )
        while not path.exists():
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(0.037 * i)
        child.kill()
        child.wait()
        contents, _ = files.read(path)
        n_iter = contents["training"]["n_iter"]
        settings = {"tol": 0, "random_state": 0, "early_stopping": True}
        resumed = BPClassifier((300, 300), max_iter=n_iter + 2, **settings)
        resumed.fit(X, Y, resume_from=path)
        assert resumed.n_iter_ == n_iter + 2
        path.unlink()
    whole = BPClassifier((300, 300), max_iter=n_iter + 2, **settings).fit(X, Y)
    same_model(resumed, whole)


def test_callbacks_survive_a_pickle():
    model = BPClassifier(max_iter=3).set_callbacks(EarlyStopping(), Checkpoint("x"))
    assert len(pickle.loads(pickle.dumps(model))._skl_callbacks) == 2
