"""The transpose of a matrix, in square blocks that are transposed in vector registers.

Element by element it takes about ten times as long; see benchmarks/NOTES.md.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, inner_kernel
from fastbp.matmul.tile import load_at, scalar_type, store_at

BLOCKS = (32, 16)  # bytes in a row of a block


@inner_kernel
def transpose(source, source_at, source_row, rows, columns, target, target_at, target_row):
    """target := source.T, for a (rows, columns) matrix given by vector, offset and row stride."""
    least = min(rows, columns)
    large, small = BLOCKS[0] // source.itemsize, BLOCKS[1] // source.itemsize
    size = large if least >= large else small if least >= small else 1
    for row in range(0, rows, size):
        i = min(row, rows - size)  # the last blocks overlap those before
        for column in range(0, columns, size):
            j = min(column, columns - size)
            _transpose_block(
                size, source, source_at + i * source_row + j, source_row,
                target, target_at + j * target_row + i, target_row,
            )  # fmt: skip


@intrinsic
def _transpose_block(
    typing_context, size, source, source_at, source_row, target, target_at, target_row
):
    """Transpose a square block, with one of BLOCKS bytes in a row or of a single element."""
    element = source.dtype
    i = types.int64

    def codegen(context, builder, signature, arguments):
        size, a, a_at, a_row, b, b_at, b_row = arguments
        a = context.make_array(source)(context, builder, a).data
        b = context.make_array(target)(context, builder, b).data
        done = builder.append_basic_block("transposed")
        switch = builder.switch(size, done)
        for n in (*(nbytes // (element.bitwidth // 8) for nbytes in BLOCKS), 1):
            block = builder.append_basic_block(f"transpose.{n}")
            switch.add_case(ir.IntType(64)(n), block)
            builder.position_at_end(block)
            kind = ir.VectorType(scalar_type(element), n)

            def row(at, stride, r: int):
                return builder.add(at, builder.mul(stride, ir.IntType(64)(r)))

            rows = [load_at(builder, kind, element, a, row(a_at, a_row, r)) for r in range(n)]
            for r, value in enumerate(turn_over(builder, rows)):
                store_at(builder, element, value, b, row(b_at, b_row, r))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(i, source, i, i, target, i, i), codegen


def turn_over(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit the transpose of n vectors of n elements: swap blocks of 1, then 2, 4, and so on."""
    n = len(rows)
    distance = 1
    while distance < n:
        for i in range(n):
            if i & distance == 0:
                a, b = rows[i], rows[i + distance]
                low = [c if c & distance == 0 else n + c - distance for c in range(n)]
                high = [c + distance if c & distance == 0 else n + c for c in range(n)]
                rows[i], rows[i + distance] = (
                    builder.shuffle_vector(
                        a, b, ir.Constant(ir.VectorType(ir.IntType(32), n), order)
                    )
                    for order in (low, high)
                )
        distance *= 2
    return rows


if DISABLED:

    def _transpose_block(
        size: int, source: Any, source_at: int, source_row: int, target: Any, target_at: int,
        target_row: int,
    ) -> None:  # fmt: skip
        for i in range(size):
            for j in range(size):
                target[target_at + j * target_row + i] = source[source_at + i * source_row + j]
