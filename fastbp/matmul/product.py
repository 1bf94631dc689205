"""The matrix product the kernels call, and its choice between register tiles and BLAS.

`multiply` is compiled once for each dtype, as a C function, and called through its address:
compiled into each of its callers it would be optimised again in each of them.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, c_function, call, inner_kernel, part
from fastbp.compiler.memory import array_at, memory_view, shifted
from fastbp.compiler.passes import optimised_already
from fastbp.matmul.sums import MOST_SUMMED, sum_strip
from fastbp.matmul.thin import MOST_IN_STRIP, MOST_TERMS, multiply_strip
from fastbp.matmul.tile import (
    HALVES,
    MASK,
    MOST_COLUMNS,
    MOST_VECTORS,
    RELU,
    ROW_CHOICES,
    SCALE,
    STORE,
    SUM_ROWS,
    VECTOR_BYTES,
    length_of_vector,
    multiply_and_sum_tile,
    multiply_dot_tile,
    multiply_tiles,
    padded,
    vector_length,
)

try:
    from fastbp.matmul import blas  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    blas = None

__all__ = [
    "ADD", "BLAS", "BLAS_ROWS", "KEEP", "MASK", "NONZEROS", "NO_SUMS", "RELU", "SCALE", "SET",
    "STORE", "TILES", "Matrix", "Sums", "choose_width", "compile_product", "has_blas", "padded",
    "product", "product_addresses", "sum_columns", "uses_blas", "vector_length",
]  # fmt: skip

# BLAS repacks B in each call, which pays where B does not fit the second-level cache for the tiles.
BLAS_BYTES = 2 << 20
# BLAS rounds differently for blocks of different height, so it is given blocks of one height:
# the bits are then the same for any number of threads that share the rows.
BLAS_ROWS = 128
SMALLEST_PART = VECTOR_BYTES // 16  # the parts of 128 bits in a vector


class Matrix(NamedTuple):
    """A matrix in memory: the address of its first element and its strides in elements."""

    address: int
    row: int
    column: int = 1


TILES, BLAS, NONZEROS = 0, 1, 3  # the paths of a product, as places in `addresses`

KEEP, SET, ADD = range(3)


class Sums(NamedTuple):
    """The address for the column sums of B, and the mode: keep, set or add to what is there."""

    address: int
    mode: int


NO_SUMS = Sums(0, KEEP)


def has_blas() -> bool:
    """Return whether the Cython extension was built."""
    return blas is not None


def uses_blas(k: int, n: int, dtype: Any) -> bool:
    """Return whether a product with B of shape (k, n) goes to BLAS."""
    return has_blas() and k * n * np.dtype(dtype).itemsize > BLAS_BYTES


@optimised_already
def multiply(
    a, a_row, a_column, b, b_row, b_column, start, start_row, c, c_row, m, n, k, epilogue, factor,
    factor_row, sums, summing, _,
):  # fmt: skip
    """``C := epilogue(start + A @ B)``, A (m, k), B (k, n), C (m, n), by tiles.

    Either the rows of B are contiguous, and tiles touch C, B, start and factor up to ``padded(n)``
    columns; or the columns of B and the rows of A are contiguous, both are read up to whole
    vectors, and no factor or sums are asked for. `start` with a row stride of 0 is a single row for
    all, a bias. `summing` is one of the modes of `Sums`.
    """
    if b_column != 1:
        for j in range(0, n, MOST_COLUMNS):
            columns = min(MOST_COLUMNS, n - j)
            i = 0
            while i < m:
                rows = _choose_dot_rows(m - i, columns)
                multiply_dot_tile(
                    rows, columns, shifted(a, i * a_row), a_row, shifted(b, j * b_column), b_column,
                    shifted(start, i * start_row + j), start_row, shifted(c, i * c_row + j), c_row,
                    k, epilogue,
                )  # fmt: skip
                i += rows
    elif 0 < k <= MOST_TERMS and start_row == 0 and summing == KEEP:
        vector, j = length_of_vector(c), 0
        while j < n:
            vectors = min((n - j + vector - 1) // vector, MOST_IN_STRIP)
            width = vectors * vector if vectors > 1 else choose_width(vector, n - j, 1)
            multiply_strip(
                k, width, a, a_row, a_column, shifted(b, j), b_row, shifted(start, j),
                shifted(c, j), c_row, m, epilogue, shifted(factor, j), factor_row,
            )  # fmt: skip
            j += width
    else:
        if m < ROW_CHOICES[1]:
            sum_columns(b, b_row, k, n, sums, summing)
        i = 0
        while i < m:
            # First whole tiles below one another, with their columns of B cached; then the rest.
            rows, first = _choose_rows(m - i), i
            if i == 0 and summing != KEEP and rows >= ROW_CHOICES[1]:
                first = min(rows, SUM_ROWS)  # below the tile that sums
            last = first + (m - first) // rows * rows if rows == ROW_CHOICES[0] else i + rows
            j = 0
            while j < n:
                width = choose_width(length_of_vector(c), n - j, rows)
                if first > i:
                    multiply_and_sum_tile(
                        first, width, a, a_row, a_column, shifted(b, j), b_row,
                        shifted(start, j), start_row, shifted(c, j), c_row, k, shifted(sums, j),
                        np.int64(summing == SET),
                    )  # fmt: skip
                if first < last:
                    multiply_tiles(
                        (last - first) // rows, rows, width, shifted(a, first * a_row), a_row,
                        a_column, shifted(b, j), b_row, shifted(start, first * start_row + j),
                        start_row, shifted(c, first * c_row + j), c_row, k, epilogue,
                        shifted(factor, first * factor_row + j), factor_row,
                    )  # fmt: skip
                j += width
            i = last


@part
def _choose_rows(left):
    """Return the number of rows of the next tile, where `left` rows remain."""
    return ROW_CHOICES[0] if left >= ROW_CHOICES[0] else min(left, ROW_CHOICES[1])


@part
def _choose_dot_rows(left, columns):
    """Return the same for a tile of DOT_SHAPES with this number of columns."""
    if columns == 1 and left >= ROW_CHOICES[0]:
        return ROW_CHOICES[0]
    return ROW_CHOICES[1] if left >= ROW_CHOICES[1] else 1


@part
def choose_width(vector, left, rows):
    """Return the width of the next tile of `rows` rows, where `left` columns remain."""
    has_more = rows == ROW_CHOICES[0] or rows == 1
    if left <= vector:
        width = vector
        while width // 2 >= left and width * SMALLEST_PART > vector:
            width //= 2
    elif has_more and 3 in HALVES and 2 * left <= 3 * vector:
        width = 3 * vector // 2
    elif has_more and 5 in HALVES and 4 * vector < 2 * left <= 5 * vector:
        width = 5 * vector // 2
    elif has_more and 6 in HALVES and 2 * vector < left <= 3 * vector:
        width = 3 * vector
    elif rows == ROW_CHOICES[0]:
        # Up to 1.5 vectors: one vector, then a narrower tile for the rest, where that is faster.
        width = 2 * vector if 2 * left > 3 * vector or 6 in HALVES else vector
    else:
        width = MOST_VECTORS[ROW_CHOICES[1] + 1 - rows] * vector
        while width >= left + vector:
            width //= 2
    return width


@part
def sum_columns(b, b_row, k, n, sums, summing):
    """Set n elements of `sums` to the column sums of B, or add these, as `summing` says."""
    vector, j = length_of_vector(b), 0
    while j < n and summing != KEEP:
        width = MOST_SUMMED * vector
        while width >= 2 * (n - j) and width * SMALLEST_PART > vector:
            width //= 2
        sum_strip(width, shifted(b, j), b_row, k, np.int64(summing == SET), shifted(sums, j))
        j += width


def multiply_by_blas(
    a, a_row, _, b, b_row, __, start, start_row, c, c_row, m, n, k, epilogue, factor, factor_row,
    ___, ____, gemm,
):  # fmt: skip
    """`multiply` by the BLAS function at the address `gemm`; rows of A and B are contiguous."""
    for i in range(m):
        row = _row(shifted(c, i * c_row), n)
        first = _row(shifted(start, i * start_row), n)
        for j in range(n):
            row[j] = first[j]
    for i in range(0, m, BLAS_ROWS):
        rows = min(BLAS_ROWS, m - i)
        _call_blas(gemm, shifted(a, i * a_row), a_row, b, b_row, shifted(c, i * c_row), c_row,
                   rows, n, k)  # fmt: skip
    if epilogue == STORE:
        return
    for i in range(m):
        row = _row(shifted(c, i * c_row), n)
        other = _row(shifted(factor, i * factor_row), n)
        if epilogue == RELU:
            for j in range(n):
                row[j] = 0 if row[j] < 0 else row[j]
        elif epilogue == MASK:
            for j in range(n):
                row[j] = 0 if other[j] == 0 else row[j]
        else:
            for j in range(n):
                row[j] *= other[j]


@part
def _row(pointer, n):
    return array_at(pointer, (n,))


@intrinsic
def _call_blas(typing_context, function, a, a_row, b, b_row, c, c_row, m, n, k):
    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values[1:]])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, a, i, b, i, c, i, i, i, i), codegen


@inner_kernel
def product(addresses, path, a, b, c, start, epilogue, factor, shape, sums):
    """``C := epilogue(start + A @ B)`` of the matrices a (m, k), b (k, n), c (m, n).

    `addresses` begins with `product_addresses` and the address from `fastbp.matmul.nonzeros`;
    `path` is one of TILES, BLAS and NONZEROS; `start` is (m, n), or (1, n) with a row stride of 0;
    `shape` is (m, n, k). `sums` is `NO_SUMS`, or asks for the column sums of B, which BLAS does not
    return. If the columns of B are contiguous, there are no sums, no MASK and no SCALE.
    """
    m, n, k = shape
    operands = (
        a.address, a.row, a.column, b.address, b.row, b.column, start.address, start.row, c.address,
        c.row, m, n, k, epilogue, factor.address, factor.row, sums.address, sums.mode, addresses[2],
    )  # fmt: skip
    call(addresses[path], operands)


def product_addresses(dtype: str, large: bool = True) -> tuple[int, int, int]:
    """Return the addresses of `multiply`, of `multiply_by_blas` and of BLAS's own function.

    They are compiled for "float32" or "float64"; the latter two are 0 if no layer is large, or
    there is no BLAS.
    """
    by_tiles = compile_product(multiply, dtype)
    if DISABLED:
        return by_tiles, by_tiles, 0
    if not (large and blas):
        return by_tiles, 0, 0
    return by_tiles, compile_product(multiply_by_blas, dtype), blas.ADDRESSES[dtype]


@cache
def compile_product(function: Any, dtype: str, compile_it: bool = True) -> int:
    """Compile a function with the arguments of `multiply`, and return its address.

    With `compile_it=False` the address is 0 if the function is in no cache.
    """
    if DISABLED:
        return c_function(partial(multiply_in_python, np.dtype(dtype)))
    f, i = types.CPointer(getattr(types, dtype)), types.int64
    kinds = f, i, i, f, i, i, f, i, f, i, i, i, i, i, f, i, f, i, i
    return c_function(function, *kinds, as_written=True, compile_it=compile_it)


def multiply_in_python(
    dtype, a, a_row, a_column, b, b_row, b_column, start, start_row, c, c_row, m, n, k, epilogue,
    factor, factor_row, sums, summing, _,
):  # fmt: skip
    """`multiply` in NumPy, on addresses."""

    def view(address: int, rows: int, row: int, columns: int, column: int = 1) -> Any:
        strides = (row * dtype.itemsize, column * dtype.itemsize)
        return memory_view(address, dtype, (rows, columns), strides)

    left, right = view(a, m, a_row, k, a_column), view(b, k, b_row, n, b_column)
    result = view(start, m, start_row, n) + left @ right
    if epilogue == RELU:
        result[result < 0] = 0
    elif epilogue == MASK:
        result[view(factor, m, factor_row, n) == 0] = 0
    elif epilogue == SCALE:
        result *= view(factor, m, factor_row, n)
    view(c, m, c_row, n)[...] = result
    if summing != KEEP:
        total = view(sums, 1, 0, n)
        total[...] = right.sum(axis=0) + (total if summing == ADD else 0)
