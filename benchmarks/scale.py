"""Scale: the time per sample against the sizes of data, network and mini-batch."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import cells
from benchmarks.options import Options
from benchmarks.problems import SEED, Problem, draw
from benchmarks.race import Race, entrants

BUDGET = 3.0  # seconds for the turns of a row
CONTENDERS = ("scikit-learn", "fastbp")
MAPPED = "mapped"  # a source that `run` replaces by the path of a file
MOST_BESIDE = 1_000_000  # samples; with more of them, fastbp trains alone
CHUNK = 100_000  # rows written to the file at a time

BASE = Problem("base", 10_000, 50, (100,), 2, 200, 1)
NARROW = replace(BASE, n_inputs=20, hidden=(50,))  # 10 million samples are 0.8 GB in float32

# For each quantity that varies, the problems by its size.
GROUPS = {
    "samples": {
        n: replace(NARROW, n_samples=n, source=MAPPED if n > MOST_BESIDE else "drawn")
        for n in (10_000, 100_000, 1_000_000, 10_000_000)
    },
    "features": {
        n: replace(BASE, n_inputs=n, n_samples=min(10_000, 20_000_000 // n))
        for n in (10, 30, 100, 300, 1000, 3000, 10_000)
    },
    "width": {n: replace(BASE, hidden=(n,)) for n in (8, 32, 128, 512, 2048)},
    "layers": {n: replace(BASE, hidden=(64,) * n) for n in (1, 2, 4, 8, 16, 32)},
    "batch": {
        n: replace(BASE, batch_size=n, n_samples=min(10_000, 1000 * n))
        for n in (1, 4, 16, 64, 256, 1024)
    },
}
ROWS = [f"{group}-{size}" for group, problems in GROUPS.items() for size in problems]


def run(options: Options) -> cells.Result:
    """Measure, on one thread."""
    names, turns = options.choose_contenders(CONTENDERS), options.turns(BUDGET)
    measured = []
    with Race(entrants(names, 1)) as race:
        for dtype in options.choose_dtypes():
            for group, size, problem in _problems(options):
                able = [n for n in names if n == "fastbp" or problem.source != MAPPED]
                with _in_place(problem, dtype) as there:
                    cell = cells.measure(race, able, there, dtype, turns)
                measured.append({"group": group, "size": size, **cell})
                print(cells.name_of(cell), file=sys.stderr, flush=True)
        return cells.gather(options, measured, race.given)


def _problems(options: Options) -> Iterator[tuple[str, int, Problem]]:
    """Yield for each chosen problem the quantity that varies, its size, and the problem."""
    for group, problems in GROUPS.items():
        for size, problem in problems.items():
            named = cells.paced(replace(problem, name=f"{group}-{size}"))
            for chosen in options.choose_problems([named]):
                yield group, size, chosen


@contextmanager
def _in_place(problem: Problem, dtype: str) -> Iterator[Problem]:
    """Yield the problem, with its samples written to a temporary file if they are to be mapped."""
    if problem.source != MAPPED:
        yield problem
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        shape = problem.n_samples, problem.n_inputs
        X = np.lib.format.open_memmap(path, "w+", dtype, shape)
        for first in range(0, len(X), CHUNK):
            part = X[first : first + CHUNK]
            part[...] = draw(part.shape, dtype, SEED + first)
        X.flush()
        del X
        yield replace(problem, source=str(path))
