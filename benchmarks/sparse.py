"""Sparse: CSR matrices of 20,000 columns, from words in reviews and random ones."""

import sys

from benchmarks import cells
from benchmarks.options import Options
from benchmarks.problems import Problem
from benchmarks.race import Race, entrants

BUDGET = 10.0  # seconds for the turns of a row
CONTENDERS = ("scikit-learn", "fastbp")
ROWS = {
    problem.name: problem
    for problem in (
        Problem("reviews", 20_000, 20_000, (64,), 2, 200, 1, density=0.004, source="reviews"),
        Problem("drawn-0.001", 20_000, 20_000, (64,), 2, 200, 1, density=0.001),
        Problem("drawn-0.01", 20_000, 20_000, (64,), 2, 200, 1, density=0.01),
    )
}


def run(options: Options) -> cells.Result:
    """Measure, on one thread."""
    names, turns = options.choose_contenders(CONTENDERS), options.turns(BUDGET)
    measured = []
    with Race(entrants(names, 1)) as race:
        for dtype in options.choose_dtypes():
            for problem in options.choose_problems(ROWS.values()):
                measured.append(cells.measure(race, names, problem, dtype, turns))
                print(cells.name_of(measured[-1]), file=sys.stderr, flush=True)
        return cells.gather(options, measured, race.given)
