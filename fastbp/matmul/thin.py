"""Products with short sums: the deltas below few outputs, the forward pass from few inputs.

A tile of such a product takes longer to set up and finish than to sum. Here a strip of B's columns
stays in vector registers for all rows of A.
"""

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.matmul.tile import (
    MOST_VECTORS,
    broadcast,
    emit_shapes,
    emit_sum,
    finish,
    first_of,
    load_at,
    multiply_add,
    scalar_type,
    vectors_of,
    widths,
    zero_of,
)

MOST_TERMS = 4  # of a sum
MOST_IN_STRIP = MOST_VECTORS[1]  # vectors in a strip, as in a tile of four rows

_i64 = ir.IntType(64)


@intrinsic
def multiply_strip(
    typing_context, k, width, a, a_row, a_column, b, b_row, start, c, c_row, m, epilogue, factor,
    factor_row,
):  # fmt: skip
    """``C := epilogue(start + A @ B)`` for m rows and a strip of `width` columns, summed over k.

    Arguments and bits are those of `fastbp.matmul.tile.multiply_tiles`, but `start` is a single row
    for all. k is 1 to MOST_TERMS; `width` is up to MOST_IN_STRIP vectors, or part of one as there.
    """
    element, i = a.dtype, types.int64
    signature = types.void(i, i, a, i, i, a, i, a, a, i, i, i, a, i)

    def codegen(context, builder, signature, arguments):
        k, width, *operands = arguments
        up_to_one = widths(element, 1)
        columns = [*up_to_one, *(n * up_to_one[0] for n in range(2, MOST_IN_STRIP + 1))]
        shapes = [(n_terms, n) for n_terms in range(1, MOST_TERMS + 1) for n in columns]
        emit_shapes(builder, k, width, shapes, partial(_emit_strip, builder, element, operands))
        return context.get_dummy_value()

    return signature, codegen


def _emit_strip(builder: Any, element: Any, operands: Any, n_terms: int, columns: int) -> None:
    a, a_row, a_column, b, b_row, start, c, c_row, m, epilogue, factor, factor_row = operands
    load, vectors = partial(load_at, builder), vectors_of(element, columns)
    terms = [_i64(p) for p in range(n_terms)]
    a_columns = [builder.gep(a, [builder.mul(a_column, p)]) for p in terms]
    b_rows = [builder.gep(b, [builder.mul(b_row, p)]) for p in terms]
    of_b = [[load(kind, element, row, _i64(at)) for at, kind in vectors] for row in b_rows]
    of_start = [load(kind, element, start, _i64(at)) for at, kind in vectors]

    def multiply_row(offsets: Any, sums: Any) -> Any:
        at_a, at_c, at_factor = offsets
        scalars = [load(scalar_type(element), element, column, at_a) for column in a_columns]
        wholes = [broadcast(builder, scalar, vectors[0][1]) for scalar in scalars]
        places = []
        for v, (at, kind) in enumerate(vectors):
            total = zero_of(kind)
            for whole, row in zip(wholes, of_b, strict=True):
                x = whole if kind == whole.type else first_of(builder, whole, kind)
                total = multiply_add(builder, x, row[v], total)
            places.append(
                (
                    builder.fadd(of_start[v], total),
                    builder.add(at_c, _i64(at)),
                    builder.add(at_factor, _i64(at)),
                )
            )
        finish(builder, element, epilogue, places, c, factor)
        return sums

    emit_sum(builder, m, [], [a_row, c_row, factor_row], multiply_row)
