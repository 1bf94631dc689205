"""The score and loss on a validation set, for early stopping."""

from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _BaseScorer

from fastbp.kernels.plan import plan_function, run
from fastbp.kernels.scores import N_NANS, score_classes, score_labels, score_numbers
from fastbp.samples import Rows, Samples
from fastbp.training.validation import loss_on

__all__ = ["Judge", "compared_with", "score_function"]

Array = NDArray[Any]


def score_function(model: Any) -> Callable[..., None]:
    """Return the kernel of an estimator's default score, for `scoring=None`."""
    if not hasattr(model, "classes_"):
        return score_numbers
    return score_labels if model._multilabel else score_classes


def compared_with(model: Any, samples: Samples, rows: Array) -> Samples:
    """Return what that kernel compares the outputs for `rows` with; X is that of all samples."""
    weight = None if samples.sample_weight is None else samples.sample_weight[rows]
    if score_function(model) is not score_classes:
        assert samples.targets is not None
        return Samples(samples.X, samples.targets[rows], None, weight)
    targets: Any = samples.targets
    labels = targets[rows, 0] if samples.labels is None else samples.labels[rows]
    return Samples(samples.X, None, labels.astype(np.int32), weight)


class Judge:
    """Computes score and loss of an estimator's current network on some rows of samples.

    Parameters
    ----------
    model : BaseBP
        An estimator in training.
    samples : Samples
    rows : ndarray of int
    names : tuple of str
        The activation of each layer.
    """

    def __init__(self, model: Any, samples: Samples, rows: Array, names: tuple[str, ...]) -> None:
        self._weight = None if samples.sample_weight is None else samples.sample_weight[rows]
        if self._weight is not None and not self._weight.any():
            raise ValueError(
                "sample_weight is 0 for the whole validation set; early_stopping needs some "
                "positive weights in it."
            )
        self._model, self._samples, self._rows = model, samples, rows
        self._predict = model._predictor.prepare(names, samples.X, model.n_jobs, rows)
        self._loss = loss_on(model.loss, samples, rows, model._engine_loss()[1])
        self._score: Callable[[Array, float], float]
        if model.scoring is None:
            self._score = self._make_own()
        elif model.scoring == "loss":
            self._score = lambda outputs, loss: -loss
        else:
            scorer = self._make_scorer()
            self._score = lambda outputs, loss: self._score_by(scorer, outputs)

    def __call__(self) -> tuple[float, float]:
        """Return score and loss from one prediction; scikit-learn's and user scorers repeat it."""
        outputs = self._predict()
        loss = self._loss(outputs)
        return self._score(outputs, loss), loss

    def close(self) -> None:
        """Release the prepared prediction."""
        self._predict.close()

    def _score_by(self, scorer: Callable[[], Any], outputs: Array) -> float:
        """Return the score of a scorer; NaN if there are outputs that it would refuse."""
        if not np.isfinite(outputs).all():
            return float("nan")
        score = scorer()
        if isinstance(score, (str, bytes)) or not isinstance(score, SupportsFloat):
            raise TypeError(f"scoring must return a number, got {score!r}.")
        return float(score)

    def _make_own(self) -> Callable[[Array, float], float]:
        """Return a function that scores the last outputs in place."""
        if len(getattr(self._model, "classes_", ())) == 1:  # right, whatever the outputs are
            return lambda outputs, loss: 1.0
        plan, result = self._predict.plan, np.zeros(1 + N_NANS)
        known = compared_with(self._model, self._samples, self._rows)
        data = known.bundle(self._model._weights.dtype)
        plan.set("data", targets=data.targets, labels=data.labels, sample_weight=data.sample_weight)
        plan.set("run", result=result)
        address = plan_function(score_function(self._model), plan)

        def score(outputs: Array, loss: float) -> float:
            run(address, plan)
            return float(result[0])

        return score

    def _make_scorer(self) -> Callable[[], Any]:
        model, samples, rows = self._model, self._samples, self._rows
        scorer = check_scoring(model, model.scoring)
        y = model._decode_targets(samples, rows)
        if not isinstance(scorer, _BaseScorer):  # a user's function
            X = samples.X[rows]
            return lambda: scorer(model, X, y)
        weighted = {}
        if self._weight is not None and scorer._accept_sample_weight():
            weighted = {"sample_weight": self._weight}
        return lambda: scorer(model, Rows(samples.X, rows), y, **weighted)
