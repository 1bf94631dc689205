"""Random states that are created without entropy, against NumPy's own."""

import copy
import pickle

import numpy as np
import pytest
from numpy.random import RandomState

from fastbp.randomness import borrowed_random_state, make_random_state


def assert_same_state(one, other):
    for mine, theirs in zip(one.get_state(), other.get_state(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1, np.int32(5), np.uint8(3)])
def test_it_is_numpys_of_this_seed(seed):
    made, expected = make_random_state(seed), RandomState(seed)
    assert_same_state(made, expected)
    np.testing.assert_array_equal(made.uniform(size=1000), expected.uniform(size=1000))
    np.testing.assert_array_equal(made.normal(size=3), expected.normal(size=3))
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert_same_state(copied, expected)


def test_each_is_another():
    one, other = make_random_state(1), make_random_state(1)
    one.uniform()
    assert_same_state(other, RandomState(1))


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("make", [RandomState, make_random_state])
def test_seeds_that_numpy_refuses(make, seed):
    with pytest.raises(ValueError, match=r"Seed must be between 0 and 2\*\*32 - 1"):
        make(seed)


def test_what_is_no_integer_is_scikit_learns_to_check():
    given = RandomState(3)
    assert make_random_state(given) is given
    assert make_random_state(None) is np.random.mtrand._rand
    with pytest.raises(ValueError, match="cannot be used to seed"):
        make_random_state("seed")


def test_what_is_borrowed_begins_anew_each_time():
    with borrowed_random_state(7) as first:
        first.uniform(size=9)
    with borrowed_random_state(7) as second:
        assert_same_state(second, RandomState(7))
