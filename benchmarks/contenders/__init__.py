"""The contenders: each trains the same networks from the same weights, in the same order.

A contender is a class. Its constructor prepares a problem's data in the form that its library
wants; then ``fit(epochs)`` trains a new network and returns the loss of each epoch. A contender's
module is imported only when the contender is loaded.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

from benchmarks.problems import Problem


class Contender(Protocol):
    """Trains networks for one problem, in one dtype, on a given number of threads."""

    given: str  # for the report: how the library is used

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None: ...

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch."""
        ...


class Entry(NamedTuple):
    """Where to find a contender: its label in tables, library, module and class."""

    label: str
    distribution: str  # the name under which the library is installed
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
    """Return whether the contender's library is installed."""
    try:
        version(ENTRIES[name].distribution)
    except PackageNotFoundError:
        return False
    return True


def load(name: str) -> Any:
    """Import the contender's module; return its class."""
    entry = ENTRIES[name]
    return getattr(import_module(f"{__name__}.{entry.module}"), entry.name)
