"""Predict: `predict` and `predict_proba` of `medium`, from one row to a million."""

import sys

from benchmarks import cells
from benchmarks.floor import forward_operations_per_sample
from benchmarks.options import Options
from benchmarks.problems import PROBLEMS
from benchmarks.race import Race, Turns, entrants

BUDGET = 3.0  # seconds for the turns of a row
CONTENDERS = ("scikit-learn", "fastbp")
METHODS = ("predict", "predict_proba")
SIZES = (1, 100, 10_000, 1_000_000)
ROWS = {f"{method}-{size}": (method, size) for size in SIZES for method in METHODS}
MEDIUM = PROBLEMS["medium"]


def run(options: Options) -> cells.Result:
    """Measure on one thread and on all, or on the chosen numbers of threads."""
    names, turns = options.choose_contenders(CONTENDERS), options.turns(BUDGET)
    measured, given = [], {}
    for n_threads in options.choose_threads():
        with Race(entrants(names, n_threads)) as race:
            given = race.given
            for dtype in options.choose_dtypes():
                for row in options.choose_rows(ROWS):
                    measured.append(_measure(race, row, dtype, turns))
                    print(cells.name_of(measured[-1]), file=sys.stderr, flush=True)
    return cells.gather(options, measured, given)


def _measure(race: Race, row: str, dtype: str, turns: Turns) -> cells.Result:
    method, size = ROWS[row]
    timed = race.predictions(MEDIUM, dtype, method, size, turns)
    operations = size * forward_operations_per_sample(MEDIUM.units)
    floors = [operations / rate for rate in timed["product_rates"]]
    return {
        "row": row,
        "dtype": dtype,
        "threads": race.threads,
        "rows": size,
        "operations": operations,
        **timed,
        "summary": cells.summarise(timed["samples"], floors),
    }
