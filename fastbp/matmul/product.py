"""The matrix product the kernels call, and its choice between register tiles and BLAS.

`multiply` is compiled once for each dtype, as a C function, and called through its address:
compiled into each of its callers it would be optimised again in each of them.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from fastbp.kernels.jit import DISABLED, c_function, call, memory_view, part
from fastbp.matmul.tile import (
    MASK,
    RELU,
    ROW_CHOICES,
    SCALE,
    STORE,
    choose_width,
    multiply_tile,
    padded,
)

try:
    from fastbp.matmul import blas  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    blas = None

__all__ = [
    "BLAS_ROWS", "MASK", "RELU", "SCALE", "STORE", "Matrix", "has_blas", "padded",
    "product", "product_addresses", "uses_blas",
]  # fmt: skip

# BLAS repacks B at each call, which pays where B has left the second-level cache for the tiles.
BLAS_BYTES = 2 << 20
# BLAS rounds differently for blocks of different height, so it is given blocks of one height:
# the same bits then, however many threads share the rows.
BLAS_ROWS = 128


class Matrix(NamedTuple):
    """A matrix in memory: the address of its first element and its strides in elements."""

    address: int
    row: int
    column: int = 1


def has_blas() -> bool:
    """Tell whether the Cython extension was built."""
    return blas is not None


def uses_blas(k: int, n: int, dtype: Any) -> bool:
    """Tell whether a product with B of shape (k, n) goes to BLAS."""
    return has_blas() and k * n * np.dtype(dtype).itemsize > BLAS_BYTES


def multiply(
    a, a_row, a_column, b, b_row, start, start_row, c, c_row, m, n, k, epilogue, factor,
    factor_row, blas_address,
):  # fmt: skip
    """``C := epilogue(start + A @ B)``, A (m, k), B (k, n), C (m, n).

    Tiles touch C, B, start and factor up to ``padded(n)`` columns. `start` with a row stride of 0
    is one row for all, a bias. ``blas_address`` 0 asks for tiles.
    """
    if blas_address == 0:
        j = 0
        while j < n:
            width = choose_width(c, n - j)
            i = 0
            while i < m:
                left = m - i
                rows = (
                    ROW_CHOICES[0] if left >= ROW_CHOICES[0] else 4 if left >= 4 else min(left, 2)
                )
                multiply_tile(
                    rows, width, _at(a, i * a_row), a_row, a_column, _at(b, j), b_row,
                    _at(start, i * start_row + j), start_row, _at(c, i * c_row + j), c_row,
                    k, epilogue, _at(factor, i * factor_row + j), factor_row,
                )  # fmt: skip
                i += rows
            j += width
        return
    for i in range(m):
        row = _row(_at(c, i * c_row), n)
        first = _row(_at(start, i * start_row), n)
        for j in range(n):
            row[j] = first[j]
    for i in range(0, m, BLAS_ROWS):
        rows = min(BLAS_ROWS, m - i)
        _call_blas(blas_address, _at(a, i * a_row), a_row, b, b_row, _at(c, i * c_row), c_row,
                   rows, n, k)  # fmt: skip
    if epilogue == STORE:
        return
    for i in range(m):
        row = _row(_at(c, i * c_row), n)
        other = _row(_at(factor, i * factor_row), n)
        if epilogue == RELU:
            for j in range(n):
                row[j] = 0 if row[j] < 0 else row[j]
        elif epilogue == MASK:
            for j in range(n):
                row[j] = 0 if other[j] == 0 else row[j]
        else:
            for j in range(n):
                row[j] *= other[j]


@intrinsic
def _at(typing_context, pointer, index):
    """Pointer to element `index`."""

    def codegen(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), codegen


@part
def _row(pointer, n):
    return carray(pointer, (n,))


@intrinsic
def _call_blas(typing_context, function, a, a_row, b, b_row, c, c_row, m, n, k):
    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values[1:]])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, a, i, b, i, c, i, i, i, i), codegen


@part
def product(addresses, large, a, b, c, start, epilogue, factor, shape):
    """``C := epilogue(start + A @ B)`` of the matrices a (m, k), b (k, n), c (m, n).

    `addresses` begin with `product_addresses`; `large` asks for BLAS; `start` is (m, n), or
    (1, n) with a row stride of 0; `shape` is (m, n, k).
    """
    m, n, k = shape
    operands = (
        a.address, a.row, a.column, b.address, b.row, start.address, start.row, c.address, c.row,
        m, n, k, epilogue, factor.address, factor.row, addresses[1] if large else 0,
    )  # fmt: skip
    call(addresses[0], operands)


@cache
def product_addresses(dtype: str) -> tuple[int, int]:
    """Return the addresses of `multiply`, compiled for "float32" or "float64", and of BLAS or 0."""
    if DISABLED:
        return c_function(partial(_multiply_in_python, np.dtype(dtype))), 0
    f, i = types.CPointer(getattr(types, dtype)), types.int64
    multiply_address = c_function(multiply, f, i, i, f, i, f, i, f, i, i, i, i, i, f, i, i)
    return multiply_address, blas.ADDRESSES[dtype] if blas else 0


def _multiply_in_python(
    dtype, a, a_row, a_column, b, b_row, start, start_row, c, c_row, m, n, k, epilogue, factor,
    factor_row, blas_address,
):  # fmt: skip
    """`multiply`, by NumPy and on addresses."""

    def view(address: int, rows: int, row: int, columns: int, column: int = 1) -> Any:
        strides = (row * dtype.itemsize, column * dtype.itemsize)
        return memory_view(address, dtype, (rows, columns), strides)

    result = view(start, m, start_row, n) + view(a, m, a_row, k, a_column) @ view(b, k, b_row, n)
    if epilogue == RELU:
        result[result < 0] = 0
    elif epilogue == MASK:
        result[view(factor, m, factor_row, n) == 0] = 0
    elif epilogue == SCALE:
        result *= view(factor, m, factor_row, n)
    view(c, m, c_row, n)[...] = result
