"""Memory in compiled code: addresses, pointers, and arrays at them."""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastbp.compiler.jit import DISABLED

__all__ = [
    "address", "array_at", "copy_bytes", "emit_array", "matrix_view", "memory_view", "prefetch",
    "shifted", "store",
]  # fmt: skip


@intrinsic
def address(typing_context, array, index):
    """Address of element `index` of a contiguous array, which must outlive its use."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(builder.gep(data, [values[1]]), ir.IntType(64))

    return types.int64(array, types.int64), codegen


@intrinsic
def prefetch(typing_context, where):
    """Prefetch the cache line at an address, to be read soon; the address may be invalid."""

    def codegen(context, builder, signature, values):
        i32 = ir.IntType(32)
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])  # read, nearest cache, data
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def copy_bytes(typing_context, source, target, size):
    """Copy `size` bytes from one address to another."""

    def codegen(context, builder, signature, values):
        pointer = ir.IntType(8).as_pointer()
        source, target = (builder.inttoptr(value, pointer) for value in values[:2])
        cgutils.raw_memcpy(builder, target, source, values[2], itemsize=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def emit_array(context: Any, builder: Any, kind: Any, data: Any, lengths: list[Any]) -> Any:
    """Emit an array of the Numba type `kind`, in C order, with its data at a pointer."""
    is_record = isinstance(kind.dtype, types.Record)
    n_bytes = kind.dtype.size if is_record else kind.dtype.bitwidth // 8
    itemsize = context.get_constant(types.intp, n_bytes)
    strides = [itemsize]
    for length in lengths[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(kind)(context, builder)
    populate_array(
        array,
        data=builder.bitcast(data, array.data.type),
        shape=cgutils.pack_array(builder, lengths),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def matrix_view(typing_context, vector, offset, rows, columns):
    """View of shape (rows, columns) on a contiguous vector from `offset` on, which must outlive it.

    Slicing and reshaping gives the same, but counts references: longer than a short row takes.
    """
    result = types.Array(vector.dtype, 2, "C")

    def codegen(context, builder, signature, values):
        source, offset, *shape = values
        data = context.make_array(vector)(context, builder, source).data
        return emit_array(context, builder, result, builder.gep(data, [offset]), shape)

    return result(vector, types.int64, types.int64, types.int64), codegen


@intrinsic
def array_at(typing_context, pointer, shape):
    """Array of this shape, in C order, with its data at a pointer, like Numba's `carray`."""
    result = types.Array(pointer.dtype, len(shape), "C")

    def codegen(context, builder, signature, values):
        lengths = cgutils.unpack_tuple(builder, values[1])
        return emit_array(context, builder, result, values[0], lengths)

    return result(pointer, shape), codegen


@intrinsic
def shifted(typing_context, pointer, index):
    """Pointer that is `index` elements beyond a given one."""

    def codegen(context, builder, signature, values):
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def store(typing_context, where, value):
    """Store a number at an address."""

    def codegen(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], values[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


if DISABLED:

    def array_at(array: Any, shape: tuple[int, ...]) -> Any:
        """Return an array, which stands in for a pointer, in this shape."""
        return array.reshape(shape)

    def address(array: Any, index: int) -> int:
        """Address of element `index` of a contiguous array, which must outlive its use."""
        return int(array.ctypes.data + index * array.itemsize)

    def store(where: int, value: Any) -> None:
        """Store a number at an address."""
        memory_view(where, value.dtype, (1,))[0] = value

    def prefetch(where: int) -> None:
        """Do nothing: it is only a hint."""

    def copy_bytes(source: int, target: int, size: int) -> None:
        """Copy `size` bytes from one address to another."""
        ctypes.memmove(int(target), int(source), int(size))

    def matrix_view(vector: Any, offset: int, rows: int, columns: int) -> Any:
        """View of shape (rows, columns) on a contiguous vector from `offset` on."""
        return vector[offset : offset + rows * columns].reshape(rows, columns)


def memory_view(
    address: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> Any:
    """Return an array of this shape at an address, with strides in bytes or in C order."""
    dtype = np.dtype(dtype)
    if strides is None:
        strides = np.empty(shape, np.bool_).strides
        strides = tuple(stride * dtype.itemsize for stride in strides)
    size = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    memory: Any = (ctypes.c_byte * int(max(size, dtype.itemsize))).from_address(int(address))
    flat = np.frombuffer(memory, dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)
