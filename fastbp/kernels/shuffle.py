"""The order of an epoch's samples: the permutation that NumPy's `RandomState.shuffle` would draw.

It is drawn from the user's own generator, through the function that NumPy offers to compiled code,
so that the generator is left as scikit-learn would leave it.
"""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.random import RandomState
from numpy.typing import NDArray

from fastbp.compiler.jit import DISABLED, inner_kernel
from fastbp.compiler.memory import address, prefetch

FAR = 1 << 18  # elements of an order that does not fit a near cache
AHEAD = 64  # numbers that are drawn ahead of their use
DRAWN = 2  # where they begin, after the addresses


def generator_addresses(generator: RandomState) -> NDArray[np.int64]:
    """Return the addresses of the function that draws 32 bits and its state, then scratch space."""
    interface = generator._bit_generator.ctypes
    function: Any = ctypes.cast(interface.next_uint32, ctypes.c_void_p).value
    addresses = np.zeros(DRAWN + AHEAD, np.int64)
    addresses[:DRAWN] = function, interface.state_address
    return addresses


@inner_kernel
def shuffle(order, generator):
    """Shuffle in place: from the end, swap each with one before it or itself (Fisher and Yates).

    As in NumPy, the partner of element i is a number with as many bits as i, drawn again while it
    is greater than i. Here a rejected number swaps i with itself: no branch to mispredict. For long
    orders, numbers are drawn ahead of the swaps, so that distant elements are prefetched.
    """
    i = order.size - 1
    while i > 0:
        mask = 1
        while mask < i:
            mask = 2 * mask + 1
        while i > mask >> 1 and mask < FAR:
            drawn = draw(generator[0], generator[1]) & mask
            accepted = drawn <= i
            other = drawn if accepted else i
            order[i], order[other] = order[other], order[i]
            i -= accepted
        while i > mask >> 1 and mask >= FAR:
            last = max(i - AHEAD, mask >> 1)
            coming = i
            while coming > last:
                drawn = draw(generator[0], generator[1]) & mask
                generator[DRAWN + i - coming] = drawn
                prefetch(address(order, drawn))
                coming -= drawn <= coming
            for n in range(i - last):
                other = generator[DRAWN + n]
                order[i - n], order[other] = order[other], order[i - n]
            i = last


@intrinsic
def draw(typing_context, function, state):
    """32 random bits as an integer, from the address of a `next_uint32` and of its state."""

    def codegen(context, builder, signature, values):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer])
        bits = builder.call(
            builder.inttoptr(values[0], kind.as_pointer()), [builder.inttoptr(values[1], pointer)]
        )
        return builder.zext(bits, ir.IntType(64))

    return types.int64(types.int64, types.int64), codegen


def _draw_in_python(function: int, state: int) -> int:
    next_uint32 = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(int(function))
    return int(next_uint32(int(state)))


if DISABLED:
    draw = _draw_in_python
