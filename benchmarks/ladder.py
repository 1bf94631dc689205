"""The ladder: microseconds per mini-batch of every contender, beside the arithmetic floor."""

import sys

from benchmarks import cells
from benchmarks.options import DTYPES, Options
from benchmarks.problems import PROBLEMS
from benchmarks.race import Race, entrants

BUDGET = 6.0  # seconds for the turns of a row
ROWS = PROBLEMS


def run(options: Options) -> cells.Result:
    """Measure all contenders, each in a child of its own for each number of threads."""
    names, turns = options.choose_contenders(), options.turns(BUDGET)
    measured, given, libraries = [], {}, {}
    for n_threads in options.choose_threads():
        with Race(entrants(names, n_threads)) as race:
            given, libraries[str(n_threads)] = race.given, race.libraries
            for dtype in options.choose_dtypes(DTYPES):
                for problem in options.choose_problems(ROWS.values()):
                    measured.append(cells.measure(race, names, problem, dtype, turns))
                    print(cells.name_of(measured[-1]), file=sys.stderr, flush=True)
    return {**cells.gather(options, measured, given), "thread_libraries": libraries}
