"""The copying of rows in an order against NumPy's indexing."""

import numpy as np
import pytest

from fastbp.compiler.jit import kernel
from fastbp.kernels.gather import FAR, are_finite, gather


@kernel
def run_gather(X, order, start, a):
    gather(X, order, start, a)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of_network", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (50, 3), (50, 13), (30, 100), (400, 1001)])
def test_rows_are_those_of_the_order(shape, of_network, dtype, index):
    """Rows of a small X and of a large one; memory behind the rows is not written."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(dtype)
    X.flags.writeable = False
    order = rng.permutation(shape[0]).astype(index)
    start = shape[0] // 3
    rows = shape[0] - start
    a = np.full((rows, shape[1] + 5), 7, of_network)
    run_gather(X, order, start, a)
    np.testing.assert_array_equal(a[:, : shape[1]], X[order[start:]].astype(of_network))
    assert (a[:, shape[1] :] == 7).all()


def test_the_shapes_above_are_on_both_sides():
    assert 50 * 13 * 8 < FAR <= 400 * 1001 * 4


@kernel
def run_are_finite(vector):
    return are_finite(vector)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 64, 1001])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_numbers_are_told_from_others(bad, size, dtype):
    largest = np.finfo(dtype).max
    vector = np.random.default_rng(0).choice([-largest, -0.0, largest], size).astype(dtype)
    assert run_are_finite(vector)
    for i in range(0, size, 9):
        vector[i], good = bad, vector[i]
        assert not run_are_finite(vector)
        vector[i] = good
