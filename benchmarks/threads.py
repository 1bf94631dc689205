"""Threads: the time of a mini-batch by thread count, and whether fastbp's weights stay the same.

Each contender races against itself with different numbers of threads, each in a process confined
to as many processors.
"""

import sys
from collections.abc import Sequence
from statistics import median

from benchmarks import cells
from benchmarks.children import count_processors, doubled
from benchmarks.options import Options
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.race import Entrant, Race, Turns

BUDGET = 5.0  # seconds for the turns of a row
ROWS = PROBLEMS


def run(options: Options) -> cells.Result:
    """Measure each contender on 1, 2, 4, ... and all processors, or on the chosen numbers."""
    turns, given, measured = options.turns(BUDGET), {}, []
    for name in options.choose_contenders():
        counts = options.threads or doubled(count_processors())
        with Race({str(n): Entrant(name, n) for n in counts}) as race:
            given[name] = race.given[str(counts[0])]
            for dtype in options.choose_dtypes():
                for problem in options.choose_problems(ROWS.values()):
                    measured.append(_measure(race, name, counts, problem, dtype, turns))
                    print(f"{name}: {cells.name_of(measured[-1])}", file=sys.stderr, flush=True)
    results = cells.gather(options, measured, given)
    results["complaints"] += [
        f"The weights depend on the number of threads: {cells.name_of(cell)}."
        for cell in measured
        if len(set(cell["digests"].values())) > 1
    ]
    return results


def _measure(
    race: Race, name: str, counts: Sequence[int], problem: Problem, dtype: str, turns: Turns
) -> cells.Result:
    timed = race.fits({str(n): problem for n in counts}, dtype, turns)
    fewest = timed["samples"][str(counts[0])]
    return {
        "row": problem.name,
        "contender": name,
        "dtype": dtype,
        "threads": race.threads,
        **timed,
        "digests": race.digests(problem, dtype) if name == "fastbp" else {},
        "summary": {
            n: {"seconds": median(samples), "speedup": cells.median_ratio(fewest, samples)}
            for n, samples in timed["samples"].items()
        },
    }
