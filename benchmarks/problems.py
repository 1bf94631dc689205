"""The eight problems of the ladder, from 150 samples to three hidden layers of 256 units."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.preprocessing import StandardScaler

Array = NDArray[Any]

SEED = 0
ALPHA = 1e-4  # of the L2 penalty


@dataclass(frozen=True)
class Problem:
    """A data set, a network for it, and how to train it.

    Hidden units are ReLU and the loss is log loss. Everything not named here is scikit-learn's
    default.
    """

    name: str
    n_samples: int
    n_inputs: int
    hidden: tuple[int, ...]
    n_classes: int
    batch_size: int
    epochs: int  # timed: about as many as take scikit-learn a quarter of a second
    solver: str = "adam"

    @property
    def units(self) -> tuple[int, ...]:
        """Inputs, then outputs of each layer; two classes share one output."""
        return (self.n_inputs, *self.hidden, self.n_classes if self.n_classes > 2 else 1)

    @property
    def batches(self) -> int:
        """Mini-batches in an epoch, a short last one included."""
        return -(-self.n_samples // self.batch_size)

    def shortened(self) -> "Problem":
        """Return the same with a tenth of the epochs."""
        return replace(self, epochs=max(1, self.epochs // 10))

    def data(self, dtype: str) -> tuple[Array, Array]:
        """Return X of this dtype, in C order, and the classes y."""
        X, y = _load(self.name, self.n_samples, self.n_inputs, self.n_classes)
        return np.ascontiguousarray(X, dtype), y


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("iris", 150, 4, (100,), 3, 150, epochs=400),
        Problem("small", 2000, 20, (50,), 2, 200, epochs=50),
        Problem("batch32", 10_000, 30, (64, 64), 2, 32, epochs=2),
        Problem("medium", 20_000, 50, (100,), 2, 200, epochs=4),
        Problem("digits", 1797, 64, (100,), 10, 200, epochs=40),
        Problem("mnist", 10_000, 784, (100,), 10, 200, epochs=3),
        Problem("deep", 10_000, 100, (256, 256, 256), 10, 256, epochs=1),
        Problem("online", 2000, 20, (50,), 2, 1, epochs=1, solver="sgd"),
    )
}


@cache
def _load(name: str, n_samples: int, n_inputs: int, n_classes: int) -> tuple[Array, Array]:
    """Load real data where the name promises it, else draw some."""
    if name == "iris":
        X, y = load_iris(return_X_y=True)
        return StandardScaler().fit_transform(X), y
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X / 16, y
    if name == "mnist":
        from fastbp.datasets import load_mnist

        X, y = load_mnist(subset="train", return_X_y=True)
        return X[:n_samples], y[:n_samples]
    return make_classification(
        n_samples,
        n_inputs,
        n_informative=n_inputs // 2,
        n_classes=n_classes,
        n_clusters_per_class=1,
        random_state=SEED,
    )
