"""Callbacks, checkpoints, and fits that go on from them."""

import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from common import make_data, make_weights
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
import fastbp.model_selection
from fastbp import BPClassifier, BPRegressor, files
from fastbp.callbacks import Checkpoint, EarlyStopping, LogEvery, StopOnNaN, TimeLimit
from fastbp.training.solvers import STOCHASTIC_SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_data("multiclass")


class Recorder:
    """Writes down what it is told."""

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
    inner += ["begin epoch 3"] * (solver == "lbfgs")  # one more is begun than is done
    assert recorder.told == ["setup", "begin fit 0", *inner, "end fit 0", "teardown"]
    np.testing.assert_array_equal(recorder.seen[0], X)
    np.testing.assert_array_equal(recorder.seen[1], Y)
    np.testing.assert_array_equal(recorder.seen[2]["sample_weight"], weight)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_changes_nothing(solver, early_stopping):
    model = BPClassifier(solver=solver, early_stopping=early_stopping, max_iter=9, random_state=0)
    plain, watched = clone(model).fit(X, Y), fit(model, Recorder())
    for mine, theirs in zip(watched.coefs_, plain.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert watched.n_iter_ == plain.n_iter_


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_estimator_that_is_fitted_up_to_here(early_stopping):
    recorder = Recorder(stop_at=2)
    settings = {"random_state": 0, "early_stopping": early_stopping}
    model = fit(BPClassifier(max_iter=9, **settings), recorder)
    short = BPClassifier(max_iter=3, **settings).fit(X, Y)
    assert model.n_iter_ == 3
    for stopped in (model, recorder.fitted):
        np.testing.assert_array_equal(stopped.predict_proba(X), short.predict_proba(X))


def test_scikit_learns_own_callbacks():
    monitor = ScoringMonitor(scoring="accuracy")
    model = fit(BPClassifier(max_iter=4, random_state=0), monitor)
    scores = [row["accuracy"] for row in monitor.get_logs().data]
    assert len(scores) == 5  # four epochs, and the fit
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
        assert recorder.told.count("end epoch 1") == 5  # four fits, and the best again


def test_errors_of_callbacks_come_through():
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("of the user's own")

    failing = Failing()
    with pytest.raises(RuntimeError, match="of the user's own"):
        fit(BPClassifier(max_iter=3), failing)
    assert failing.told[-1] == "teardown"


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


def test_time_limit():
    model = fit(BPClassifier(max_iter=10**6, tol=0), TimeLimit(0.2))
    assert model.n_iter_ < 10**6


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
    model.set_callbacks(stopper).fit(X, 1e3 * Y)
    assert stopper.stopped_
    assert all(np.isfinite(w).all() for w in model.coefs_)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping("accuracy"), "monitor must be among"),
        (lambda: EarlyStopping(patience=-1), "patience"),
        (lambda: Checkpoint("x", every=0), "every"),
        (lambda: TimeLimit(0), "seconds"),
        (lambda: LogEvery(0), "n must be"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("callback", [EarlyStopping(), LogEvery(), StopOnNaN(), Checkpoint("x")])
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
    for name in ("loss_curve_", "n_iter_", "t_", "validation_scores_", "best_loss_"):
        assert getattr(a, name) == getattr(b, name)
    for name, column in a.history_.items():
        if name != "seconds":
            np.testing.assert_array_equal(column, b.history_[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("run", RUNS)
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


@pytest.mark.parametrize("target", ["binary", "multilabel", "regression", "poisson"])
def test_going_on_with_every_kind_of_target(target, tmp_path):
    X, y = make_data(target)
    kind = BPRegressor if target in ("regression", "poisson") else BPClassifier
    settings = {"random_state": np.random.RandomState(5), "early_stopping": target == "binary"}
    settings |= {"loss": "poisson"} if target == "poisson" else {}
    whole = clone(kind(max_iter=6, **settings)).fit(X, y, sample_weight=make_weights())
    model = clone(kind(max_iter=3, **settings)).set_callbacks(Checkpoint(tmp_path / "run", 3))
    model.fit(X, y, sample_weight=make_weights())
    other = kind(max_iter=6, **{**settings, "random_state": np.random.RandomState(0)})
    other.fit(X, y, sample_weight=make_weights(), resume_from=tmp_path / "run")
    same_model(other, whole)


def test_a_checkpoint_is_a_model_too(tmp_path):
    model = BPClassifier(max_iter=9, random_state=0, early_stopping=True)
    model.set_callbacks(Checkpoint(tmp_path / "run", every=4)).fit(X, Y)
    loaded = fastbp.load(tmp_path / "run")
    assert loaded.n_iter_ == 8
    short = BPClassifier(max_iter=8, random_state=0, early_stopping=True).fit(X, Y)
    np.testing.assert_array_equal(loaded.predict_proba(X), short.predict_proba(X))


def test_what_is_wrong_with_a_checkpoint(tmp_path):
    path = tmp_path / "run"
    model = BPClassifier(max_iter=3, random_state=0).set_callbacks(Checkpoint(path)).fit(X, Y)
    for other, data, message in (
        (BPClassifier(random_state=0, alpha=1), (X, Y), "with alpha=0.0001, not 1"),
        (BPClassifier(random_state=1), (X, Y), "with random_state=0, not 1"),
        (BPClassifier(random_state=0), (X[1:], Y[1:]), r"on X of shape \(45, 6\)"),
        (BPClassifier(random_state=0), (X[:, 1:], Y), r"on X of shape \(45, 6\)"),
        (BPClassifier(random_state=0), (X.astype(np.float32), Y), "in float64, not in float32"),
        (BPClassifier(random_state=0), (X, Y + 1), "with the classes"),
        (BPRegressor(random_state=0), (X, Y), "of a BPClassifier"),
    ):
        with pytest.raises(ValueError, match=message):
            other.fit(*data, resume_from=path)
    with pytest.raises(ValueError, match="of 3 epochs: max_iter is less"):
        BPClassifier(random_state=0, max_iter=2).fit(X, Y, resume_from=path)
    fastbp.save(model, path)
    with pytest.raises(ValueError, match="no training that could go on"):
        BPClassifier(random_state=0).fit(X, Y, resume_from=path)
    with pytest.raises(FileNotFoundError):
        BPClassifier(random_state=0).fit(X, Y, resume_from=tmp_path / "nothing")


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


def test_functions_are_kept_by_name(tmp_path):
    def falling(step, n_steps):
        return 1 - step / n_steps

    path = tmp_path / "run"
    model = BPClassifier(learning_rate=falling, max_iter=3, random_state=0)
    model.set_callbacks(Checkpoint(path)).fit(X, Y)
    with pytest.warns(UserWarning, match=r"only the name, .*falling: it is left at its default"):
        loaded = fastbp.load(path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"with learning_rate=.*falling, not cosine"):
        BPClassifier(learning_rate="cosine", random_state=0).fit(X, Y, resume_from=path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(BPClassifier(max_iter=3), Checkpoint(tmp_path / "none" / "run", every=100))


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
