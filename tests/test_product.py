"""Matrix products against NumPy: every tail of a tile, every epilogue, both paths."""

import numpy as np
import pytest
from common import need_blas

from fastbp.compiler.jit import kernel
from fastbp.compiler.memory import address
from fastbp.matmul import product as module
from fastbp.matmul.product import (
    ADD,
    BLAS,
    KEEP,
    MASK,
    RELU,
    SCALE,
    SET,
    STORE,
    TILES,
    Matrix,
    Sums,
    product,
    product_addresses,
)
from fastbp.matmul.thin import MOST_TERMS
from fastbp.matmul.tile import MOST_COLUMNS, ROW_CHOICES, VECTOR_BYTES, padded, vector_length

DTYPES = ["float32", "float64"]


@kernel
def multiply(
    addresses, path, a, a_strides, b, b_strides, c, start, start_row, epilogue, factor, shape,
    sums, mode,
):  # fmt: skip
    product(
        addresses,
        path,
        Matrix(address(a, 0), a_strides[0], a_strides[1]),
        Matrix(address(b, 0), b_strides[0], b_strides[1]),
        Matrix(address(c, 0), c.shape[1], 1),
        Matrix(address(start, 0), start_row, 1),
        epilogue,
        Matrix(address(factor, 0), factor.shape[1], 1),
        shape,
        Sums(address(sums, 0), mode),
    )


def draw(shape, columns, dtype, rng, scale=1.0):
    """A matrix padded to `columns`, with NaN in the padding, which must not reach a result."""
    memory = np.full((shape[0], columns), np.nan, dtype)
    memory[:, : shape[1]] = rng.normal(size=shape) * scale
    return memory


def run(
    m, n, k, dtype, epilogue=STORE, path=TILES, transposed=False, by_columns=False, mode=KEEP,
    start_row=0,
):  # fmt: skip
    rng = np.random.default_rng(0)
    columns = padded(n, dtype)
    a = rng.normal(size=(k, m) if transposed else (m, k)).astype(dtype)
    strides = (1, m) if transposed else (k, 1)
    if by_columns:  # rows of whole vectors, with NaN in the padding
        a, strides = in_vectors(a), (whole_vectors(k, dtype), 1)
    b, start, factor = (draw((r, n), columns, dtype, rng) for r in (k, 1, m))
    factor[rng.random(factor.shape) < 0.3] = 0
    c = np.zeros((m, columns), dtype)
    addresses = np.array(product_addresses(dtype))
    right, b_strides = (in_vectors(b[:, :n].T), strides[::-1]) if by_columns else (b, (columns, 1))
    if start_row != 0:  # otherwise all rows share one
        start, start_row = np.tile(start, (m, 1)), columns
    before = rng.normal(size=columns).astype(dtype)
    sums = before.copy()
    multiply(
        addresses, path, a, strides, right, b_strides, c, start, start_row, epilogue, factor,
        (m, n, k), sums, mode,
    )  # fmt: skip
    a = a.T if transposed else a[:, :k]
    expected = a.astype(float) @ b[:, :n] + start[:1, :n]
    f = factor[:, :n]
    expected = {
        STORE: lambda: expected,
        RELU: lambda: np.maximum(expected, 0),
        MASK: lambda: np.where(f == 0, 0, expected),
        SCALE: lambda: expected * f,
    }[epilogue]()
    tolerance = np.finfo(dtype).eps * 8 * (k + 2)
    np.testing.assert_allclose(c[:, :n], expected, rtol=tolerance, atol=tolerance)
    summed = {KEEP: 0, SET: 1, ADD: 1}[mode] * b[:, :n].astype(float).sum(axis=0)
    expected = summed + {KEEP: 1, SET: 0, ADD: 1}[mode] * before[:n]
    np.testing.assert_allclose(sums[:n], expected, rtol=tolerance, atol=tolerance)
    return c[:, :n]


def whole_vectors(k, dtype):
    vector = vector_length(dtype)
    return -(-k // vector) * vector


def in_vectors(matrix):
    """Return the matrix with rows padded with NaN to whole vectors."""
    memory = np.full((len(matrix), whole_vectors(matrix.shape[1], matrix.dtype)), np.nan)
    memory[:, : matrix.shape[1]] = matrix
    return memory.astype(matrix.dtype)


def edges(dtype):
    """Widths around those of the register tiles."""
    vector = vector_length(dtype)
    halves = (vector * n // 2 for n in (3, 5, 7))
    tiles = (vector // 4, vector // 2, *halves, *(vector * n for n in (1, 2, 3, 4, 8, 9)))
    return sorted({n + d for n in tiles for d in (-1, 0, 1)} - {-1, 0})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", range(1, 2 * ROW_CHOICES[0] + 2))
def test_every_tail(dtype, m):
    for n in edges(dtype):
        for k in (1, 2, 7):
            run(m, n, k, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epilogue", [STORE, RELU, MASK, SCALE])
@pytest.mark.parametrize("k", range(1, MOST_TERMS + 2))
def test_few_terms(dtype, epilogue, k):
    """Strips, used if all rows share their start, give the same bits as tiles."""
    for n in edges(dtype):
        for m in (1, 4, 19):
            for transposed in (False, True):
                by_strips = run(m, n, k, dtype, epilogue, transposed=transposed)
                by_tiles = run(m, n, k, dtype, epilogue, transposed=transposed, start_row=1)
                np.testing.assert_array_equal(by_strips, by_tiles)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", [SET, ADD])
@pytest.mark.parametrize("m", range(2 * ROW_CHOICES[0] + 2))
def test_sums_of_columns_beside_the_product(dtype, mode, m):
    for n in edges(dtype):
        for k in (0, 1, 3, 4, 7, 18):
            run(m, n, k, dtype, mode=mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", [TILES, BLAS], ids=["tiles", "blas"])
@pytest.mark.parametrize("epilogue", [STORE, RELU, MASK, SCALE])
def test_every_epilogue(dtype, path, epilogue):
    if path == BLAS:
        need_blas()
    for m, n, k in [(1, 1, 1), (5, 9, 3), (19, 37, 21), (300, 33, 8)]:
        run(m, n, k, dtype, epilogue, path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_transposed_left_side(dtype):
    for m, n, k in [(1, 1, 1), (13, 35, 9), (8, 16, 200)]:
        run(m, n, k, dtype, transposed=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", range(1, 2 * ROW_CHOICES[0] + 2))
def test_a_right_side_by_columns(dtype, m):
    for n in range(1, 2 * MOST_COLUMNS + 2):
        for k in edges(dtype):
            run(m, n, k, dtype, by_columns=True)
        run(m, n, 21, dtype, RELU, by_columns=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", [TILES, BLAS], ids=["tiles", "blas"])
def test_an_empty_sum_is_its_start(dtype, path):
    if path == BLAS:
        need_blas()
    run(3, 5, 0, dtype, path=path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "by_columns"), [(50, False), (3, True)], ids=["rows", "columns"])
def test_rows_have_the_same_bits_in_any_tile(dtype, n, by_columns):
    rng = np.random.default_rng(0)
    m, k = 31, 48
    a = rng.normal(size=(m, k)).astype(dtype)
    b, start = (draw((r, n), padded(n, dtype), dtype, rng) for r in (k, 1))
    b_strides = (padded(n, dtype), 1)
    if by_columns:
        b, b_strides = np.ascontiguousarray(b[:, :n].T), (1, k)
    addresses = np.array(product_addresses(dtype))

    def rows(low, high):
        c = np.zeros((high - low, padded(n, dtype)), dtype)
        part = np.ascontiguousarray(a[low:high])
        shape = (high - low, n, k)
        multiply(
            addresses, TILES, part, (k, 1), b, b_strides, c, start, 0, STORE, c, shape, c[0], KEEP
        )
        return c[:, :n]

    whole = rows(0, m)
    for low, high in [(0, 1), (3, 10), (7, 31), (30, 31)]:
        np.testing.assert_array_equal(whole[low:high], rows(low, high))


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_lets_nan_through(dtype):
    a = np.array([[np.nan], [1.0], [-1.0]], dtype)
    b = np.ones((1, padded(1, dtype)), dtype)
    c, zeros = np.zeros((3, b.shape[1]), dtype), np.zeros((1, b.shape[1]), dtype)
    for path in (TILES, BLAS if module.has_blas() else TILES):
        addresses = np.array(product_addresses(dtype))
        strides = (b.shape[1], 1)
        shape = (3, 1, 1)
        multiply(addresses, path, a, (1, 1), b, strides, c, zeros, 0, RELU, c, shape, c[0], KEEP)
        np.testing.assert_array_equal(c[:, 0], [np.nan, 1, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_covers_the_tiles(dtype):
    itemsize = np.dtype(dtype).itemsize
    assert padded(1, dtype) == 16 // itemsize
    vector = VECTOR_BYTES // itemsize
    for n in range(1, 600):
        length = padded(n, dtype)
        assert length >= n
        assert length * itemsize % 1024 != 0  # so columns of many rows can use the whole cache
        assert length < n + vector or (length - vector) * itemsize % 1024 == 0


def test_blas_is_asked_only_for_what_leaves_the_cache():
    assert not module.uses_blas(256, 256, "float32")
    assert module.uses_blas(2048, 2048, "float32") == module.has_blas()
