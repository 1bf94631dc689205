"""Products by sums over subsets, against NumPy: every tail, and no writes out of bounds."""

import numpy as np
import pytest
from test_product import DTYPES, edges

from fastbp.compiler.jit import call, kernel
from fastbp.compiler.memory import address
from fastbp.matmul.subsets import CODE, GROUP, MOST_GROUPS, subset_addresses
from fastbp.matmul.tile import vector_length
from fastbp.network import aligned_zeros

ROWS = [1, 3, 4, 6, 33, GROUP * MOST_GROUPS, GROUP * MOST_GROUPS + 5]


@kernel
def run_encode(function, a, codes, rows, n):
    call(function, (address(a, 0), a.shape[1], address(codes, 0), codes.shape[1], rows, n))


@kernel
def run_multiply(function, x, d, codes, slope, w, shape, c, afresh, a, sums, summing):
    m, k, n = shape
    operands = (
        address(x, 0), x.shape[1], address(d, 0), d.shape[1], address(codes, 0), codes.shape[1],
        address(slope, 0), address(w, 0), m, k, n, address(c, 0), c.shape[1], afresh,
        address(a, 0), a.shape[1], address(sums, 0), summing,
    )  # fmt: skip
    call(function, operands)


def padded_rows(k, n, dtype, rng=None, beyond=np.nan):
    """A matrix of whole groups and vectors, with `beyond` below k rows, and zeros right of n."""
    groups, vector = -(-k // GROUP), vector_length(dtype)
    shape = groups * GROUP, -(-n // vector) * vector
    matrix = aligned_zeros(shape[0] * shape[1], dtype).reshape(shape)
    matrix[k:] = beyond
    if rng is not None:
        matrix[:k, :n] = rng.normal(size=(k, n))
    return matrix


def draw(k, m, n, dtype):
    rng = np.random.default_rng(k + 10 * m + 1000 * n)
    x, a, d = (padded_rows(k, columns, dtype, rng) for columns in (m, n, 1))
    x[:k, m:] = np.nan
    w = padded_rows(1, n, dtype, rng)[:1]
    return x, d, a, w


def encode(a, k, n, dtype):
    codes = np.full((len(a) // GROUP, a.shape[1]), 255, np.uint8)
    run_encode(subset_addresses(dtype)[0], a, codes, k, n)
    return codes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", ROWS)
def test_codes(k, dtype):
    for n in edges(dtype):
        _, _, a, _ = draw(k, 1, n, dtype)
        codes = encode(a, k, n, dtype)
        active = np.zeros((len(a), n), bool)
        active[:k] = a[:k, :n] > 0
        bits = active.reshape(-1, GROUP, n)
        expected = sum((CODE << r) * bits[:, r].astype(int) for r in range(GROUP))
        np.testing.assert_array_equal(codes[:, :n], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("afresh", [0, 1])
@pytest.mark.parametrize("k", ROWS)
@pytest.mark.parametrize("slope", [0, 0.01, 1])
def test_every_tail(slope, k, afresh, dtype):
    for m in edges(dtype)[:9]:
        for n in edges(dtype)[::2]:
            x, d, a, w = draw(k, m, n, dtype)
            codes = encode(a, k, n, dtype)
            c = padded_rows(m + 2, n, dtype, np.random.default_rng(1), beyond=0)
            sums = padded_rows(1, n, dtype, np.random.default_rng(2))[:1]
            before, sums_before = c.copy(), sums.copy()
            for summing in (0, 1):
                run_multiply(
                    subset_addresses(dtype)[1], x, d, codes, np.array([slope], dtype), w, (m, k, n),
                    c, afresh, a, sums, summing,
                )  # fmt: skip
                if summing == 0:
                    np.testing.assert_array_equal(sums, sums_before)
                    np.testing.assert_array_equal(c[m:], before[m:])
                    c[...] = before
            factor = np.where(a[:k, :n] > 0, 1, slope)
            kept = 1 - afresh
            expected = (d[:k, :1].astype(float) * x[:k, :m]).T @ factor * w[:, :n]
            tolerance = 8 * np.finfo(dtype).eps * (k + 2)
            expected += kept * before[:m, :n]
            np.testing.assert_allclose(c[:m, :n], expected, rtol=tolerance, atol=tolerance)
            np.testing.assert_array_equal(c[:m, n:], 0)
            expected = d[:k, :1].astype(float).T @ factor * w[:, :n] + kept * sums_before[:, :n]
            np.testing.assert_allclose(sums[:, :n], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_spreads_to_the_units_it_reaches_only(dtype):
    x, d, a, w = draw(6, 5, 20, dtype)
    d[2] = np.nan
    c = padded_rows(5, 20, dtype)
    sums = padded_rows(1, 20, dtype)[:1]
    codes, slope = encode(a, 6, 20, dtype), np.zeros(1, dtype)
    run_multiply(subset_addresses(dtype)[1], x, d, codes, slope, w, (5, 6, 20), c, 1, a, sums, 1)
    reached = a[2, :20] > 0
    assert 0 < reached.sum() < 20
    np.testing.assert_array_equal(np.isnan(c[:5, :20]), np.tile(reached, (5, 1)))
    np.testing.assert_array_equal(np.isnan(sums[0, :20]), reached)
