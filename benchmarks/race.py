"""Races: contenders, each in a process of its own, asked in turn for one sample each.

A B C A B C: a temporary slowdown of the machine affects all of them, and ratios are taken between
samples of the same turn. While one works, the others are blocked until their next request.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

from benchmarks.children import Child
from benchmarks.problems import Problem

PAUSE_SECONDS = 0.3  # until the previous contender's threads stop spinning: OpenBLAS's spin for 0.1
_RUNNER, _PROCESSORS = "benchmarks.runner:Runner", "benchmarks.processors:Processors"

Result = dict[str, Any]  # what JSON can express


class Turns(NamedTuple):
    """How many turns a race takes: at least `least`, at most `most`, and as fit in `seconds`."""

    seconds: float
    least: int = 5
    most: int = 25


QUICK = Turns(0.0, 2, 2)


class Entrant(NamedTuple):
    """A contender in a race, and its number of threads."""

    contender: str
    threads: int


def entrants(names: Sequence[str], threads: int) -> dict[str, Entrant]:
    """Return these contenders as entrants labelled by their own names."""
    return {name: Entrant(name, threads) for name in names}


class Race:
    """Contenders in child processes, started once; a further child measures the processors.

    Parameters
    ----------
    entrants : dict of Entrant
        The participants, by the labels used in results.

    Attributes
    ----------
    threads : int
        The largest number of threads of an entrant.
    given : dict of str
        How each contender's library is used, by label.
    libraries : dict of list
        The libraries with threads in each child, by label.
    """

    def __init__(self, entrants: Mapping[str, Entrant]) -> None:
        self.threads = max(entrant.threads for entrant in entrants.values())
        with ExitStack() as stack:  # if one child cannot be made, the others end
            self._children = {
                label: stack.enter_context(
                    Child(_RUNNER, threads=threads, name=contender, n_threads=threads)
                )
                for label, (contender, threads) in entrants.items()
            }
            self._processors = stack.enter_context(Child(_PROCESSORS, threads=self.threads))
            about = {label: child.call("describe") for label, child in self._children.items()}
            self._stack = stack.pop_all()
        self.given = {label: facts["given"] for label, facts in about.items()}
        self.libraries = {label: facts["libraries"] for label, facts in about.items()}

    def fits(self, problems: Mapping[str, Problem], dtype: str, turns: Turns) -> Result:
        """Time the mini-batches of fits.

        Parameters
        ----------
        problems : dict of Problem
            What each entrant trains, by label; entrants without a problem sit out.
        dtype : {"float32", "float64"}
        turns : Turns

        Returns
        -------
        dict
            Lists by label: ``samples``, the seconds of a mini-batch in each turn, and ``losses``
            of the epochs of a timed fit; ``repeats`` within a sample, by label;
            ``product_rates``, a list of operations per second; and ``barriers``, a list of the
            seconds of a barrier of two threads, empty on one.
        """
        prepared = {
            label: self._children[label].call("prepare_fits", problem=problem.fields, dtype=dtype)
            for label, problem in problems.items()
        }
        losses = {label: facts["losses"] for label, facts in prepared.items()}
        return {"losses": losses, **self._take(prepared, dtype, turns)}

    def predictions(
        self, problem: Problem, dtype: str, method: str, rows: int, turns: Turns
    ) -> Result:
        """Time calls of a method by all entrants; return what `fits` does, without losses."""
        task = {"problem": problem.fields, "dtype": dtype, "method": method, "rows": rows}
        prepared = {
            label: child.call("prepare_predictions", **task)
            for label, child in self._children.items()
        }
        return self._take(prepared, dtype, turns)

    def digests(self, problem: Problem, dtype: str) -> dict[str, str]:
        """Return the digests of all entrants' final weights, by label."""
        return {
            label: child.call("digest", problem=problem.fields, dtype=dtype)
            for label, child in self._children.items()
        }

    def _take(self, prepared: Mapping[str, Result], dtype: str, turns: Turns) -> Result:
        rates: list[float] = []
        barriers: list[float] = []
        samples: dict[str, list[float]] = {label: [] for label in prepared}
        began = time.perf_counter()
        while len(rates) < turns.least or (
            len(rates) < turns.most and _has_time(began, len(rates), turns.seconds)
        ):
            self._pause()
            rates.append(self._processors.call("rate", dtype=dtype))
            if self.threads > 1:
                barriers.append(self._processors.call("barrier"))
            for label in prepared:
                self._pause()
                samples[label].append(self._children[label].call("sample"))
        repeats = {label: facts["repeats"] for label, facts in prepared.items()}
        return {
            "samples": samples,
            "repeats": repeats,
            "product_rates": rates,
            "barriers": barriers,
        }

    def _pause(self) -> None:
        if self.threads > 1:
            time.sleep(PAUSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _has_time(began: float, turns: int, budget: float) -> bool:
    """Return whether one more turn like those before fits the budget, in seconds."""
    return (time.perf_counter() - began) * (turns + 1) / turns < budget
