"""Products with a matrix that holds only two different numbers, by sums looked up in a table.

If these are 0 and 1, four rows have sixteen sums over subsets of them, which are computed once.
Each output then adds, for four rows, the sum that its zeros and ones select: one addition in place
of four multiply-adds. This is the method of the four Russians (Arlazarov, Dinic, Kronrod and
Faradzhev 1970).

The gradient of a ReLU layer below a single output is such a product: with that output's weights w
and deltas d, the deltas of the layer are ``d[i] * w[j]`` where unit j is active for sample i, and 0
elsewhere. So ``dJ/dW = ((d * X).T @ active) * w``. If inactive units have a slope other than 0, the
sums in the table include it.
"""

from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, c_function
from fastbp.compiler.memory import memory_view, shifted
from fastbp.compiler.processor import IS_INTEL_512
from fastbp.matmul.tile import (
    VECTOR_BYTES,
    broadcast,
    emit_choice,
    emit_shapes,
    emit_sum,
    kept_in_register,
    lanes_of,
    length_of_vector,
    load_at,
    load_unless,
    stack_memory,
    store_at,
    vectors_of,
    widths,
    zero_of,
)
from fastbp.matmul.transpose import turn_over

GROUP = 4  # rows in a group
SUBSETS = 1 << GROUP
CODE = 8  # a subset's code is its number times this, its offset in a table of 8-byte rows
MOST_GROUPS = 13  # in the table: 13 KB of the nearest cache, which leaves room for X
TABLE = MOST_GROUPS * SUBSETS  # vectors in it
MOST_UNITS = 256  # whose sums are kept while the table is refilled
MOST_ACTIVE = 4  # vectors in a strip of `_sum_active`
HAS_QUARTERS = VECTOR_BYTES >= 4 * CODE  # of vectors: if these have CODE bytes

_i8, _i64 = ir.IntType(8), ir.IntType(64)


def encode(a, a_row, codes, codes_row, m, n):
    """Store the codes of subsets: which rows of each group of four are above 0 in a column of A.

    A (m, n) lies at a pointer; the last group may lack rows. ``codes[g, j]`` is for group g and
    column j. Columns are read and written up to whole vectors.
    """
    vector = length_of_vector(a)
    for first in range(0, m, GROUP):
        for j in range(0, n, vector):
            _encode_group(
                shifted(a, first * a_row + j), a_row, m - first,
                shifted(codes, first // GROUP * codes_row + j),
            )  # fmt: skip


def multiply_subsets(
    x, x_row, d, d_row, codes, codes_row, slope, w, m, k, n, c, c_row, afresh, a, a_row, sums,
    summing,
):  # fmt: skip
    """``C := ((d * X).T @ S) * w``, or that added to C, and the same for a column of ones.

    S is 1 where A is above 0, and the number at `slope` elsewhere. X is (k, m), d (k, 1), C (m, n),
    w (n,), all at pointers; A is given by its codes. Columns are touched up to whole vectors, and
    rows of X and d are read up to a whole group. With `summing`, ``sums := (d.T @ S) * w``, or that
    added, from A itself. If `afresh` is 1, both are overwritten, else added to.
    """
    table, sums_so_far = stack_memory(x, TABLE), stack_memory(x, MOST_UNITS)
    vector = length_of_vector(x)
    n_groups = (k + GROUP - 1) // GROUP
    units_at_a_time = n if n_groups <= MOST_GROUPS else MOST_UNITS
    i = 0
    while i < m:
        width = vector // 4 if HAS_QUARTERS and 4 * (m - i) <= vector else vector
        for unit in range(0, n, units_at_a_time):
            for first in range(0, n_groups, MOST_GROUPS):
                groups = min(MOST_GROUPS, n_groups - first)
                x_at = shifted(x, GROUP * first * x_row + i)
                d_at = shifted(d, GROUP * first * d_row)
                _fill_table(
                    width, x_at, x_row, d_at, d_row, k - GROUP * first, slope, groups, table
                )
                begins, ends = np.int64(first == 0), np.int64(first + groups == n_groups)
                for j in range(unit, min(unit + units_at_a_time, n), vector):
                    units = vector // 4 if HAS_QUARTERS and 4 * (n - j) <= vector else vector
                    _look_up(
                        width, units, table, shifted(codes, first * codes_row + j), codes_row,
                        groups, shifted(sums_so_far, (j - unit) * width), begins, ends,
                        shifted(w, j), shifted(c, i * c_row + j), c_row, m - i, afresh,
                    )  # fmt: skip
        i += width
    j = 0
    while j < n and summing != 0:
        width = MOST_ACTIVE * vector
        while width > vector and width >= n - j + vector:
            width //= 2
        _sum_active(
            width, shifted(a, j), a_row, d, d_row, slope, k, shifted(w, j), shifted(sums, j), afresh
        )
        j += width


@cache
def subset_addresses(dtype: str) -> tuple[int, int]:
    """Return the addresses of the compiled functions, for "float32" or "float64"."""
    if DISABLED:
        return (
            c_function(partial(_encode_in_python, np.dtype(dtype))),
            c_function(partial(_multiply_in_python, np.dtype(dtype))),
        )
    f, i, codes = types.CPointer(getattr(types, dtype)), types.int64, types.CPointer(types.uint8)
    kinds = f, i, f, i, codes, i, f, f, i, i, i, f, i, i, f, i, f, i
    return (
        c_function(encode, f, i, codes, i, i, i, as_written=True),
        c_function(multiply_subsets, *kinds, as_written=True),
    )


def _widths(element: Any) -> tuple[int, ...]:
    """Return the numbers of columns done at a time: a vector, or a quarter of one at the end."""
    vector = lanes_of(element)
    return (vector, vector // 4) if HAS_QUARTERS else (vector,)


@intrinsic
def _encode_group(typing_context, a, a_row, left, codes):
    """Store the codes of one group for a vector of columns; `left` of its rows remain."""
    element, i = a.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        a, a_row, left, codes = arguments
        ((_, kind),) = vectors_of(element, lanes_of(element))
        bytes_ = ir.VectorType(_i8, kind.count)
        total = ir.Constant(bytes_, [0] * kind.count)
        for r in range(GROUP):
            # A missing row is read from the place of the first, and adds no bit.
            there = builder.icmp_signed("<", _i64(r), left)
            offset = builder.select(there, builder.mul(a_row, _i64(r)), _i64(0))
            row = load_at(builder, kind, element, a, offset)
            active = builder.fcmp_unordered(">", row, zero_of(kind))
            bit = builder.select(there, _i8(CODE << r), _i8(0))
            bits = broadcast(builder, bit, bytes_)
            bits = builder.select(active, bits, ir.Constant(bytes_, [0] * kind.count))
            total = builder.or_(total, bits)
        store_at(builder, types.uint8, total, codes, _i64(0))
        return context.get_dummy_value()

    return types.void(a, i, i, codes), codegen


@intrinsic
def _fill_table(typing_context, width, x, x_row, d, d_row, left, slope, groups, table):
    """Store the sums over the subsets of groups of rows of ``d * X``, for `width` columns.

    Of the rows, `left` remain; those that are not in a subset count `slope` times.
    """
    element, i = x.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        width, x, x_row, d, d_row, left, slope, groups, table = arguments
        load = partial(load_at, builder)

        def emit(_: int, columns: int) -> None:
            ((_, kind),) = vectors_of(element, columns)
            outside = load(kind.element, element, slope, _i64(0))
            inside = broadcast(builder, builder.fsub(kind.element(1), outside), kind)

            def fill(offsets, sums):
                at_x, at_d, at_table, first = offsets
                rows = []
                for r in range(GROUP):
                    row = builder.add(at_x, builder.mul(x_row, _i64(r)))
                    factor = load(
                        kind.element, element, d, builder.add(at_d, builder.mul(d_row, _i64(r)))
                    )
                    rows.append(
                        builder.fmul(load(kind, element, x, row), broadcast(builder, factor, kind))
                    )
                whole = zero_of(kind)
                for r, row in enumerate(rows):
                    there = builder.icmp_signed("<", builder.add(first, _i64(r)), left)
                    whole = builder.fadd(whole, builder.select(there, row, zero_of(kind)))
                totals = [_times_slope(builder, whole, outside)]
                for row in rows:
                    row = builder.fmul(row, inside)
                    totals += [builder.fadd(total, row) for total in totals]
                for s, total in enumerate(totals):
                    place = builder.add(at_table, _i64(s * columns))
                    store_at(builder, element, total, table, place)
                return sums

            strides = [builder.mul(row, _i64(GROUP)) for row in (x_row, d_row)]
            strides += [_i64(SUBSETS * columns), _i64(GROUP)]
            emit_sum(builder, groups, [], strides, fill)

        emit_shapes(builder, _i64(1), width, [(1, n) for n in _widths(element)], emit)
        return context.get_dummy_value()

    return types.void(i, x, i, d, i, i, slope, i, table), codegen


@intrinsic
def _look_up(
    typing_context, width, units, table, codes, codes_row, groups, sums, begins, ends, w, c, c_row,
    left, afresh,
):  # fmt: skip
    """Rows of C, one for each column of the table, at most `left`, for a vector of C's columns.

    Only the first `units` of these columns count: all or a quarter. The sums over groups begin at
    0 if `begins`, else with those at `sums`, where they are stored unless `ends`.
    """
    element, i = table.dtype, types.int64
    itemsize = element.bitwidth // 8

    def codegen(context, builder, signature, arguments):
        width, units, table, codes, codes_row, groups, *rest = arguments
        sums, begins, ends, w, c, c_row, left, afresh = rest
        vector = lanes_of(element)
        in_bytes = builder.bitcast(table, _i8.as_pointer())

        def emit(n_units: int, columns: int) -> None:
            ((_, kind),) = vectors_of(element, columns)

            def add(offsets, sums):
                at_codes, at_table = offsets
                group = kept_in_register(builder, builder.gep(in_bytes, [at_table]))
                at_a_time = 1 if IS_INTEL_512 else min(n_units, 8)  # codes per load
                word = ir.IntType(8 * at_a_time)
                updated = []
                for unit, total in enumerate(sums):
                    if unit % at_a_time == 0:
                        at = builder.add(at_codes, _i64(unit))
                        several = builder.zext(load_at(builder, word, types.uint8, codes, at), _i64)
                    shift = _i64(8 * (unit % at_a_time))
                    code = builder.and_(builder.lshr(several, shift), _i64(0xFF))
                    place = builder.mul(code, _i64(columns * itemsize // CODE))
                    pointer = builder.bitcast(builder.gep(group, [place]), kind.as_pointer())
                    row = builder.load(pointer)
                    row.align = columns * itemsize
                    updated.append(builder.fadd(total, row))
                return updated

            strides = [codes_row, _i64(SUBSETS * columns * itemsize)]
            so_far = [_i64(unit * columns) for unit in range(n_units)]
            initial = [load_unless(builder, begins, kind, element, sums, at) for at in so_far]
            totals = emit_sum(builder, groups, initial, strides, add)

            def end() -> list[Any]:
                all_of = totals + [zero_of(kind)] * (vector - n_units)
                places = range(0, vector, columns)
                blocks = [turn_over(builder, all_of[at : at + columns]) for at in places]
                factors = [load_at(builder, kind, element, w, _i64(at)) for at in places]
                done = builder.append_basic_block("subsets.done")
                for r in range(columns):
                    for number, (block, factor) in enumerate(zip(blocks, factors, strict=True)):
                        place = builder.add(builder.mul(c_row, _i64(r)), _i64(number * columns))
                        before = load_unless(builder, afresh, kind, element, c, place)
                        result = builder.fadd(before, builder.fmul(block[r], factor))
                        store_at(builder, element, result, c, place)
                    following = builder.append_basic_block("subsets.row")
                    builder.cbranch(builder.icmp_signed("<", _i64(r + 1), left), following, done)
                    builder.position_at_end(following)
                builder.branch(done)
                builder.position_at_end(done)
                return []

            def wait() -> list[Any]:
                for at, total in zip(so_far, totals, strict=True):
                    store_at(builder, element, total, sums, at)
                return []

            emit_choice(builder, builder.trunc(ends, ir.IntType(1)), end, wait)

        shapes = [(m, n) for m in _widths(element) for n in _widths(element)]
        emit_shapes(builder, units, width, shapes, emit)
        return context.get_dummy_value()

    return types.void(i, i, table, codes, i, i, sums, i, i, w, c, i, i, i), codegen


@intrinsic
def _sum_active(typing_context, width, a, a_row, d, d_row, slope, k, w, sums, afresh):
    """``sums := (d.T @ S) * w``, or that added, for a strip of `width` columns."""
    element, i = a.dtype, types.int64

    def codegen(context, builder, signature, arguments):
        width, a, a_row, d, d_row, slope, k, w, sums, afresh = arguments
        load = partial(load_at, builder)

        def emit(_: int, columns: int) -> None:
            vectors = vectors_of(element, columns)
            zero = zero_of(vectors[0][1])
            outside = load(zero.type.element, element, slope, _i64(0))

            def add(offsets, totals):
                factor = broadcast(
                    builder, load(zero.type.element, element, d, offsets[1]), zero.type
                )
                rest = _times_slope(builder, factor, outside)
                updated = []
                for (at, kind), total in zip(vectors, totals, strict=True):
                    row = load(kind, element, a, builder.add(offsets[0], _i64(at)))
                    active = builder.fcmp_unordered(">", row, zero)
                    updated.append(builder.fadd(total, builder.select(active, factor, rest)))
                return updated

            totals = emit_sum(builder, k, [zero for _ in vectors], [a_row, d_row], add)
            for (at, kind), total in zip(vectors, totals, strict=True):
                product = builder.fmul(total, load(kind, element, w, _i64(at)))
                before = load_unless(builder, afresh, kind, element, sums, _i64(at))
                store_at(builder, element, builder.fadd(before, product), sums, _i64(at))

        vector = lanes_of(element)
        shapes = [(1, n) for n in widths(element, MOST_ACTIVE) if n >= vector]
        emit_shapes(builder, _i64(1), width, shapes, emit)
        return context.get_dummy_value()

    return types.void(i, a, i, d, i, slope, i, w, sums, i), codegen


def _times_slope(builder: Any, vector: Any, slope: Any) -> Any:
    """Emit a vector times a number, 0 if the number is 0, even for what is not finite."""
    zero = zero_of(vector.type)
    product = builder.fmul(vector, broadcast(builder, slope, vector.type))
    return builder.select(builder.fcmp_unordered("==", slope, slope.type(0)), zero, product)


def _encode_in_python(dtype, a, a_row, codes, codes_row, m, n):
    """`encode` in NumPy, on addresses."""
    active = memory_view(a, dtype, (m, n), (a_row * dtype.itemsize, dtype.itemsize)) > 0
    n_groups = -(-m // GROUP)
    bits = np.zeros((n_groups * GROUP, n), np.uint8)
    bits[:m] = active
    place = (CODE << np.arange(GROUP)).astype(np.uint8)
    view = memory_view(codes, np.uint8, (n_groups, n), (codes_row, 1))
    view[...] = np.einsum("gri,r->gi", bits.reshape(n_groups, GROUP, n), place)


def _multiply_in_python(
    dtype, x, x_row, d, d_row, codes, codes_row, slope, w, m, k, n, c, c_row, afresh, a, a_row,
    sums, summing,
):  # fmt: skip
    """`multiply_subsets` in NumPy, on addresses."""

    def view(address: int, rows: int, row: int, columns: int) -> Any:
        return memory_view(address, dtype, (rows, columns), (row * dtype.itemsize, dtype.itemsize))

    groups = memory_view(codes, np.uint8, (-(-k // GROUP), n), (codes_row, 1))
    bits = groups[:, None, :] & (CODE << np.arange(GROUP))[:, None]
    active = bits.reshape(-1, n)[:k] != 0
    column, outside = view(d, k, d_row, 1), view(slope, 1, 1, 1)
    deltas = np.where(active, column, column * outside if outside else 0)
    factors, result = view(w, 1, 0, n), view(c, m, c_row, n)
    result[...] = (view(x, k, x_row, m).T @ deltas) * factors + (0 if afresh else result)
    if summing:
        total = view(sums, 1, 0, n)
        total[...] = deltas.sum(axis=0) * factors + (0 if afresh else total)
