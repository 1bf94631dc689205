"""Random states by seeds: NumPy takes 90 µs to make one, of which all but 30 go to entropy.

What seeds it here is thrown away at once; to seed one again takes 2 µs.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import MT19937, RandomState
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import check_random_state

from fastbp.pool import Pool

__all__ = ["WORDS", "borrowed_random_state", "make_random_state", "words_of"]

WORDS = 625  # of the state of NumPy's Mersenne Twister: its numbers, and which is next


class _NoEntropy(ISeedSequence):
    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[Any]:
        return np.zeros(n_words, dtype)


_pool: Pool[RandomState] = Pool(most=16)
_no_entropy: Any = _NoEntropy()


def make_random_state(seed: Any) -> RandomState:
    """Return what scikit-learn's `check_random_state` returns, in a third of the time."""
    if not isinstance(seed, Integral):
        given: RandomState = check_random_state(seed)
        return given
    made = RandomState(MT19937(_no_entropy))
    made.seed(int(seed))
    return made


@contextmanager
def borrowed_random_state(seed: Any) -> Iterator[RandomState]:
    """Give what `make_random_state` returns, which nobody must keep afterwards."""
    if not isinstance(seed, Integral):
        yield make_random_state(seed)
        return
    random_state = _pool.take(None, lambda: make_random_state(0))
    random_state.seed(int(seed))
    try:
        yield random_state
    finally:
        _pool.give(None, random_state)


def words_of(random_state: RandomState) -> Any:
    """Return the state of a generator that is a Mersenne Twister, to read and to write."""
    address = random_state._bit_generator.ctypes.state_address
    return (ctypes.c_uint32 * WORDS).from_address(address)
