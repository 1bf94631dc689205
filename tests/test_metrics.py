"""Metrics from counts against scikit-learn's functions, bit for bit."""

import warnings

import numpy as np
import pytest
from searches import CLASSIFIER, OURS, STOCK, assert_same
from sklearn.datasets import load_iris
from sklearn.metrics import check_scoring, f1_score, get_scorer, make_scorer

from fastbp import BPClassifier, BPRegressor
from fastbp.model_selection import metrics, scoring


class Known:
    """An estimator that predicts the values it is given."""

    _estimator_type = "classifier"

    def __init__(self, predicted, classes=None):
        self.predicted, self.classes_ = predicted, classes

    def fit(self, X, y):
        raise NotImplementedError

    def predict(self, X):
        return self.predicted

    def __sklearn_tags__(self):
        return (BPClassifier if self.classes_ is not None else BPRegressor)().__sklearn_tags__()


def own_score(scorer, y, predicted, classes):
    labels, decided = np.searchsorted(classes, y), np.searchsorted(classes, predicted)
    positive = np.flatnonzero(classes == 1)
    confusion = metrics.count_classes(labels.astype(np.int8), decided, len(classes))
    return metrics.find_metric(scorer, True)(confusion, positive[0] if len(positive) else None)


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2], [1, 2], [-1, 1, 3, 7], [False, True]])
@pytest.mark.parametrize("name", metrics._OF_CLASSES)
def test_metrics_of_classes(name, classes):
    """A score is missing only where scikit-learn warns or fails."""
    scorer, classes, n_scores = get_scorer(name), np.array(classes), 0
    for seed in range(40):
        random = np.random.RandomState(seed)
        n_samples = random.randint(1, 60)
        chosen = classes[random.permutation(len(classes))[: random.randint(1, len(classes) + 1)]]
        y, predicted = random.choice(classes, n_samples), random.choice(chosen, n_samples)
        mine = own_score(scorer, y, predicted, classes)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if mine is not None else "ignore")
            if mine is not None:
                n_scores += 1
                assert mine == scorer(Known(predicted, classes), np.zeros((n_samples, 1)), y)
    is_binary_of_others = name in ("precision", "recall", "f1") and len(classes) > 2
    assert (n_scores == 0) == is_binary_of_others
    if name == "accuracy":
        assert n_scores == 40


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", metrics._OF_NUMBERS)
def test_metrics_of_numbers(name, dtype):
    scorer = get_scorer(name)
    for seed in range(40):
        random = np.random.RandomState(seed)
        y, predicted = random.randn(2, random.randint(2, 3000)).astype(dtype)
        if seed % 4 == 0:
            y[:] = 1
        if seed % 8 == 0:
            predicted = y
        mine = metrics.find_metric(scorer, False)(y[:, None], predicted[:, None])
        assert mine == scorer(Known(predicted), np.zeros((len(y), 1)), y)
    if name == "r2":
        assert metrics.find_metric(scorer, False)(y[:1, None], predicted[:1, None]) is None


def test_what_is_not_known_is_scikit_learns():
    for scorer in (
        make_scorer(f1_score),
        make_scorer(f1_score, average="macro", zero_division=1.0),
        get_scorer("roc_auc"),
        check_scoring(CLASSIFIER, ["f1_macro", "neg_log_loss"]),
    ):
        assert metrics.find_metric(scorer, True) is None
    assert metrics.find_metric(get_scorer("r2"), True) is None
    assert metrics.find_metric(get_scorer("f1"), False) is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"]])
@pytest.mark.parametrize(("max_iter", "most"), [(1, 100), (60, 100), (60, 2)])
def test_several_in_a_search(labels, max_iter, most, monkeypatch):
    """If one has no score, or there are too many classes to count, scikit-learn computes all."""
    monkeypatch.setattr(scoring, "MOST_CLASSES", most)
    counted = []

    def count(*of):
        counted.append(of)
        return metrics.count_classes(*of)

    monkeypatch.setattr(scoring, "count_classes", count)
    X, y = load_iris(return_X_y=True)
    search = OURS.GridSearchCV(
        CLASSIFIER,
        {"alpha": [0.1, 1.0], "max_iter": [max_iter]},
        scoring=["f1_macro", "balanced_accuracy", "accuracy", "recall_weighted"],
        cv=3,
        refit=False,
    )
    y = np.array(labels)[y]
    stock = STOCK.GridSearchCV(**search.get_params(deep=False)).fit(X, y)
    assert_same(search.fit(X, y).cv_results_, stock.cv_results_)
    assert len(counted) == (6 if most > 2 else 0)
