"""Division without the divider, where the processor's is slow and also computes square roots.

On Intel's, dividing a vector of float64 takes as long as 32 multiply-adds of vectors, and its
square roots take as long as 46.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastbp.compiler.jit import EXACT_INLINE
from fastbp.compiler.processor import IS_INTEL_512

_LARGEST = 2.0**1021  # 1 / b is still a normal number
_TURNED = 0x7FDE6238502484BA  # minus b's bits, which negates its exponent: 1 / b to 5.1 %, at best


@intrinsic
def _guess(typing_context, b):
    """Rough estimate of 1 / b for a normal float64 greater than 0."""

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(64)
        bits = builder.bitcast(arguments[0], integer)
        return builder.bitcast(builder.sub(integer(_TURNED), bits), arguments[0].type)

    return b(b), codegen


def quotient(a, b):
    """``a / b`` for b > 0, to 2 ULP where that is faster; b may be NaN, and is capped at 2**1021.

    ``e = 1 - b * y`` is the relative error of y as 1 / b. That of ``y * (1 + e)``, which is
    Newton's step, is ``e**2``, and that of ``y * (1 + e + e**2)`` is ``e**3``.
    """
    return a / b


@overload(quotient, jit_options=EXACT_INLINE)
def _quotient(a, b):
    def divide(a, b):
        return a / b

    def multiply(a, b):
        b = _LARGEST if b > _LARGEST else b
        y = _guess(b)
        e = 1.0 - b * y
        y += y * (e + e * e)
        e = 1.0 - b * y
        y += y * (e + e * e)
        e = 1.0 - b * y
        y += y * e
        return a * y

    return multiply if IS_INTEL_512 and b == types.float64 else divide
