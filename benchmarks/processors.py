"""The processors at their best: a large matrix product, and a barrier.

The rate of the product sets the floor. The barrier shows how far apart the processors are, which
determines the cost of data exchanged between threads.
"""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from benchmarks.problems import SEED, Array, draw
from fastbp.compiler.jit import kernel
from fastbp.kernels.scheduler import yield_address
from fastbp.kernels.team import make_team, wait

PRODUCT_SIZE = 1024  # rows and columns of the matrices whose product sets the rate
PRODUCT_REPEATS = 2
BARRIERS = 5_000
BARRIER_REPEATS = 5


class Processors:
    """Times a product of two large square matrices, by NumPy's BLAS, and a barrier of threads."""

    def __init__(self) -> None:
        self.factors: dict[str, tuple[Array, Array]] = {}

    def rate(self, dtype: str) -> float:
        """Return operations per second in this dtype, the best of a few runs."""
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
        """Return the seconds of a barrier of two idle threads, the best of a few runs."""
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
