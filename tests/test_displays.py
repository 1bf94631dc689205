"""The displays: artists against the model, users' errors, and the examples."""

import doctest
import inspect
import pickle
import re
import subprocess
import sys
import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from matplotlib.colors import to_rgba
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import fastbp
from fastbp import BPClassifier, BPRegressor, TrainingDisplay, WeightsDisplay, displays

DISPLAYS = [TrainingDisplay, WeightsDisplay]
X, Y = load_iris(return_X_y=True)


def fit(estimator=BPClassifier, X=X, y=Y, hidden_layer_sizes=(5,), max_iter=12, **parameters):
    parameters = {"random_state": 0, "learning_rate_init": 0.02, **parameters}
    model = estimator(hidden_layer_sizes=hidden_layer_sizes, max_iter=max_iter, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def make_network(*units, seed=0):
    """Return a fitted network with layers of these sizes and random weights."""
    n_features, *hidden, n_outputs = units
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(20, n_outputs))
    model = fit(BPRegressor, rng.normal(size=(20, n_features)), y.squeeze(), tuple(hidden), 1)
    for w in model.coefs_:
        w[...] = rng.normal(size=w.shape)
    return model


@pytest.fixture(autouse=True)
def figures():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()  # raises if drawing warns
    plt.close("all")


def labels_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def assert_curve(line, x, y):
    np.testing.assert_array_equal(line.get_xdata(), x)
    np.testing.assert_array_equal(line.get_ydata(), y)


# Training ----------------------------------------------------------------------------------------


def test_the_loss_alone():
    model = fit()
    display = TrainingDisplay.from_estimator(model)
    (line,) = display.lines_
    assert_curve(line, np.arange(1, 13), model.loss_curve_)
    assert (display.score_ax_, display.best_line_, display.best_epoch_) == (None, None, None)
    assert display.figure_.axes == [display.ax_]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Epoch", "Loss")
    assert labels_of(display.ax_) == ["training loss"]


def test_the_curves_of_early_stopping():
    model = fit(early_stopping=True, n_iter_no_change=30)
    display = TrainingDisplay.from_estimator(model)
    history = model.history_
    keys = ["loss", "validation_loss", "validation_score"]
    for line, key in zip(display.lines_, keys, strict=True):
        assert_curve(line, history["epoch"], history[key])
    assert_curve(display.lines_[2], np.arange(1, 13), model.validation_scores_)
    assert [line.axes for line in display.lines_] == [display.ax_] * 2 + [display.score_ax_]
    assert [line.get_linestyle() for line in display.lines_] == ["-", "-", "--"]
    assert len({line.get_color() for line in display.lines_}) == 3
    assert display.score_ax_.get_ylabel() == "Validation accuracy"
    assert labels_of(display.score_ax_) == [
        "training loss",
        "validation loss",
        f"best epoch ({display.best_epoch_})",
        "validation accuracy",
    ]


def test_the_best_epoch_is_that_of_the_weights_that_are_kept():
    """Compare with fits of exactly so many epochs."""
    stopping = {"early_stopping": True, "n_iter_no_change": 30, "learning_rate_init": 0.3}
    model = fit(**stopping, max_iter=25)
    best = TrainingDisplay.from_estimator(model).best_epoch_
    assert 1 < best < 25
    shorter, as_long = (fit(**stopping, max_iter=n) for n in (best - 1, best))
    np.testing.assert_array_equal(as_long.coefs_[0], model.coefs_[0])
    assert (shorter.coefs_[0] != model.coefs_[0]).any()


def make_history(n_epochs=4, **values):
    history = dict.fromkeys(
        ("loss", "validation_loss", "validation_score", "seconds"), np.full(n_epochs, np.nan)
    )
    history["epoch"] = np.arange(1, n_epochs + 1)
    return history | {key: np.array(value) for key, value in values.items()}


def test_the_first_of_equal_scores_is_the_best_and_gaps_are_none():
    history = make_history(
        epoch=[301, 302, 303, 304],
        loss=[4.0, 3.0, 2.0, 1.0],
        validation_score=[np.nan, 0.5, 0.75, 0.75],
        seconds=[0.5, np.nan, 0.5, 1.0],
    )
    display = TrainingDisplay(history=history).plot(x="seconds")
    assert display.best_epoch_ == 303
    assert list(display.best_line_.get_xdata()) == [1.0, 1.0]
    assert_curve(display.lines_[0], [0.5, 0.5, 1.0, 2.0], history["loss"])
    assert display.ax_.get_xlabel() == "Seconds"
    assert display.score_ax_.get_ylabel() == "Validation score"
    assert len(display.lines_) == 2  # no validation loss
    assert list(TrainingDisplay(history=history).plot().best_line_.get_xdata()) == [303, 303]


def test_one_epoch_is_a_point():
    one, more = (TrainingDisplay.from_estimator(fit(max_iter=n)).lines_[0] for n in (1, 2))
    assert (one.get_marker(), more.get_marker()) == ("o", "None")


@pytest.mark.parametrize(
    ("estimator", "scoring", "label"),
    [
        (BPClassifier, None, "Validation accuracy"),
        (BPClassifier, "loss", "Validation negative loss"),
        (BPClassifier, "balanced_accuracy", "Validation balanced accuracy"),
        (BPClassifier, lambda model, X, y: 1.0, "Validation score"),
        (BPRegressor, None, "Validation R²"),
    ],
)
def test_the_score_has_a_name(estimator, scoring, label):
    model = fit(estimator, early_stopping=True, scoring=scoring, max_iter=2)
    assert TrainingDisplay.from_estimator(model).score_ax_.get_ylabel() == label


def test_two_models_in_one_picture():
    plain, stopped = fit(), fit(early_stopping=True)
    _, (ax, other) = plt.subplots(1, 2, sharex=True)
    first = TrainingDisplay.from_estimator(plain, ax=ax, name="a")
    second = TrainingDisplay.from_estimator(stopped, ax=ax, name="b")
    third = TrainingDisplay.from_estimator(stopped, ax=ax, name="c $ $")
    beside = TrainingDisplay.from_estimator(stopped, ax=other)
    assert first.ax_ is second.ax_ is third.ax_ is ax
    assert third.score_ax_ is second.score_ax_
    assert beside.score_ax_ not in (None, second.score_ax_)
    lines = [*first.lines_, *second.lines_, *third.lines_]
    assert len({line.get_color() for line in lines}) == len(lines) == 7
    assert ax.get_legend() is None
    labels = labels_of(second.score_ax_)
    assert len(labels) == 9
    assert {"a: training loss", "b: validation accuracy", r"c \$ \$: training loss"} <= {*labels}


def test_a_twin_of_the_users_own_stays_theirs():
    _, ax = plt.subplots()
    own = ax.twinx()
    display = TrainingDisplay.from_estimator(fit(early_stopping=True), ax=ax)
    assert display.score_ax_ is not own
    assert not own.lines


def test_line_kwargs_are_every_curves():
    model = fit(early_stopping=True)
    display = TrainingDisplay.from_estimator(model, line_kwargs={"c": "red", "ls": ":", "lw": 3})
    for line in display.lines_:
        assert (line.get_color(), line.get_linestyle(), line.get_linewidth()) == ("red", ":", 3)


def test_the_curves_stay_when_training_goes_on():
    model = fit()
    display = TrainingDisplay.from_estimator(model)
    losses = list(model.loss_curve_)
    model.partial_fit(X, Y)
    assert len(model.loss_curve_) == len(losses) + 1
    assert_curve(display.plot().lines_[0], np.arange(1, 13), losses)


def test_what_has_no_history():
    with pytest.raises(ValueError, match=r"model has nothing to draw: there is no history_.*lbfgs"):
        TrainingDisplay.from_estimator(fit(solver="lbfgs", max_iter=500))
    with pytest.raises(ValueError, match=r"history_ was not kept .*fastbp.keep_training_state\(\)"):
        TrainingDisplay.from_estimator(pickle.loads(pickle.dumps(fit())))
    with pytest.raises(ValueError, match="x must be 'epoch' or 'seconds', got 'hours'"):
        TrainingDisplay.from_estimator(fit(), x="hours")
    with pytest.raises(ValueError, match="history has no epochs"):
        TrainingDisplay(history=make_history(0)).plot()


# Weights -----------------------------------------------------------------------------------------


def images_of(display):
    return [axes.images[0] for axes in display.axes_["features"]]


def test_images_are_the_weights_of_the_largest_units():
    model = make_network(64, 7, 3)
    norms = np.linalg.norm(model.coefs_[0], axis=0)
    display = WeightsDisplay.from_estimator(model, max_units=5)
    assert list(display.units_) == sorted(range(7), key=lambda unit: -norms[unit])[:5]
    assert display.features_ is None
    limit = np.abs(model.coefs_[0][:, display.units_]).max()
    for image, unit in zip(images_of(display), display.units_, strict=True):
        np.testing.assert_array_equal(image.get_array(), model.coefs_[0][:, unit].reshape(8, 8))
        assert image.get_clim() == (-limit, limit)
        assert image.axes.get_title() == f"unit {unit}"
    above, at, below = image.cmap([1.0, 0.5, 0.0])[:, [0, 2]]  # the red and the blue channel
    assert above[0] > above[1]
    assert below[0] < below[1]
    assert min(at) > 0.9


def test_many_images():
    display = WeightsDisplay.from_estimator(make_network(64, 120, 1), max_units=200)
    assert len(display.axes_["features"]) == 120
    assert sorted(display.units_) == list(range(120))


@pytest.mark.parametrize(
    ("n_features", "options", "shape"),
    [
        (64, {}, (8, 8)),
        (49, {}, None),
        (65, {}, None),
        (64, {"feature_names": [f"p{i}" for i in range(64)]}, None),
        (64, {"feature_names": [f"p{i}" for i in range(64)], "kind": "images"}, (8, 8)),
        (64, {"kind": "bars"}, None),
        (64, {"kind": "bars", "image_shape": (4, 16)}, None),
        (64, {"image_shape": (4, 16)}, (4, 16)),
        (6, {"image_shape": np.array([2, 3])}, (2, 3)),
        (6, {"image_shape": (6, 1), "kind": "images"}, (6, 1)),
        (4, {"kind": "images"}, (2, 2)),
        (1, {"kind": "images"}, (1, 1)),
    ],
)
def test_images_or_bars(n_features, options, shape):
    display = WeightsDisplay.from_estimator(make_network(n_features, 3, 1), **options)
    if shape is None:
        (axes,) = display.axes_["features"]
        assert not axes.images
        assert len(axes.patches) == len(display.features_) == min(n_features, 30)
    else:
        assert [image.get_array().shape for image in images_of(display)] == [shape] * 3


def test_bars_are_the_norms_of_the_largest_features():
    model = make_network(40, 6, 3)
    norms = np.linalg.norm(model.coefs_[0], axis=1)
    display = WeightsDisplay.from_estimator(model, max_features=12)
    assert list(display.features_) == sorted(range(40), key=lambda i: -norms[i])[:12]
    assert display.units_ is None
    (axes,) = display.axes_["features"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], norms[display.features_])
    assert [t.get_text() for t in axes.get_yticklabels()] == [f"x{i}" for i in display.features_]
    tops = axes.transData.transform([(0, bar.get_y()) for bar in axes.patches])[:, 1]
    assert (np.diff(tops) < 0).all()  # the largest is on top


def test_bars_of_a_single_unit_have_a_sign():
    model = make_network(5, 1)
    display = WeightsDisplay.from_estimator(model)
    (axes,) = display.axes_["features"]
    weights = model.coefs_[0][display.features_, 0]
    assert (np.diff(np.abs(weights)) <= 0).all()
    assert (weights < 0).any()
    assert (weights > 0).any()
    for bar, weight in zip(axes.patches, weights, strict=True):
        assert bar.get_width() == weight
        assert bar.get_facecolor() == to_rgba("#B2182B" if weight > 0 else "#2166AC")


@pytest.mark.parametrize("units", [(6, 2), (30, 20, 10, 5, 4, 3), (5, 1)])
def test_each_layer_has_the_histogram_of_its_weights(units):
    model = make_network(*units)
    axes = WeightsDisplay.from_estimator(model).axes_["layers"]
    assert len(axes) == len(units) - 1
    for one, weights in zip(axes, model.coefs_, strict=True):
        counts, edges, _ = one.patches[0].get_data()
        np.testing.assert_array_equal(counts, np.histogram(weights, edges)[0])
        assert counts.sum() == weights.size
        assert edges[-1] == -edges[0] == np.abs(weights).max()
        assert one.get_title().endswith(f": {weights.shape[0]} → {weights.shape[1]}")
        assert one.get_xlim() == axes[0].get_xlim()


@pytest.mark.parametrize(
    "units", [(1, 1), (1, 1, 1), (3, 1, 2), (64, 1), (1, 70, 1), (4, *[2] * 9)]
)
@pytest.mark.parametrize("value", [None, 0.0, 0.5, -0.5])
def test_the_smallest_networks_and_constant_weights(units, value):
    model = make_network(*units)
    for w in model.coefs_ if value is not None else ():
        w[...] = value
    display = WeightsDisplay.from_estimator(model)
    for axes, w in zip(display.axes_["layers"], model.coefs_, strict=True):
        assert axes.patches[0].get_data()[0].sum() == w.size
    if units[0] == 64:
        limit = np.abs(model.coefs_[0]).max() or 1
        assert images_of(display)[0].get_clim() == (-limit, limit)


def test_names_of_a_table():
    iris = load_iris(as_frame=True)
    display = WeightsDisplay.from_estimator(fit(X=iris.data, y=iris.target))
    (axes,) = display.axes_["features"]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [iris.feature_names[i] for i in display.features_]


def test_long_names_and_formulas_are_shown_as_they_are():
    names = ["$", "price in $ per $", "a" * 24, "b" * 25, "_"]
    display = WeightsDisplay.from_estimator(make_network(5, 2, 1), feature_names=names)
    labels = [text.get_text() for text in display.axes_["features"][0].get_yticklabels()]
    shown = [r"\$", r"price in \$ per \$", "a" * 24, "b" * 23 + "…", "_"]
    assert labels == [shown[i] for i in display.features_]


TEXTS = ["good and fine", "bad and broken", "fine", "broken"] * 5


@pytest.mark.parametrize(
    ("steps", "data", "expected"),
    [
        ([TfidfVectorizer()], TEXTS, ["and", "bad", "broken", "fine", "good"]),
        ([StandardScaler()], pd.DataFrame({"a": range(20), "b": [0, 1] * 10}), ["a", "b"]),
        ([StandardScaler()], np.eye(20)[:, :3], None),
        ([FunctionTransformer()], np.eye(20)[:, :3], None),
        ([], np.eye(20)[:, :3], None),
        ([make_pipeline(StandardScaler())], np.eye(20)[:, :3], None),
    ],
)
def test_names_from_a_pipeline(steps, data, expected):
    pipeline = make_pipeline(*steps, BPClassifier((2,), max_iter=500, tol=1.0))
    pipeline.fit(data, [0, 1] * 10)
    display = WeightsDisplay.from_estimator(pipeline)
    assert expected == (None if display.feature_names is None else [*display.feature_names])
    np.testing.assert_array_equal(display.coefs[0], pipeline[-1].coefs_[0])
    assert len(TrainingDisplay.from_estimator(pipeline).lines_) == 1
    assert len(TrainingDisplay.from_estimator(make_pipeline(pipeline)).lines_) == 1


def test_sparse_data_of_many_features():
    columns = np.arange(60) * 300
    X = scipy.sparse.csr_matrix((np.ones(60), (np.arange(60) % 20, columns)), shape=(20, 20_000))
    model = fit(X=X, y=np.arange(20) % 2, hidden_layer_sizes=(4,), max_iter=1)
    model.coefs_[0][[17, 19_999]] = [[3.0], [5.0]]
    display = WeightsDisplay.from_estimator(model)
    assert len(display.features_) == 30
    assert list(display.features_[:2]) == [19_999, 17]


def test_the_weights_stay_when_training_goes_on():
    model = fit()
    display = WeightsDisplay.from_estimator(model)
    before = [w.copy() for w in model.coefs_]
    model.partial_fit(X, Y)
    assert (model.coefs_[0] != before[0]).any()
    for mine, old in zip(display.coefs, before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_a_figure_of_the_users_own():
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2)
    for part, model in ((left, make_network(64, 4, 1)), (right, make_network(3, 4, 1))):
        display = WeightsDisplay.from_estimator(model, figure=part)
        assert display.figure_ is part
        for axes in [*display.axes_["features"], *display.axes_["layers"]]:
            assert axes.figure in part.subfigs
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "image"}, "kind must be 'auto', 'images' or 'bars', got 'image'"),
        ({"kind": "images"}, "kind='images' needs image_shape: 6 is not a perfect square"),
        ({"image_shape": (2, 4)}, r"image_shape must be .* 6, got \(2, 4\)"),
        ({"image_shape": (2, 3, 1)}, "image_shape must be"),
        ({"image_shape": (-2, -3)}, "image_shape must be"),
        ({"image_shape": (2.0, 3.0)}, "image_shape must be"),
        ({"image_shape": 6}, "image_shape must be"),
        ({"image_shape": (2, 4), "kind": "bars"}, "image_shape must be"),
        ({"max_units": 0}, "max_units must be an integer, 1 or more, got 0"),
        ({"max_units": 2.5}, "max_units must be"),
        ({"max_features": None}, "max_features must be an integer, 1 or more, got None"),
        ({"feature_names": ["a", "b"]}, "feature_names must be 6 names, got 2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        WeightsDisplay.from_estimator(make_network(6, 2, 1), **options)
    assert plt.get_fignums() == []


# Both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_what_is_no_fitted_network(display):
    for model in (BPClassifier(), make_pipeline(StandardScaler(), BPRegressor())):
        with pytest.raises(NotFittedError, match=r"model has no coefs_: this BP.* not fitted yet"):
            display.from_estimator(model)
    with pytest.raises(NotFittedError, match="this StandardScaler is not a network"):
        display.from_estimator(StandardScaler().fit(X))


def test_models_that_were_pickled():
    with fastbp.keep_training_state():
        pickled = pickle.dumps(fit())
    for model in (fit(), pickle.loads(pickled)):
        assert len(TrainingDisplay.from_estimator(model).lines_) == 1
        assert len(WeightsDisplay.from_estimator(model).axes_["layers"]) == 2


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib(display, monkeypatch):
    made = display.from_estimator(fit())
    plt.close("all")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        name = display.__name__
        with pytest.raises(ImportError, match=rf"{name}.from_estimator .*pip install matplotlib"):
            display.from_estimator(fit())
        with pytest.raises(ImportError, match=rf"{name}.plot .*pip install matplotlib"):
            made.plot()


def test_fastbp_is_imported_without_matplotlib():
    code = (
        "import sys, fastbp; assert fastbp.TrainingDisplay; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("display", DISPLAYS)
def test_every_attribute_is_described(display):
    model = fit(early_stopping=True)
    attributes = vars(display.from_estimator(model))
    assert {"history", "coefs", "figure_"} & {*attributes}
    for name in attributes:
        assert f"\n{name} : " in inspect.getdoc(display)


@pytest.mark.parametrize("display", DISPLAYS)
def test_every_parameter_is_described(display):
    for described in (display, display.from_estimator):
        text = inspect.getdoc(described).split("\nParameters\n")[1]
        names = re.findall(r"^(\w+) : ", re.split(r"\n(?:Attributes|Returns)\n", text)[0], re.M)
        assert names == [*inspect.signature(described).parameters]


def test_examples_in_docstrings():
    results = doctest.testmod(displays)
    assert results.attempted > 0
    assert results.failed == 0
