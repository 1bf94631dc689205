"""Column sums of a matrix, in vector registers.

In a product with a row of ones each addition would wait for the one before. Here several partial
sums of each column are under way at once, and are added up at the end.
"""

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.matmul.tile import (
    emit_shapes,
    emit_sum,
    lanes_of,
    load_at,
    load_unless,
    scalar_type,
    store_at,
    vectors_of,
    widths,
    zero_of,
)

UNDER_WAY = 4  # partial sums of a column
MOST_SUMMED = 2
MOST_IN_ORDER = 8

_i64 = ir.IntType(64)


@intrinsic
def sum_strip(typing_context, width, b, b_row, k, afresh, sums):
    """``sums := the sums over k rows``, or these added to it, for a strip of `width` columns.

    `b` and `sums` are pointers to the first elements; `width` is 128 bits times a power of two, up
    to MOST_SUMMED vectors.
    """
    element, i = b.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        width, *operands = arguments

        def emit(_: int, n_columns: int) -> None:
            _emit_strip(builder, element, n_columns, operands)

        shapes = [(1, n_columns) for n_columns in widths(element, MOST_SUMMED)]
        emit_shapes(builder, _i64(1), width, shapes, emit)
        return context.get_dummy_value()

    return types.void(i, b, i, i, i, sums), codegen


@intrinsic
def sum_strip_in_order(typing_context, width, b, b_row, k, afresh, sums):
    """`sum_strip` one row after the other, for a width of up to MOST_IN_ORDER vectors."""
    element, i = b.dtype, types.int64
    length = lanes_of(element)

    def codegen(context, builder, signature, arguments):
        width, *operands = arguments
        b, b_row, k, afresh, sums = operands
        shapes = [(1, n * length) for n in range(1, MOST_IN_ORDER + 1)]

        def emit(_: int, n_columns: int) -> None:
            vectors = vectors_of(element, n_columns)

            def add(offsets, totals):
                return [
                    builder.fadd(
                        total, load_at(builder, kind, element, b, builder.add(offsets[0], _i64(at)))
                    )
                    for (at, kind), total in zip(vectors, totals, strict=True)
                ]

            totals = emit_sum(builder, k, [zero_of(kind) for _, kind in vectors], [b_row], add)
            for (at, kind), total in zip(vectors, totals, strict=True):
                before = load_unless(builder, afresh, kind, element, sums, _i64(at))
                store_at(builder, element, builder.fadd(before, total), sums, _i64(at))

        emit_shapes(builder, _i64(1), width, shapes, emit)
        return context.get_dummy_value()

    return types.void(i, b, i, i, i, sums), codegen


def _emit_strip(builder: Any, element: Any, columns: int, operands: Any) -> None:
    b, b_row, k, afresh, sums = operands
    length = min(columns, lanes_of(element))
    vector = ir.VectorType(scalar_type(element), length)
    load = partial(load_at, builder, vector, element)
    places = [_i64(at) for at in range(0, columns, length)]
    zero = zero_of(vector)

    def add_rows(n_rows: int, at: Any, totals: list[Any]) -> list[Any]:
        totals = list(totals)
        for r in range(n_rows):
            row = builder.add(at, builder.mul(b_row, _i64(r)))
            for v, place in enumerate(places):
                value, number = load(b, builder.add(row, place)), r * len(places) + v
                totals[number] = builder.fadd(totals[number], value)
        return totals

    rounds, stride = builder.sdiv(k, _i64(UNDER_WAY)), builder.mul(b_row, _i64(UNDER_WAY))
    totals = emit_sum(
        builder, rounds, [zero] * (UNDER_WAY * len(places)), [stride],
        lambda offsets, totals: add_rows(UNDER_WAY, offsets[0], totals),
    )  # fmt: skip
    done = builder.mul(rounds, stride)
    totals = emit_sum(
        builder, builder.srem(k, _i64(UNDER_WAY)), totals, [b_row],
        lambda offsets, totals: add_rows(1, builder.add(done, offsets[0]), totals),
    )  # fmt: skip
    for v, place in enumerate(places):
        first, second, third, fourth = totals[v :: len(places)]
        total = builder.fadd(builder.fadd(first, second), builder.fadd(third, fourth))
        before = load_unless(builder, afresh, vector, element, sums, place)
        store_at(builder, element, builder.fadd(before, total), sums, place)
