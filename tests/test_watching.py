"""How a fit reports and is limited: history, verbose, max_time, partial_fit."""

import pickle
import sys
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from common import make_data, make_weights, print_to_a_terminal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

import fastbp
from fastbp import BPClassifier, BPRegressor
from fastbp.callbacks import Checkpoint
from fastbp.prediction import Prediction, Predictor
from fastbp.training import history
from fastbp.training.engine import Engine

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_data("multiclass")
X_VAL, Y_VAL = make_data("multiclass", seed=0, n_samples=60)
COLUMNS = [
    "epoch", "loss", "validation_loss", "validation_score", "learning_rate", "gradient_norm",
    "seconds",
]  # fmt: skip


# History ----------------------------------------------------------------------------------------


@unconverged
def test_the_history_of_a_fit():
    model = BPClassifier(max_iter=7, random_state=0).fit(X, Y)
    frame = pd.DataFrame(model.history_)
    assert list(frame) == COLUMNS
    assert frame["epoch"].tolist() == list(range(1, 8))
    assert frame["loss"].tolist() == model.loss_curve_
    assert frame[["validation_loss", "validation_score"]].isna().all(axis=None)
    assert (frame["learning_rate"] == 0.001).all()
    assert (frame[["gradient_norm", "seconds"]] > 0).all(axis=None)


@unconverged
@pytest.mark.parametrize("target", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_history_of_early_stopping(target, weighted):
    X, y = make_data(target)
    X_val, y_val = make_data(target, n_samples=60)
    weight = make_weights(60) if weighted else None
    model = BPClassifier(early_stopping=True, max_iter=9, random_state=0, n_iter_no_change=99)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    assert model.history_["validation_score"].tolist() == model.validation_scores_
    best = model.history_["validation_score"].argmax()
    expected = model.score(X_val, y_val, weight)
    assert model.validation_scores_[best] == pytest.approx(expected, rel=1e-12)
    p = model.predict_proba(X_val)
    if target == "multilabel":
        losses = -(y_val * np.log(p) + (1 - y_val) * np.log(1 - p)).sum(axis=1)
        expected = np.average(losses, weights=weight)
    else:
        expected = log_loss(y_val, p, sample_weight=weight)
    assert model.history_["validation_loss"][best] == pytest.approx(expected, rel=1e-12)


@unconverged
def test_the_history_goes_on_and_is_bounded(monkeypatch):
    monkeypatch.setattr(history, "MOST_KEPT", 10)
    model = BPClassifier(random_state=0)
    for _ in range(57):
        model.partial_fit(X, Y, classes=np.unique(Y))
        assert all(len(kept) <= 20 for kept in model._history._columns.values())
    assert model.history_["epoch"].tolist() == list(range(48, 58))
    assert model.history_["loss"].tolist() == model.loss_curve_[-10:]
    model.set_params(warm_start=True, max_iter=5).fit(X, Y)
    assert model.history_["epoch"][-1] == 62
    model.set_params(warm_start=False).fit(X, Y)
    assert model.history_["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_no_history():
    with pytest.raises(AttributeError, match="no history_ before a fit"):
        BPClassifier().history_  # noqa: B018
    with pytest.raises(AttributeError, match="'lbfgs' has none"):
        BPRegressor(solver="lbfgs", tol=1).fit(X, X[:, 0]).history_  # noqa: B018


@unconverged
def test_lbfgs_has_nothing_of_the_fit_before():
    model = BPClassifier(max_iter=5, random_state=0, early_stopping=True).fit(X, Y)
    model.set_params(solver="lbfgs", early_stopping=False).fit(X, Y)
    fresh = BPClassifier(max_iter=5, random_state=0, solver="lbfgs").fit(X, Y)
    assert vars(model).keys() == vars(fresh).keys()
    for warm_start in (False, True):
        model.set_params(solver="adam", warm_start=warm_start).fit(X, Y)
        model.set_params(solver="lbfgs").fit(X, Y)
        with pytest.raises(AttributeError, match="'lbfgs' has none"):
            model.history_  # noqa: B018
        fresh = "begins with a fresh one" if warm_start else None
        with pytest.warns(UserWarning, match=fresh) if fresh else nullcontext():
            model.set_params(solver="sgd").partial_fit(X, Y)
        assert model._optimizer.solver == "sgd"
        assert model.history_["epoch"].tolist() == [1]


# Verbose ----------------------------------------------------------------------------------------


@unconverged
@pytest.mark.parametrize("verbose", [True, 1, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_lines_are_scikit_learns(verbose, early_stopping, capsys):
    settings = {"early_stopping": early_stopping, "max_iter": 5, "random_state": 0, "tol": 0.5}
    settings |= {"n_iter_no_change": 2}
    BPClassifier(verbose=verbose, **settings).fit(X, Y)
    ours = capsys.readouterr().out
    MLPClassifier(verbose=True, **settings).fit(X, Y)
    assert ours == capsys.readouterr().out
    assert ours.count("Iteration") > 2


@unconverged
@pytest.mark.parametrize("watched", [False, True])
def test_lines_of_lbfgs(watched, tmp_path, capfd):
    model = BPClassifier(solver="lbfgs", max_iter=5, random_state=0, verbose=2)
    if watched:
        model.set_callbacks(Checkpoint(tmp_path / "run"))
    model.fit(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i}" for i in range(1, 6)]
    losses = [float(line.split("loss = ")[1]) for line in lines]
    assert losses[-1] == pytest.approx(model.loss_, abs=1e-8)
    assert losses == sorted(losses, reverse=True)
    if watched:
        model.set_callbacks().set_params(max_iter=7).fit(X, Y, resume_from=tmp_path / "run")
        lines = capfd.readouterr().out.splitlines()
        assert [line.split(",")[0] for line in lines] == ["Iteration 6", "Iteration 7"]


@unconverged
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_output_that_is_no_file(solver, monkeypatch):
    class Kept:
        text = ""

        def write(self, text):
            self.text += text

    model = BPClassifier(solver=solver, max_iter=3, verbose=1)
    kept = Kept()
    for output in (None, kept):  # as under pythonw, or in an editor's output window
        monkeypatch.setattr(sys, "stdout", output)
        model.fit(X, Y)
    assert kept.text.count("Iteration") == 3


@unconverged
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(("verbose", "is_a_bar"), [(1, True), (True, True), (2, False)])
def test_a_bar_in_a_terminal(verbose, is_a_bar, solver, monkeypatch):
    terminal = print_to_a_terminal(monkeypatch)
    settings = {"verbose": verbose, "solver": solver, "early_stopping": solver == "adam"}
    model = BPClassifier(**settings, max_iter=5, random_state=0)
    model.fit(X, Y)
    shown = terminal.getvalue()
    assert ("\x1b[" in shown) == is_a_bar
    assert ("Iteration" in shown) != is_a_bar
    if is_a_bar:
        assert "5/5" in shown
        assert f"loss {model.loss_:.5g}" in shown
        assert ("validation score" in shown) == (solver == "adam")


# max_time ---------------------------------------------------------------------------------------


class Clock:
    """A clock that advances by a second at each look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_max_time_of_lbfgs(monkeypatch):
    monkeypatch.setattr("fastbp.training.lbfgs.perf_counter", Clock())
    model = BPClassifier(solver="lbfgs", max_time=4, tol=0, max_iter=1000)
    with pytest.warns(ConvergenceWarning, match=r"Maximum time \(4 s\) reached"):
        model.fit(X, Y)
    assert model.n_iter_ == 5  # the deadline is 5 s, and the sixth look is later


@unconverged
def test_time_that_is_not_used_up_changes_nothing():
    a, b = (
        BPClassifier(max_iter=9, random_state=0, max_time=limit).fit(X, Y) for limit in (None, 1e6)
    )
    np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])


@unconverged
def test_a_score_that_stays_is_as_good_as_a_tol_of_0_asks_for():
    settings = {"early_stopping": True, "tol": 0, "n_iter_no_change": 2, "max_iter": 9}
    assert BPClassifier(**settings, scoring=lambda *_: 0.5).fit(X, Y).n_iter_ == 9


# partial_fit with early stopping ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BPClassifier, BPRegressor])
def test_partial_fit_stops_early(kind):
    """The same as a fit of as many epochs, which takes the same steps."""
    y, y_val = (Y, Y_VAL) if kind is BPClassifier else (X[:, 0] ** 2, X_VAL[:, 0] ** 2)
    settings = {"early_stopping": True, "tol": 0.05, "n_iter_no_change": 3, "shuffle": False}
    settings |= {"random_state": 0, "learning_rate_init": 0.02}
    classes = {"classes": np.unique(Y)} if kind is BPClassifier else {}
    whole = kind(max_iter=300, **settings).fit(X, y, X_val=X_VAL, y_val=y_val)
    model = kind(**settings)
    weights = []
    for n in range(1, 300):
        model.partial_fit(X, y, X_val=X_VAL, y_val=y_val, **classes)
        weights.append(model.coefs_[0].copy())
        assert len(model.validation_scores_) == n
        if model.stopped_:
            break
    assert n == whole.n_iter_ < 299
    assert model.validation_scores_ == whole.validation_scores_
    best = int(np.argmax(model.validation_scores_))
    np.testing.assert_array_equal(model.coefs_[0], weights[best])
    np.testing.assert_array_equal(model.coefs_[0], whole.coefs_[0])
    with pytest.warns(UserWarning, match="left unchanged"):
        model.partial_fit(X, y, X_val=X_VAL, y_val=y_val)
    np.testing.assert_array_equal(model.coefs_[0], weights[best])
    model.set_params(early_stopping=False).fit(X[:20], y[:20])
    assert not model.stopped_


@unconverged
@pytest.mark.parametrize("change", [{"early_stopping": False}, {"warm_start": True}])
def test_what_stopped_goes_on_when_it_is_asked_to(change):
    settings = {"early_stopping": True, "n_iter_no_change": 1, "tol": 1.0, "max_iter": 7}
    model = BPClassifier(random_state=0, **settings)
    data = {"X_val": X_VAL, "y_val": Y_VAL}
    for _ in range(3):
        model.partial_fit(X, Y, classes=np.unique(Y), **data)
    assert model.stopped_
    model.set_params(**change)
    if model.warm_start:
        model.fit(X, Y, **data)
        assert not model.stopped_
    n_epochs = model.history_["epoch"][-1]
    model.partial_fit(X, Y, **(data if model.early_stopping else {}))
    assert model.history_["epoch"][-1] == n_epochs + 1
    assert not model.stopped_


def saved(model, folder):
    fastbp.save(model, folder / "model", state=True)
    return fastbp.load(folder / "model")


def pickled(model, folder):
    with fastbp.keep_training_state():
        return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("keep", [saved, pickled])
def test_partial_fit_that_is_kept_in_between_stops_at_the_same(keep, tmp_path):
    settings = {"early_stopping": True, "tol": 0.0, "n_iter_no_change": 3, "random_state": 0}
    models = [BPClassifier((7, 5), learning_rate_init=0.1, **settings) for _ in range(2)]
    data = {"X": X, "y": Y, "classes": np.unique(Y), "X_val": X_VAL, "y_val": Y_VAL}
    while not models[0].partial_fit(**data).stopped_:
        models[1] = keep(models[1].partial_fit(**data), tmp_path)
    assert models[1].partial_fit(**data).stopped_
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
    assert models[1].score(X_VAL, Y_VAL) == models[1].best_validation_score_


@pytest.mark.parametrize("given", [{}, {"X_val": X_VAL}, {"y_val": Y_VAL}])
def test_partial_fit_needs_a_validation_set(given):
    message = "must be given together" if "X_val" in given else "without X_val and y_val"
    with pytest.raises(ValueError, match=message):
        BPClassifier(early_stopping=True).partial_fit(X, Y, classes=np.unique(Y), **given)


@unconverged
@pytest.mark.parametrize("scoring", [None, "loss"])
def test_early_stopping_costs_one_prediction_an_epoch(scoring, monkeypatch):
    """Its memory is prepared once, and then kept for other fits."""
    calls = {"prepare": 0, "__call__": 0, "close": 0}

    def count(of, name):
        original = getattr(of, name)

        def counting(self, *arguments):
            calls[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(of, name, counting)

    count(Predictor, "prepare")
    count(Prediction, "__call__")
    count(Prediction, "close")
    model = BPClassifier(early_stopping=True, scoring=scoring, max_iter=6, random_state=0)
    assert model.fit(X, Y).n_iter_ == 6
    assert calls == {"prepare": 1, "__call__": 6, "close": 1}


@unconverged
def test_epochs_without_watchers_are_few_calls(monkeypatch):
    """Without watchers, all epochs of a small fit are asked for at once."""
    asked = []
    train = Engine.train

    def counting(self, order, n_epochs, *arguments):
        asked.append(n_epochs)
        return train(self, order, n_epochs, *arguments)

    monkeypatch.setattr(Engine, "train", counting)
    for parameters in ({}, {"dropout": 0.5, "learning_rate": "cosine", "max_time": 1e6}):
        asked.clear()
        BPClassifier(max_iter=50, random_state=0, **parameters).fit(X, Y)
        assert asked == [50]
