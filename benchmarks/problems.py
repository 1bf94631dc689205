"""The problems that networks are trained on: the ladder's eight, and how to make others."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris
from sklearn.preprocessing import StandardScaler

Array = NDArray[Any]

SEED = 0
ALPHA = 1e-4  # of the L2 penalty


@dataclass(frozen=True)
class Problem:
    """A data set, a network for it, and how to train it.

    The loss is log loss, or half the squared error for regression. Everything not named here is
    scikit-learn's default.
    """

    name: str
    n_samples: int
    n_inputs: int
    hidden: tuple[int, ...]
    n_classes: int  # or columns of y, if the task is not classification
    batch_size: int
    epochs: int  # to time: scikit-learn takes about a quarter of a second for them
    solver: str = "adam"
    activation: str = "relu"
    task: str = "classification"  # or "multilabel", or "regression"
    source: str = "drawn"  # or a key of `SOURCES`, or a path: X is then mapped from this .npy file
    density: float = 1.0  # if less, X is a CSR matrix

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Make a problem from the result of `asdict` after it has been through JSON."""
        return cls(**{**fields, "hidden": tuple(fields["hidden"])})

    @property
    def units(self) -> tuple[int, ...]:
        """Inputs, then outputs of each layer; two classes share one output."""
        one = self.task == "classification" and self.n_classes == 2
        return (self.n_inputs, *self.hidden, 1 if one else self.n_classes)

    @property
    def batches(self) -> int:
        """Mini-batches in an epoch, including a short last one."""
        return -(-self.n_samples // self.batch_size)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields in a form that JSON can express, for `of`."""
        return asdict(self)

    def shortened(self) -> Self:
        """Return the problem with a tenth of the epochs, or of the samples if it has one epoch."""
        if self.epochs > 1:
            return replace(self, epochs=max(1, self.epochs // 10))
        return replace(self, n_samples=self.n_samples // 10)

    def data(self, dtype: str) -> tuple[Any, Array]:
        """Return X of this dtype, in C order or CSR, and y."""
        if self.source == "drawn":
            X = self._draw(dtype)
            return X, self._answer(X)
        if self.source in SOURCES:
            X, y = SOURCES[self.source](self.n_samples)
            X = X.astype(dtype, copy=False)
            return X if scipy.sparse.issparse(X) else np.ascontiguousarray(X), y
        X = np.load(self.source, mmap_mode="r")
        return X, self._answer(X)

    def _draw(self, dtype: str) -> Any:
        shape = self.n_samples, self.n_inputs
        if self.density == 1.0:
            return draw(shape, dtype, SEED)
        generator = np.random.default_rng(SEED)
        X = scipy.sparse.random_array(shape, density=self.density, dtype=dtype, rng=generator)
        return scipy.sparse.csr_matrix(X)

    def _answer(self, X: Any) -> Array:
        """Make y for X: linear scores, half of whose variance is noise, or classes made of them."""
        n_scores, dtype = self.units[-1], X.dtype.name
        directions = draw((self.n_inputs, n_scores), dtype, SEED + 1)
        scores: Array = (
            X @ directions / directions.dtype.type(np.sqrt(self.density * self.n_inputs))
        )
        scores += draw(scores.shape, dtype, SEED + 2)
        if self.task == "multilabel":
            return (scores > 0).astype(np.int64)
        if self.task == "regression":
            return scores[:, 0] if n_scores == 1 else scores
        return (scores[:, 0] > 0).astype(np.int64) if n_scores == 1 else scores.argmax(axis=1)


def draw(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """Return standard normal numbers, float32 or float64."""
    generator: Any = np.random.default_rng(seed)
    numbers: Array = generator.standard_normal(shape, dtype)
    return numbers


def _iris(n_samples: int) -> tuple[Array, Array]:
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X[:n_samples]), y[:n_samples]


def _digits(n_samples: int) -> tuple[Array, Array]:
    X, y = load_digits(return_X_y=True)
    return X[:n_samples] / 16, y[:n_samples]


def _mnist(n_samples: int) -> tuple[Array, Array]:
    from fastbp.datasets import load_mnist

    X, y = load_mnist(subset="train", return_X_y=True)
    return X[:n_samples], y[:n_samples]


def _reviews(n_samples: int) -> tuple[Any, Array]:
    """TF-IDF of words and pairs of words in clothing reviews; y is whether they recommend."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from fastbp.datasets import load_clothing_reviews

    texts, y = load_clothing_reviews(return_X_y=True)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=20_000, sublinear_tf=True, dtype=np.float32
    )
    return vectorizer.fit_transform(texts)[:n_samples], y[:n_samples]


SOURCES: dict[str, Callable[[int], tuple[Any, Array]]] = {
    "iris": _iris,
    "digits": _digits,
    "mnist": _mnist,
    "reviews": _reviews,
}

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("iris", 150, 4, (100,), 3, 150, epochs=400, source="iris"),
        Problem("small", 2000, 20, (50,), 2, 200, epochs=50),
        Problem("batch32", 10_000, 30, (64, 64), 2, 32, epochs=2),
        Problem("medium", 20_000, 50, (100,), 2, 200, epochs=4),
        Problem("digits", 1797, 64, (100,), 10, 200, epochs=40, source="digits"),
        Problem("mnist", 10_000, 784, (100,), 10, 200, epochs=3, source="mnist"),
        Problem("deep", 10_000, 100, (256, 256, 256), 10, 256, epochs=1),
        Problem("online", 2000, 20, (50,), 2, 1, epochs=1, solver="sgd"),
    )
}
