"""Elements of arrays of int64 that several threads change at once.

`add` and `exchange`, of an array, an index and a number, return what the element was.
"""

from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED

__all__ = ["add", "exchange", "load", "replace"]


def _change(operation):
    """Return what changes an element by LLVM's `atomicrmw`; no other thread comes in between."""

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
    """An element as it is now, and with it all that was written before it."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.load_atomic(builder.gep(data, [values[1]]), "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def replace(typing_context, array, index, old, new):
    """Set an element if it is as it was; tell whether it was."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        where = builder.gep(data, [values[1]])
        result = builder.cmpxchg(where, *values[2:], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(array, types.int64, types.int64, types.int64), codegen


if DISABLED:

    def add(array, index, value):
        """Add to an element."""
        before = array[index]
        array[index] += value
        return before

    def load(array, index):
        """Return an element."""
        return array[index]
