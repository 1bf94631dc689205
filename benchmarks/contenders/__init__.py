"""The contenders: each trains the same networks from the same weights, in the same order.

A contender is a class. Made for a problem, it puts the data where its library wants them; then
``fit(epochs)`` trains a new network and returns the loss of each epoch. The module of a contender
is imported only where it is asked for.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

from benchmarks.problems import Problem


class Contender(Protocol):
    """What trains networks for one problem, in one dtype, on so many threads."""

    given: str  # what a reader should know about how the library is used

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None: ...

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch."""
        ...


class Entry(NamedTuple):
    """Where a contender is to be found."""

    label: str
    distribution: str  # the library, under the name it is installed by
    module: str
    name: str


ENTRIES = {
    "scikit-learn": Entry("scikit-learn", "scikit-learn", "estimators", "ScikitLearn"),
    "fastbp": Entry("fastbp", "fastbp", "estimators", "Fastbp"),
    "pytorch": Entry("PyTorch", "torch", "pytorch_eager", "PyTorchEager"),
    "jax": Entry("JAX", "jax", "jax_scan", "JaxScan"),
}
BASELINE = "scikit-learn"


def is_installed(name: str) -> bool:
    """Tell whether the contender's library is there."""
    try:
        version(ENTRIES[name].distribution)
    except PackageNotFoundError:
        return False
    return True


def load(name: str) -> Any:
    """Import a contender; return its class."""
    entry = ENTRIES[name]
    return getattr(import_module(f"{__name__}.{entry.module}"), entry.name)
