"""The arithmetic floor: the multiply-adds of a mini-batch, at the rate of a large matrix product.

No library that multiplies dense matrices in this precision can be faster, whatever it fuses.
"""

from itertools import pairwise
from time import perf_counter

import numpy as np

from benchmarks.problems import SEED, Problem

PRODUCT_SIZE = 1024  # of the square matrices whose product sets the rate
PRODUCT_REPEATS = 2


def operations_per_sample(units: tuple[int, ...]) -> int:
    """Count the floating-point operations that training takes for a sample, two a multiply-add.

    A layer takes ``2 * n_in * n_out`` forward, as many for its gradient and as many for the delta
    of the layer below. The first layer has no layer below.
    """
    layers = [2 * n_in * n_out for n_in, n_out in pairwise(units)]
    return 3 * sum(layers) - layers[0]


def operations_per_batch(problem: Problem) -> float:
    """Count the operations of a mini-batch, of the mean size where the last one is short."""
    return operations_per_sample(problem.units) * problem.n_samples / problem.batches


class LargeProduct:
    """Times the product of two large square matrices, by NumPy's BLAS."""

    def __init__(self, dtype: str) -> None:
        generator = np.random.default_rng(SEED)
        shape = (PRODUCT_SIZE, PRODUCT_SIZE)
        self.a, self.b = (generator.standard_normal(shape, dtype) for _ in range(2))
        self.rate()  # starts the threads

    def rate(self) -> float:
        """Return operations per second, the best of a few tries."""
        seconds = []
        for _ in range(PRODUCT_REPEATS):
            began = perf_counter()
            self.a @ self.b
            seconds.append(perf_counter() - began)
        return 2 * PRODUCT_SIZE**3 / min(seconds)
