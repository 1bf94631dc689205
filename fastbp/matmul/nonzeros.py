"""Products whose left operand has many zeros, as from ReLU, images, counts and one-hot columns.

The nonzeros among 64 elements of the left operand are found as the bits of a word; for each of them
a row of B is multiplied and added, some vectors of it at a time, with the sums in registers. A tile
does as many multiply-adds for the zeros as for the rest, but loads B once for several rows; so this
is faster only with enough zeros, which `is_sparse_enough` decides.

Each element of C is summed in the same order as by tiles, and the terms left out would have added
0: the bits are the same.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, part
from fastbp.compiler.memory import shifted
from fastbp.compiler.passes import optimised_already
from fastbp.compiler.processor import IS_INTEL_512
from fastbp.matmul.product import KEEP, SET, compile_product, sum_columns
from fastbp.matmul.sums import MOST_IN_ORDER, sum_strip_in_order
from fastbp.matmul.tile import (
    ROW_CHOICES,
    VECTOR_BYTES,
    broadcast,
    emit_choice,
    emit_shapes,
    emit_sum,
    finish,
    join,
    kept_in_register,
    lanes_of,
    length_of_vector,
    load_at,
    multiply_add,
    scalar_type,
    stack_memory,
    store_at,
    vectors_of,
    zero_of,
)

# The highest density of the left operand where the right one has very many columns, and the cost of
# finding and loading an element of the left operand, in loads of a vector.
MOST_DENSITY, FINDING = (0.8, 2.2) if IS_INTEL_512 else (0.85, 1.75)
WORD = 64  # elements that are examined together
MOST_AT_A_TIME = MOST_IN_ORDER  # vectors of a row of B at a time
WORDS = WORD * 8 // VECTOR_BYTES  # vectors that hold WORD words
SUMS = WORD * MOST_AT_A_TIME  # vectors of sums kept while the WORD rows of B are in the cache

_i1, _i32, _i64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


@optimised_already
def multiply_nonzeros(
    a, a_row, a_column, b, b_row, b_column, start, start_row, c, c_row, m, n, k, epilogue, factor,
    factor_row, sums, summing, _,
):  # fmt: skip
    """`fastbp.matmul.product.multiply` over the nonzeros of A only.

    The rows or the columns of A are contiguous, and the rows of B. Columns of all matrices are
    touched up to whole vectors, and k is at least 1. If the columns of A are contiguous, the
    epilogue is STORE, and C may be where `start` is.
    """
    so_far, words = stack_memory(c, SUMS), stack_memory(c, WORDS)
    if summing != KEEP and m < ROW_CHOICES[1]:
        sum_columns(b, b_row, k, n, sums, summing)
    vector = length_of_vector(c)
    j = 0
    while j < n:
        width = min(MOST_AT_A_TIME, (n - j + vector - 1) // vector) * vector
        if summing != KEEP and m >= ROW_CHOICES[1]:
            at = shifted(sums, j)
            sum_strip_in_order(width, shifted(b, j), b_row, k, np.int64(summing == SET), at)
        # By rows, the sums of all rows wait in C, so that B is loaded once.
        rows_at_a_time = m if a_column == 1 else WORD
        for top in range(0, m, rows_at_a_time):
            for p in range(0, k, WORD):
                for i in range(top, min(top + rows_at_a_time, m), WORD):
                    rows = min(WORD, m - i)
                    left, out = shifted(a, i * a_row + p * a_column), shifted(c, i * c_row + j)
                    if a_column == 1:
                        for r in range(rows):
                            _find(shifted(left, r * a_row), k - p, words, r)
                        waiting, waiting_row = out, c_row
                    else:
                        for r in range(0, rows, vector):
                            _find_by_columns(shifted(left, r), a_column, k - p, words, r)
                        waiting, waiting_row = so_far, width
                    _add_rows(
                        width, rows, words, left, a_row, a_column, shifted(b, p * b_row + j), b_row,
                        waiting, waiting_row, np.int64(p == 0), np.int64(p + WORD >= k),
                        shifted(start, i * start_row + j), start_row, out, c_row,
                        epilogue, shifted(factor, i * factor_row + j), factor_row,
                    )  # fmt: skip
        j += width


@part
def fills_vectors(n, itemsize):
    """Return whether a row of n elements is padded to whole vectors in memory."""
    return 2 * n * itemsize > VECTOR_BYTES


@part
def is_sparse_enough(density, k, n, itemsize):
    """Return whether skipping zeros is faster, for A (m, k) of this density and n columns of B."""
    if density > MOST_DENSITY or not (fills_vectors(k, itemsize) and fills_vectors(n, itemsize)):
        return False
    vector = VECTOR_BYTES // itemsize
    vectors = (n + vector - 1) // vector
    passes = (vectors + MOST_AT_A_TIME - 1) // MOST_AT_A_TIME
    return density * (vectors + FINDING * passes) < MOST_DENSITY * n / vector


_compiled: set[str] = set()  # the dtypes for which it is compiled


def nonzeros_address(dtype: str, compile_it: bool = True) -> int:
    """Return the address of the compiled function, for "float32" or "float64".

    With `compile_it=False` it is 0 if the function is in no cache: the tiles do the same.
    """
    if compile_it:
        _compiled.add(dtype)
    return compile_product(multiply_nonzeros, dtype, dtype in _compiled)


@intrinsic
def _find(typing_context, a, left, words, number):
    """Store a mask of the nonzero elements among the next `left`, lowest bit first.

    It covers at most WORD elements, and is stored as word `number` of those at `words`.
    """
    element, i = a.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        a, left, words, number = arguments
        word = _emit_word(builder, element, a, left)
        builder.store(word, builder.gep(builder.bitcast(words, _i64.as_pointer()), [number]))
        return context.get_dummy_value()

    return types.void(a, i, words, i), codegen


@intrinsic
def count_nonzeros(typing_context, vector, at, n):
    """Number of nonzeros among n elements of a contiguous array from `at` on, at most WORD."""
    i = types.int64

    def codegen(context, builder, signature, arguments):
        array, at, n = arguments
        data = context.make_array(vector)(context, builder, array).data
        return builder.ctpop(_emit_word(builder, vector.dtype, builder.gep(data, [at]), n))

    return i(vector, i, i), codegen


def _emit_word(builder: Any, element: Any, a: Any, left: Any) -> Any:
    length = lanes_of(element)
    kind = ir.VectorType(scalar_type(element), length)
    word = _i64(0)
    for at in range(0, WORD, length):
        # A vector past the end is read from the place of the first, and masked out below.
        there = builder.icmp_signed("<", _i64(at), left)
        place = builder.select(there, _i64(at), _i64(0))
        row = load_at(builder, kind, element, a, place)
        found = builder.fcmp_unordered("!=", row, zero_of(kind))
        bits = builder.zext(builder.bitcast(found, ir.IntType(length)), _i64)
        word = builder.or_(word, builder.shl(bits, _i64(at)))
    whole = builder.icmp_signed(">=", left, _i64(WORD))
    mask = builder.sub(builder.shl(_i64(1), builder.and_(left, _i64(WORD - 1))), _i64(1))
    return builder.and_(word, builder.select(whole, _i64(-1), mask))


@intrinsic
def _find_by_columns(typing_context, a, a_row, left, words, number):
    """Store the masks of a vector of columns over the next rows, of which `left` remain."""
    element, i = a.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        a, a_row, left, words, number = arguments
        length = lanes_of(element)
        kind = ir.VectorType(scalar_type(element), length)
        halves, whole = ir.VectorType(_i32, length), ir.VectorType(_i64, length)
        nothing, both = ir.Constant(halves, [0] * length), []
        for first in (0, WORD // 2):
            rows = builder.sub(left, _i64(first))
            few = builder.icmp_signed("<", rows, _i64(WORD // 2))
            rows = builder.select(few, rows, _i64(WORD // 2))
            base = builder.gep(a, [builder.mul(a_row, _i64(first))])

            def find(offsets, sums, base=base):
                row = load_at(builder, kind, element, base, offsets[0])
                found = builder.fcmp_unordered("!=", row, zero_of(kind))
                bit = builder.shl(_i32(1), builder.trunc(offsets[1], _i32))
                bits = builder.select(found, broadcast(builder, bit, halves), nothing)
                return [builder.or_(sums[0], bits)]

            (half,) = emit_sum(builder, rows, [nothing], [a_row, _i64(1)], find)
            both.append(builder.zext(half, whole))
        shift = ir.Constant(whole, [WORD // 2] * length)
        result = builder.or_(both[0], builder.shl(both[1], shift))
        place = builder.gep(builder.bitcast(words, _i64.as_pointer()), [number])
        builder.store(result, builder.bitcast(place, whole.as_pointer())).align = 8
        return context.get_dummy_value()

    return types.void(a, i, i, words, i), codegen


@intrinsic
def _add_rows(
    typing_context, width, rows, words, a, a_row, a_column, b, b_row, waiting, waiting_row, begins,
    ends, start, start_row, c, c_row, epilogue, factor, factor_row,
):  # fmt: skip
    """``sums[r] += a[r, p] * B[p]`` for each bit p of each row's word, for `width` columns.

    The sums begin at 0 if `begins`, else with those at `waiting`. They are stored there, unless
    `ends`: then ``C := epilogue(start + sums)``. `width` is up to MOST_AT_A_TIME vectors.
    """
    element, i = c.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        width, rows, words, a, a_row, a_column, b, b_row, waiting, waiting_row, *rest = arguments
        begins, ends, start, start_row, c, c_row, epilogue, factor, factor_row = rest
        length = lanes_of(element)
        words = builder.bitcast(words, _i64.as_pointer())
        begins, ends = (builder.trunc(flag, _i1) for flag in (begins, ends))
        load = partial(load_at, builder)

        def emit(_: int, columns: int) -> None:
            vectors = vectors_of(element, columns)
            places = [_i64(at) for at, _ in vectors]
            kind = vectors[0][1]

            def row_of(matrix, stride, row):
                return builder.gep(matrix, [builder.mul(row, stride)])

            def add_row(row) -> None:
                shift = partial(row_of, row=row)
                left, so_far, out = shift(a, a_row), shift(waiting, waiting_row), shift(c, c_row)

                def add(bit, sums):
                    value = load(kind.element, element, left, builder.mul(bit, a_column))
                    x = broadcast(builder, value, kind)
                    of_b = kept_in_register(builder, row_of(b, b_row, bit))
                    return [
                        multiply_add(builder, x, load(kind, element, of_b, at), total)
                        for at, total in zip(places, sums, strict=True)
                    ]

                initial = emit_choice(
                    builder,
                    begins,
                    lambda: [zero_of(kind) for _ in places],
                    lambda: [load(kind, element, so_far, at) for at in places],
                )
                word = builder.load(builder.gep(words, [row]))
                totals = _emit_bits(builder, word, initial, add)

                def end() -> list[Any]:
                    first = shift(start, start_row)
                    results = [
                        (builder.fadd(load(kind, element, first, at), total), at, at)
                        for at, total in zip(places, totals, strict=True)
                    ]
                    finish(builder, element, epilogue, results, out, shift(factor, factor_row))
                    return []

                def wait() -> list[Any]:
                    for at, total in zip(places, totals, strict=True):
                        store_at(builder, element, total, so_far, at)
                    return []

                emit_choice(builder, ends, end, wait)

            _emit_rows(builder, rows, add_row)

        shapes = [(1, n * length) for n in range(1, MOST_AT_A_TIME + 1)]
        emit_shapes(builder, _i64(1), width, shapes, emit)
        return context.get_dummy_value()

    kinds = i, i, words, a, i, i, b, i, waiting, i, i, i, start, i, c, i, i, factor, i
    return types.void(*kinds), codegen


def _emit_rows(builder: Any, rows: Any, use: Any) -> None:
    """Emit a loop over one or more rows: ``use(row)``, which may contain loops itself."""
    entry = builder.block
    body = builder.append_basic_block("nonzeros.row")
    end = builder.append_basic_block("nonzeros.rows_end")
    builder.branch(body)
    builder.position_at_end(body)
    row = builder.phi(_i64)
    use(row)
    following = builder.add(row, _i64(1))
    row.add_incoming(_i64(0), entry)
    row.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, rows), body, end)
    builder.position_at_end(end)


def _emit_bits(builder: Any, word: Any, initial: list[Any], use: Any) -> list[Any]:
    """Emit ``sums := use(p, sums)`` for each set bit p of a word, from the lowest on."""
    entry = builder.block
    body = builder.append_basic_block("nonzeros.bit")
    end = builder.append_basic_block("nonzeros.end")
    builder.cbranch(builder.icmp_unsigned("!=", word, _i64(0)), body, end)
    builder.position_at_end(body)
    left = builder.phi(_i64)
    sums = [builder.phi(value.type) for value in initial]
    updated = use(builder.cttz(left, _i1(1)), sums)
    following = builder.and_(left, builder.sub(left, _i64(1)))
    for phi, first, after in ((left, word, following), *zip(sums, initial, updated, strict=True)):
        phi.add_incoming(first, entry)
        phi.add_incoming(after, body)
    builder.cbranch(builder.icmp_unsigned("!=", following, _i64(0)), body, end)
    builder.position_at_end(end)
    return join(builder, [(initial, entry), (updated, body)])


if DISABLED:

    def count_nonzeros(vector: Any, at: int, n: int) -> int:
        """Number of nonzeros among n elements of a contiguous array from `at` on, at most WORD."""
        return int(np.count_nonzero(vector[at : at + min(n, WORD)]))
