"""Estimators as contents and arrays of a file, and back."""

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer

from fastbp.files import from_json, to_json
from fastbp.network import Weights
from fastbp.samples import Samples
from fastbp.training.history import History
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.solvers import Optimizer
from fastbp.training.stochastic import State

__all__ = ["describe", "describe_training", "read_parameters", "restore", "restore_training"]

Array = NDArray[Any]

# What is kept beside the weights; a model has some of them.
_ATTRIBUTES = (
    "n_features_in_", "n_outputs_", "n_layers_", "n_iter_", "t_", "out_activation_", "loss_",
    "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
    "_no_improvement_count", "stopped_",
)  # fmt: skip
_ARRAYS = ("classes_", "feature_names_in_")  # of numbers, or of text
_MOMENTS = ("first", "second")
_HISTORY = "history."
# Of a training that goes on: plain values, and row numbers.
_STATE = ("n_iter", "seconds", "goes_on", "dropout_seed", "random_state", "sum_squares", "n_val")
_STATE_ROWS = ("order", "held_out")
_MEMORY = "lbfgs."
_WEIGHTS = ("coefs.", "intercepts.")
_MAY_CHANGE = ("max_iter", "max_fun", "max_time", "n_jobs", "verbose")  # while it goes on


def describe(
    model: Any, with_solver: bool, with_functions: bool = False
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what is to be written of a fitted estimator, with or without its solver's state.

    Of parameters that are functions there is at most the name.
    """
    arrays = _name_weights(model.coefs_, model.intercepts_)
    contents: dict[str, Any] = {
        "estimator": type(model).__name__,
        "parameters": {
            name: _parameter(name, value, with_functions)
            for name, value in model.get_params(deep=False).items()
        },
        "attributes": {
            name: to_json(name, getattr(model, name))
            for name in _ATTRIBUTES
            if hasattr(model, name)
        },
    }
    for name in _ARRAYS:
        if hasattr(model, name):
            values = getattr(model, name)
            if values.dtype.kind in "fiub":
                arrays[name] = np.ascontiguousarray(values)
            else:
                contents[name] = to_json(name, values.tolist())
    if hasattr(model, "_history"):
        contents["n_epochs"] = model._history.n_epochs
        arrays |= {_HISTORY + name: column for name, column in model.history_.items()}
    if hasattr(model, "_label_binarizer"):
        binarizer = model._label_binarizer
        contents["labels"] = [binarizer.y_type_, bool(binarizer.sparse_input_)]
    optimizer = getattr(model, "_optimizer", None)
    if with_solver and optimizer is not None:
        contents["optimizer"] = {
            name: to_json(name, value)
            for name, value in optimizer.__getstate__().items()
            if name not in (*_MOMENTS, "schedule")
        }
        for name in _MOMENTS:
            moment = getattr(optimizer, name)
            if moment is not None:
                arrays[f"optimizer.{name}"] = moment.without_padding(moment.flat)
        if getattr(model, "_best", None) is not None:
            arrays["best"] = model._weights.without_padding(model._best)
    return contents, arrays


def _name_weights(coefs: Any, intercepts: Any) -> dict[str, Array]:
    named = {}
    for i, (w, b) in enumerate(zip(coefs, intercepts, strict=True)):
        named[f"coefs.{i}"] = np.ascontiguousarray(w)
        named[f"intercepts.{i}"] = np.ascontiguousarray(b)
    return named


def _parameter(name: str, value: Any, with_functions: bool) -> Any:
    if with_functions and callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
    return to_json(f"the parameter {name}", value)


def _is_function(value: Any) -> bool:
    return isinstance(value, dict) and "function" in value


def read_parameters(contents: dict[str, Any]) -> dict[str, Any]:
    """Return an estimator's parameters, without those that are functions."""
    kept = {}
    for name, value in contents["parameters"].items():
        if _is_function(value):
            warnings.warn(
                f"The file has of the parameter {name} only the name, {value['function']}: it is "
                "left at its default.",
                stacklevel=3,
            )
        else:
            kept[name] = from_json(value)
    return kept


def _read_array(name: str, contents: dict[str, Any], arrays: dict[str, Array]) -> Array:
    if name in arrays:
        return arrays[name]
    kind = object if name == "feature_names_in_" else None
    return np.array(from_json(contents[name]), dtype=kind)


def restore(model: Any, contents: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Make of an estimator what was described; its parameters stay."""
    for name, value in contents["attributes"].items():
        setattr(model, name, from_json(value))
    for name in _ARRAYS:
        if name in arrays or name in contents:
            setattr(model, name, _read_array(name, contents, arrays))
    if "n_epochs" in contents:
        columns = {
            name.removeprefix(_HISTORY): column.tolist()
            for name, column in arrays.items()
            if name.startswith(_HISTORY)
        }
        model._history = History.of(contents["n_epochs"], columns)
    if "labels" in contents:
        model._label_binarizer = binarizer = LabelBinarizer()
        binarizer.y_type_, binarizer.sparse_input_ = contents["labels"]
        binarizer.classes_ = model.classes_
    n_layers = sum(name.startswith("coefs.") for name in arrays)
    coefs = [arrays[f"coefs.{i}"] for i in range(n_layers)]
    intercepts = [arrays[f"intercepts.{i}"] for i in range(n_layers)]
    weights = Weights.of(coefs, intercepts, coefs[0].dtype)
    model._show(weights)
    if "optimizer" in contents:
        optimizer: Any = Optimizer.__new__(Optimizer)
        moments: dict[str, Weights | None] = dict.fromkeys(_MOMENTS)
        for name in _MOMENTS:
            if f"optimizer.{name}" in arrays:
                moments[name] = moment = Weights(weights.units, weights.dtype)
                moment.flat[...] = moment.with_padding(arrays[f"optimizer.{name}"])
        kept = {name: from_json(value) for name, value in contents["optimizer"].items()}
        optimizer.__setstate__({"schedule": model.learning_rate, **kept, **moments})
        model._optimizer = optimizer
    model._best = weights.with_padding(arrays["best"]) if "best" in arrays else None


def describe_training(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return `describe`'s with the state of the training that the estimator is in."""
    contents, arrays = describe(model, with_solver=True, with_functions=True)
    state, weights = model._state, model._weights
    if state.best is not None:  # who loads the model gets the best
        arrays |= _name_weights(*weights.split(state.best))
        arrays["training.latest"] = weights.without_padding(weights.flat)
    contents["training"] = {name: to_json(name, getattr(state, name)) for name in _STATE}
    contents["training"]["n_samples"] = len(state.rows)
    for name in _STATE_ROWS:
        if getattr(state, name) is not None:
            arrays[f"training.{name}"] = getattr(state, name).copy()
    if state.memory is not None:
        contents["training"]["lbfgs"], kept = state.memory.describe()
        arrays |= {_MEMORY + name: array for name, array in kept.items()}
    return contents, arrays


def restore_training(
    model: Any,
    contents: dict[str, Any],
    arrays: dict[str, Array],
    samples: Samples,
    validation: Samples | None,
) -> State:
    """Make of an estimator what was described, and return the state to go on from.

    Raises
    ------
    ValueError
        Where the file holds no training, or one of other parameters or other data.
    """
    _check_training(model, contents, arrays, samples, validation)
    memory = None
    if model.solver == "lbfgs":
        memory = LimitedMemory.of(
            sum(array.size for name, array in arrays.items() if name.startswith(_WEIGHTS)),
            contents["training"].get("lbfgs", {}),
            {name.removeprefix(_MEMORY): array for name, array in arrays.items()},
        )
    restore(model, contents, arrays)
    kept = {name: from_json(contents["training"][name]) for name in _STATE}
    rows: dict[str, Any] = {name: arrays.get(f"training.{name}") for name in _STATE_ROWS}
    state = State(np.arange(samples.X.shape[0]), memory=memory, **kept, **rows)
    if "training.latest" in arrays:
        state.best = model._weights.flat.copy()
        state.latest = model._weights.with_padding(arrays["training.latest"])
    return state


def _check_training(
    model: Any,
    contents: dict[str, Any],
    arrays: dict[str, Array],
    samples: Samples,
    validation: Samples | None,
) -> None:
    """Refuse what is no training of this model on these samples."""
    if "training" not in contents:
        raise ValueError("resume_from holds a model, but no training that could go on.")
    if contents["estimator"] != type(model).__name__:
        raise ValueError(f"resume_from holds a training of a {contents['estimator']}.")
    for name, value in model.get_params(deep=False).items():
        before, now = contents["parameters"].get(name), _parameter(name, value, True)
        generators = [isinstance(v, dict) and "RandomState" in v for v in (before, now)]
        if name not in _MAY_CHANGE and before != now and not all(generators):
            before, now = (v["function"] if _is_function(v) else v for v in (before, now))
            raise ValueError(f"resume_from holds a training with {name}={before}, not {now}.")
    n_iter, n_val = contents["training"]["n_iter"], contents["training"]["n_val"]
    if n_iter > model.max_iter:
        raise ValueError(f"resume_from holds a training of {n_iter} epochs: max_iter is less.")
    if n_val != (None if validation is None else validation.X.shape[0]):
        samples_val = "no X_val" if n_val is None else f"an X_val of {n_val} samples"
        raise ValueError(f"resume_from holds a training with {samples_val}.")
    shape = contents["training"]["n_samples"], contents["attributes"]["n_features_in_"]
    if shape != samples.X.shape:
        raise ValueError(f"resume_from holds a training on X of shape {shape}.")
    dtypes = arrays["coefs.0"].dtype, model._choose_dtype(samples.X, True)
    if dtypes[0] != dtypes[1]:
        raise ValueError(f"resume_from holds a training in {dtypes[0]}, not in {dtypes[1]}.")
    if hasattr(model, "classes_"):
        classes = _read_array("classes_", contents, arrays)
        if not np.array_equal(classes, model.classes_):
            raise ValueError(f"resume_from holds a training with the classes {classes}.")
    units = (samples.X.shape[1], *model._check_network()[0], model.n_outputs_)
    shapes = {name: a.shape for name, a in arrays.items() if name.startswith(_WEIGHTS)}
    expected: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        expected |= {f"coefs.{i}": (n_in, n_out), f"intercepts.{i}": (n_out,)}
    if shapes != expected:
        raise ValueError(f"resume_from holds no training of units {units}.")
    for name in _STATE_ROWS:
        rows = arrays.get(f"training.{name}", np.arange(1))
        are_numbers = rows.ndim == 1 and rows.dtype == np.int64 and rows.size > 0
        if not (are_numbers and rows.min() >= 0 and rows.max() < samples.X.shape[0]):
            raise ValueError(f"resume_from must hold rows of X as training.{name}.")
