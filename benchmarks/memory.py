"""Memory: the peak that a fit needs beyond the training set, as a fraction of that set."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import children, machine
from benchmarks.contenders import ENTRIES, load
from benchmarks.options import DTYPES, Options
from benchmarks.problems import SEED, Problem, draw

CONTENDERS = ("scikit-learn", "fastbp")


def run(options: Options) -> dict[str, Any]:
    """Measure each contender in each dtype, in a fresh process."""
    n_samples, n_inputs = (5000, 200) if options.quick else (20_000, 784)
    names = options.choose_contenders(CONTENDERS)
    fractions = {
        dtype: {
            name: children.run(
                "benchmarks.memory:measure",
                name=name,
                dtype=dtype,
                n_samples=n_samples,
                n_inputs=n_inputs,
            )
            for name in names
        }
        for dtype in options.choose_dtypes(DTYPES)
    }
    return {
        "machine": machine.describe(ENTRIES[name].distribution for name in names),
        "settings": options.settings,
        "shape": [n_samples, n_inputs],
        "fractions": fractions,
    }


def measure(name: str, dtype: str, n_samples: int, n_inputs: int) -> float:
    """Return the growth of resident memory at the peak of a fit of two epochs, over X's bytes.

    A fit of few samples but many epochs comes first, to load the code and start the threads.
    """
    few = Problem("few", 400, n_inputs, (100,), n_classes=10, batch_size=200, epochs=500)
    contender = load(name)(few, dtype, children.count_processors())
    contender.fit(few.epochs)
    contender.X = draw((n_samples, n_inputs), dtype, SEED)
    contender.y = np.arange(n_samples) % few.n_classes
    _forget_peak()
    before = _peak()
    contender.fit(2)
    fraction: float = (_peak() - before) / contender.X.nbytes
    return fraction


def _forget_peak() -> None:
    """Reset the peak to the current resident memory, if the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("The peak cannot be reset here: figures may be too low.", file=sys.stderr)


def _peak() -> int:
    """Return the most bytes that have been resident since the peak was reset."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
