"""The ladder: microseconds per mini-batch of every contender, beside the arithmetic floor.

What is timed is a fit of ``1 + epochs`` epochs less a fit of one epoch, over the mini-batches in
between: so what a fit costs beside its epochs cancels. Contenders take turns, A B C A B C, in one
process; ratios are of times from the same turn, and their median is reported.
"""

import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks import children, machine
from benchmarks.contenders import BASELINE, ENTRIES, Contender, load
from benchmarks.floor import LargeProduct, operations_per_batch
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.report import count_threads

DTYPES = ("float32", "float64")
LOSS_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}  # relative, fastbp to scikit-learn
SAMPLE_SECONDS = 0.05  # a fit that takes less is repeated
MOST_REPEATS = 30
LEAST_TURNS, MOST_TURNS = 3, 25
PAUSE_SECONDS = 0.05  # after which other libraries' threads no longer spin

Result = dict[str, Any]  # what JSON can express


def run(
    rows: Sequence[str],
    dtypes: Sequence[str],
    threads: Sequence[int],
    contenders: Sequence[str],
    budget: float,
    quick: bool = False,
) -> Result:
    """Measure; each number of threads in a process of its own.

    Parameters
    ----------
    rows, dtypes, contenders : sequences of str
    threads : sequence of int
    budget : float
        Seconds for the turns of each row, dtype and number of threads.
    quick : bool, default=False
        A tenth of the epochs and two turns: to see that everything runs, not for its figures.
    """
    cells, libraries = [], {}
    for n_threads in threads:
        part = children.run(
            "benchmarks.ladder:measure",
            threads=n_threads,
            rows=list(rows),
            dtypes=list(dtypes),
            contenders=list(contenders),
            budget=budget,
            quick=quick,
        )
        cells += part["cells"]
        libraries[str(n_threads)] = part["libraries"]
    return {
        "machine": machine.describe(ENTRIES[name].distribution for name in contenders),
        "given": {name: load(name).given for name in contenders},
        "settings": {"budget": budget, "quick": quick},
        "thread_libraries": libraries,
        "cells": cells,
    }


def measure(
    rows: Sequence[str],
    dtypes: Sequence[str],
    contenders: Sequence[str],
    budget: float,
    quick: bool,
) -> Result:
    """Measure in this process, with the processors that it may use."""
    threads = children.count_processors()
    cells = []
    for dtype in dtypes:
        for row in rows:
            problem = PROBLEMS[row].shortened() if quick else PROBLEMS[row]
            cells.append(_measure_cell(problem, dtype, threads, contenders, budget, quick))
            print(_name(cells[-1]), file=sys.stderr, flush=True)
    return {"cells": cells, "libraries": threadpool_info()}


def _measure_cell(
    problem: Problem,
    dtype: str,
    threads: int,
    names: Sequence[str],
    budget: float,
    quick: bool,
) -> Result:
    product = LargeProduct(dtype)
    timers = {name: _Timer(load(name)(problem, dtype, threads), problem) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    rates = []
    least, most = (2, 2) if quick else (LEAST_TURNS, MOST_TURNS)
    began = time.perf_counter()
    turns = 0
    while turns < least or (turns < most and _has_time(began, turns, budget)):
        _pause(threads)
        rates.append(product.rate())
        for name, timer in timers.items():
            _pause(threads)
            samples[name].append(timer.seconds_per_batch())
        turns += 1
    losses = {name: timer.losses for name, timer in timers.items()}
    operations = operations_per_batch(problem)
    return {
        "row": problem.name,
        "dtype": dtype,
        "threads": threads,
        "epochs": problem.epochs,
        "batches_per_epoch": problem.batches,
        "operations_per_batch": operations,
        "samples": samples,
        "repeats": {name: timer.repeats for name, timer in timers.items()},
        "product_rates": rates,
        "losses": losses,
        "agreement": _compare(losses, dtype),
        "summary": _summarise(samples, [operations / rate for rate in rates]),
    }


class _Timer:
    """Times one contender; compiles and warms up when it is made, and keeps the losses."""

    def __init__(self, contender: Contender, problem: Problem) -> None:
        self.contender, self.problem = contender, problem
        contender.fit(1)
        began = time.perf_counter()
        self.losses = [float(loss) for loss in contender.fit(1 + problem.epochs)]
        seconds = time.perf_counter() - began
        self.repeats = max(1, min(MOST_REPEATS, round(SAMPLE_SECONDS / seconds)))

    def seconds_per_batch(self) -> float:
        long = median(self._seconds(1 + self.problem.epochs) for _ in range(self.repeats))
        short = median(self._seconds(1) for _ in range(self.repeats))
        return (long - short) / (self.problem.epochs * self.problem.batches)

    def _seconds(self, epochs: int) -> float:
        began = time.perf_counter()
        self.contender.fit(epochs)
        return time.perf_counter() - began


def _has_time(began: float, turns: int, budget: float) -> bool:
    """Tell whether one more turn like those before fits the budget."""
    return (time.perf_counter() - began) * (turns + 1) / turns < budget


def _pause(threads: int) -> None:
    """Let the threads of the contender before come to rest: some spin for a while."""
    if threads > 1:
        time.sleep(PAUSE_SECONDS)


def _compare(losses: dict[str, list[float]], dtype: str) -> Result:
    """Say how far each contender's losses are from scikit-learn's, of the fits that were timed.

    Only fastbp promises the same; the others are for information.
    """
    if BASELINE not in losses:
        return {}
    expected = np.array(losses[BASELINE])
    result = {}
    for name, curve in losses.items():
        if name == BASELINE:
            continue
        difference = float(np.max(np.abs(np.array(curve) / expected - 1)))
        result[name] = {"largest_relative_difference": difference, "final_loss": curve[-1]}
        if name == "fastbp":
            tolerance = LOSS_TOLERANCE[dtype]
            result[name] |= {"tolerance": tolerance, "agrees": difference <= tolerance}
    return result


def _summarise(samples: dict[str, list[float]], floors: list[float]) -> Result:
    """Medians: of seconds, and of ratios within a turn to scikit-learn and to the floor."""
    summary: Result = {"floor": {"seconds": median(floors)}}
    for name, seconds in samples.items():
        summary[name] = {
            "seconds": median(seconds),
            "over_floor": _median_ratio(seconds, floors),
        }
        if BASELINE in samples:
            summary[name]["speedup"] = _median_ratio(samples[BASELINE], seconds)
    return summary


def _median_ratio(numerators: list[float], denominators: list[float]) -> float:
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def disagreements(results: Result) -> list[str]:
    """Name the rows on which fastbp did not train the same network as scikit-learn."""
    return [
        _name(cell)
        for cell in results["cells"]
        if not cell["agreement"].get("fastbp", {"agrees": True})["agrees"]
    ]


def _name(cell: Result) -> str:
    return f"{cell['row']} in {cell['dtype']} on {count_threads(cell['threads'])}"
