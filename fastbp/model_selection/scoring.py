"""The scores of a fit on its test and training samples, by the metrics that the search asks for.

Accuracy and other metrics asked for by name are computed here from the network's decisions; the
rest is left to scikit-learn's scorers and the user's own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics._scorer import _PassthroughScorer
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from fastbp.baton import laid_down
from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.scoring import as_columns
from fastbp.model_selection.fits import Fit
from fastbp.model_selection.folds import Fold, Judged
from fastbp.model_selection.metrics import (
    ACCURACY,
    asks_for_predictions_only,
    count_classes,
    find_metric,
    is_scorer,
)

__all__ = [
    "accuracies",
    "asks_for_accuracy",
    "judge",
    "judge_outputs",
    "judged_parts",
    "number_labels",
]

MOST_CLASSES = 100  # of a confusion matrix; with more, scikit-learn computes the score


def judged_parts(fit: Fit) -> tuple[str, ...]:
    """Return the parts that a fit is scored on: "test", and "train" if asked for."""
    return ("test", "train") if fit.asked.get("return_train_score") else ("test",)


def asks_for_accuracy(fit: Fit, network: BaseBP) -> bool:
    """Return whether the search asks for accuracy only.

    It is then computed here: scikit-learn's accuracy takes as long as a short fit.
    """
    has_labels = type(fit.y) is np.ndarray and fit.y.ndim == 1
    if fit.asked.get("score_params") or not (has_labels and isinstance(network, BPClassifier)):
        return False
    scorer = fit.asked["scorer"]
    return is_scorer(scorer, ACCURACY) or isinstance(scorer, _PassthroughScorer)


def number_labels(fit: Fit, fold: Fold, part: str) -> Judged:
    """Return the samples of a part, with their class indices.

    If this raises an error, the fit is left to scikit-learn, which reports what is wrong with the
    labels, if anything is: numbers that are not classes, or words among numbers.
    """
    judged = fold.judged(part)
    if judged.labels is None:
        y = fit.y[fit.rows(part)]
        labels = _number(y, fold.attributes["classes_"])
        if y.dtype.kind in "fO" and labels.min() < 0:
            raise ValueError(f"{part} has labels that are not among the classes")
        judged.labels = labels
    return judged


def accuracies(fit: Fit, network: BaseBP, fold: Fold, parts: Sequence[str]) -> list[float]:
    """Return the network's accuracy on each part."""
    judged = [number_labels(fit, fold, part) for part in parts]
    if len(parts) == 2 and fold.both is not None and not any(network._weights.large):
        decided = network._decide(network._predict_outputs(fold.both))
        n_test = len(fold.test.rows)
        decisions = [decided[:n_test], decided[n_test:]]
    else:  # BLAS may round a row differently at another position in the matrix
        decisions = [network._decide(network._predict_outputs(p.rows)) for p in judged]
    return [
        float(np.count_nonzero(decided == of_part.labels) / len(decided))
        for decided, of_part in zip(decisions, judged, strict=True)
    ]


def judge_outputs(fit: Fit, network: BaseBP, fold: Fold, outputs: Any) -> list[Any]:
    """Return the scores of all parts, by scikit-learn's metrics.

    Parameters
    ----------
    fit : Fit
    network : BaseBP
        With the fit's parameters.
    fold : Fold
    outputs : ndarray of shape (n_judged, n_outputs)
        The network's outputs for the samples of all parts, one part after the other.
    """
    predicting: Any = object.__new__(type(network))
    vars(predicting).update(vars(network) | fold.attributes)
    scores = []
    for part in judged_parts(fit):
        n_rows = len(fold.judged(part).rows)
        of_part, outputs = outputs[:n_rows], outputs[n_rows:]
        predicting._predict_outputs = lambda X, of_part=of_part: of_part.copy()
        scores.append(judge(fit, predicting, fold, part, network.n_jobs))
    return scores


def judge(fit: Fit, network: BaseBP, fold: Fold, part: str, n_jobs: int | None) -> Any:
    """Return the scores of a part, "test" or "train", by the search's scorer.

    A scorer that may look at more than predictions sees the user's `n_jobs`.
    """
    scorer, judged = fit.asked["scorer"], fold.judged(part)
    params = fit.asked.get("score_params") or {}
    if judged.y is None:
        judged.y = _safe_indexing(fit.y, fit.rows(part))
    if params:
        params = _check_method_params(fit.X, params, indices=fit.rows(part))
    scores = None if params else _judge_by_metric(fit, network, fold, part)
    if scores is not None:
        return scores
    error_score = fit.asked["error_score"]
    # A Pipeline's own `score` routes parameters to its steps.
    is_routed = fold.steps and params and isinstance(scorer, _PassthroughScorer)
    if asks_for_predictions_only(scorer) and not is_routed:
        return _score(network, judged.rows, judged.y, scorer, params, error_score)
    network.n_jobs = n_jobs
    estimator = Pipeline([*fold.steps, ("network", network)]) if fold.steps else network
    numbers = fit.rows(part)
    train = None if part == "train" else fit.rows("train")
    X, _ = _safe_split(estimator, fit.X, None, numbers, train)
    with laid_down():
        return _score(estimator, X, judged.y, scorer, params, error_score)


def _judge_by_metric(fit: Fit, network: BaseBP, fold: Fold, part: str) -> Any:
    """Return the scores of a part by fastbp's metrics, or None to leave them to scikit-learn."""
    y, judged = fit.y, fold.judged(part)
    of_classes = isinstance(network, BPClassifier)
    metric = find_metric(fit.asked["scorer"], of_classes)
    if metric is None or type(y) is not np.ndarray or y.ndim != 1:
        return None
    if not of_classes:
        if y.dtype.kind not in "iuf":
            return None
        outputs = network._predict_outputs(judged.rows)
        return metric(*as_columns(judged.y, outputs))
    labels: Any = number_labels(fit, fold, part).labels
    if labels.min() < 0:  # a class that was not learnt
        return None
    classes = fold.attributes["classes_"]
    if len(classes) > MOST_CLASSES:
        return None
    decided = network._decide(network._predict_outputs(judged.rows))
    positive = np.flatnonzero(classes == 1)
    confusion = count_classes(labels, decided, len(classes))
    return metric(confusion, int(positive[0]) if len(positive) else None)


def _number(y: Any, classes: Any) -> Any:
    """Return the index of each label among the sorted classes; -1 if it is not one of them."""
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    places[classes[places] != y] = -1
    return places.astype(np.min_scalar_type(-len(classes)))
