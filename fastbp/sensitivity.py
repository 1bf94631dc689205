"""The derivatives of a network's outputs with respect to its inputs."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.compiler.jit import DISABLED, call_python
from fastbp.kernels.activations import activation_address
from fastbp.kernels.plan import address_of
from fastbp.network import Weights

__all__ = ["input_gradient"]

Array = NDArray[Any]

CHUNK_ROWS = 512  # rows at a time: the derivatives of more would not fit the cache


def input_gradient(weights: Weights, names: Sequence[str], X: Any) -> Array:
    """Return the Jacobian of the outputs for each row, by the chain rule from the outputs back.

    Parameters
    ----------
    weights : Weights
    names : sequence of str
        The activation of each layer.
    X : ndarray or CSR matrix of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_samples, n_features, n_outputs)
    """
    n_samples, n_features, n_outputs = X.shape[0], weights.units[0], weights.units[-1]
    jacobian = np.empty((n_samples, n_features, n_outputs), weights.dtype)
    for i in range(0, n_samples, CHUNK_ROWS):
        rows = slice(i, i + CHUNK_ROWS)
        jacobian[rows] = np.moveaxis(_differentiate(weights, names, X[rows]), 0, 2)
    return jacobian


def _differentiate(weights: Weights, names: Sequence[str], X: Any) -> Array:
    """Return the Jacobian of some rows, of shape (n_outputs, n_rows, n_features)."""
    a, slopes = X, []
    for w, b, name in zip(weights.coefs, weights.intercepts, names, strict=True):
        z = np.ascontiguousarray(a @ w + b, dtype=weights.dtype)
        a, slope = _activate(name, z)
        slopes.append(slope)
    unit = np.eye(a.shape[1], dtype=a.dtype)[:, None, :]
    # delta[j, sample, i] is the derivative of output j with respect to z of unit i; for a softmax,
    # d a[j] / d z[i] = a[j] * ((i == j) - a[i])
    delta = a.T[:, :, None] * (unit - a) if names[-1] == "softmax" else slopes[-1] * unit
    for i in range(len(names) - 1, 0, -1):
        delta = slopes[i - 1] * (delta @ weights.coefs[i].T)
    derivatives: Array = delta @ weights.coefs[0].T
    return derivatives


def _activate(name: str, z: Array) -> tuple[Array, Array]:
    """Return f(z) and f'(z) of a C-ordered matrix; for a softmax f'(z) is returned as zeros."""
    a, slope = z.copy(), np.zeros_like(z)
    if name == "identity":
        slope[...] = 1
        return a, slope
    function = activation_address(name, z.dtype.name)
    arguments = address_of(a), address_of(slope), a.size, *a.shape[1:] * 2
    if DISABLED:
        call_python(function, arguments)
    else:
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)
        kind(function)(*arguments)
    return a, slope
