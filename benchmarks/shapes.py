"""Shapes: activations, solvers, outputs, widths and batches, each a change of `medium`.

Beside each row fastbp trains `medium` itself, so that a ratio shows the cost of the change.
"""

import sys
from dataclasses import replace
from typing import Any

from benchmarks import cells
from benchmarks.contenders import load
from benchmarks.options import DTYPES, Options
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.race import Entrant, Race, entrants

BUDGET = 3.0  # seconds for the turns of a row
CONTENDERS = ("scikit-learn", "fastbp")
REFERENCE = "reference"  # the label of the fastbp that trains `medium`
MEDIUM = PROBLEMS["medium"]
MOST_BATCHES = 1000  # in an epoch: problems with small batches have fewer samples

ACTIVATIONS = (
    "relu", "identity", "logistic", "tanh", "leaky_relu", "elu", "selu", "softplus", "gelu", "silu"
)  # fmt: skip
SOLVERS = ("sgd", "adamw", "adagrad", "rmsprop", "lbfgs")
OUTPUTS = {
    "regression-1": ("regression", 1),
    "regression-5": ("regression", 5),
    "multilabel-5": ("multilabel", 5),
    "classes-3": ("classification", 3),
    "classes-1000": ("classification", 1000),
}
WIDTHS = (7, 8, 9, 15, 16, 17, 50, 64, 65, 1024)
BATCHES = (1, 2, 7, 32, 64, 200, 1000)


def _change(name: str, **fields: Any) -> Problem:
    return cells.paced(replace(MEDIUM, name=name, **fields))


GROUPS = {
    "activation": [_change(name, activation=name) for name in ACTIVATIONS],
    "solver": [_change(name, solver=name) for name in SOLVERS],
    "outputs": [
        _change(name, task=task, n_classes=columns) for name, (task, columns) in OUTPUTS.items()
    ],
    "hidden units": [_change(f"hidden-{width}", hidden=(width,)) for width in WIDTHS],
    "L-BFGS": [
        cells.paced(
            replace(PROBLEMS[name], name=f"lbfgs-{name}", solver="lbfgs", batch_size=n_samples)
        )
        for name, n_samples in (("iris", 150), ("small", 2000), ("digits", 1797))
    ],
    "batch size": [
        _change(
            f"batch-{size}",
            batch_size=size,
            n_samples=min(MEDIUM.n_samples, MOST_BATCHES * size),
        )
        for size in BATCHES
    ],
}
# L-BFGS computes in float64, whatever the dtype of X.
DTYPES_OF = {"solver": DTYPES, "L-BFGS": DTYPES[1:]}
ROWS = [problem.name for problems in GROUPS.values() for problem in problems]


def run(options: Options) -> cells.Result:
    """Measure, on one thread."""
    names, turns = options.choose_contenders(CONTENDERS), options.turns(BUDGET)
    everybody = {**entrants(names, 1), REFERENCE: Entrant("fastbp", 1)}
    beside = {REFERENCE: MEDIUM.shortened() if options.quick else MEDIUM}
    measured = []
    with Race(everybody) as race:
        given = {name: race.given[name] for name in names}
        for group, problems in GROUPS.items():
            for dtype in options.choose_dtypes(DTYPES_OF.get(group, DTYPES[:1])):
                for problem in options.choose_problems(problems):
                    able = [name for name in names if load(name).takes(problem)]
                    cell = cells.measure(race, able, problem, dtype, turns, beside)
                    measured.append({"group": group, **cell, **_over_medium(cell)})
                    print(cells.name_of(cell), file=sys.stderr, flush=True)
    return cells.gather(options, measured, given)


def _over_medium(cell: cells.Result) -> cells.Result:
    """Return the ratio of fastbp's mini-batch to one of `medium` in the same turn."""
    samples = cell["samples"]
    if "fastbp" not in samples:
        return {}
    return {"over_medium": cells.median_ratio(samples["fastbp"], samples[REFERENCE])}
