"""Subnormal numbers, with which some processors are slow.

On Intel's a product or a sum with one of them takes many times as long. In float32 they begin at
1e-38. The squares of a gradient get there within some thousand steps if nothing but the penalty
moves a weight, and losses in a long training.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED
from fastbp.compiler.processor import IS_X86

_AS_ZERO = 0x8040  # in x86's MXCSR: subnormal results are 0, and so are subnormal operands


@intrinsic
def flush_subnormals(typing_context):
    """Have this thread compute with 0 in place of subnormal numbers; return its previous mode.

    On processors other than x86 nothing changes.
    """

    def codegen(context, builder, signature, values):
        if not IS_X86:
            return ir.IntType(32)(0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _call(builder, "llvm.x86.sse.stmxcsr", place)
        before = builder.load(place)
        _load_mode(builder, builder.or_(before, before.type(_AS_ZERO)))
        return before

    return types.uint32(), codegen


@intrinsic
def set_float_mode(typing_context, mode):
    """Restore the mode of this thread that `flush_subnormals` returned."""

    def codegen(context, builder, signature, values):
        if IS_X86:
            _load_mode(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.uint32), codegen


def _load_mode(builder, mode):
    place = cgutils.alloca_once(builder, mode.type)
    builder.store(mode, place)
    _call(builder, "llvm.x86.sse.ldmxcsr", place)


def _call(builder, instruction, place):
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, instruction), [pointer])


if DISABLED:

    def flush_subnormals() -> int:
        """Do nothing: Python has no such mode."""
        return 0

    def set_float_mode(mode: int) -> None:
        """Do nothing: Python has no such mode."""
