"""The scores of early stopping if no `scoring` is given: the accuracy, or R².

The outputs of a prediction are compared with the labels or targets in the same plan, with the
sample weights there, all in the order of the outputs. The score is the first element of
``run.result``. To the third is added the number of outputs that are not finite, for classes of
those that are NaN, and 1 if all weights are 0.
"""

import math

import numpy as np

from fastbp.compiler.jit import inner_kernel, summing_kernel
from fastbp.kernels.plan import bundles

__all__ = ["FUNCTIONS", "N_NANS", "decide", "score_classes", "score_labels", "score_numbers"]

N_NANS = 2  # where in ``run.result`` they are counted


def score_classes(plan):
    """The accuracy: the share of the samples, by weight, that are classified correctly."""
    b = bundles(plan)
    out, labels, weights = b.run.out, b.data.labels, b.data.sample_weight
    right = 0.0
    for i in range(labels.size):
        decided, n_nans = decide(out, i)
        b.run.result[N_NANS] += n_nans
        right += (decided == labels[i]) * _weight(weights, i)
    _finish(b.workspace.team, b.run.result, right, labels.size, weights)


def score_labels(plan):
    """The share of the samples, by weight, of which all labels are predicted correctly."""
    b = bundles(plan)
    out, targets, weights = b.run.out, b.data.targets, b.data.sample_weight
    right = 0.0
    for i in range(out.shape[0]):
        n_wrong = 0
        for j in range(out.shape[1]):
            n_wrong += (out[i, j] > 0.5) != (targets[i, j] > 0.5)
            b.run.result[N_NANS] += out[i, j] != out[i, j]
        right += (n_wrong == 0) * _weight(weights, i)
    _finish(b.workspace.team, b.run.result, right, out.shape[0], weights)


def score_numbers(plan):
    """R², averaged over the outputs; NaN for a single sample, or if outputs are not finite.

    It is 1 minus the ratio of squared errors to squared deviations from the mean. Without
    deviations it is 0, and without errors it is 1 (as in scikit-learn).
    """
    b = bundles(plan)
    out, targets, weights = b.run.out, b.data.targets, b.data.sample_weight
    total = 0.0
    for j in range(out.shape[1]):
        left, deviation, n_bad = _compare(out, targets, weights, j)
        b.run.result[N_NANS] += n_bad
        share = left / deviation if deviation != 0 else 1.0
        total += 1 - share if left != 0 else 1.0
        if n_bad > 0 or out.shape[0] < 2:
            total = math.nan
    _finish(b.workspace.team, b.run.result, total, out.shape[1], weights[:0])


FUNCTIONS = [score_classes, score_labels, score_numbers]


@inner_kernel
def decide(out, i):
    """Return the class of row i, by its first largest or NaN output, and the number of NaNs."""
    if out.shape[1] == 1:
        return np.int64(out[i, 0] > 0.5), np.int64(out[i, 0] != out[i, 0])
    decided, n_nans = np.int64(0), np.int64(0)
    for j in range(out.shape[1]):
        is_nan = out[i, j] != out[i, j]
        if out[i, j] > out[i, decided] or (is_nan and n_nans == 0):
            decided = np.int64(j)
        n_nans += np.int64(is_nan)
    return decided, n_nans


@summing_kernel
def _compare(out, targets, weights, j):
    """Return column j's squared errors and deviations, and how many outputs are not finite."""
    total = mean = left = deviation = 0.0
    n_bad = 0
    for i in range(out.shape[0]):
        weight = _weight(weights, i)
        total += weight
        mean += weight * targets[i, j]
    mean /= total
    for i in range(out.shape[0]):
        weight = _weight(weights, i)
        error, distance = np.float64(out[i, j]) - targets[i, j], targets[i, j] - mean
        left += weight * error * error
        deviation += weight * distance * distance
        n_bad += not math.isfinite(out[i, j])
    return left, deviation, n_bad


@inner_kernel
def _weight(weights, i):
    return weights[i] if weights.size > 0 else 1.0


@summing_kernel
def _finish(team, result, total, n, weights):
    """Store the score: the total over n, or over the sum of the weights if there are any.

    The team is reset for the next prediction.
    """
    team[:] = 0
    divisor = np.float64(n)
    if weights.size > 0:
        divisor = np.float64(0)
        for i in range(weights.size):
            divisor += weights[i]
    if divisor == 0:
        result[N_NANS] += 1
    result[0] = total / divisor
