"""Checks of the arguments of the loaders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_choice", "check_dtype", "check_flag", "import_pandas"]


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of the strings in `allowed`."""
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False; got {value!r}.")


def check_dtype(value: npt.DTypeLike) -> np.dtype[Any]:
    """Return `value` as a dtype; raise ValueError unless it is float32 or float64."""
    try:
        # None means float64 to NumPy, in np.dtype and in comparisons; here it is a mistake.
        if value is not None and (dtype := np.dtype(value)) in (np.float32, np.float64):
            return dtype
    except TypeError:
        pass
    raise ValueError(f"dtype must be numpy.float32 or numpy.float64; got {value!r}.")


def import_pandas(caller: str) -> Any:
    """Return the pandas module; raise ImportError that names `caller` when there is none."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"{caller} with as_frame=True needs pandas, which is not installed; install pandas, "
            "or use as_frame=False."
        ) from error
    return pandas
