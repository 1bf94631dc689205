"""Atomic operations on the elements of int64 arrays that several threads change.

`add` and `exchange` take an array, an index and a number, and return the element's old value.
"""

from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED

__all__ = ["add", "exchange", "load", "replace"]


def _change(operation):
    """Return an intrinsic that changes an element atomically, by LLVM's `atomicrmw`."""

    @intrinsic
    def change(typing_context, array, index, value):
        def codegen(context, builder, signature, values):
            data = context.make_array(array)(context, builder, values[0]).data
            where = builder.gep(data, [values[1]])
            return builder.atomic_rmw(operation, where, values[2], "seq_cst")

        return types.int64(array, types.int64, types.int64), codegen

    return change


add = _change("add")
exchange = _change("xchg")


@intrinsic
def load(typing_context, array, index):
    """Load an element; all that was written before it was stored is visible too."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.load_atomic(builder.gep(data, [values[1]]), "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def replace(typing_context, array, index, old, new):
    """Compare-and-swap: store `new` if the element equals `old`; return whether it did."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        where = builder.gep(data, [values[1]])
        result = builder.cmpxchg(where, *values[2:], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(array, types.int64, types.int64, types.int64), codegen


if DISABLED:

    def add(array, index, value):
        """Add to an element; return its old value."""
        before = array[index]
        array[index] += value
        return before

    def load(array, index):
        """Return an element."""
        return array[index]
