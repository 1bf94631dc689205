"""The losses: of each sample, and its derivative by the output layer's z.

For the canonical pairs (softmax or logistic with cross-entropy, identity with squared error, exp
with Poisson) the derivative is ``a - y``: the slope of the output cancels against the loss's
denominator. Elsewhere it is the loss's derivative by a, times the slope.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastbp.kernels.activations import EXP, IDENTITY, SOFTMAX, log
from fastbp.kernels.jit import inner_kernel, matrix_view, part
from fastbp.kernels.plan import bundles

SQUARED_ERROR, LOG_LOSS, POISSON = range(3)

CODES = {"squared_error": SQUARED_ERROR, "log_loss": LOG_LOSS, "poisson": POISSON}


class Rows(NamedTuple):
    """Some rows of the output layer, and what they are compared with."""

    order: Any  # (rows,) their samples
    n: int  # outputs
    a: Any  # (rows, n and padding), and so the next two
    slope: Any
    delta: Any
    losses: Any  # (rows,) float64


@part
def _rows(b, start, low, high):
    """Rows low..high of the chunk at `start`."""
    layer, workspace = b.network.layers[b.network.layers.size - 1], b.workspace
    offset, rows, row = layer.output + low * layer.output_row, high - low, layer.output_row
    return Rows(
        b.data.order[start + low : start + high],
        layer.n_out,
        matrix_view(workspace.activations, offset, rows, row),
        matrix_view(workspace.slopes, offset, rows, row),
        matrix_view(workspace.deltas, offset, rows, row),
        workspace.row_losses[low:high],
    )


# Each loss: delta := its derivative by the output's z, losses := it, for rows low..high of a chunk.


def labels_log_loss(plan, start, low, high):
    """Cross-entropy of a softmax and class numbers."""
    b = bundles(plan)
    rows = _rows(b, start, low, high)
    epsilon = np.finfo(rows.a.dtype).eps
    for i in range(rows.order.size):
        for j in range(rows.n):
            rows.delta[i, j] = rows.a[i, j]
        label = b.data.labels[rows.order[i]]
        rows.delta[i, label] -= 1
        rows.losses[i] = _clip(rows.a[i, label], epsilon)
    for i in range(rows.order.size):
        rows.losses[i] = -log(rows.losses[i])
    _weigh(b.data.sample_weight, rows)


def log_loss(plan, start, low, high):
    """Cross-entropy of logistic units and targets of 0 and 1."""
    b = bundles(plan)
    rows, y = _rows(b, start, low, high), b.data.targets
    a, delta, losses = rows.a, rows.delta, rows.losses
    epsilon = np.finfo(a.dtype).eps
    if rows.n == 1:
        for i in range(losses.size):
            losses[i] = y[rows.order[i], 0]
        for i in range(losses.size):  # loops of their own, which are vectorised
            p = a[i, 0] if losses[i] > 0 else 1 - a[i, 0]
            delta[i, 0] = a[i, 0] - losses[i]
            losses[i] = _clip(p, epsilon)
        for i in range(losses.size):
            losses[i] = -log(losses[i])
    else:
        for i in range(losses.size):
            sample = rows.order[i]
            losses[i] = 0
            for j in range(rows.n):
                delta[i, j] = a[i, j] - y[sample, j]
                p = a[i, j] if y[sample, j] > 0 else 1 - a[i, j]
                losses[i] -= log(np.float64(_clip(p, epsilon)))
    _weigh(b.data.sample_weight, rows)


def squared_error(plan, start, low, high):
    """Half the mean of the squares over the outputs; the derivative is that of half their sum."""
    b = bundles(plan)
    rows = _rows(b, start, low, high)
    a, delta = rows.a, rows.delta
    activation = b.network.layers[b.network.layers.size - 1].activation
    for i in range(rows.order.size):
        sample = rows.order[i]
        if b.data.labels.size > 0:
            for j in range(rows.n):
                delta[i, j] = a[i, j]
            delta[i, b.data.labels[sample]] -= 1
        else:
            for j in range(rows.n):
                delta[i, j] = a[i, j] - b.data.targets[sample, j]
        total = 0.0
        for j in range(rows.n):
            total += delta[i, j] * delta[i, j]
        rows.losses[i] = 0.5 / rows.n * total
        if activation == SOFTMAX:
            # J.T @ delta, with J = diag(a) - a a.T
            inner = a.dtype.type(0)
            for j in range(rows.n):
                inner += a[i, j] * delta[i, j]
            for j in range(rows.n):
                delta[i, j] = a[i, j] * (delta[i, j] - inner)
        elif activation != IDENTITY:
            for j in range(rows.n):
                delta[i, j] *= rows.slope[i, j]
    _weigh(b.data.sample_weight, rows)


def poisson(plan, start, low, high):
    """Half the Poisson deviance: ``a - y + y log(y / a)``, summed over the outputs."""
    b = bundles(plan)
    rows, y = _rows(b, start, low, high), b.data.targets
    a, delta, losses = rows.a, rows.delta, rows.losses
    activation = b.network.layers[b.network.layers.size - 1].activation
    for i in range(losses.size):
        sample = rows.order[i]
        losses[i] = 0
        for j in range(rows.n):
            delta[i, j] = a[i, j] - y[sample, j]
            losses[i] += a[i, j] - y[sample, j]
            if y[sample, j] > 0:
                losses[i] += y[sample, j] * math.log(y[sample, j] / a[i, j])
            if activation != EXP:
                delta[i, j] *= rows.slope[i, j] / a[i, j]
    _weigh(b.data.sample_weight, rows)


@part
def _weigh(weights, rows):
    """delta := its rows times the weights of their samples."""
    if weights.size > 0:
        for i in range(rows.order.size):
            weight = weights[rows.order[i]]
            for j in range(rows.n):
                rows.delta[i, j] *= weight


FUNCTIONS = labels_log_loss, log_loss, squared_error, poisson


def choose_function(loss: int, labels: Any) -> Any:
    """Return the function of a loss, for labels or, where there are none, for targets."""
    if loss == LOG_LOSS:
        return labels_log_loss if labels.size > 0 else log_loss
    return squared_error if loss == SQUARED_ERROR else poisson


@inner_kernel
def _clip(p, epsilon):
    """Clip a probability as scikit-learn does, one epsilon away from 0 and 1."""
    p = epsilon if p < epsilon else p  # a NaN stays one
    return 1 - epsilon if p > 1 - epsilon else p
