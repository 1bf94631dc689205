"""The arithmetic floor: the multiply-adds of a mini-batch, at the rate of a large matrix product.

No library that multiplies dense matrices in this precision can be faster, whatever it fuses. What
threads exchange comes on top, and depends on how far the processors are from one another.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import Any

from benchmarks.problems import SEED, Array, Problem, draw
from fastbp.kernels.jit import kernel
from fastbp.kernels.team import make_team, wait, yield_address

PRODUCT_SIZE = 1024  # of the square matrices whose product sets the rate
PRODUCT_REPEATS = 2
BARRIERS = 5_000
BARRIER_REPEATS = 5


def operations_per_sample(units: tuple[int, ...], density: float) -> float:
    """Count the floating-point operations that training takes for a sample, two a multiply-add.

    A layer takes ``2 * n_in * n_out`` forward, as many for its gradient and as many for the delta
    of the layer below. The first layer has no layer below, and of sparse inputs it multiplies only
    those that are stored.
    """
    first, *others = (2 * n_in * n_out for n_in, n_out in pairwise(units))
    return 2 * density * first + 3 * sum(others)


def forward_operations_per_sample(units: tuple[int, ...]) -> int:
    """Count the floating-point operations that prediction takes for a sample."""
    return sum(2 * n_in * n_out for n_in, n_out in pairwise(units))


def operations_per_batch(problem: Problem) -> float:
    """Count the operations of a mini-batch, of the mean size where the last one is short."""
    per_sample = operations_per_sample(problem.units, problem.density)
    return per_sample * problem.n_samples / problem.batches


class Processors:
    """What the processors can do at best: multiply two large square matrices, by NumPy's BLAS."""

    def __init__(self) -> None:
        self.factors: dict[str, tuple[Array, Array]] = {}

    def rate(self, dtype: str) -> float:
        """Return operations per second in this dtype, the best of a few tries."""
        if dtype not in self.factors:
            self.factors[dtype] = _draw_factors(dtype)
        a, b = self.factors[dtype]
        seconds = []
        for _ in range(PRODUCT_REPEATS):
            began = perf_counter()
            a @ b
            seconds.append(perf_counter() - began)
        return 2 * PRODUCT_SIZE**3 / min(seconds)

    def barrier(self) -> float:
        """Return the seconds of a barrier of two threads that work at nothing, the best of some."""
        arguments = make_team(), BARRIERS, yield_address()
        seconds = []
        with ThreadPoolExecutor(2) as pool:
            for _ in range(BARRIER_REPEATS):
                began = perf_counter()
                for done in [pool.submit(_wait_often, *arguments) for _ in range(2)]:
                    done.result()
                seconds.append(perf_counter() - began)
        return min(seconds) / BARRIERS


@kernel
def _wait_often(team: Any, n_times: int, yield_function: int) -> None:
    for _ in range(n_times):
        wait(team, 2, yield_function)


def _draw_factors(dtype: str) -> tuple[Array, Array]:
    a, b = (draw((PRODUCT_SIZE, PRODUCT_SIZE), dtype, seed) for seed in (SEED, SEED + 1))
    a @ b  # starts the threads
    return a, b
