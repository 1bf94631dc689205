"""Features: the cost of a regulariser, a schedule or a callback, against `medium` without it."""

import sys
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import children, machine
from benchmarks.cells import median_ratio
from benchmarks.contenders import ENTRIES
from benchmarks.options import Options
from benchmarks.problems import PROBLEMS, SEED
from benchmarks.race import Turns

BUDGET = 4.0  # seconds for the turns of a row
MEDIUM = PROBLEMS["medium"]

Result = dict[str, Any]  # what JSON can express

PARAMETERS: dict[str, Result] = {
    "none": {},
    "dropout": {"dropout": 0.5},
    "l1": {"l1": 1e-4},
    "clip_norm": {"clip_norm": 1.0},
    "label_smoothing": {"label_smoothing": 0.1},
    "cosine": {"learning_rate": "cosine", "warmup_epochs": 1},
    "max_time": {"max_time": 1e6},
    "callback": {},
    "checkpoint": {},
    "early_stopping": {"early_stopping": True},
}
ROWS = tuple(PARAMETERS)


def run(options: Options) -> Result:
    """Measure each feature in a process of its own, on one thread."""
    cells = []
    for dtype in options.choose_dtypes():
        for name in options.choose_rows(ROWS):
            turns = options.turns(BUDGET)
            limits = turns._asdict()
            task = {"name": name, "dtype": dtype, "limits": limits, "quick": options.quick}
            cells.append(children.run("benchmarks.features:measure", threads=1, **task))
            print(f"{name} in {dtype}", file=sys.stderr, flush=True)
    return {
        "machine": machine.describe([ENTRIES["fastbp"].distribution]),
        "settings": options.settings,
        "cells": cells,
    }


def measure(name: str, dtype: str, limits: Result, quick: bool) -> Result:
    """Return the seconds of a mini-batch with a feature and without it, measured in turn."""
    import tempfile

    import numpy as np

    from fastbp import BPClassifier
    from fastbp.callbacks import Checkpoint, LogEvery

    problem = MEDIUM.shortened() if quick else MEDIUM
    X, y = problem.data(dtype)
    warnings.simplefilter("ignore")

    def fitting(parameters: Result, *callbacks: Any) -> Callable[[], float]:
        model = BPClassifier(
            problem.hidden, batch_size=problem.batch_size, tol=0.0, n_iter_no_change=np.inf,
            random_state=SEED, n_jobs=1, **parameters,
        ).set_callbacks(*callbacks)  # fmt: skip
        few = min(len(X), 1000)
        held_out = {"X_val": X[:few], "y_val": y[:few]} if "early_stopping" in parameters else {}

        def seconds(epochs: int) -> float:
            began = perf_counter()
            model.set_params(max_iter=epochs).fit(X, y, **held_out)
            return perf_counter() - began

        def batch() -> float:
            more = seconds(1 + problem.epochs) - seconds(1)
            return more / (problem.epochs * problem.batches)

        batch()
        return batch

    with tempfile.TemporaryDirectory() as folder:
        callbacks: dict[str, Any] = {
            "callback": LogEvery(10**9),
            "checkpoint": Checkpoint(f"{folder}/run"),
        }
        callback = [callbacks[name]] if name in callbacks else []
        plain, changed = fitting({}), fitting(PARAMETERS[name], *callback)
        turns = Turns(**limits)
        samples: dict[str, list[float]] = {"without": [], "with": []}
        began = perf_counter()
        while len(samples["with"]) < turns.least or (
            len(samples["with"]) < turns.most and perf_counter() - began < turns.seconds
        ):
            samples["without"].append(plain())
            samples["with"].append(changed())
    return {
        "row": name,
        "dtype": dtype,
        "samples": samples,
        "seconds": median(samples["with"]),
        "over_without": median_ratio(samples["with"], samples["without"]),
    }
