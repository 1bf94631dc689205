"""Describes the machine and the software of a measurement."""

import datetime
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm

from benchmarks import children

_ALWAYS = ("numpy", "scipy", "numba")


def describe(libraries: Iterable[str]) -> dict[str, str]:
    """Return processor, system, date, and the versions of Python and of these libraries."""
    versions = {"Python": platform.python_version()}
    versions |= {name: version(name) for name in (*libraries, *_ALWAYS)}
    return {
        "processor": f"{_processor()} ({llvm.get_host_cpu_name()})",
        "processors": str(children.count_processors()),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def _processor() -> str:
    """Return the processor's model name, if the system reveals it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
