"""The index of each row's largest element, against NumPy's `argmax`."""

import numpy as np
import pytest

from fastbp.kernels.decisions import FEWEST, MOST_COLUMNS, find_largest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 2, 3, 10, MOST_COLUMNS, MOST_COLUMNS + 1])
@pytest.mark.parametrize("rows", [0, 1, 100, FEWEST])
def test_it_is_numpys(rows, columns, dtype):
    outputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(dtype)
    found, expected = find_largest(outputs), outputs.argmax(axis=1)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [0.0, -0.0, np.inf, -np.inf, np.nan])
def test_of_equal_ones_it_is_the_first_and_a_nan_is_the_largest(special, dtype):
    rng = np.random.default_rng(1)
    outputs = rng.integers(-1, 2, (FEWEST, 4)).astype(dtype)
    outputs[rng.random(outputs.shape) < 0.3] = special
    outputs[::50] = special
    np.testing.assert_array_equal(find_largest(outputs), outputs.argmax(axis=1))


@pytest.mark.parametrize("row", [0, 7, FEWEST - 1])
@pytest.mark.parametrize("column", [0, 2])
def test_a_single_nan_is_found(row, column):
    outputs = np.random.default_rng(2).normal(size=(FEWEST, 3))
    outputs[row, column] = np.nan
    np.testing.assert_array_equal(find_largest(outputs), outputs.argmax(axis=1))
