"""Activation functions and their slopes, written so that the compiler vectorises them.

Each works on a slab: whole rows with their padding, whose values are not read, except below a
narrow layer, where they must be 0 (`forward.py`).
"""

from functools import cache, partial

import numpy as np
from numba import types

from fastbp.compiler.jit import DISABLED, c_function, call, exact_kernel, part
from fastbp.compiler.memory import address, array_at, memory_view
from fastbp.kernels.elementary import (
    exp,
    exp_minus,
    expm1,
    gelu,
    largest,
    logistic,
    softplus,
    tanh,
)

IDENTITY, RELU, LOGISTIC, TANH, LEAKY_RELU, ELU, SELU, SOFTPLUS, GELU, SILU, EXP, SOFTMAX = range(
    12
)

CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "softplus": SOFTPLUS,
    "gelu": GELU,
    "silu": SILU,
    "exp": EXP,
    "softmax": SOFTMAX,
}
NAMES = {code: name for name, code in CODES.items()}

NOT_ZERO_AT_ZERO = (LOGISTIC, SOFTPLUS, EXP)  # they make the padding nonzero, too
LEAKY_SLOPE = 0.01
SLOPES_BELOW_ZERO = {RELU: 0.0, LEAKY_RELU: LEAKY_SLOPE, IDENTITY: 1.0}  # with slope 1 above 0
# Klambauer et al. 2017, "Self-normalizing neural networks", arXiv:1706.02515, to double precision.
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


# Each activation on a slab of rows of length `row`, n of it in use: z := f(z), slope := f'(z). Each
# is compiled when a network first uses it. Where z may stay unchanged, it is stored last: otherwise
# the stores would be masked, which take AMD's Zen 3 a dozen cycles.


def _apply_relu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        x = z[i]
        slope[i] = T(0) if x <= T(0) else T(1)
        z[i] = T(0) if x < T(0) else x


def _apply_logistic(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        a = logistic(z[i])
        slope[i] = a * (T(1) - a)
        z[i] = a


def _apply_tanh(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        a = tanh(z[i])
        slope[i] = T(1) - a * a
        z[i] = a


def _apply_leaky_relu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        slope[i] = T(LEAKY_SLOPE) if z[i] <= T(0) else T(1)
        z[i] *= slope[i]


def _apply_elu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        x = z[i]
        e = expm1(x)
        slope[i] = e + T(1) if x <= T(0) else T(1)
        z[i] = e if x <= T(0) else x


def _apply_selu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        e = T(SELU_SCALE * SELU_ALPHA) * expm1(z[i])
        slope[i] = e + T(SELU_SCALE * SELU_ALPHA) if z[i] <= T(0) else T(SELU_SCALE)
        z[i] = e if z[i] <= T(0) else T(SELU_SCALE) * z[i]


def _apply_softplus(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    for i in range(z.size):  # separate loops: processors cannot look ahead over both
        slope[i] = exp_minus(z[i])
    for i in range(z.size):
        z[i], slope[i] = softplus(z[i], slope[i])


def _apply_gelu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    for i in range(z.size):
        z[i], slope[i] = gelu(z[i])


def _apply_silu(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    T = z.dtype.type
    for i in range(z.size):
        a = logistic(z[i])
        z[i] *= a
        slope[i] = a + z[i] * (T(1) - a)


def _apply_exp(z, slope, size, n, row):
    z, slope = array_at(z, (size,)), array_at(slope, (size,))
    for i in range(z.size):
        z[i] = exp(z[i])
        slope[i] = z[i]


def _apply_softmax(z, slope, size, n, row):
    """``exp(z) / sum(exp(z))`` of each row, with its maximum subtracted first.

    It has no elementwise slope: losses.py deals with its derivative.
    """
    z = array_at(z, (size,))
    if row == 4:
        _softmax_of_four(z, n)
        return
    # Rows with their padding are whole vectors, but the padding does not count.
    for r in range(0, z.size, row):
        x = z[r : r + row]
        most = largest(x[:n])
        for j in range(row):
            x[j] -= most
    for i in range(z.size):
        z[i] = exp(z[i])
    for r in range(0, z.size, row):
        x = z[r : r + row]
        total = z.dtype.type(0)
        for j in range(row):
            total += x[j] if j < n else z.dtype.type(0)
        for j in range(row):
            x[j] /= total


@exact_kernel
def _softmax_of_four(z, n):
    """Softmax of rows of up to four, without inner loops, so that several rows are done at a time.

    Evaluated exactly as written: some rows are done alone, and must have the same bits.
    """
    lowest = z.dtype.type(-np.inf)
    for row in range(z.size // 4):
        r = 4 * row
        a, b, c, d = z[r], z[r + 1], z[r + 2], z[r + 3]
        d = d if n > 3 else lowest
        c = c if n > 2 else lowest
        largest = max(max(a, b), max(c, d))
        a, b, c, d = exp(a - largest), exp(b - largest), exp(c - largest), exp(d - largest)
        share = z.dtype.type(1) / (a + b + c + d)
        z[r], z[r + 1], z[r + 2], z[r + 3] = a * share, b * share, c * share, d * share


@cache
def activation_address(name: str, dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"; 0 for identity."""
    if name == "identity":
        return 0
    function = globals()[f"_apply_{name}"]
    if DISABLED:
        return c_function(partial(_apply_in_python, function, dtype))
    f, i = types.CPointer(getattr(types, dtype)), types.int64
    return c_function(function, f, f, i, i, i)


def _apply_in_python(function, dtype, z, slope, size, n, row):
    z, slope = memory_view(z, dtype, (size,)), memory_view(slope, dtype, (size,))
    function(z, slope, size, n, row)


@part
def activate(function, z, slopes, at, n, row):
    """Call an activation on z, by its address; its slopes go to `slopes`, from `at` on."""
    call(function, (address(z, 0), address(slopes, at), z.size, n, row))
