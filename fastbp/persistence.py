"""Models in files that hold numbers and text, and nothing to execute.

The format is safetensors (https://huggingface.co/docs/safetensors): a JSON header, then the
arrays. The header's metadata hold the estimator's name, parameters and attributes as JSON, the
versions that wrote them, and a digest of all of it.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor
from fastbp.network import Weights
from fastbp.training.solvers import Optimizer

__all__ = ["load", "save"]

Array = NDArray[Any]

FORMAT = "1"
_ESTIMATORS = {kind.__name__: kind for kind in (BPClassifier, BPRegressor)}
# What is kept beside the weights; a model has some of them.
_ATTRIBUTES = (
    "n_features_in_", "n_outputs_", "n_layers_", "n_iter_", "t_", "out_activation_", "loss_",
    "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
    "_no_improvement_count",
)  # fmt: skip
_ARRAYS = ("classes_", "feature_names_in_")  # of numbers, or of text
_MOMENTS = ("first", "second")


def save(model: BaseBP, path: str | os.PathLike[str], state: bool = False) -> None:
    """Write a fitted model to a file.

    The file is there whole or not at all: it is written beside its place and then moved.

    Parameters
    ----------
    model : BPClassifier or BPRegressor
    path : str or path-like
    state : bool, default=False
        Keep the solver's state too, so that `partial_fit` goes on as if nothing had been; about
        three times the size with Adam.

    Raises
    ------
    ValueError
        Where a parameter is no number or text, a function for one; the message names it.
    """
    from safetensors.numpy import save as to_bytes

    check_is_fitted(model)
    if type(model) not in _ESTIMATORS.values():
        raise ValueError(
            f"model must be a BPClassifier or BPRegressor, got {type(model).__name__}."
        )
    arrays = {}
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        arrays[f"coefs.{i}"] = np.ascontiguousarray(w)
        arrays[f"intercepts.{i}"] = np.ascontiguousarray(b)
    contents: dict[str, Any] = {
        "estimator": type(model).__name__,
        "parameters": {
            name: _to_json(f"the parameter {name}", value)
            for name, value in model.get_params(deep=False).items()
        },
        "attributes": {
            name: _to_json(name, getattr(model, name))
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
                contents[name] = _to_json(name, values.tolist())
    if hasattr(model, "_label_binarizer"):
        binarizer = model._label_binarizer
        contents["labels"] = [binarizer.y_type_, bool(binarizer.sparse_input_)]
    optimizer = getattr(model, "_optimizer", None)
    if state and optimizer is not None:
        contents["optimizer"] = {
            name: _to_json(name, value)
            for name, value in optimizer.__getstate__().items()
            if name not in _MOMENTS
        }
        for name in _MOMENTS:
            moment = getattr(optimizer, name)
            if moment is not None:
                arrays[f"optimizer.{name}"] = moment.without_padding(moment.flat)
    from fastbp import __version__

    contents["versions"] = {"fastbp": __version__, "scikit-learn": sklearn.__version__}
    text = json.dumps(contents)
    metadata = {"fastbp": FORMAT, "contents": text, "digest": _digest(text, arrays)}
    _write(Path(path), to_bytes(arrays, metadata))


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model that `save` wrote to a file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    BPClassifier or BPRegressor

    Raises
    ------
    ValueError
        Where the file is none of fastbp's, of another version of the format, cut short, or altered.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as a model: {error}.") from error
    version = metadata.get("fastbp")
    if version != FORMAT:
        raise ValueError(f"{path} is no model of fastbp's format {FORMAT}, but {version!r}.")
    text = metadata.get("contents", "")
    if metadata.get("digest") != _digest(text, arrays):
        raise ValueError(f"{path} was altered: its contents are not what was saved.")
    return _restore(json.loads(text), arrays)


def _restore(contents: dict[str, Any], arrays: dict[str, Array]) -> Any:
    parameters = {name: _from_json(value) for name, value in contents["parameters"].items()}
    model: Any = _ESTIMATORS[contents["estimator"]](**parameters)
    for name, value in contents["attributes"].items():
        setattr(model, name, _from_json(value))
    for name in _ARRAYS:
        if name in arrays:
            setattr(model, name, arrays[name])
        elif name in contents:
            kind = object if name == "feature_names_in_" else None
            setattr(model, name, np.array(_from_json(contents[name]), dtype=kind))
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
        kept = {name: _from_json(value) for name, value in contents["optimizer"].items()}
        optimizer.__setstate__({**kept, **moments})
        model._optimizer = optimizer
    return model


def _to_json(name: str, value: Any) -> Any:
    """Return what JSON can express, from which `_from_json` makes the value again."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_to_json(name, element) for element in value]}
    if isinstance(value, np.ndarray):
        return {"array": _to_json(name, value.tolist()), "dtype": value.dtype.str}
    if isinstance(value, dict):
        return {"dict": [[_to_json(name, k), _to_json(name, v)] for k, v in value.items()]}
    if isinstance(value, np.random.RandomState):
        return {"RandomState": _to_json(name, value.get_state(legacy=False))}
    raise ValueError(f"{name} cannot be saved: {value!r} is neither number nor text.")


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(_from_json(value["array"]), dtype=value["dtype"])
    ((kind, contents),) = value.items()
    if kind == "dict":
        return {_from_json(k): _from_json(v) for k, v in contents}
    if kind == "RandomState":
        generator = np.random.RandomState()
        generator.set_state(_from_json(contents))
        return generator
    elements = [_from_json(element) for element in contents]
    return tuple(elements) if kind == "tuple" else elements


def _digest(text: str, arrays: dict[str, Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _write(path: Path, contents: bytes) -> None:
    """Write a file whole, or leave what was there."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
