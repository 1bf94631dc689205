"""exp, log, tanh and the other functions that activations need, written to be vectorised.

They are polynomials and quotients of them, because library functions cost a call per element. The
coefficients are minimax fits of what is stated beside them, by Remez's algorithm (for quotients by
reweighted least squares) in 60 digits, then rounded; the errors stated are those after rounding.
Those of log are Taylor's.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from scipy.special import expit, ndtr

from fastbp.compiler.jit import EXACT_INLINE, EXACT_ORDER, exact_kernel
from fastbp.compiler.processor import HAS_FMA

SHORT_ROW = 32  # a maximum over fewer numbers is found without vectors

_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@intrinsic
def _power_of_two(typing_context, t):
    """``2.0 ** n`` of ``t = n + shift``: the last bits of t, shifted to the exponent."""
    mantissa, width = (23, 32) if t == types.float32 else (52, 64)

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(width)
        bits = builder.bitcast(arguments[0], integer)
        return builder.bitcast(builder.shl(bits, integer(mantissa)), arguments[0].type)

    return t(t), codegen


@intrinsic
def _leading_half(typing_context, x):
    """x with the lower half of its significant bits cleared, so that its square is exact."""
    width, mask = (32, -(2**12)) if x == types.float32 else (64, -(2**27))

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(width)
        bits = builder.bitcast(arguments[0], integer)
        return builder.bitcast(builder.and_(bits, integer(mask)), arguments[0].type)

    return x(x), codegen


@intrinsic
def _square_and_rest(typing_context, x):
    """``(w, rest)`` with exactly ``w - rest = x**2``, by a fused multiply-add."""

    def codegen(context, builder, signature, arguments):
        (x,) = arguments
        w = builder.fmul(x, x)  # without a flag that would let it be fused into another operation
        values = [w, builder.fma(builder.fneg(x), x, w)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(x, 2)(x), codegen


@intrinsic
def _rank(typing_context, x):
    """An integer that increases with x."""
    result = types.int32 if x == types.float32 else types.int64

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(x.bitwidth)
        return _turn_negative(builder, builder.bitcast(arguments[0], integer))

    return result(x), codegen


@intrinsic
def _of_rank(typing_context, rank):
    """The number with this `_rank`."""
    result = types.float32 if rank == types.int32 else types.float64

    def codegen(context, builder, signature, arguments):
        kind = context.get_value_type(result)
        return builder.bitcast(_turn_negative(builder, arguments[0]), kind)

    return result(rank), codegen


def _turn_negative(builder, bits):
    """Invert all bits of a negative number but the sign, or invert them back."""
    last = bits.type.width - 1
    others = builder.lshr(builder.ashr(bits, bits.type(last)), bits.type(1))
    return builder.xor(bits, others)


@intrinsic
def _polynomial(typing_context, x, coefficients):
    """Horner's scheme; the coefficient of the highest power comes first."""

    def codegen(context, builder, signature, arguments):
        x, flags = arguments[0], tuple(EXACT_ORDER)
        value, *others = cgutils.unpack_tuple(builder, arguments[1])
        for coefficient in others:
            product = builder.fmul(value, x, flags=flags)
            value = builder.fadd(product, coefficient, flags=flags)
        return value

    return x(x, coefficients), codegen


# exp(x) = 2**n * exp(r) with n = round(x / ln 2), so |r| <= ln(2) / 2. exp(r) is the quotient
# (c + r) / (c - r) with c = r coth(r / 2), which is even in r: that takes half as many coefficients
# as exp itself, and a division, which processors do in parallel with multiplications.

# Added to n, it moves n to the last bits and adds 127 or 1023, the bias of the exponent of 2**n.
_SHIFT = {"float32": 1.5 * 2.0**23 + 127, "float64": 1.5 * 2.0**52 + 1023}
# ln 2 in two parts, as in Cephes and fdlibm: the first is so short that n times it is exact.
_LN_2 = {
    "float32": (0.693359375, -2.12194440054690583e-4),
    "float64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_LN_2_HIGH, _LN_2_LOW = _LN_2["float64"]
# At this x, n is -127 or -1023, and 2**n comes out as 0.
_LOWEST = {"float32": -88.0, "float64": -709.0}
# c = 2 + r**2 * p(r**2), with which exp(r) is accurate to 2**-30 and 2**-60.
_COTH = {
    "float32": (-0.002766831312328577, 0.16666626930236816),
    "float64": (
        4.138558567895213e-08,
        -1.653391532679644e-06,
        6.61375633578577e-05,
        -0.002777777777707944,
        0.1666666666666661,
    ),
}
# expm1(r) = r + r**2 * p(r), to 2**-26: in float32 this takes fewer operations than the quotient.
_EXPM1 = (
    0.0013882511295378208,
    0.008366547524929047,
    0.04166720062494278,
    0.16666543483734131,
    0.4999999701976776,
)
# log(1 + e) = e * p(e) for 0 <= e <= 1, to 2**-27.
_LOG1P = (
    -0.0032438961789011955,
    0.01985088363289833,
    -0.05695844814181328,
    0.10603545606136322,
    -0.15305528044700623,
    0.1967591643333435,
    -0.2495412975549698,
    0.3332996070384979,
    -0.4999990165233612,
    1.0,
)
# 2 atanh(s) = 2 s + s**3 * p(s**2) for |s| <= 1/3, to 2**-57.
_ATANH = (
    0.16764670361332448,
    0.08484117612008617,
    0.12071287045061273,
    0.1330564141014252,
    0.15386180445835757,
    0.18181763074435223,
    0.22222223380200046,
    0.2857142855826342,
    0.40000000000065333,
    0.666666666666666,
)
# exp(y**2 / 2) * Phi(-y) is a quotient of two polynomials for y in [0, end]; these are for float32,
# to 2**-26.9. They are scaled so that exp(-y**2 / 2), divided by the second, does not underflow. At
# the end exp(-y**2 / 2) is 0.
TAIL_END = {"float32": 13.25, "float64": 37.66}
_TAIL_NUMERATOR = (
    4.03667058890278e-07,
    4.015957529190928e-06,
    1.8214195733889937e-05,
    4.377741424832493e-05,
    5.0251921493327245e-05,
)
_TAIL_DENOMINATOR = (
    1.0118287718796637e-06,
    1.0067258699564263e-05,
    4.665136293624528e-05,
    0.00012001746654277667,
    0.00016774532559793442,
    0.00010050384298665449,
)


# log(p) = k ln 2 + log(m) with p = 2**k * m and m in [sqrt(1/2), sqrt(2)), log(m) = 2 atanh(s) with
# s = (m - 1) / (m + 1), so |s| < 0.172.


@intrinsic
def _split_exponent(typing_context, p):
    """``(k, m)`` with ``p = 2**k * m`` for a normal float64 p; k is a float64 too."""

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
    rest = 2.0 * (s + s * z * q) + k * _LN_2_LOW
    return k * _LN_2_HIGH + rest + (p - p)  # the last term keeps a NaN


# The functions for either dtype. In plain Python they are NumPy's and SciPy's.


def exp(x):
    """``e ** x``, to 1.5 ULP."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


def expm1(x):
    """``exp(x) - 1`` for x <= 0, accurate near 0 too."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


def logistic(x):
    """``1 / (1 + exp(-x))``; it may be 0 where that is not a normal number."""
    return expit(x)


def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


def exp_minus(x):
    """``exp(-abs(x))``; it may be 0 where that is not a normal number."""
    return exp(-abs(x))


def softplus(x, e):
    """``log(1 + exp(x))`` and its slope ``logistic(x)``, given x and ``e = exp_minus(x)``."""
    return np.maximum(x, 0) + np.log1p(e), expit(x)


def gelu(x):
    """``x * Phi(x)`` with the normal distribution's Phi, and its slope ``Phi(x) + x * Phi'(x)``.

    Both keep their relative precision for x far below 0, as long as they are normal numbers.
    """
    with np.errstate(over="ignore", under="ignore"):
        density = type(x)(_INVERSE_SQRT_2PI) * np.exp(-x * x / 2)
        return x * ndtr(x), ndtr(x) + x * density


def log(p):
    """Natural logarithm of a normal float64 greater than 0."""
    return np.log(p)


def largest(x):
    """Largest number of a vector; with a NaN in it, this may be NaN or not."""
    return x.max()


def _cast(x, table):
    """Return a table's numbers for the Numba type x, converted to that type."""
    numbers, T = table[x.name], np.dtype(x.name).type
    return tuple(map(T, numbers)) if isinstance(numbers, tuple) else T(numbers)


@overload(log, jit_options=EXACT_INLINE)
def _log(p):
    def implementation(p):
        return _log_float64(p)

    return implementation


@overload(largest, jit_options=EXACT_INLINE)
def _largest(x):
    def implementation(x):
        if x.size < SHORT_ROW:
            most = x[0]
            for j in range(1, x.size):
                most = x[j] if x[j] > most else most
            return most
        highest = _rank(x[0])
        for j in range(1, x.size):  # vectors of integers are compared
            rank = _rank(x[j])
            highest = rank if rank > highest else highest
        return _of_rank(highest)

    return implementation


def _exp_parts(x, rest, halves):
    """``(c, r, n + shift)`` with ``exp(k * (x + rest)) = (c + r) / (c - r) * 2**n``, rest tiny.

    k is ``halves / 2``, for an integer known at compile time.
    """


@overload(_exp_parts, jit_options=EXACT_INLINE, prefer_literal=True)
def _exp_parts_overload(x, rest, halves):
    k = halves.literal_value / 2
    shift, (high, low), coefficients = _cast(x, _SHIFT), _cast(x, _LN_2), _cast(x, _COTH)
    T = type(shift)
    high, low, inverse, constant = high / T(k), low / T(k), T(k / math.log(2)), T(2 / k)
    powers = range(2 * len(coefficients) - 1, 0, -2)
    coefficients = tuple(a * T(k) ** T(n) for a, n in zip(coefficients, powers, strict=True))

    def implementation(x, rest, halves):
        t = x * inverse + shift
        n = t - shift
        r = ((x - n * high) - n * low) + rest
        z = r * r
        return z * _polynomial(z, coefficients) + constant, r, t

    return implementation


def _expm1_parts(x, halves, exactly):
    """``(p, n + shift)`` with ``exp(k * x) = 2**n * (1 + k * p)``, k as above.

    Unless `exactly`, float32 rounds ln 2 to one number: k * p is off by n times the rounding error.
    """


@overload(_expm1_parts, jit_options=EXACT_INLINE, prefer_literal=True)
def _expm1_parts_overload(x, halves, exactly):
    k, shift, T = halves.literal_value / 2, _cast(x, _SHIFT), np.dtype(x.name).type
    inverse, ln_2, inverse_k, nothing = T(k / math.log(2)), T(math.log(2) / k), T(1 / k), T(-0.0)
    high, low = (part / T(k) for part in _cast(x, _LN_2))
    powers = range(len(_EXPM1), 0, -1)
    coefficients = tuple(T(a * k**n) for a, n in zip(_EXPM1, powers, strict=True))

    def quick(x, halves, exactly):
        t = x * inverse + shift
        r = x - (t - shift) * ln_2
        return r + r * r * _polynomial(r, coefficients), t

    def exact(x, halves, exactly):
        t = x * inverse + shift
        n = t - shift
        r = (x - n * high) - n * low
        return r + r * r * _polynomial(r, coefficients), t

    def long(x, halves, exactly):
        c, r, t = _exp_parts(x, nothing, halves)
        return (r + r) / (c - r) * inverse_k, t

    if x == types.float64:
        return long
    return exact if exactly.literal_value else quick


@overload(exp, jit_options=EXACT_INLINE)
def _exp(x):
    shift = _cast(x, _SHIFT)
    T = type(shift)
    lowest, highest = (T(-104), T(89)) if T is np.float32 else (-746.0, 710.0)
    half = T(0.5)

    def implementation(x):
        x = lowest if x < lowest else x  # a NaN stays NaN
        x = highest if x > highest else x
        p, t = _expm1_parts(x, 2, True)
        n = t - shift
        u = n * half + shift  # 2**n is split into two factors, for the ends of the range
        s = _power_of_two(u)
        return (p * s + s) * _power_of_two(n - (u - shift) + shift)

    return implementation


@overload(expm1, jit_options=EXACT_INLINE)
def _expm1(x):
    lowest, one = _cast(x, _LOWEST), np.dtype(x.name).type(1)

    def implementation(x):
        p, t = _expm1_parts(lowest if x < lowest else x, 2, False)  # a NaN stays NaN
        s = _power_of_two(t)
        return p * s + (s - one)

    return implementation


@overload(logistic, jit_options=EXACT_INLINE)
def _logistic(x):
    lowest = _cast(x, _LOWEST)
    highest, nothing = -lowest - 2, lowest * 0

    def implementation(x):
        x = highest if x > highest else x  # a NaN stays NaN
        x = lowest if x < lowest else x
        c, r, t = _exp_parts(x, nothing, 2)
        u = _power_of_two(t) * (c + r)  # exp(x) is u / (c - r)
        return u / (u + (c - r))

    return implementation


@overload(tanh, jit_options=EXACT_INLINE)
def _tanh(x):
    T = np.dtype(x.name).type
    one, half, nothing, highest = T(1), T(0.5), T(-0.0), T(_cast(x, _LOWEST) / -2)

    def short(x):
        y = abs(x)
        p, t = _expm1_parts(highest if y > highest else y, -4, False)
        s = _power_of_two(t)
        v = p * s + (half - s * half)  # expm1(-2 y) / -2
        return math.copysign(v / (one - v), x)

    def long(x):
        y = abs(x)
        c, r, t = _exp_parts(highest if y > highest else y, nothing, -4)
        s = _power_of_two(t)
        minus, plus = one - s, one + s
        return math.copysign((c * minus - r * plus) / (c * plus - r * minus), x)

    return short if x == types.float32 else long


@overload(exp_minus, jit_options=EXACT_INLINE)
def _exp_minus(x):
    T = np.dtype(x.name).type
    nothing, highest = T(-0.0), -_cast(x, _LOWEST)

    def short(x):
        y = abs(x)
        p, t = _expm1_parts(highest if y > highest else y, -2, True)
        s = _power_of_two(t)
        return s - p * s

    def long(x):
        y = abs(x)
        c, r, t = _exp_parts(highest if y > highest else y, nothing, -2)
        return _power_of_two(t) * (c + r) / (c - r)

    return short if x == types.float32 else long


@overload(softplus, jit_options=EXACT_INLINE)
def _softplus(x, e):
    T = np.dtype(x.name).type
    zero, one, two = T(0), T(1), T(2)
    log1p = tuple(map(T, _LOG1P))

    def short(x, e):
        a = e * _polynomial(e, log1p) + (zero if x <= zero else x)
        return a, (e if x <= zero else one) / (e + one)

    def long(x, e):
        s = e / (e + two)  # log1p(e) = 2 atanh(s)
        z = s * s
        a = s * z * _polynomial(z, _ATANH) + (s + s + (zero if x <= zero else x))
        return a, (e if x <= zero else one) / (e + one)

    return short if x == types.float32 else long


# Polynomials of degree 9 and 10, to 2**-53.3. Knuth, The Art of Computer Programming, vol. 2,
# 4.6.4: a polynomial in y whose odd part is 0 at w = -a is ``q * (w + a) + b``, with q two degrees
# lower, at the cost of one multiplication. Processors do the addition w + a in parallel.
def tail_parts_float64(y, w):
    """`_tail_parts` for float64, in plain arithmetic, of which `fastbp.onnx_graph` makes nodes."""
    p = 4.5587534698859707e-17 * w + (1.2278708920692518e-15 * y + 1.1170159448834667e-14)
    p = p * (w + 74.87767435800998) - 5.680679298632818e-13
    p = p * (w + 35.205507529043544) + 1.4898093187835335e-13
    p = p * y + 1.972103637534103e-11
    p = p * y + 2.5750145160084126e-11
    p = p * y + 1.663459340064195e-11
    q = 1.1427100344727332e-16 * w + (3.0778158955779384e-15 * y + 2.799943752843936e-14)
    q = q * (w + 19.92623331993106) - 1.4239351033577019e-12
    q = q * (w + 79.48455566481509) + 7.678541624457495e-11
    q = q * (w + 11.672392774363534) - 7.726912615312138e-12
    q = q * y + 7.804526081937883e-11
    q = q * y + 3.32691868012839e-11
    return p, q


def _tail_parts(y, w):
    """Two numbers whose quotient is ``exp(y**2 / 2) * Phi(-y)``, with ``w = y**2``."""


@overload(_tail_parts, jit_options=EXACT_INLINE)
def _tail_parts_overload(y, w):
    numerator = tuple(map(np.float32, _TAIL_NUMERATOR))
    denominator = tuple(map(np.float32, _TAIL_DENOMINATOR))

    def short(y, w):
        return _polynomial(y, numerator), _polynomial(y, denominator)

    return short if y == types.float32 else tail_parts_float64


def _square(y):
    """``(w, rest, square)`` with exactly ``w - rest = y**2``, and y**2 rounded."""


@overload(_square, jit_options=EXACT_INLINE)
def _square_overload(y):
    def fused(y):
        w, rest = _square_and_rest(y)
        return w, rest, w

    def by_halves(y):
        first = _leading_half(y)
        w, rest = first * first, (first - y) * (first + y)
        return w, rest, w - rest

    return fused if HAS_FMA else by_halves


@overload(gelu, jit_options=EXACT_INLINE)
def _gelu(x):
    end = _cast(x, TAIL_END)
    T = type(end)
    zero, one, peak = T(0), T(1), T(_INVERSE_SQRT_2PI)

    def implementation(x):
        y = abs(x)
        y = end if y > end else y  # a NaN stays NaN
        w, rest, square = _square(y)  # exp needs the exact square
        c, r, t = _exp_parts(-w, rest, 1)
        p, q = _tail_parts(y, square)
        e = _power_of_two(t) * (c + r) / (q * (c - r))  # Phi(-y) = e * p
        slope = e * (p - peak * y * q)
        return (zero if x < zero else x) - e * (y * p), slope if x < zero else one - slope

    return implementation
