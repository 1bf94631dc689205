"""The configuration that this installation runs with."""

import platform
from importlib.metadata import version
from typing import Any

import numba

from fastbp.compiler.processor import FEATURES, NAME
from fastbp.matmul.product import has_blas
from fastbp.matmul.tile import VECTOR_BYTES
from fastbp.threads import count_workers, start_layer

__all__ = ["show_config"]


def show_config(as_dict: bool = False) -> dict[str, Any] | None:
    """Print or return the matmul, threads, CPU features and versions in use.

    Parameters
    ----------
    as_dict : bool, default=False
        Return a dict instead of printing.

    Returns
    -------
    dict or None
        If `as_dict`, the values by name: 'matmul', 'vectors', 'threads', 'threading layer', 'cpu',
        'cpu features' (a sorted list of str), 'jit' (bool) and the versions of 'python', 'fastbp',
        'numba', 'numpy', 'scipy' and 'scikit-learn'. Else None.
    """
    config = {
        "matmul": "register tiles" + (" and BLAS (Cython)" if has_blas() else " (no extension)"),
        "vectors": f"{8 * VECTOR_BYTES} bits",
        "threads": count_workers(-1),
        "threading layer": start_layer(),
        "cpu": NAME,
        "cpu features": sorted(FEATURES & {"avx", "avx2", "avx512f", "fma", "neon", "sve"}),
        "jit": not numba.config.DISABLE_JIT,
        "python": platform.python_version(),
    }
    for package in ("fastbp", "numba", "numpy", "scipy", "scikit-learn"):
        config[package] = version(package)
    if as_dict:
        return config
    for name, value in config.items():
        print(f"{name:16} {', '.join(value) if isinstance(value, list) else value}")
    return None
