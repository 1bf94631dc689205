"""Start-up: the one-time costs of fastbp before its kernels run at full speed.

Every figure comes from fresh processes. The kernels are compiled into a cache folder of the run's
own, so nothing depends on earlier runs.
"""

import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from benchmarks import children, machine
from benchmarks.options import Options

MODULES = ("fastbp", "sklearn.neural_network")
PLACES = (("one processor", 1, 1), ("one thread", 1, None), ("all threads", -1, None))
_TIME_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def run(options: Options) -> dict[str, Any]:
    """Measure imports, and first fits with and without cached kernels."""
    repeats = 1 if options.quick else 7
    seconds: dict[str, list[float]] = {
        f"`import {module}`": values for module, values in _time_imports(repeats).items()
    }
    for label, n_jobs, processors in PLACES:
        cold, warm = [], []
        for _ in range(1 if options.quick else 3):
            with tempfile.TemporaryDirectory() as folder:
                fits = _Fits(n_jobs, processors, {"NUMBA_CACHE_DIR": folder})
                cold.append(fits.first_beyond_steady())
                warm += [fits.first_beyond_steady() for _ in range(max(1, repeats // 2))]
        seconds[f"first fit on {label}, nothing cached"] = cold
        seconds[f"first fit on {label}, kernels cached"] = warm
    return {
        "machine": machine.describe(("fastbp", "scikit-learn")),
        "settings": options.settings,
        "seconds": seconds,
    }


class _Fits:
    """Fits of `small` in fresh processes that share a folder of compiled kernels."""

    def __init__(self, n_jobs: int, processors: int | None, environment: dict[str, str]) -> None:
        self.n_jobs, self.processors, self.environment = n_jobs, processors, environment

    def first_beyond_steady(self) -> float:
        first, *later = children.run(
            "benchmarks.startup:time_fits",
            threads=self.processors,
            environment=self.environment,
            n_jobs=self.n_jobs,
        )
        return float(first - median(later))


def time_fits(n_jobs: int) -> list[float]:
    """Return the seconds of each fit of this process, from the first."""
    from benchmarks.contenders.estimators import Fastbp
    from benchmarks.problems import PROBLEMS

    contender = Fastbp(PROBLEMS["small"], "float64", threads=n_jobs)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        contender.fit(epochs=2)
        seconds.append(time.perf_counter() - began)
    return seconds


def _time_imports(repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each import, in turn; a first import of each fills the disk cache."""
    seconds: dict[str, list[float]] = {module: [] for module in MODULES}
    for turn in range(repeats + 1):
        for module in MODULES:
            command = [sys.executable, "-c", _TIME_IMPORT.format(module)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            if turn > 0:
                seconds[module].append(float(printed))
    return seconds
