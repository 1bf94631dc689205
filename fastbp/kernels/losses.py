"""The losses: of each sample, and its derivative by the output layer's z.

For the canonical pairs (softmax or logistic with cross-entropy, identity with squared error, exp
with Poisson) the derivative is ``a - y``: the slope of the output cancels against the loss's
denominator. Elsewhere it is the loss's derivative by a, times the slope.
"""

import math

import numpy as np

from fastbp.kernels.activations import EXP, IDENTITY, SOFTMAX
from fastbp.kernels.jit import inner_kernel, part

SQUARED_ERROR, LOG_LOSS, POISSON = range(3)

CODES = {"squared_error": SQUARED_ERROR, "log_loss": LOG_LOSS, "poisson": POISSON}


@inner_kernel
def differentiate_loss(network, data, workspace, start, low, high):
    """row_losses[i], and the output's delta[i, :], for rows low..high of the chunk at `start`."""
    layer = network.layers[network.layers.size - 1]
    n, row = layer.n_out, layer.output_row
    labelled = data.labels.size > 0
    epsilon = np.finfo(workspace.activations.dtype).eps
    for i in range(low, high):
        sample = data.order[start + i]
        o = layer.output + i * row
        a = workspace.activations[o : o + n]
        delta = workspace.deltas[o : o + n]
        if labelled:
            # a - y: y is 1 at the label. The derivative of the canonical pair, or of 1/2 (a - y)^2.
            for j in range(n):
                delta[j] = a[j]
            label = data.labels[sample]
            delta[label] -= 1
            loss = _cross_entropy(a[label], epsilon)
        else:
            y = data.targets[sample]
            for j in range(n):
                delta[j] = a[j] - y[j]
            loss = 0.0
            if workspace.loss == LOG_LOSS:
                for j in range(n):
                    if y[j] > 0:
                        loss += _cross_entropy(a[j], epsilon)
                    else:
                        loss += _cross_entropy(1 - a[j], epsilon)
            elif workspace.loss == POISSON:
                for j in range(n):
                    loss += a[j] - y[j]
                    if y[j] > 0:
                        loss += y[j] * math.log(y[j] / a[j])
        if workspace.loss == SQUARED_ERROR:
            loss = 0.0
            for j in range(n):
                loss += delta[j] * delta[j]
            loss *= 0.5 / n
        weight = 1.0
        if data.sample_weight.size > 0:
            weight = data.sample_weight[sample]
            for j in range(n):
                delta[j] *= weight
        workspace.row_losses[i] = weight * loss
        if workspace.loss == SQUARED_ERROR:
            if layer.activation == SOFTMAX:
                _through_softmax(a, delta)
            elif layer.activation != IDENTITY:
                slope = workspace.slopes[o : o + n]
                for j in range(n):
                    delta[j] *= slope[j]
        elif workspace.loss == POISSON and layer.activation != EXP:
            slope = workspace.slopes[o : o + n]
            for j in range(n):
                delta[j] *= slope[j] / a[j]


@part
def _cross_entropy(p, epsilon):
    """``-log(p)``, p clipped as scikit-learn clips it, one epsilon away from 0 and 1."""
    p = epsilon if p < epsilon else p  # a NaN stays one
    p = 1 - epsilon if p > 1 - epsilon else p
    return -math.log(np.float64(p))


@part
def _through_softmax(a, delta):
    """delta := J.T @ delta, with J = diag(a) - a a.T, the derivative of softmax."""
    inner = a.dtype.type(0)
    for j in range(a.size):
        inner += a[j] * delta[j]
    for j in range(a.size):
        delta[j] = a[j] * (delta[j] - inner)
