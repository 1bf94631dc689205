"""Dropout: in training each unit of a hidden layer is set to 0 with some probability.

The remaining units are divided by the probability of being kept, so that prediction needs no change
(Srivastava et al. 2014). The dropped units are drawn by Philox4x32-10 (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"), a stateless generator: its numbers follow from the
seed, the step, the layer, the sample's place in the epoch and the unit, so that they are the same
for any number of threads, and after an interruption.
"""

import numpy as np

from fastbp.compiler.jit import part
from fastbp.compiler.passes import optimised_alone
from fastbp.kernels.activations import IDENTITY, RELU
from fastbp.kernels.plan import bundles

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_INCREMENTS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
N_ROUNDS = 10


def choose_threshold(rate: float) -> int:
    """Return the threshold, of 2**32, below which a random number drops a unit at this rate."""
    return round(rate * 2**32)


@part
def philox(c0, c1, c2, c3, k0, k1):
    """Four random words from a counter of four words and a key of two, each 32 bits in a uint64."""
    for _ in range(N_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c2 = (p1 >> _HALF) ^ c1 ^ k0, (p0 >> _HALF) ^ c3 ^ k1
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _INCREMENTS[0]) & _LOW, (k1 + _INCREMENTS[1]) & _LOW
    return c0, c1, c2, c3


@optimised_alone
def drop(plan, step, start, low, high, i):
    """Multiply a[i] and f'(z[i]) by the mask, for rows low..high of the chunk at `start`.

    With q a quarter of the layer's units, units j, j + q, j + 2q and j + 3q share a counter; one
    more is for the remaining units. The mask is stored in place of the deltas, which come later.
    """
    b = bundles(plan)
    layer, workspace = b.network.layers[i], b.workspace
    n = layer.n_out
    q = n // 4
    one = workspace.one[0]
    zero = one - one
    threshold = np.uint64(layer.dropped)
    scale = workspace.one.dtype.type(4294967296.0 / (4294967296.0 - layer.dropped))
    seed = np.uint64(b.run.seed)
    k0, k1 = seed & _LOW, seed >> _HALF
    c2, c3 = np.uint64(i), np.uint64(step)
    for row in range(low, high):
        o = layer.output + row * layer.output_row
        s = layer.slopes + row * layer.output_row
        a, slope = workspace.activations[o : o + n], workspace.slopes[s : s + n]
        mask = workspace.deltas[o : o + n]
        c1 = np.uint64(start + row)
        for j in range(q):
            w0, w1, w2, w3 = philox(np.uint64(j), c1, c2, c3, k0, k1)
            mask[j] = scale if w0 >= threshold else zero
            mask[j + q] = scale if w1 >= threshold else zero
            mask[j + 2 * q] = scale if w2 >= threshold else zero
            mask[j + 3 * q] = scale if w3 >= threshold else zero
        words = philox(np.uint64(q), c1, c2, c3, k0, k1)
        for k in range(n - 4 * q):
            mask[4 * q + k] = scale if words[k] >= threshold else zero
        if layer.activation == RELU:
            for j in range(n):
                slope[j] = mask[j] if a[j] > 0 else zero
        elif layer.activation == IDENTITY:
            for j in range(n):
                slope[j] = mask[j]
        else:
            for j in range(n):
                slope[j] *= mask[j]
        for j in range(n):
            a[j] *= mask[j]
