"""Copies of parameters as scikit-learn's `clone` makes them, except of immutable values.

A search clones an estimator and its parameters for each fit, which takes longer than predicting.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import clone

__all__ = ["are_constant", "clone_parameters", "is_constant"]

_CONSTANT = (bool, int, float, str, type(None), np.number, np.bool_)
_PLAIN = frozenset(_CONSTANT)


def is_constant(value: Any) -> bool:
    """Return whether a value is a number, a string or None, or a tuple of these."""
    if type(value) in _PLAIN:  # faster than isinstance
        return True
    if type(value) is tuple:
        return are_constant(value)
    return isinstance(value, _CONSTANT)


def are_constant(values: Iterable[Any]) -> bool:
    """Return whether all values, most of them numbers, strings or None, are immutable."""
    return all(is_constant(value) for value in values if type(value) not in _PLAIN)


def clone_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters, with copies of those that are mutable."""
    return {
        name: value if is_constant(value) else clone(value, safe=False)
        for name, value in parameters.items()
    }
