"""The child process of a race: it prepares a contender, and times it when asked."""

import hashlib
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks.contenders import Contender, load
from benchmarks.problems import Problem

SAMPLE_SECONDS = 0.05  # calls that take less are repeated
MOST_REPEATS = 1000

Result = dict[str, Any]  # what JSON can express


class Runner:
    """One contender; everything is compiled and warmed up before it is timed.

    Parameters
    ----------
    name : str
        The contender's name in `contenders.ENTRIES`.
    n_threads : int
        How many threads this process may use.
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self.kind, self.n_threads = load(name), n_threads
        self.task: Fits | Calls | None = None

    def describe(self) -> Result:
        """Return how the contender's library is used, and which libraries have threads."""
        return {"given": self.kind.given, "libraries": threadpool_info()}

    def prepare_fits(self, problem: Result, dtype: str) -> Result:
        """Prepare to time fits; return the losses of the longer fit, and the repeats."""
        self.task = None  # frees its memory before the next task takes any
        made = Problem.of(problem)
        self.task = fits = Fits(self.kind(made, dtype, self.n_threads), made)
        return {"losses": fits.losses, "repeats": fits.repeats}

    def prepare_predictions(self, problem: Result, dtype: str, method: str, rows: int) -> Result:
        """Prepare to time a method on `rows` rows, after a fit of one epoch."""
        self.task = None
        contender = self.kind(Problem.of(problem), dtype, self.n_threads)
        estimator = contender.fitted(epochs=1)
        X = contender.X[np.arange(rows) % len(contender.X)]
        self.task = Calls(getattr(estimator, method), X)
        return {"repeats": self.task.repeats}

    def sample(self) -> float:
        """Return the seconds of a mini-batch, or of a call."""
        assert self.task is not None
        return self.task.sample()

    def digest(self, problem: Result, dtype: str) -> str:
        """Return a digest of the weights after the problem's fit."""
        made = Problem.of(problem)
        fitted = self.kind(made, dtype, self.n_threads).fitted(made.epochs)
        weights = [np.ascontiguousarray(w) for w in fitted.coefs_ + fitted.intercepts_]
        return hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()


class Fits:
    """Times fits of 1 + epochs epochs minus fits of one, so that other costs of a fit cancel."""

    def __init__(self, contender: Contender, problem: Problem) -> None:
        self.fit, self.problem = contender.fit, problem
        self.fit(1)
        began = perf_counter()
        self.losses = [float(loss) for loss in self.fit(1 + problem.epochs)]
        self.repeats = _repeats(perf_counter() - began)

    def sample(self) -> float:
        """Return the seconds of a mini-batch."""
        epochs, seconds = self.problem.epochs, []
        for _ in range(self.repeats):  # long and short in turn, so that caches favour neither
            seconds.append([_seconds(self.fit, (n,)) for n in (1 + epochs, 1)])
        long, short = (median(column) for column in zip(*seconds, strict=True))
        return (long - short) / (epochs * self.problem.batches)


class Calls:
    """Times calls of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments
        function(*arguments)
        self.repeats = _repeats(_median_seconds(function, arguments, 3))

    def sample(self) -> float:
        """Return the seconds of a call."""
        return _median_seconds(self.function, self.arguments, self.repeats)


def _repeats(seconds: float) -> int:
    return max(1, min(MOST_REPEATS, round(SAMPLE_SECONDS / seconds)))


def _median_seconds(function: Callable[..., Any], arguments: Sequence[Any], repeats: int) -> float:
    return median(_seconds(function, arguments) for _ in range(repeats))


def _seconds(function: Callable[..., Any], arguments: Sequence[Any]) -> float:
    began = perf_counter()
    function(*arguments)
    return perf_counter() - began
