"""Checks of the user's input: data, in the form that the kernels take, and the network's shape."""

from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight

from fastbp.kernels import activations

__all__ = [
    "HIDDEN_ACTIVATIONS",
    "are_plain",
    "check_activation",
    "check_dropout",
    "check_hidden_layer_sizes",
    "check_layers",
    "check_weights",
    "find_classes",
    "fit_binarizer",
    "flatten_column",
    "multiply_weights",
    "native",
    "plain_number",
]

Array = NDArray[Any]

HIDDEN_ACTIVATIONS = frozenset(activations.CODES) - {"softmax", "exp"}


def plain_number(value: Any) -> Any:
    """Return a NumPy number as Python's, which does not overflow; anything else unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def check_hidden_layer_sizes(sizes: Any) -> list[int]:
    """Return the units of each hidden layer."""
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    for size in sizes:
        if type(size) is not int and (isinstance(size, bool) or not isinstance(size, Integral)):
            raise TypeError(f"hidden_layer_sizes must be integers, got {sizes}.")
    if min(sizes, default=1) <= 0:
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return list(map(int, sizes))


def check_activation(activation: Any, n_hidden: int) -> tuple[str, ...]:
    """Return the activation of each hidden layer."""
    if isinstance(activation, str):
        return (activation,) * n_hidden
    activation = activation.tolist() if isinstance(activation, np.ndarray) else activation
    if isinstance(activation, str) or not hasattr(activation, "__iter__"):
        raise ValueError(f"activation must be a name or a sequence of names, got {activation!r}.")
    names = tuple(activation)
    if len(names) != n_hidden:
        raise ValueError(
            f"activation must name one function for each of the {n_hidden} hidden layers, "
            f"got {len(names)}: {list(names)}."
        )
    for name in names:
        if not isinstance(name, str) or name not in HIDDEN_ACTIVATIONS:
            raise ValueError(
                f"activation must be among {sorted(HIDDEN_ACTIVATIONS)}, got {name!r}."
            )
    return names


def check_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Return the dropout rate of each hidden layer; () if all are 0."""
    dropout = dropout.tolist() if isinstance(dropout, np.ndarray) else dropout
    rates = tuple(dropout) if hasattr(dropout, "__iter__") else (dropout,) * n_hidden
    if len(rates) != n_hidden:
        raise ValueError(
            f"dropout must be one rate, or one for each of the {n_hidden} hidden layers, got "
            f"{len(rates)}: {list(rates)}."
        )
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= float(rate) < 1:
            raise ValueError(f"dropout must be 0 or more and less than 1, got {rate!r}.")
    return tuple(map(float, rates)) if any(rates) else ()


def check_layers(coefs: Any, intercepts: Any, n_features: int, n_outputs: int) -> None:
    """Refuse arrays that are not layers from `n_features` inputs to `n_outputs` outputs."""
    sizes = [n_features, *(w.shape[-1] for w in coefs)]
    expected = [((n_in, n_out), (n_out,)) for n_in, n_out in pairwise(sizes)]
    given = [(w.shape, b.shape) for w, b in zip(coefs, intercepts, strict=True)]
    if given != expected or sizes[-1] != n_outputs or 0 in sizes:
        raise ValueError(
            f"coefs_ and intercepts_ must have the shapes of layers from {n_features} inputs to "
            f"{n_outputs} outputs, got {given}."
        )


def check_weights(sample_weight: Any, X: Any) -> Array | None:
    """Return the sample weights in the form that the kernels take; None if there are none."""
    if sample_weight is None:
        return None
    weights: Array = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    return weights


def multiply_weights(weights: Array | None, others: Array | None) -> Array | None:
    """Return the product of two arrays of weights, either of which may be None."""
    if weights is None or others is None:
        return others if weights is None else weights
    return weights * others


def native(X: Any) -> Any:
    """Return X in this machine's byte order, aligned, in its own precision."""
    if (
        isinstance(X, np.ndarray)
        and X.dtype.kind in "fiu"
        and not (X.dtype.isnative and X.flags.aligned)
    ):
        return np.require(X, X.dtype.newbyteorder("="), "A")
    if scipy.sparse.issparse(X) and X.format in ("csr", "csc"):
        arrays = [a.astype(a.dtype.newbyteorder("="), copy=False) for a in _stored(X)]
        if any(a is not b for a, b in zip(arrays, _stored(X), strict=True)):
            X = type(X)(tuple(arrays), shape=X.shape)
        _check_indices(X)
    return X


def _stored(X: Any) -> tuple[Array, Array, Array]:
    return X.data, X.indices, X.indptr


def _check_indices(X: Any) -> None:
    """Refuse a CSR or CSC matrix with indices out of bounds, which scipy and the kernels trust."""
    data, indices, indptr = _stored(X)
    lines, length = X.shape if X.format == "csr" else X.shape[::-1]
    if (
        len(indptr) != lines + 1
        or indptr[0] != 0
        or indptr[-1] > min(len(indices), len(data))
        or (np.diff(indptr) < 0).any()
        or (indices.size > 0 and (indices.min() < 0 or indices.max() >= length))
    ):
        raise ValueError("X is not a valid sparse matrix: its indices or indptr point outside it.")


def are_plain(X: Any, y: Any) -> bool:
    """Return whether X and y are arrays that scikit-learn's checks would return unchanged.

    Those checks take longer than training a small network.
    """
    return (
        type(X) is type(y) is np.ndarray
        and X.ndim == 2
        and y.ndim == 1
        and len(y) == len(X) > 0 < X.shape[1]
        and X.dtype.kind == "f"
        and X.itemsize in (4, 8)
        and y.dtype.kind in "biuf"
        and X.dtype.isnative
        and y.dtype.isnative
        and X.flags.c_contiguous
        and X.flags.aligned
        and bool(np.isfinite(_total(X)))
        and bool(np.isfinite(_total(y)))
    )


def _total(values: Array) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.sum()


def flatten_column(y: Any) -> Any:
    """Return a single column as a vector, with scikit-learn's warning; anything else unchanged."""
    return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


def find_classes(y: Any) -> Array | None:
    """Return the sorted classes of a plain y; None if scikit-learn has to examine y.

    scikit-learn passes over y several times, and may warn if there are many classes.
    """
    is_plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype.isnative
    if not (is_plain and y.dtype.kind in "iubU"):
        return None
    classes: Array = np.unique(y)
    return classes if 0 < len(classes) < len(y) // 2 else None


def fit_binarizer(y: Any) -> LabelBinarizer:
    """Return ``LabelBinarizer().fit(y)``."""
    binarizer, classes = LabelBinarizer(), find_classes(y)
    if classes is None:
        return binarizer.fit(y)
    binarizer.y_type_ = "binary" if len(classes) <= 2 else "multiclass"
    binarizer.sparse_input_ = False
    binarizer.classes_ = classes
    return binarizer
