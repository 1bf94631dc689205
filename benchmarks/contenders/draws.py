"""The random draws of scikit-learn's networks, for contenders that do not make them themselves.

With the same seed, all contenders start from the same weights and see the samples in the same
order, so their losses can be compared.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from benchmarks.problems import SEED, Array, Problem


class Draws:
    """The draws for one fit: first the weights, then an order of the samples for each epoch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.random_state = np.random.RandomState(SEED)

    def weights(self, dtype: str) -> list[tuple[Array, Array]]:
        """Draw W of shape (n_in, n_out) and b of each layer, as scikit-learn does for ReLU."""
        layers = []
        for n_in, n_out in pairwise(self.problem.units):
            bound = np.sqrt(6 / (n_in + n_out))
            shapes = (n_in, n_out), (n_out,)
            W, b = (self.random_state.uniform(-bound, bound, shape) for shape in shapes)
            layers.append((W.astype(dtype), b.astype(dtype)))
        return layers

    def orders(self, epochs: int) -> Iterator[Array]:
        """Yield, for each epoch, the row numbers in the order of training."""
        order = np.arange(self.problem.n_samples)
        for _ in range(epochs):
            permutation = np.arange(len(order))
            self.random_state.shuffle(permutation)
            order = order[permutation]
            yield order
