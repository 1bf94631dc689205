"""Register tiles: the inner loop of every small and medium product, as vector instructions.

A tile is a block of C of a few rows and one or two vectors. It stays in registers while
``C += A[:, p] * B[p, :]`` runs over p: one load of B's vectors, a broadcast of each row's element
of A, one fused multiply-add for each. Numba does not pack such loops by itself, so the tile is
written as LLVM IR. Its length follows the host: 512, 256 or 128 bits.

Each element of C is summed over p in one order, whatever tile it falls in. So a product has the
same bits however its rows are split over threads.
"""

from itertools import pairwise
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = {name for name, present in llvm.get_host_cpu_features().items() if present}
VECTOR_BYTES = 64 if "avx512f" in _FEATURES else 32 if "avx" in _FEATURES else 16
_X86 = "sse2" in _FEATURES
_HAS_FMA = "fma" in _FEATURES or not _X86
# Accumulators, two vectors of B and one element of A must fit 32 or 16 vector registers.
TILE_ROWS = 6 if _X86 and VECTOR_BYTES < 64 else 8
ROW_CHOICES = (TILE_ROWS, 4, 2, 1)

# What a tile does to its block of C before it is stored; `factor` is one more matrix.
STORE = 0  # C
RELU = 1  # max(C, 0)
MASK = 2  # C where factor is not 0, else 0: the slope of ReLU in terms of its output
SCALE = 3  # C * factor

_i64 = ir.IntType(64)


def widths(itemsize: int) -> list[int]:
    """Return the widths a tile may have, in elements, the widest first.

    Two vectors, one vector, and its halves down to 128 bits.
    """
    choices = [2 * VECTOR_BYTES, VECTOR_BYTES]
    while choices[-1] > 16:
        choices.append(choices[-1] // 2)
    return [size // itemsize for size in choices]


def padded(n: int, dtype: Any) -> int:
    """Return the length of a row in memory that holds n elements and all a tile may touch."""
    for width in reversed(widths(np.dtype(dtype).itemsize)[1:]):
        if n <= width:
            return width
    vector = VECTOR_BYTES // np.dtype(dtype).itemsize
    return int(-(-n // vector) * vector)


@intrinsic
def choose_width(typing_context: Any, pointer: Any, remaining: Any) -> Any:
    """Width of the next tile of a row of C of which `remaining` elements are left."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        remaining = arguments[1]
        choices = widths(_itemsize(pointer.dtype))
        result = _i64(choices[-1])
        for wider, width in reversed(list(pairwise(choices))):
            # 1.5 vectors and less: one vector, then what is left in a narrower one.
            limit = width + width // 2 if wider == choices[0] else width
            above = builder.icmp_signed(">", remaining, _i64(limit))
            result = builder.select(above, _i64(wider), result)
        return result

    return types.int64(pointer, types.int64), codegen


@intrinsic
def multiply_tile(
    typing_context: Any,
    rows: Any,
    width: Any,
    a: Any,
    a_row: Any,
    a_column: Any,
    b: Any,
    b_row: Any,
    start: Any,
    start_row: Any,
    c: Any,
    c_row: Any,
    k: Any,
    epilogue: Any,
    factor: Any,
    factor_row: Any,
) -> Any:
    """``C := epilogue(start + A @ B)`` for one tile of `rows` x `width`, summed over k.

    `a`, `b`, `start`, `c`, `factor` are pointers to the first elements; ``x_row`` and ``a_column``
    are strides in elements. `rows` is one of ROW_CHOICES, `width` one of `widths`.
    """
    element = a.dtype
    i = types.int64
    signature = types.void(i, i, a, i, i, a, i, a, i, a, i, i, i, a, i)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, width, *operands = arguments
        # One loop for each tile size, reached through a switch on rows and width.
        choices = widths(_itemsize(element))
        done = builder.append_basic_block("tile.done")
        selector = builder.add(builder.mul(rows, _i64(choices[0] + 1)), width)
        switch = builder.switch(selector, done)
        for n_rows in ROW_CHOICES:
            for n_columns in choices:
                block = builder.append_basic_block(f"tile.{n_rows}x{n_columns}")
                switch.add_case(_i64(n_rows * (choices[0] + 1) + n_columns), block)
                builder.position_at_end(block)
                _emit_tile(builder, element, n_rows, n_columns, operands)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


def _itemsize(element: Any) -> int:
    return int(element.bitwidth) // 8


def _emit_tile(builder: Any, element: Any, rows: int, columns: int, operands: Any) -> None:
    (a, a_row, a_column, b, b_row, start, start_row, c, c_row, k, epilogue, factor, factor_row) = (
        operands
    )
    scalar = ir.FloatType() if element == types.float32 else ir.DoubleType()
    size = _itemsize(element)
    vector_length = min(columns, VECTOR_BYTES // size)
    vector = ir.VectorType(scalar, vector_length)
    places = [(r, v) for r in range(rows) for v in range(columns // vector_length)]

    def load(base: Any, row: Any, column: int) -> Any:
        pointer = builder.gep(base, [builder.add(row, _i64(column * vector_length))])
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = size
        return value

    def offset(stride: Any, r: int) -> Any:
        return builder.mul(stride, _i64(r))

    initial = [load(start, offset(start_row, r), v) for r, v in places]
    a_rows = [builder.gep(a, [offset(a_row, r)]) for r in range(rows)]

    # The sum over p: entry -> body (once or more) -> end.
    entry = builder.block
    body = builder.append_basic_block("tile.sum")
    end = builder.append_basic_block("tile.end")
    builder.cbranch(builder.icmp_signed(">", k, _i64(0)), body, end)
    builder.position_at_end(body)
    p, a_offset, b_offset = (builder.phi(_i64) for _ in range(3))
    sums = [builder.phi(vector) for _ in places]
    b_vectors = [load(b, b_offset, v) for v in range(columns // vector_length)]
    updated = []
    for (r, v), accumulator in zip(places, sums, strict=True):
        if v == 0:
            broadcast = _broadcast(
                builder, builder.load(builder.gep(a_rows[r], [a_offset])), vector
            )
        updated.append(_multiply_add(builder, broadcast, b_vectors[v], accumulator))
    p_next = builder.add(p, _i64(1))
    for phi, first, following in (
        (p, _i64(0), p_next),
        (a_offset, _i64(0), builder.add(a_offset, a_column)),
        (b_offset, _i64(0), builder.add(b_offset, b_row)),
        *zip(sums, initial, updated, strict=True),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", p_next, k), body, end)
    builder.position_at_end(end)
    totals = []
    for first, following in zip(initial, updated, strict=True):
        total = builder.phi(vector)
        total.add_incoming(first, entry)
        total.add_incoming(following, body)
        totals.append(total)

    # The epilogue, and the store.
    zero = ir.Constant(vector, [0.0] * vector_length)
    stored = builder.append_basic_block("tile.stored")
    switch = builder.switch(epilogue, stored)

    def relu(r: int, v: int, x: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", x, zero), zero, x)  # a NaN stays one

    def mask(r: int, v: int, x: Any) -> Any:
        f = load(factor, offset(factor_row, r), v)
        return builder.select(builder.fcmp_ordered("==", f, zero), zero, x)

    def scale(r: int, v: int, x: Any) -> Any:
        return builder.fmul(x, load(factor, offset(factor_row, r), v))

    for code, function in ((STORE, None), (RELU, relu), (MASK, mask), (SCALE, scale)):
        block = builder.append_basic_block(f"tile.epilogue{code}")
        switch.add_case(_i64(code), block)
        builder.position_at_end(block)
        for (r, v), total in zip(places, totals, strict=True):
            value = total if function is None else function(r, v, total)
            pointer = builder.gep(c, [builder.add(offset(c_row, r), _i64(v * vector_length))])
            builder.store(value, builder.bitcast(pointer, vector.as_pointer())).align = size
        builder.branch(stored)
    builder.position_at_end(stored)


def _broadcast(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, lanes)


def _multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    vector = x.type
    if not _HAS_FMA:
        return builder.fadd(builder.fmul(x, y), z)
    suffix = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    name = f"llvm.fma.v{vector.count}{suffix}"
    function_type = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(fma, [x, y, z])
