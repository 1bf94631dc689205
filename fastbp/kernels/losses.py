"""The losses: of each sample, and its derivative by the output layer's z.

For the canonical pairs (softmax or logistic with cross-entropy, identity with squared error, exp
with Poisson) the derivative is ``a - y``: the slope of the output cancels against the loss's
denominator. Elsewhere it is the loss's derivative by a, times the slope.
"""

import math

import numpy as np

from fastbp.kernels.activations import EXP, IDENTITY, SOFTMAX, log
from fastbp.kernels.jit import inner_kernel, matrix_view
from fastbp.kernels.plan import bundles

SQUARED_ERROR, LOG_LOSS, POISSON = range(3)

CODES = {"squared_error": SQUARED_ERROR, "log_loss": LOG_LOSS, "poisson": POISSON}


def differentiate_loss(plan, start, low, high):
    """row_losses[i], and the output's delta[i, :], for rows low..high of the chunk at `start`."""
    b = bundles(plan)
    network, data, workspace = b.network, b.data, b.workspace
    layer = network.layers[network.layers.size - 1]
    offset, rows, row = layer.output + low * layer.output_row, high - low, layer.output_row
    a = matrix_view(workspace.activations, offset, rows, row)
    slope = matrix_view(workspace.slopes, offset, rows, row)
    delta = matrix_view(workspace.deltas, offset, rows, row)
    losses = workspace.row_losses[low:high]
    order = data.order[start + low : start + high]
    if data.labels.size > 0:
        _compare_labels(data.labels, order, layer.n_out, a, delta, losses)
    else:
        _compare_targets(data.targets, workspace.loss, order, layer.n_out, a, delta, losses)
    if workspace.loss == LOG_LOSS and (data.labels.size > 0 or layer.n_out == 1):
        for i in range(losses.size):
            losses[i] = -log(losses[i])
    elif workspace.loss == SQUARED_ERROR:
        _square(layer.activation, layer.n_out, a, slope, delta, losses)
    elif workspace.loss == POISSON and layer.activation != EXP:
        for i in range(losses.size):
            for j in range(layer.n_out):
                delta[i, j] *= slope[i, j] / a[i, j]
    if data.sample_weight.size > 0:
        for i in range(order.size):
            weight = data.sample_weight[order[i]]
            for j in range(layer.n_out):
                delta[i, j] *= weight


@inner_kernel
def _compare_labels(labels, order, n, a, delta, losses):
    """delta := a - y, with y 1 at the label; losses := the probability of the label, clipped."""
    epsilon = np.finfo(a.dtype).eps
    for i in range(order.size):
        for j in range(n):
            delta[i, j] = a[i, j]
        label = labels[order[i]]
        delta[i, label] -= 1
        losses[i] = _clip(a[i, label], epsilon)


@inner_kernel
def _compare_targets(y, loss, order, n, a, delta, losses):
    """delta := a - y; losses, but of one probability only that it gives to the truth, clipped."""
    epsilon = np.finfo(a.dtype).eps
    if loss == LOG_LOSS and n == 1:
        for i in range(order.size):
            losses[i] = y[order[i], 0]
        for i in range(order.size):  # a loop of its own, which is vectorised
            p = a[i, 0] if losses[i] > 0 else 1 - a[i, 0]
            delta[i, 0] = a[i, 0] - losses[i]
            losses[i] = _clip(p, epsilon)
        return
    for i in range(order.size):
        sample = order[i]
        for j in range(n):
            delta[i, j] = a[i, j] - y[sample, j]
        if loss == LOG_LOSS:
            losses[i] = 0
            for j in range(n):
                p = a[i, j] if y[sample, j] > 0 else 1 - a[i, j]
                losses[i] -= math.log(np.float64(_clip(p, epsilon)))
        elif loss == POISSON:
            losses[i] = 0
            for j in range(n):
                losses[i] += a[i, j] - y[sample, j]
                if y[sample, j] > 0:
                    losses[i] += y[sample, j] * math.log(y[sample, j] / a[i, j])


@inner_kernel
def _square(activation, n, a, slope, delta, losses):
    """losses := mean of ``delta**2 / 2``, and delta through the slope of the output."""
    for i in range(losses.size):
        total = 0.0
        for j in range(n):
            total += delta[i, j] * delta[i, j]
        losses[i] = 0.5 / n * total
        if activation == SOFTMAX:
            # J.T @ delta, with J = diag(a) - a a.T
            inner = a.dtype.type(0)
            for j in range(n):
                inner += a[i, j] * delta[i, j]
            for j in range(n):
                delta[i, j] = a[i, j] * (delta[i, j] - inner)
        elif activation != IDENTITY:
            for j in range(n):
                delta[i, j] *= slope[i, j]


@inner_kernel
def _clip(p, epsilon):
    """Clip a probability as scikit-learn does, one epsilon away from 0 and 1."""
    p = epsilon if p < epsilon else p  # a NaN stays one
    return 1 - epsilon if p > 1 - epsilon else p
