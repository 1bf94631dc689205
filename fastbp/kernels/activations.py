"""Activation functions and their slopes, written so that the compiler vectorises them.

Each works on a slab: whole rows, padding included, whose values nobody reads. exp, expm1 and log1p
are polynomials here, because the libraries' are a call for each element. Their coefficients are
those of Taylor's series, taken as far as the reduced range needs for the last bit.
"""

import math
from functools import cache, partial

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastbp.kernels.arrays import ACTIVATE
from fastbp.kernels.jit import (
    DISABLED,
    EXACT_ORDER,
    address,
    array_at,
    c_function,
    call,
    exact_kernel,
    inner_kernel,
    memory_view,
    part,
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

LEAKY_SLOPE = 0.01
# Klambauer et al. 2017, "Self-normalizing neural networks", arXiv:1706.02515, to double precision.
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717

_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@intrinsic
def _power_of_two(typing_context, n):
    """``2.0 ** n`` for a whole n in the range of the normal numbers, made of its bits."""
    mantissa, bias, width = (23, 127, 32) if n == types.float32 else (52, 1023, 64)

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(width)
        exponent = builder.add(builder.fptosi(arguments[0], integer), integer(bias))
        return builder.bitcast(builder.shl(exponent, integer(mantissa)), arguments[0].type)

    return n(n), codegen


@intrinsic
def _nearest(typing_context, x):
    """The nearest whole number, in one instruction."""

    def codegen(context, builder, signature, arguments):
        function = builder.module.declare_intrinsic("llvm.nearbyint", [arguments[0].type])
        return builder.call(function, arguments)

    return x(x), codegen


# exp(x) = 2**n * exp(r) with n = round(x / ln 2), so |r| <= ln(2) / 2. ln 2 comes in two parts, the
# first so short that n times it is exact. 2**n comes in two factors, for the ends of the range.


@exact_kernel
def _exp_parts_float32(x):
    """``(q, s, t)`` with ``exp(x) = (1 + q) * s * t``, s and t powers of two."""
    f = np.float32
    x = f(-104) if x < f(-104) else x  # a NaN stays one
    x = f(89) if x > f(89) else x
    n = _nearest(x * f(1.4426950408889634))
    r = (x - n * f(0.693359375)) - n * f(-2.12194440054690583e-4)
    p = f(1 / 5040)
    p = p * r + f(1 / 720)
    p = p * r + f(1 / 120)
    p = p * r + f(1 / 24)
    p = p * r + f(1 / 6)
    p = p * r + f(1 / 2)
    q = r * r * p + r
    half = _nearest(n * f(0.5))
    return q, _power_of_two(half), _power_of_two(n - half)


@exact_kernel
def _exp_parts_float64(x):
    """``(q, s, t)`` with ``exp(x) = (1 + q) * s * t``, s and t powers of two."""
    x = -746.0 if x < -746.0 else x  # a NaN stays one
    x = 710.0 if x > 710.0 else x
    n = _nearest(x * 1.4426950408889634)
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    q = r * r * p + r
    half = _nearest(n * 0.5)
    return q, _power_of_two(half), _power_of_two(n - half)


# log1p(u) = 2 atanh(s) with s = u / (2 + u), so s <= 1/3 for u in [0, 1].


@exact_kernel
def _log1p_float32(u):
    f = np.float32
    s = u / (f(2) + u)
    z = s * s
    p = f(1 / 15)
    p = p * z + f(1 / 13)
    p = p * z + f(1 / 11)
    p = p * z + f(1 / 9)
    p = p * z + f(1 / 7)
    p = p * z + f(1 / 5)
    p = p * z + f(1 / 3)
    return f(2) * (s + s * z * p)


@exact_kernel
def _log1p_float64(u):
    s = u / (2.0 + u)
    z = s * s
    p = 1 / 33
    p = p * z + 1 / 31
    p = p * z + 1 / 29
    p = p * z + 1 / 27
    p = p * z + 1 / 25
    p = p * z + 1 / 23
    p = p * z + 1 / 21
    p = p * z + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    return 2.0 * (s + s * z * p)


# log(p) = k ln 2 + log(m) with p = 2**k * m and m in [sqrt(1/2), sqrt(2)), log(m) = 2 atanh(s) with
# s = (m - 1) / (m + 1), so |s| < 0.172.


@intrinsic
def _split_exponent(typing_context, p):
    """``(k, m)`` of a normal float64, k as a float64 too."""

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(64)
        bits = builder.bitcast(arguments[0], integer)
        above = builder.sub(bits, integer(0x3FE6A09E667F3BCD))  # the bits of sqrt(1/2)
        k = builder.ashr(above, integer(52))
        m = builder.bitcast(builder.sub(bits, builder.shl(k, integer(52))), arguments[0].type)
        values = [builder.sitofp(k, arguments[0].type), m]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(p, 2)(p), codegen


@exact_kernel
def _log_float64(p):
    k, m = _split_exponent(p)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    q = 1 / 19
    q = q * z + 1 / 17
    q = q * z + 1 / 15
    q = q * z + 1 / 13
    q = q * z + 1 / 11
    q = q * z + 1 / 9
    q = q * z + 1 / 7
    q = q * z + 1 / 5
    q = q * z + 1 / 3
    rest = 2.0 * (s + s * z * q) + k * 1.90821492927058770002e-10
    return k * 6.93147180369123816490e-01 + rest + (p - p)  # a NaN has no exponent, and stays one


# The functions of either dtype. As plain Python they are NumPy's.


def exp(x):
    """``e ** x``, to 1 ULP."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


def expm1(x):
    """``exp(x) - 1``, also near 0."""
    with np.errstate(over="ignore", under="ignore"):
        return np.expm1(x)


def log1p(u):
    """``log(1 + u)`` for u in [0, 1]."""
    return np.log1p(u)


def log(p):
    """Natural logarithm of a normal float64 greater than 0."""
    return np.log(p)


_OPTIONS = {"fastmath": EXACT_ORDER}


@overload(log, jit_options=_OPTIONS)
def _log(p):
    def implementation(p):
        return _log_float64(p)

    return implementation


@overload(exp, jit_options=_OPTIONS)
def _exp(x):
    parts = _exp_parts_float32 if x == types.float32 else _exp_parts_float64

    def implementation(x):
        q, s, t = parts(x)
        return (q * s + s) * t

    return implementation


@overload(expm1, jit_options=_OPTIONS)
def _expm1(x):
    parts = _exp_parts_float32 if x == types.float32 else _exp_parts_float64
    one = np.float32(1) if x == types.float32 else 1.0

    def implementation(x):
        q, s, t = parts(x)
        scale = s * t
        return q * scale + (scale - one)

    return implementation


@overload(log1p, jit_options=_OPTIONS)
def _log1p(u):
    function = _log1p_float32 if u == types.float32 else _log1p_float64

    def implementation(u):
        return function(u)

    return implementation


@part
def activate(addresses, code, z, slope, n, row):
    """z := f(z), slope := f'(z), of a slab of rows of length `row`, n of it in use.

    Softmax has no slope of this kind: losses.py knows what to do with it.
    """
    call(addresses[ACTIVATE], (code, address(z, 0), address(slope, 0), z.size, n, row))


@cache
def activate_address(dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"."""
    if DISABLED:
        return c_function(partial(_activate_in_python, dtype))
    f, i = types.CPointer(getattr(types, dtype)), types.int64
    return c_function(_activate, i, f, f, i, i, i)


def _activate_in_python(dtype, code, z, slope, size, n, row):
    z, slope = memory_view(z, dtype, (size,)), memory_view(slope, dtype, (size,))
    _activate_slab(code, z, slope, n, row)


def _activate(code, z, slope, size, n, row):
    _activate_slab(code, array_at(z, (size,)), array_at(slope, (size,)), n, row)


@inner_kernel
def _activate_slab(code, z, slope, n, row):
    T = z.dtype.type
    zero, one = T(0), T(1)
    if code == RELU:
        for i in range(z.size):
            slope[i] = zero if z[i] <= zero else one
            z[i] = zero if z[i] < zero else z[i]
    elif code == LOGISTIC:
        for i in range(z.size):
            a = one / (one + exp(-z[i]))
            slope[i] = a * (one - a)
            z[i] = a
    elif code == TANH:
        for i in range(z.size):
            e = expm1(T(-2) * abs(z[i]))  # in (-1, 0], so that nothing overflows
            a = -e / (e + T(2))
            slope[i] = one - a * a
            z[i] = -a if z[i] < zero else a
    elif code == LEAKY_RELU:
        for i in range(z.size):
            slope[i] = T(LEAKY_SLOPE) if z[i] <= zero else one
            z[i] *= slope[i]
    elif code == ELU:
        for i in range(z.size):
            e = expm1(z[i])
            slope[i] = e + one if z[i] <= zero else one
            z[i] = e if z[i] <= zero else z[i]
    elif code == SELU:
        for i in range(z.size):
            e = T(SELU_ALPHA) * expm1(z[i])
            slope[i] = T(SELU_SCALE) * (e + T(SELU_ALPHA) if z[i] <= zero else one)
            z[i] = T(SELU_SCALE) * (e if z[i] <= zero else z[i])
    elif code == SOFTPLUS:
        for i in range(z.size):
            e = exp(-abs(z[i]))
            slope[i] = (e if z[i] <= zero else one) / (one + e)
            z[i] = (zero if z[i] <= zero else z[i]) + log1p(e)
    elif code == GELU:
        for i in range(z.size):
            x = z[i]
            cumulative = T(0.5) * T(math.erfc(-x * T(_SQRT_HALF)))
            slope[i] = cumulative + x * T(_INVERSE_SQRT_2PI) * exp(T(-0.5) * x * x)
            z[i] = x * cumulative
    elif code == SILU:
        for i in range(z.size):
            a = one / (one + exp(-z[i]))
            slope[i] = a * (one + z[i] * (one - a))
            z[i] *= a
    elif code == EXP:
        for i in range(z.size):
            z[i] = exp(z[i])
            slope[i] = z[i]
    elif code == SOFTMAX:
        _softmax(z, n, row)


@part
def _softmax(z, n, row):
    """Each row z := exp(z) / sum(exp(z)), after its maximum is taken away."""
    for r in range(0, z.size, row):
        x = z[r : r + n]
        largest = x[0]
        for j in range(1, n):
            largest = x[j] if x[j] > largest else largest
        for j in range(n):
            x[j] -= largest
    for i in range(z.size):
        z[i] = exp(z[i])
    for r in range(0, z.size, row):
        x = z[r : r + n]
        total = z.dtype.type(0)
        for j in range(n):
            total += x[j]
        for j in range(n):
            x[j] /= total
