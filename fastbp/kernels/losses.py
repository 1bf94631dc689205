"""The loss of each sample, and its derivative with respect to the output layer's z.

For the canonical pairs (softmax or logistic with cross-entropy, identity with squared error, exp
with Poisson) the derivative is ``a - y``: the slope of the output cancels against the loss's
denominator. Otherwise it is the loss's derivative with respect to a, times the slope.

For losses of residuals ``r = a - y``, the reported value is the mean over the outputs, while the
derivative is that of their sum, as in scikit-learn's squared error:

============== ==================================================================================
squared_error  ``r**2 / 2``
absolute_error ``abs(r)``, least at a median (Laplace 1774); its derivative at 0 is 0
huber          ``r**2 / 2`` up to the parameter d, then ``d * (abs(r) - d / 2)`` (Huber 1964)
quantile       ``-q * r`` below the target, ``(1 - q) * r`` above, q the parameter (Koenker and
               Bassett 1978)
log_cosh       ``log(cosh(r))`` (Green 1990, "Bayesian reconstructions from emission tomography
               data using a modified EM algorithm")
============== ==================================================================================

For counts and for sizes y > 0, half the deviances of generalised linear models (McCullagh and
Nelder 1989), summed over the outputs:

======= ===================================
poisson ``a - y + y * log(y / a)``
gamma   ``y / a - 1 - log(y / a)``
======= ===================================
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastbp.compiler.jit import inner_kernel, part
from fastbp.compiler.memory import matrix_view
from fastbp.kernels.activations import EXP, IDENTITY, SOFTMAX
from fastbp.kernels.arrays import LOSS_PARAMETER
from fastbp.kernels.elementary import log
from fastbp.kernels.plan import bundles

SQUARED_ERROR, LOG_LOSS, POISSON, GAMMA, ABSOLUTE_ERROR, HUBER, QUANTILE, LOG_COSH = range(8)
SMOOTHED_LOG_LOSS = 8

CODES = {
    "squared_error": SQUARED_ERROR,
    "log_loss": LOG_LOSS,
    "poisson": POISSON,
    "gamma": GAMMA,
    "absolute_error": ABSOLUTE_ERROR,
    "huber": HUBER,
    "quantile": QUANTILE,
    "log_cosh": LOG_COSH,
    "smoothed_log_loss": SMOOTHED_LOG_LOSS,
}
SMALL = 1e-280  # the product of this and one more probability is still a normal number
OF_RESIDUALS = ("squared_error", "absolute_error", "huber", "quantile", "log_cosh")


class OutputRows(NamedTuple):
    """Some rows of the output layer, with their samples and losses."""

    order: Any  # (rows,) the numbers of their samples
    n: int  # outputs
    a: Any  # (rows, n and padding), as are the next two
    slope: Any
    delta: Any
    losses: Any  # (rows,) float64


@part
def _rows(b, start, low, high):
    """Rows low..high of the chunk at `start`."""
    layer, workspace = b.network.layers[b.network.layers.size - 1], b.workspace
    offset, rows, row = layer.output + low * layer.output_row, high - low, layer.output_row
    return OutputRows(
        b.data.order[start + low : start + high],
        layer.n_out,
        matrix_view(workspace.activations, offset, rows, row),
        matrix_view(workspace.slopes, layer.slopes + low * row, rows, row),
        matrix_view(workspace.deltas, offset, rows, row),
        workspace.row_losses[low:high],
    )


# Each loss, for rows low..high of a chunk: losses := the loss, delta := its derivative by z.


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
        for i in range(losses.size):  # separate loops, which are vectorised
            p = a[i, 0] if losses[i] > 0 else 1 - a[i, 0]
            delta[i, 0] = a[i, 0] - losses[i]
            losses[i] = _clip(p, epsilon)
        for i in range(losses.size):
            losses[i] = -log(losses[i])
    else:
        for i in range(losses.size):
            sample = rows.order[i]
            total, product = 0.0, 1.0
            for j in range(rows.n):
                delta[i, j] = a[i, j] - y[sample, j]
                p = a[i, j] if y[sample, j] > 0 else 1 - a[i, j]
                product *= _clip(p, epsilon)
                if product < SMALL:  # one logarithm for several factors
                    total -= log(product)
                    product = 1.0
            losses[i] = total - log(product)
    _weigh(b.data.sample_weight, rows)


def smoothed_log_loss(plan, start, low, high):
    """Cross-entropy with a part e of each target spread evenly, where e is the parameter.

    Targets are ``(1 - e) * y + e / n`` for a softmax, ``(1 - e) * y + e / 2`` for each logistic
    unit (Szegedy et al. 2016, arXiv:1512.00567).
    """
    b = bundles(plan)
    rows, smoothing = _rows(b, start, low, high), b.workspace.totals[LOSS_PARAMETER]
    a, delta, losses = rows.a, rows.delta, rows.losses
    epsilon = np.finfo(a.dtype).eps
    of_classes = b.data.labels.size > 0
    share = smoothing / rows.n if of_classes else smoothing / 2
    for i in range(losses.size):
        sample = rows.order[i]
        losses[i] = 0
        for j in range(rows.n):
            if of_classes:
                y = np.float64(b.data.labels[sample] == j)
            else:
                y = np.float64(b.data.targets[sample, j])
            y = (1 - smoothing) * y + share
            p = np.float64(a[i, j])
            delta[i, j] = p - y
            losses[i] -= y * log(_clip(p, epsilon))
            if not of_classes:
                losses[i] -= (1 - y) * log(_clip(1 - p, epsilon))
    _weigh(b.data.sample_weight, rows)


def squared_error(plan, start, low, high):
    """Half the mean of the squares over the outputs; the derivative is that of half their sum."""
    b = bundles(plan)
    rows = _rows(b, start, low, high)
    a, delta = rows.a, rows.delta
    activation = b.network.layers[b.network.layers.size - 1].activation
    for i in range(rows.order.size):
        sample, total = rows.order[i], 0.0
        if b.data.labels.size > 0:
            label = b.data.labels[sample]
            for j in range(rows.n):
                delta[i, j] = a[i, j] - a.dtype.type(j == label)
                total += delta[i, j] * delta[i, j]
        else:
            y = b.data.targets[sample]
            for j in range(rows.n):
                delta[i, j] = a[i, j] - y[j]
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


def deviances(plan, start, low, high):
    """Half the deviance of the Poisson or gamma distribution, summed over the outputs."""
    b = bundles(plan)
    rows, loss, y = _rows(b, start, low, high), b.workspace.loss, b.data.targets
    a, delta, losses = rows.a, rows.delta, rows.losses
    activation = b.network.layers[b.network.layers.size - 1].activation
    for i in range(losses.size):
        sample = rows.order[i]
        losses[i] = 0
        for j in range(rows.n):
            ratio = y[sample, j] / a[i, j]
            if loss == POISSON:
                delta[i, j] = a[i, j] - y[sample, j]
                losses[i] += a[i, j] - y[sample, j]
                if y[sample, j] > 0:
                    losses[i] += y[sample, j] * math.log(ratio)
            else:
                losses[i] += ratio - 1 - math.log(ratio)
                delta[i, j] = 1 - ratio
            if activation != EXP:
                delta[i, j] *= rows.slope[i, j] / a[i, j]
    _weigh(b.data.sample_weight, rows)


def of_residuals(plan, start, low, high):
    """The other losses of residuals."""
    b = bundles(plan)
    rows, loss = _rows(b, start, low, high), b.workspace.loss
    parameter = b.workspace.totals[LOSS_PARAMETER]
    activation = b.network.layers[b.network.layers.size - 1].activation
    for i in range(rows.order.size):
        total = 0.0
        for j in range(rows.n):
            r = np.float64(rows.a[i, j]) - b.data.targets[rows.order[i], j]
            sign = 1.0 if r > 0 else -1.0 if r < 0 else r  # a NaN stays NaN
            if loss == ABSOLUTE_ERROR:
                value, slope = abs(r), sign
            elif loss == HUBER:
                inside = abs(r) <= parameter
                value = 0.5 * r * r if inside else parameter * (abs(r) - 0.5 * parameter)
                slope = r if inside else parameter * sign
            elif loss == QUANTILE:
                slope = (1 - parameter) * sign if r > 0 else parameter * sign
                value = slope * r
            else:
                value = abs(r) + math.log1p(math.exp(-2 * abs(r))) - math.log(2.0)
                slope = math.tanh(r)
            total += value
            rows.delta[i, j] = slope
            if activation != IDENTITY:
                rows.delta[i, j] *= rows.slope[i, j]
        rows.losses[i] = total / rows.n
    _weigh(b.data.sample_weight, rows)


@part
def _weigh(weights, rows):
    """Multiply the rows of delta by the weights of their samples."""
    if weights.size > 0:
        for i in range(rows.order.size):
            weight = weights[rows.order[i]]
            for j in range(rows.n):
                rows.delta[i, j] *= weight


FUNCTIONS = labels_log_loss, log_loss, smoothed_log_loss, squared_error, deviances, of_residuals


def choose_function(loss: int, labels: Any) -> Any:
    """Return the function of a loss, for labels or, if there are none, for targets."""
    if loss == LOG_LOSS:
        return labels_log_loss if labels.size > 0 else log_loss
    others = {
        SQUARED_ERROR: squared_error,
        SMOOTHED_LOG_LOSS: smoothed_log_loss,
        POISSON: deviances,
        GAMMA: deviances,
    }
    return others.get(loss, of_residuals)


@inner_kernel
def _clip(p, epsilon):
    """Clip a probability as scikit-learn does, one epsilon away from 0 and 1."""
    p = epsilon if p < epsilon else p  # a NaN stays NaN
    return 1 - epsilon if p > 1 - epsilon else p
