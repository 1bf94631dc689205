"""Cells: the results of a race for one row of a table, with the floor and compared losses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.contenders import BASELINE, ENTRIES
from benchmarks.floor import operations_per_batch
from benchmarks.options import Options
from benchmarks.problems import Problem
from benchmarks.race import Race, Turns

LOSS_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}  # relative, fastbp to scikit-learn

# Estimates of scikit-learn's speed on one thread, which determine how many epochs are timed.
BATCH_SECONDS, OPERATIONS_PER_SECOND = 3e-4, 2e10
TIMED_SECONDS, MOST_EPOCHS = 0.25, 50

Result = dict[str, Any]  # what JSON can express


def paced(problem: Problem) -> Problem:
    """Return the problem with as many epochs as take scikit-learn about a quarter of a second."""
    batch = BATCH_SECONDS + operations_per_batch(problem) / OPERATIONS_PER_SECOND
    epochs = round(TIMED_SECONDS / (problem.batches * batch))
    return replace(problem, epochs=max(1, min(MOST_EPOCHS, epochs)))


def measure(
    race: Race,
    names: Sequence[str],
    problem: Problem,
    dtype: str,
    turns: Turns,
    beside: Mapping[str, Problem] | None = None,
) -> Result:
    """Time these entrants on a problem and, in the same race, others on problems of their own."""
    problems = {**dict.fromkeys(names, problem), **(beside or {})}
    timed = race.fits(problems, dtype, turns)
    operations = operations_per_batch(problem)
    floors = [operations / rate for rate in timed["product_rates"]]
    return {
        "row": problem.name,
        "dtype": dtype,
        "threads": race.threads,
        "problem": problem.fields,
        "operations_per_batch": operations,
        **timed,
        "agreement": compare({name: timed["losses"][name] for name in names}, dtype),
        "summary": summarise(timed["samples"], floors),
    }


def compare(losses: Mapping[str, Sequence[float]], dtype: str) -> Result:
    """Return how far each contender's losses in the timed fits are from scikit-learn's.

    Only fastbp promises equal losses; the others are for information.
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


def summarise(samples: Mapping[str, list[float]], floors: list[float]) -> Result:
    """Return medians of seconds, and of ratios to scikit-learn and the floor within a turn."""
    summary: Result = {"floor": {"seconds": median(floors)}}
    for name, seconds in samples.items():
        summary[name] = {
            "seconds": median(seconds),
            "over_floor": median_ratio(seconds, floors),
        }
        if BASELINE in samples:
            summary[name]["speedup"] = median_ratio(samples[BASELINE], seconds)
    return summary


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios of samples from the same turn."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def gather(options: Options, cells: list[Result], given: Mapping[str, str]) -> Result:
    """Return a section's result: its cells, their origin, and complaints about them."""
    different = [name_of(cell) for cell in cells if not _agrees(cell)]
    return {
        "machine": machine.describe(ENTRIES[name].distribution for name in given),
        "given": dict(given),
        "settings": options.settings,
        "cells": cells,
        "complaints": [f"The losses of fastbp and scikit-learn differ: {it}." for it in different],
    }


def _agrees(cell: Result) -> bool:
    """Return whether fastbp trained the same network as scikit-learn, if both trained."""
    agrees: bool = cell.get("agreement", {}).get("fastbp", {"agrees": True})["agrees"]
    return agrees


def name_of(cell: Result) -> str:
    """Return "digits in float32 on 2 threads" or the like."""
    return f"{cell['row']} in {cell['dtype']} on {count_threads(cell['threads'])}"


def count_threads(threads: int) -> str:
    """Return "1 thread", "2 threads" and so on."""
    return f"{threads} thread{'s' * (threads != 1)}"
