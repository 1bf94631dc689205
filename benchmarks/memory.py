"""Memory: what a fit needs at its peak beyond the training set, as a fraction of it."""

import sys
from pathlib import Path

import numpy as np

from benchmarks import children, machine, report
from benchmarks.contenders import ENTRIES, load
from benchmarks.ladder import DTYPES
from benchmarks.problems import SEED, Problem

CONTENDERS = ("scikit-learn", "fastbp")


def run(quick: bool = False) -> str:
    """Return the memory section as Markdown."""
    n_samples, n_inputs = (5000, 200) if quick else (20_000, 784)
    rows = []
    for dtype in DTYPES:
        fractions = [
            children.run(
                "benchmarks.memory:measure",
                name=name,
                dtype=dtype,
                n_samples=n_samples,
                n_inputs=n_inputs,
            )
            for name in CONTENDERS
        ]
        rows.append([dtype, *(f"{fraction:.2f}" for fraction in fractions)])
    about = machine.describe(ENTRIES[name].distribution for name in CONTENDERS)
    return "\n".join(
        [
            f"## Peak memory of a fit beyond X, as a fraction of X ({n_samples} x {n_inputs})",
            "",
            f"{about['system']}, {about['date']}. {about['versions']}.",
            "",
            *report.table(["X, in C order", *CONTENDERS], rows),
        ]
    )


def measure(name: str, dtype: str, n_samples: int, n_inputs: int) -> float:
    """Return the peak beyond what was resident before a fit of two epochs, over the bytes of X.

    A fit of few samples comes first: code and threads are then there.
    """
    few = Problem("few", 400, n_inputs, (100,), n_classes=10, batch_size=200, epochs=10)
    contender = load(name)(few, dtype, children.count_processors())
    contender.fit(few.epochs)
    generator = np.random.default_rng(SEED)
    contender.X = generator.standard_normal((n_samples, n_inputs), dtype)
    contender.y = generator.integers(few.n_classes, size=n_samples)
    _forget_peak()
    before = _peak()
    contender.fit(2)
    return (_peak() - before) / contender.X.nbytes


def _forget_peak() -> None:
    """Set the peak to what is resident now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("The peak cannot be reset here: figures may be too low.", file=sys.stderr)


def _peak() -> int:
    """Return the largest number of bytes that were resident since the peak was reset."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
