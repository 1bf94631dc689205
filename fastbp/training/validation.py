"""The loss of given outputs, for a validation set."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.kernels.losses import OF_RESIDUALS
from fastbp.samples import Samples

__all__ = ["loss_on"]

Array = NDArray[Any]


def loss_on(loss: str, samples: Samples, rows: Array, parameter: float) -> Callable[[Array], float]:
    """Return a function that computes the weighted mean loss of a network's outputs.

    Parameters
    ----------
    loss : str
        The estimator's `loss`.
    samples : Samples
    rows : ndarray of int
        The rows of the samples that the outputs belong to.
    parameter : float
        The parameter of a loss that has one; see `fastbp.kernels.losses`.

    Returns
    -------
    callable
        Takes outputs, (n_rows, n_outputs), and returns the mean loss that training minimises,
        without penalty and label smoothing.
    """
    weight = None if samples.sample_weight is None else samples.sample_weight[rows]
    labels = None if samples.labels is None else samples.labels[rows]
    targets = None if samples.targets is None else samples.targets[rows].astype(np.float64)
    places = np.arange(len(rows))

    @np.errstate(over="ignore")  # in case the outputs have diverged
    def mean_loss(outputs: Array) -> float:
        if loss in OF_RESIDUALS:
            r = outputs.astype(np.float64)
            if targets is None:
                r[places, labels] -= 1
            else:
                r -= targets
            losses = _of_residuals(loss, r, parameter).mean(axis=1)
        elif targets is None:
            losses = -np.log(_clip(outputs[places, labels]))
        elif loss in ("poisson", "gamma"):
            a = np.maximum(outputs.astype(np.float64), np.finfo(outputs.dtype).tiny)
            ratio = np.where(targets > 0, targets, 1) / a
            deviance = ratio - 1 - np.log(ratio)
            if loss == "poisson":
                deviance = a - targets + targets * np.log(ratio)
            losses = deviance.sum(axis=1)
        else:
            a = _clip(outputs)
            losses = -(targets * np.log(a) + (1 - targets) * np.log(1 - a)).sum(axis=1)
        return float(losses.mean() if weight is None else np.average(losses, weights=weight))

    return mean_loss


def _clip(probabilities: Array) -> Array:
    """Return them in float64, at least an epsilon of their precision away from 0 and 1."""
    epsilon = np.finfo(probabilities.dtype).eps
    clipped: Array = probabilities.astype(np.float64).clip(epsilon, 1 - epsilon)
    return clipped


def _of_residuals(loss: str, r: Array, parameter: float) -> Array:
    size = np.abs(r)
    match loss:
        case "squared_error":
            return r**2 / 2
        case "absolute_error":
            return size
        case "huber":
            return np.where(size <= parameter, r**2 / 2, parameter * (size - parameter / 2))
        case "quantile":
            return np.where(r > 0, (1 - parameter) * r, -parameter * r)
        case "log_cosh":
            values: Array = np.logaddexp(r, -r) - np.log(2)
            return values
    raise NotImplementedError(loss)
