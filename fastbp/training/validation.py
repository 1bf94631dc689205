"""The loss of outputs that are there, as a validation set needs it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.samples import Samples

__all__ = ["mean_loss"]

Array = NDArray[Any]


def mean_loss(loss: str, samples: Samples, rows: Array, outputs: Array) -> float:
    """Return the weighted mean of the loss of some samples, without the penalty.

    Parameters
    ----------
    loss : {"log_loss", "squared_error", "poisson"}
    samples : Samples
    rows : ndarray of int64
    outputs : ndarray of shape (n_rows, n_outputs)
        The network's, for these rows.

    Returns
    -------
    float
        The same mean that training lowers: cross-entropy in nats, half the mean of the squared
        errors over the outputs, or half the Poisson deviance.
    """
    a = outputs.astype(np.float64)
    if samples.labels is not None:
        y = np.zeros_like(a)
        y[np.arange(len(rows)), samples.labels[rows]] = 1
    else:
        assert samples.targets is not None
        y = samples.targets[rows].astype(np.float64)
    if loss == "squared_error":
        losses = ((a - y) ** 2).mean(axis=1) / 2
    elif loss == "poisson":
        tiny = np.finfo(outputs.dtype).tiny
        ratio = np.where(y > 0, y, 1) / np.maximum(a, tiny)
        losses = (a - y + y * np.log(ratio)).sum(axis=1)
    else:
        epsilon = np.finfo(outputs.dtype).eps
        a = np.clip(a, epsilon, 1 - epsilon)
        if samples.labels is not None:
            losses = -(y * np.log(a)).sum(axis=1)
        else:
            losses = -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum(axis=1)
    weight = None if samples.sample_weight is None else samples.sample_weight[rows]
    return float(np.average(losses, weights=weight))
