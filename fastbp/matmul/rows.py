"""Products with a sparse vector, in vector registers: sums of rows, and additions to rows.

The entries of the vector select rows of the matrix and weigh them. In a plain loop over the entries
the operands that do not depend on the entry would be loaded and stored for each.

The row numbers, below 2**32, lie at an address in 2, 4 or 8 bytes each: one function handles all.
"""

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, part
from fastbp.compiler.memory import memory_view
from fastbp.matmul.product import choose_width
from fastbp.matmul.tile import (
    VECTOR_BYTES,
    broadcast,
    emit_choice,
    emit_shapes,
    emit_sum,
    first_of,
    load_at,
    multiply_add,
    scalar_type,
    shapes_of,
    store_at,
    vectors_of,
)

_i64 = ir.IntType(64)


@part
def sum_rows(values, numbers, size, first, last, matrix, at, row, start, start_at, out, out_at, n):
    """out := start + the sum of ``values[e] * matrix[numbers[e]]`` over entries first..last.

    `numbers` is an address, and `size` the bytes of each number. `matrix`, `start` and `out` are
    flat vectors, in which rows of n elements begin at the offsets; they are touched up to
    ``padded(n)``. `row` is the row stride of the matrix.
    """
    vector = VECTOR_BYTES // out.itemsize
    j = 0
    while j < n:
        width = choose_width(vector, n - j, 1)
        _sum_strip(
            width, values, numbers, size, first, last, matrix, at + j, row,
            start, start_at + j, out, out_at + j,
        )  # fmt: skip
        j += width


@part
def add_to_rows(values, numbers, size, first, last, source, source_at, matrix, at, row, n):
    """``matrix[numbers[e]] += values[e] * source`` for entries e in first..last.

    `source` and `matrix` are flat vectors; the other arguments are as in `sum_rows`.
    """
    vector = VECTOR_BYTES // matrix.itemsize
    j = 0
    while j < n:
        width = choose_width(vector, n - j, 1)
        _add_strip(
            width, values, numbers, size, first, last, source, source_at + j, matrix, at + j, row
        )  # fmt: skip
        j += width


@intrinsic
def _sum_strip(
    typing_context, width, values, numbers, size, first, last, matrix, at, row, start, start_at,
    out, out_at,
):  # fmt: skip
    """`sum_rows` for a strip of `width` columns, one of the widths of `choose_width`."""
    i = types.int64
    signature = types.void(i, values, i, i, i, i, matrix, i, i, start, i, out, i)

    def emit(builder, columns: int, operands) -> None:
        *entries, matrix, at, row, start, start_at, place, place_at = operands
        vectors = vectors_of(out.dtype, columns)
        load, store = partial(_load, builder, out.dtype), partial(store_at, builder, out.dtype)

        def add_row(x, begin, sums):
            rows = [load(kind, matrix, begin, offset) for offset, kind in vectors]
            return [multiply_add(builder, *product) for product in zip(x, rows, sums, strict=True)]

        initial = [load(kind, start, start_at, offset) for offset, kind in vectors]
        totals = _emit_entries(builder, values.dtype, vectors, entries, at, row, initial, add_row)
        for (offset, _), total in zip(vectors, totals, strict=True):
            store(total, place, builder.add(place_at, _i64(offset)))

    return signature, _by_width(emit, out.dtype)


@intrinsic
def _add_strip(
    typing_context, width, values, numbers, size, first, last, source, source_at, matrix, at, row
):
    """`add_to_rows` for a strip of `width` columns, one of the widths of `choose_width`."""
    i, element = types.int64, matrix.dtype
    signature = types.void(i, values, i, i, i, i, source, i, matrix, i, i)

    def emit(builder, columns: int, operands) -> None:
        *entries, source, source_at, matrix, at, row = operands
        vectors = vectors_of(element, columns)
        load, store = partial(_load, builder, element), partial(store_at, builder, element)
        added = [load(kind, source, source_at, offset) for offset, kind in vectors]

        def add(x, begin, sums):
            for (offset, kind), factor, vector in zip(vectors, x, added, strict=True):
                total = multiply_add(builder, factor, vector, load(kind, matrix, begin, offset))
                store(total, matrix, builder.add(begin, _i64(offset)))
            return sums

        _emit_entries(builder, values.dtype, vectors, entries, at, row, [], add)

    return signature, _by_width(emit, element)


def _by_width(emit: Any, element: Any) -> Any:
    """Return the code generator of a strip, with a separate code path for each width."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, *operands = arguments
        for place, kind in enumerate(signature.args[1:]):
            if isinstance(kind, types.Array):
                operands[place] = context.make_array(kind)(context, builder, operands[place]).data
        shapes = [(rows, columns) for rows, columns in shapes_of(element) if rows == 1]
        emit_shapes(
            builder, _i64(1), width, shapes, lambda _, columns: emit(builder, columns, operands)
        )
        return context.get_dummy_value()

    return codegen


def _emit_entries(
    builder: Any,
    of_values: Any,
    vectors: Any,
    entries: Any,
    at: Any,
    row: Any,
    initial: Any,
    use: Any,
) -> Any:
    """Emit a loop over entries: ``sums := use(x, begin, sums)``.

    x is the entry's value, broadcast to a vector of each kind, and `begin` the offset of its row.
    """
    values, numbers, size, first, last = entries
    numbers = builder.inttoptr(numbers, ir.IntType(8).as_pointer())
    scalar = vectors[0][1].element

    def body(offsets: Any, sums: Any) -> Any:
        entry = builder.add(first, offsets[0])
        value = load_at(builder, scalar_type(of_values), of_values, values, entry)
        if value.type != scalar:
            narrows = isinstance(scalar, ir.FloatType)
            value = builder.fptrunc(value, scalar) if narrows else builder.fpext(value, scalar)
        number = _load_number(builder, numbers, size, entry)
        whole = broadcast(builder, value, vectors[0][1])
        x = [whole if kind == whole.type else first_of(builder, whole, kind) for _, kind in vectors]
        return use(x, builder.add(at, builder.mul(number, row)), sums)

    return emit_sum(builder, builder.sub(last, first), initial, [_i64(1)], body)


def _load_number(builder: Any, numbers: Any, size: Any, entry: Any) -> Any:
    """Emit the load of a number of 2 or 4 bytes, or of the low 4 bytes of 8, which come first."""
    place = builder.gep(numbers, [builder.mul(entry, size)])

    def load(n_bytes: int) -> list[Any]:
        number = builder.load(builder.bitcast(place, ir.IntType(8 * n_bytes).as_pointer()))
        number.align = n_bytes
        return [builder.zext(number, _i64)]

    is_short = builder.icmp_signed("==", size, _i64(2))
    return emit_choice(builder, is_short, lambda: load(2), lambda: load(4))[0]


@intrinsic
def number_at(typing_context, numbers, size, entry):
    """The number of an entry: `numbers` and `size` are as in `sum_rows`."""

    def codegen(context, builder, signature, arguments):
        numbers, size, entry = arguments
        pointer = builder.inttoptr(numbers, ir.IntType(8).as_pointer())
        return _load_number(builder, pointer, size, entry)

    return types.int64(types.int64, types.int64, types.int64), codegen


def _load(builder: Any, element: Any, kind: Any, base: Any, at: Any, offset: int) -> Any:
    return load_at(builder, kind, element, base, builder.add(at, _i64(offset)))


if DISABLED:

    def number_at(numbers: int, size: int, entry: int) -> int:
        """The number of an entry."""
        return int(memory_view(numbers + entry * size, f"u{size}", (1,))[0])

    def _sum_strip(
        width: int, values: Any, numbers: int, size: int, first: int, last: int, matrix: Any,
        at: int, row: int, start: Any, start_at: int, out: Any, out_at: int,
    ) -> None:  # fmt: skip
        total = start[start_at : start_at + width].copy()
        for entry in range(first, last):
            place = at + number_at(numbers, size, entry) * row
            total += out.dtype.type(values[entry]) * matrix[place : place + width]
        out[out_at : out_at + width] = total

    def _add_strip(
        width: int, values: Any, numbers: int, size: int, first: int, last: int, source: Any,
        source_at: int, matrix: Any, at: int, row: int,
    ) -> None:  # fmt: skip
        added = source[source_at : source_at + width]
        for entry in range(first, last):
            place = at + number_at(numbers, size, entry) * row
            matrix[place : place + width] += matrix.dtype.type(values[entry]) * added
