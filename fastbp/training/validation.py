"""The loss of outputs that are there, as a validation set needs it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.kernels.losses import OF_RESIDUALS
from fastbp.samples import Samples

__all__ = ["mean_loss"]

Array = NDArray[Any]


def mean_loss(
    loss: str, samples: Samples, rows: Array, outputs: Array, parameter: float = 0.0
) -> float:
    """Return the weighted mean of the loss of some samples, without the penalty.

    Parameters
    ----------
    loss : str
        As the engine's, and so `parameter`.
    samples : Samples
    rows : ndarray of int64
    outputs : ndarray of shape (n_rows, n_outputs)
        The network's, for these rows.

    Returns
    -------
    float
        The same mean that training lowers; see `fastbp.kernels.losses`.
    """
    a = outputs.astype(np.float64)
    if samples.labels is not None:
        y = np.zeros_like(a)
        y[np.arange(len(rows)), samples.labels[rows]] = 1
    else:
        assert samples.targets is not None
        y = samples.targets[rows].astype(np.float64)
    if loss in OF_RESIDUALS:
        losses = _of_residuals(loss, a - y, parameter).mean(axis=1)
    elif loss in ("poisson", "gamma"):
        a = np.maximum(a, np.finfo(outputs.dtype).tiny)
        ratio = np.where(y > 0, y, 1) / a
        deviance = a - y + y * np.log(ratio) if loss == "poisson" else ratio - 1 - np.log(ratio)
        losses = deviance.sum(axis=1)
    else:
        epsilon = np.finfo(outputs.dtype).eps
        a = np.clip(a, epsilon, 1 - epsilon)
        if samples.labels is not None:
            losses = -(y * np.log(a)).sum(axis=1)
        else:
            losses = -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum(axis=1)
    weight = None if samples.sample_weight is None else samples.sample_weight[rows]
    return float(np.average(losses, weights=weight))


def _of_residuals(loss: str, r: Array, parameter: float) -> Array:
    size = np.abs(r)
    beyond = parameter * (size - parameter / 2)
    values: dict[str, Array] = {
        "squared_error": r**2 / 2,
        "absolute_error": size,
        "huber": np.where(size <= parameter, r**2 / 2, beyond),
        "quantile": np.where(r > 0, (1 - parameter) * r, -parameter * r),
        "log_cosh": np.logaddexp(r, -r) - np.log(2),
    }
    return values[loss]
