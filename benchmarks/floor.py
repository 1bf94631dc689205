"""The arithmetic floor: the multiply-adds of a mini-batch, at the rate of a large matrix product.

A library that does all of them in this precision cannot be faster, whatever it fuses. The rate is
measured in `benchmarks.processors`.
"""

from itertools import pairwise

from benchmarks.problems import Problem


def operations_per_sample(units: tuple[int, ...], density: float) -> float:
    """Return the floating-point operations of training on a sample, two per multiply-add.

    A layer takes ``2 * n_in * n_out`` forward, as many for its gradient and as many for the delta
    of the layer below. The first layer has no layer below, and multiplies only the stored elements
    of sparse inputs.
    """
    first, *others = (2 * n_in * n_out for n_in, n_out in pairwise(units))
    return 2 * density * first + 3 * sum(others)


def forward_operations_per_sample(units: tuple[int, ...]) -> int:
    """Return the floating-point operations of prediction for a sample."""
    return sum(2 * n_in * n_out for n_in, n_out in pairwise(units))


def operations_per_batch(problem: Problem) -> float:
    """Return the operations of a mini-batch, of the mean size if the last one is short."""
    per_sample = operations_per_sample(problem.units, problem.density)
    return per_sample * problem.n_samples / problem.batches
