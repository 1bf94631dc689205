"""Real data for tests, examples and benchmarks, read from files that ship with the package.

Nothing here uses the network. The loaders follow ``sklearn.datasets``; scikit-learn's own small
datasets are re-exported, so that one import serves all of them.
"""

from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)

from .loaders import (
    load_adult,
    load_california_housing,
    load_clothing_reviews,
    load_letter,
    load_mnist,
)

__all__ = [
    "load_adult",
    "load_breast_cancer",
    "load_california_housing",
    "load_clothing_reviews",
    "load_diabetes",
    "load_digits",
    "load_iris",
    "load_letter",
    "load_linnerud",
    "load_mnist",
    "load_wine",
]
