"""Conversion of models to contents and arrays of a file, and back."""

import warnings
from dataclasses import fields
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer

from fastbp.estimators.checks import check_layers
from fastbp.files import from_json, to_json
from fastbp.kernels import activations
from fastbp.network import Weights
from fastbp.training.history import History
from fastbp.training.solvers import STOCHASTIC_SOLVERS, Optimizer

__all__ = [
    "MALFORMED",
    "check_elements",
    "check_types",
    "describe",
    "describe_parameter",
    "is_function",
    "name_weights",
    "read_array",
    "read_parameters",
    "restore",
]

Array = NDArray[Any]

# The exceptions that malformed contents of a file cause, besides ValueError.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError)
# The attributes that are saved besides the weights, with their types; a model has some of them.
_ATTRIBUTES = (
    dict.fromkeys(("n_features_in_", "n_outputs_", "n_layers_", "n_iter_", "t_"), (int,))
    | {"out_activation_": (str,), "_no_improvement_count": (int,), "stopped_": (bool,)}
    | {"loss_": (float,), "loss_curve_": (list,), "validation_scores_": (list, NoneType)}
    | dict.fromkeys(("best_loss_", "best_validation_score_"), (float, NoneType))
)
_CURVES = ("loss_curve_", "validation_scores_")  # as arrays if not empty, because they grow
_ARRAYS = ("classes_", "feature_names_in_")  # of numbers, or of text
_MOMENTS = ("first", "second")
_HISTORY = "history."


def describe(
    model: Any, with_state: bool, with_functions: bool = False
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the contents and arrays of a fitted estimator, with or without the training's state.

    A parameter that is a function is described by its name, or refused without `with_functions`.
    """
    weights = model._current_weights()
    arrays = name_weights(weights.coefs, weights.intercepts)
    curves = {
        name: np.array(getattr(model, name)) for name in _CURVES if getattr(model, name, None)
    }
    arrays |= curves
    contents: dict[str, Any] = {
        "estimator": type(model).__name__,
        "parameters": {
            name: describe_parameter(name, value, with_functions)
            for name, value in model.get_params(deep=False).items()
        },
        "attributes": {
            name: to_json(name, getattr(model, name))
            for name in _ATTRIBUTES
            if hasattr(model, name) and name not in curves
        },
    }
    for name in _ARRAYS:
        if hasattr(model, name):
            values = getattr(model, name)
            if values.dtype.kind in "fiub":
                arrays[name] = np.ascontiguousarray(values)
            else:
                contents[name] = to_json(name, values.tolist())
    if with_state and hasattr(model, "_history"):
        contents["n_epochs"] = model._history.n_epochs
        arrays |= {_HISTORY + name: column for name, column in model.history_.items()}
    if hasattr(model, "_label_binarizer"):
        binarizer = model._label_binarizer
        contents["labels"] = [binarizer.y_type_, bool(binarizer.sparse_input_)]
    optimizer = getattr(model, "_optimizer", None)
    if with_state and optimizer is not None:
        contents["optimizer"] = {
            name: to_json(name, value)
            for name, value in optimizer.__getstate__().items()
            if name not in (*_MOMENTS, "schedule")
        }
        for name in _MOMENTS:
            moment = getattr(optimizer, name)
            if moment is not None and moment.units == weights.units:
                arrays[f"optimizer.{name}"] = moment.without_padding(moment.flat)
        if getattr(model, "_best", None) is not None and model._weights.units == weights.units:
            arrays["best"] = model._weights.without_padding(model._best)
    return contents, arrays


def name_weights(coefs: Any, intercepts: Any) -> dict[str, Array]:
    """Return the weights and biases of each layer by their names in a file."""
    named = {}
    for i, (w, b) in enumerate(zip(coefs, intercepts, strict=True)):
        named[f"coefs.{i}"] = np.ascontiguousarray(w)
        named[f"intercepts.{i}"] = np.ascontiguousarray(b)
    return named


def describe_parameter(name: str, value: Any, with_functions: bool) -> Any:
    """Return a parameter in the form of JSON; `with_functions`, a function by its name."""
    if with_functions and callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
    return to_json(f"the parameter {name}", value)


def is_function(value: Any) -> bool:
    """Return whether a described parameter is a function."""
    return isinstance(value, dict) and "function" in value


def read_parameters(contents: dict[str, Any]) -> dict[str, Any]:
    """Return an estimator's parameters; omit, with a warning, those that are functions."""
    kept = {}
    for name, value in contents["parameters"].items():
        if is_function(value):
            warnings.warn(
                f"The file holds for the parameter {name} only the name of a function, "
                f"{value['function']}: the parameter is left at its default.",
                stacklevel=3,
            )
        else:
            kept[name] = from_json(value)
    return kept


def read_array(name: str, contents: dict[str, Any], arrays: dict[str, Array]) -> Array:
    """Return an attribute that was described as an array, or as text."""
    if name in arrays:
        return arrays[name]
    kind = object if name == "feature_names_in_" else None
    return np.array(from_json(contents[name]), dtype=kind)


def restore(model: Any, contents: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Restore the described estimator in place; its parameters do not change.

    Raises
    ------
    ValueError
        If shapes or names do not fit each other.
    AttributeError, LookupError, TypeError
        If something is missing, or of another type.
    """
    _restore_attributes(model, contents, arrays)
    weights = _read_weights(model, arrays)
    if "n_epochs" in contents:
        model._history = _read_history(contents, arrays)
    if hasattr(model, "predict_proba"):
        model._label_binarizer = _make_binarizer(model, *contents["labels"])
    model._show(weights)
    if "optimizer" in contents:
        model._optimizer = _read_optimizer(model, contents, arrays)
    model._best = None
    if "best" in arrays:
        best = _take_elements("best must be", arrays["best"], weights)
        model._best = best.astype(weights.dtype).flat


def _restore_attributes(model: Any, contents: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Set the attributes that are numbers, text or plain arrays."""
    attributes = {name: from_json(value) for name, value in contents["attributes"].items()}
    attributes |= {name: arrays[name].tolist() for name in _CURVES if name in arrays}
    unknown = set(attributes) - set(_ATTRIBUTES)
    if unknown:
        raise ValueError(f"the attributes {sorted(unknown)} are unknown.")
    check_types(attributes, _ATTRIBUTES)
    for name in _CURVES:
        if any(type(value) is not float for value in attributes.get(name) or ()):
            raise ValueError(f"{name} must hold floats.")
    vars(model).update(attributes)
    if model.out_activation_ not in activations.CODES:
        raise ValueError(f"the activation {model.out_activation_!r} is unknown.")
    for name in _ARRAYS:
        if name in arrays or name in contents:
            setattr(model, name, read_array(name, contents, arrays))
    if hasattr(model, "feature_names_in_") and len(model.feature_names_in_) != model.n_features_in_:
        raise ValueError("feature_names_in_ must name each feature.")


def _read_weights(model: Any, arrays: dict[str, Array]) -> Weights:
    """Return the weights; refuse those that do not fit the attributes."""
    n_layers = sum(name.startswith("coefs.") for name in arrays)
    coefs = [arrays[f"coefs.{i}"] for i in range(n_layers)]
    intercepts = [arrays[f"intercepts.{i}"] for i in range(n_layers)]
    check_layers(coefs, intercepts, model.n_features_in_, model.n_outputs_)
    dtype = coefs[0].dtype
    if dtype not in (np.float32, np.float64) or any(a.dtype != dtype for a in coefs + intercepts):
        raise ValueError("coefs_ and intercepts_ must be all float32, or all float64.")
    return Weights.of(coefs, intercepts, dtype)


def _read_history(contents: dict[str, Any], arrays: dict[str, Array]) -> History:
    columns = {
        name.removeprefix(_HISTORY): column.tolist()
        for name, column in arrays.items()
        if name.startswith(_HISTORY)
    }
    history = History.of(contents["n_epochs"], columns)
    lengths = {len(column) for column in columns.values()}
    if lengths != {len(history.as_arrays()["epoch"])}:
        raise ValueError("history_ must have one value per epoch in each column.")
    return history


def _make_binarizer(model: Any, kind: str, is_sparse: bool) -> LabelBinarizer:
    """Return the binarizer of a classifier with these classes and outputs for a kind of targets."""
    if kind not in ("binary", "multiclass", "multilabel-indicator"):
        raise ValueError(f"targets of type {kind!r} are unknown.")
    n_classes = (1, 2) if kind == "binary" else (model.n_outputs_,)
    if np.ndim(model.classes_) != 1 or len(model.classes_) not in n_classes:
        raise ValueError("classes_ must correspond to the outputs.")
    binarizer = LabelBinarizer()
    binarizer.y_type_, binarizer.sparse_input_ = kind, is_sparse
    binarizer.classes_ = model.classes_
    return binarizer


def _read_optimizer(model: Any, contents: dict[str, Any], arrays: dict[str, Array]) -> Optimizer:
    """Return the optimizer, ready to continue with the model's weights."""
    optimizer: Any = Optimizer.__new__(Optimizer)
    moments: dict[str, Weights | None] = dict.fromkeys(_MOMENTS)
    for name in _MOMENTS:
        if f"optimizer.{name}" in arrays:
            what = f"optimizer.{name} must be"
            moments[name] = _take_elements(what, arrays[f"optimizer.{name}"], model._weights)
    kept = {name: from_json(value) for name, value in contents["optimizer"].items()}
    expected = {field.name for field in fields(Optimizer)} - {*_MOMENTS, "schedule"}
    if set(kept) != expected or kept["solver"] not in STOCHASTIC_SOLVERS:
        raise ValueError(f"optimizer must hold {sorted(expected)} of a stochastic solver.")
    optimizer.__setstate__({"schedule": model.learning_rate, **kept, **moments})
    restored: Optimizer = optimizer
    return restored


def check_types(values: dict[str, Any], types: dict[str, tuple[type, ...]]) -> None:
    """Refuse values of other types than these, and integers outside [0, 2**63)."""
    for name, value in values.items():
        if type(value) not in types[name]:
            wanted = " or ".join(kind.__name__ for kind in types[name])
            raise ValueError(f"{name} must be of type {wanted}, got {value!r:.50}.")
        if type(value) is int and not 0 <= value < 2**63:
            raise ValueError(f"{name} must be 0 or more and less than 2**63, got {value:.9g}.")


def check_elements(what: str, elements: Array, weights: Weights) -> None:
    """Refuse elements that are not one number for each weight, in the dtype of the weights."""
    n = weights.without_padding(weights.flat).size
    if (elements.shape, elements.dtype) != ((n,), weights.dtype):
        raise ValueError(f"{what} of shape {(n,)} and dtype {weights.dtype}.")


def _take_elements(what: str, elements: Array, weights: Weights) -> Weights:
    """Return one number for each weight, in their own dtype; the weights' may have changed."""
    dtype = elements.dtype if elements.dtype in (np.float32, np.float64) else weights.dtype
    taken = Weights(weights.units, dtype)
    check_elements(what, elements, taken)
    taken.flat[...] = taken.with_padding(elements)
    return taken
