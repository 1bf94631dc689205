"""The kernels' shuffle against NumPy's: the same order, and the same state afterwards."""

import numpy as np
import pytest

from fastbp.compiler.jit import kernel
from fastbp.kernels.shuffle import AHEAD, FAR, generator_addresses, shuffle


@kernel
def run_shuffle(order, generator):
    shuffle(order, generator)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 31, 32, 33, 64, 65, 1000, 4097])
@pytest.mark.parametrize("bit_generator", [np.random.MT19937, np.random.PCG64])
def test_numpys_order(n, bit_generator):
    mine, theirs = (np.random.RandomState(bit_generator(7)) for _ in range(2))
    order, expected = np.arange(n), np.arange(n)
    for _ in range(3):
        run_shuffle(order, generator_addresses(mine))
        theirs.shuffle(expected)
        np.testing.assert_array_equal(order, expected)
    assert mine.randint(1 << 30) == theirs.randint(1 << 30)


@pytest.mark.parametrize("n", [FAR - 1, FAR, FAR + 1, FAR + AHEAD, 3 * FAR])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_numpys_order_of_many(n, index):
    """The kernel draws numbers before it uses them."""
    mine, theirs = (np.random.RandomState(5) for _ in range(2))
    order, expected = np.arange(n, dtype=index), np.arange(n)
    run_shuffle(order, generator_addresses(mine))
    theirs.shuffle(expected)
    np.testing.assert_array_equal(order, expected)
    assert mine.randint(1 << 30) == theirs.randint(1 << 30)


def test_a_shuffled_order_is_numpys_permutation_of_it():
    """scikit-learn permutes the previous order by a shuffled `arange`."""
    mine, theirs = np.random.RandomState(3), np.random.RandomState(3)
    order = np.random.default_rng(0).permutation(100)
    before, permutation = order.copy(), np.arange(100)
    run_shuffle(order, generator_addresses(mine))
    theirs.shuffle(permutation)
    np.testing.assert_array_equal(order, before[permutation])
