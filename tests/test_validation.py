"""Early stopping by the user's own validation set and score; class weights."""

import naive
import numpy as np
import pytest
import sklearn
from networks import evaluate, make_case
from scipy.sparse import csr_array
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.metrics import (
    get_scorer,
    log_loss,
    make_scorer,
    mean_poisson_deviance,
    mean_squared_error,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

from fastbp import BPClassifier, BPRegressor
from fastbp.samples import number_rows
from fastbp.training.solvers import STOCHASTIC_SOLVERS
from fastbp.training.validation import loss_on

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
TRAIN, VAL = np.arange(150) % 3 > 0, np.arange(150) % 3 == 0
SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 15, "random_state": 0, "batch_size": 20}
STOPPING = {**SETTINGS, "early_stopping": True, "n_iter_no_change": 30}


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_x_of_another_dtype_than_the_first(dtypes):
    """The weights keep the dtype of the first X, and so does the validation score's model."""
    y = X @ [1.0, -2.0, 0.5, 1.0]
    model = BPRegressor(**STOPPING)
    for dtype in dtypes:
        x = X.astype(dtype)
        model.partial_fit(x[TRAIN], y[TRAIN], X_val=x[VAL], y_val=y[VAL])
        assert model.coefs_[0].dtype == dtypes[0]
        expected = model.score(x[VAL], y[VAL])
        assert model.validation_scores_[-1] == pytest.approx(expected, rel=1e-4)


def test_the_best_weights_of_another_width_are_none():
    model = classifier(hidden_layer_sizes=(7,), n_iter_no_change=1)
    data = {"X": X[TRAIN], "y": Y[TRAIN], "X_val": X[VAL], "y_val": Y[VAL]}
    model.partial_fit(**data, classes=[0, 1, 2])
    model.set_params(hidden_layer_sizes=(2,))
    model.coefs_ = [np.ones((4, 2)), np.ones((2, 3))]
    model.intercepts_ = [np.zeros(2), np.zeros(3)]
    while not model.stopped_:
        model.partial_fit(**data)
    assert [w.shape for w in model.coefs_] == [(4, 2), (2, 3)]


@pytest.mark.parametrize("replaced", [False, True])
def test_the_best_weights_are_kept_in_another_dtype(replaced):
    model = classifier(dtype="float32", n_iter_no_change=1, hidden_layer_sizes=(7, 3))
    model.partial_fit(X[TRAIN], Y[TRAIN], classes=[0, 1, 2], X_val=X[VAL], y_val=Y[VAL])
    best = [w.copy() for w in model.coefs_]
    model.best_validation_score_ = 2.0  # it cannot be reached again
    model.set_params(dtype="float64")
    if replaced:
        model.coefs_ = [w.astype(np.float64) for w in model.coefs_]
    while not model.stopped_:
        model.partial_fit(X[TRAIN], Y[TRAIN], X_val=X[VAL], y_val=Y[VAL])
    for w, expected in zip(model.coefs_, best, strict=True):
        assert w.dtype == np.float64
        np.testing.assert_array_equal(w, expected)


def classifier(**parameters):
    return BPClassifier(**{**STOPPING, **parameters})


def fit(model, y=Y, **given):
    return model.fit(X[TRAIN], y[TRAIN], X_val=X[VAL], y_val=y[VAL], **given)


@pytest.mark.parametrize("y", [Y, Y > 0, Y.astype(str), np.eye(3, dtype=int)[Y]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_best_weights_by_the_users_validation_set(y, dtype):
    model = fit(classifier(dtype=dtype), y)
    assert len(model.validation_scores_) == 15
    assert model.best_validation_score_ == model.score(X[VAL], y[VAL])
    best = int(np.argmax(model.validation_scores_)) + 1
    alone = BPClassifier(**{**SETTINGS, "max_iter": best}, dtype=dtype).fit(X[TRAIN], y[TRAIN])
    for mine, theirs in zip(model.coefs_, alone.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_score_of_each_epoch():
    """Compare with models of fits of exactly so many epochs."""
    scores = {}
    for scoring in ("loss", "neg_log_loss", "roc_auc_ovr", lambda m, X, y: float(m.score(X, y))):
        model = fit(classifier(scoring=scoring, max_iter=5))
        scores[scoring] = model.validation_scores_
    for epoch in range(5):
        alone = BPClassifier(**{**SETTINGS, "max_iter": epoch + 1}).fit(X[TRAIN], Y[TRAIN])
        for scoring, values in scores.items():
            name = "neg_log_loss" if scoring == "loss" else scoring
            scorer = get_scorer(name) if isinstance(name, str) else name
            assert values[epoch] == pytest.approx(scorer(alone, X[VAL], Y[VAL]), rel=1e-12)


def test_validation_by_a_part_of_x_with_a_scorer():
    model = BPClassifier(**STOPPING, scoring="loss").fit(X, Y)
    plain = BPClassifier(**STOPPING).fit(X, Y)
    assert model.loss_curve_ == plain.loss_curve_
    assert max(model.validation_scores_) < 0 <= min(plain.validation_scores_)


def test_validation_weights_count():
    weight = np.random.default_rng(0).random(int(VAL.sum()))
    model = fit(classifier(scoring="loss", max_iter=3), sample_weight_val=weight)
    alone = BPClassifier(**{**SETTINGS, "max_iter": 3}).fit(X[TRAIN], Y[TRAIN])
    expected = log_loss(Y[VAL], alone.predict_proba(X[VAL]), sample_weight=weight)
    assert model.validation_scores_[2] == pytest.approx(-expected, rel=1e-12)


def test_the_loss_of_outputs_is_the_engines():
    for names, loss in [
        (("relu", "softmax"), "log_loss"),
        (("tanh", "logistic"), "log_loss"),
        (("tanh", "identity"), "squared_error"),
        (("relu", "softmax"), "squared_error"),
        (("relu", "exp"), "poisson"),
        (("relu", "exp"), "gamma"),
        (("relu", "identity"), "huber"),
        (("relu", "identity"), "quantile"),
        (("relu", "identity"), "log_cosh"),
        (("relu", "identity"), "absolute_error"),
    ]:
        case = make_case((6, 5, 3), names, loss, 40, weighted=True)
        engine = case.engine(by_lbfgs=True)
        expected = evaluate(engine, number_rows(40), alpha=0.0)[2]
        from fastbp.prediction import Predictor

        outputs = Predictor(engine.weights)(names, engine.samples.X, 1)
        parameter = naive.PARAMETERS.get(loss, 0.0)
        actual = loss_on(loss, engine.samples, np.arange(40), parameter)(outputs)
        assert actual == pytest.approx(expected, rel=1e-10)


def test_regressors_are_judged_by_their_loss():
    X, y = make_regression(90, 5, random_state=0)
    y = np.abs(y) / 50
    for loss, metric in (
        ("squared_error", mean_squared_error),
        ("poisson", mean_poisson_deviance),
    ):
        model = BPRegressor(loss, **STOPPING, scoring="loss")
        model.fit(X[30:], y[30:], X_val=X[:30], y_val=y[:30])
        expected = -metric(y[:30], model.predict(X[:30])) / 2
        assert model.best_validation_score_ == pytest.approx(expected, rel=1e-9)
    model = BPRegressor(**STOPPING).fit(X[30:], y[30:], X_val=X[:30], y_val=y[:30])
    assert model.best_validation_score_ == pytest.approx(model.score(X[:30], y[:30]), rel=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize(
    ("scoring", "X_val"),
    [
        ("roc_auc", X[:10]),  # AUC is undefined for one class
        (lambda m, X, y: np.nan, X[:30]),
        ("neg_log_loss", 1e60 * X[:30]),  # too large for the network's float32
        (None, 1e60 * X[:30]),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_scores_that_are_all_nan(scoring, X_val, method):
    settings = {**STOPPING, "scoring": scoring, "n_iter_no_change": 3, "dtype": "float32"}
    kind = BPRegressor if scoring is None else BPClassifier
    model = kind(**settings)
    given = {"X_val": X_val, "y_val": Y[: len(X_val)]}
    if method == "partial_fit" and kind is BPClassifier:
        given["classes"] = [0, 1]

    def go():
        for _ in range(1 if method == "fit" else 5):
            getattr(model, method)(X[:100], Y[:100], **given)

    with np.errstate(all="ignore"), pytest.raises(ValueError, match="scoring returned no finite"):
        go()
    assert len(model.validation_scores_) == 4  # no epoch was an improvement


def test_an_epoch_without_a_score_is_no_improvement():
    scores = iter([0.5, np.nan, 0.6, np.nan, 0.5, np.nan, 0.5, 0.9])
    model = fit(classifier(scoring=lambda m, X, y: next(scores), n_iter_no_change=3))
    assert model.n_iter_ == 7
    assert model.best_validation_score_ == 0.6


@pytest.mark.parametrize("score", ["x", None, [0.5]])
def test_a_score_is_a_number(score):
    with pytest.raises(TypeError, match="scoring must return a number"):
        fit(classifier(scoring=lambda m, X, y: score))


@pytest.mark.parametrize(
    "scoring",
    [make_scorer(lambda y, p: np.mean(y == p)), "adjusted_rand_score", "neg_max_error"],
)
def test_metrics_that_take_no_weights_are_given_none(scoring):
    model = classifier(scoring=scoring, class_weight={0: 2.0}, max_iter=3)
    weight = np.random.default_rng(0).random(int(VAL.sum()))
    fit(model, sample_weight_val=weight)
    alone = BPClassifier(**{**SETTINGS, "max_iter": 3}, class_weight={0: 2.0})
    alone.fit(X[TRAIN], Y[TRAIN])
    assert model.validation_scores_[2] == get_scorer(scoring)(alone, X[VAL], Y[VAL])


def test_in_a_pipeline_the_validation_set_is_transformed_too():
    with sklearn.config_context(enable_metadata_routing=True):
        network = classifier().set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("net", network)], transform_input=["X_val"]
        )
        fit(pipeline)
    scaler = StandardScaler().fit(X[TRAIN])
    alone = classifier().fit(
        scaler.transform(X[TRAIN]), Y[TRAIN], X_val=scaler.transform(X[VAL]), y_val=Y[VAL]
    )
    assert pipeline[-1].validation_scores_ == alone.validation_scores_


@pytest.mark.parametrize(
    ("parameters", "given", "message"),
    [
        ({}, {"X_val": X}, "X_val and y_val must be given together"),
        ({}, {"y_val": Y}, "X_val and y_val must be given together"),
        ({}, {"sample_weight_val": np.ones(len(Y))}, "sample_weight_val only with them"),
        ({"early_stopping": False}, {"X_val": X, "y_val": Y}, "early_stopping=True"),
        ({"solver": "lbfgs"}, {"X_val": X, "y_val": Y}, "solver='lbfgs'"),
        ({}, {"X_val": X[:, :2], "y_val": Y}, "2 features"),
        ({}, {"X_val": X, "y_val": Y + 1}, r"y_val has classes that are not in y: \[3\]"),
        ({}, {"X_val": X, "y_val": Y[:10]}, "inconsistent numbers of samples"),
        ({}, {"X_val": X, "y_val": Y, "sample_weight_val": np.zeros(150)}, "at least one non-zero"),
        ({"scoring": "no such"}, {}, "The 'scoring' parameter"),
    ],
)
def test_what_does_not_fit(parameters, given, message):
    with pytest.raises(ValueError, match=message):
        classifier(**parameters).fit(X, Y, **given)


# Class weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 1: 0.5}, {1: 5.0}])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weight_is_a_weight_of_samples(class_weight, early_stopping, solver):
    y = np.where(np.arange(150) < 90, Y, 0)
    weight = np.random.default_rng(0).random(150)
    settings = {**SETTINGS, "early_stopping": early_stopping, "solver": solver}
    model = BPClassifier(**settings, class_weight=class_weight).fit(X, y, weight)
    of_classes = compute_sample_weight(class_weight, y)
    alone = BPClassifier(**settings).fit(X, y, weight * of_classes)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("kind", ["classes", "two classes", "labels"])
def test_balanced_weights_of_y_are_those_of_y_val(kind):
    y = {"classes": Y, "two classes": Y > 1, "labels": np.eye(3, dtype=int)[Y]}[kind]
    rare, val = np.flatnonzero((Y < 2) | (np.arange(150) % 5 == 0)), np.arange(0, 150, 4)
    data = {"X_val": X[val], "y_val": y[val]}
    model = classifier(scoring="loss", class_weight="balanced", max_iter=4)
    model.fit(X[rare], y[rare], **data)
    counted = y[rare] if y.ndim == 2 else y[rare][:, None]
    weight = np.ones(len(val))
    for seen, column in zip(counted.T, y[val].reshape(len(val), -1).T, strict=True):
        classes, counts = np.unique(seen, return_counts=True)
        weight *= (len(seen) / (len(classes) * counts))[np.searchsorted(classes, column)]
    plain = classifier(scoring="loss", max_iter=4)
    plain.fit(
        X[rare], y[rare], compute_sample_weight("balanced", y[rare]),
        sample_weight_val=weight, **data,
    )  # fmt: skip
    assert model.validation_scores_ == plain.validation_scores_


@pytest.mark.parametrize(
    "weights",
    [
        {0: np.nan}, {0: np.inf}, {0: -1.0}, {0: "a"}, {0: None}, {0: 1j},
        {0: 0, 1: 0, 2: 0}, {"a": 1, 5: 2.0}, {3: 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("several", [False, True])
def test_class_weights_that_cannot_be(weights, several):
    y = np.eye(3, dtype=int)[Y] if several else Y
    class_weight = [{}, weights, {}] if several else weights
    with pytest.raises(ValueError, match="class_weight"):
        BPClassifier(**SETTINGS, class_weight=class_weight).fit(X, y)
    with pytest.raises(ValueError, match="class_weight"):
        BPClassifier(**SETTINGS, class_weight=[1.0, 2.0]).fit(X, y)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"alpha": 0.5, "l1": 0.1, "clip_norm": 0.2},
        {"label_smoothing": 0.2, "learning_rate": "cosine", "warmup_epochs": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
def test_a_weight_of_2_is_a_second_copy(solver, more):
    """With full batches; the order of the sums differs."""
    assert_second_copy({**SETTINGS, "solver": solver, **more}, Y)


@pytest.mark.parametrize("y", [Y, Y > 0, np.eye(3, dtype=int)[Y]], ids=["classes", "two", "labels"])
@pytest.mark.parametrize("container", [np.asarray, csr_array])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_weight_of_2_of_any_data(solver, dtype, container, y):
    rtol = 1e-9 if dtype == "float64" else 1e-4
    settings = {**SETTINGS, "solver": solver, "dtype": dtype, "max_iter": 8}
    assert_second_copy(settings, y, container, rtol)


def assert_second_copy(settings, y, container=np.asarray, rtol=1e-9):
    settings = {**settings, "batch_size": "full", "shuffle": False}
    of_1 = y[:, 1] if y.ndim == 2 else y
    weight = {"sample_weight": np.where(of_1 == 1, 2.0, 1.0)} if y.ndim == 2 else {}
    class_weight = None if y.ndim == 2 else {1: 2.0}
    model = BPClassifier(**settings, class_weight=class_weight).fit(container(X), y, **weight)
    twice = np.concatenate([np.arange(150), np.flatnonzero(of_1 == 1)])
    copied = BPClassifier(**settings).fit(container(X[twice]), y[twice])
    if settings["solver"] != "lbfgs":
        np.testing.assert_allclose(model.loss_curve_, copied.loss_curve_, rtol=rtol)
    np.testing.assert_allclose(model.predict_proba(X), copied.predict_proba(X), rtol=rtol)


def test_class_weights_of_several_labels_and_in_partial_fit():
    X, y = make_multilabel_classification(60, 5, n_classes=2, random_state=0)
    weights = [{0: 1.0, 1: 3.0}, {0: 0.5, 1: 1.0}]
    model = BPClassifier(**SETTINGS, class_weight=weights).fit(X, y)
    alone = BPClassifier(**SETTINGS).fit(X, y, compute_sample_weight(weights, y))
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    model = BPClassifier(**SETTINGS, class_weight={1: 4.0, 2: 2.0})
    model.partial_fit(X, y[:, 0], classes=[0, 1, 2])  # class 2 has not occurred yet
    alone = BPClassifier(**SETTINGS)
    alone.partial_fit(X, y[:, 0], np.where(y[:, 0] == 1, 4.0, 1.0), classes=[0, 1, 2])
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    with pytest.raises(ValueError, match=r"class_weight has classes that are not in y: \[7\]"):
        BPClassifier(class_weight={7: 1.0}).fit(X, y[:, 0])
    with pytest.raises(ValueError, match="give a dict"):
        BPClassifier(class_weight="balanced").partial_fit(X, y[:, 0], classes=[0, 1])
