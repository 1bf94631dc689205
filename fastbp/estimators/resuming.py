"""Trainings as contents and arrays of a file, from which `fit(resume_from=)` continues."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.estimators.checks import check_weights
from fastbp.estimators.serialization import (
    MALFORMED,
    check_elements,
    check_types,
    describe,
    describe_parameter,
    is_function,
    name_weights,
    read_array,
    restore,
)
from fastbp.files import from_json, to_json
from fastbp.samples import Samples, as_rows, digest_rows, number_rows
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.schedules import needs_length
from fastbp.training.solvers import Optimizer
from fastbp.training.stochastic import State

__all__ = ["describe_training", "digest_data", "restore_training"]

Array = NDArray[Any]

# Fields of `State`: plain values with their types, and row numbers.
_STATE = {
    "n_iter": (int,),
    "seconds": (float,),
    "goes_on": (bool,),
    "dropout_seed": (int,),
    "random_state": (np.random.RandomState,),
    "sum_squares": (float, NoneType),
    "n_val": (int, NoneType),
}
_STATE_ROWS = ("order", "held_out")
_MEMORY = "lbfgs."
_CALLBACKS = "callbacks."
_WEIGHTS = ("coefs.", "intercepts.")
_MAY_CHANGE = ("max_iter", "max_fun", "max_time", "n_jobs", "verbose")  # on resuming


def describe_training(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the result of `describe`, with the state of the estimator's current training."""
    contents, arrays = describe(model, with_state=True, with_functions=True)
    state, weights = model._state, model._weights
    if state.best is not None and not (state.one_epoch and state.goes_on):
        arrays |= name_weights(*weights.split(state.best))  # a loaded model has the best
    if state.one_epoch:  # partial_fit continues from the model itself
        return contents, arrays
    if state.best is not None:
        arrays["training.latest"] = weights.without_padding(weights.flat)
    contents["training"] = {name: to_json(name, getattr(state, name)) for name in _STATE}
    contents["training"]["n_samples"] = state.n_samples
    contents["training"]["data"] = state.data
    for name in _STATE_ROWS:
        if model.solver != "lbfgs" and getattr(state, name) is not None:
            arrays[f"training.{name}"] = getattr(state, name)
    if state.memory is not None:
        described = state.memory.describe()
        arrays |= {_MEMORY + name: array for name, array in described.items()}
    contents["training"]["callbacks"] = {}
    for name, callback in _callbacks_with_state(model):
        numbers, best = callback.describe_run(model)
        contents["training"]["callbacks"][name] = to_json(name, numbers)
        if best is not None:
            arrays[_CALLBACKS + name] = np.concatenate([w.ravel() for w in best])
    return contents, arrays


def digest_data(
    samples: Samples, sample_weight: Any, validation: Samples | None, sample_weight_val: Any
) -> dict[str, str | None]:
    """Return digests of a fit's data by argument name; None for arguments not given."""
    data = {}
    for end, part, weight in (
        ("", samples, sample_weight),
        ("_val", validation, sample_weight_val),
    ):
        X, y = None, None
        if part is not None:
            X, y = part.X, part.labels if part.targets is None else part.targets
        for name, array in (("X", X), ("y", y), ("sample_weight", check_weights(weight, X))):
            data[name + end] = digest_rows(array)
    return data


def _callbacks_with_state(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield callbacks whose state a checkpoint holds, named by class and number in the class."""
    numbers: Counter[str] = Counter()
    for callback in getattr(model, "_skl_callbacks", ()):
        if hasattr(callback, "describe_run"):
            kind = type(callback).__name__
            yield f"{kind}.{numbers[kind]}", callback
            numbers[kind] += 1


def _restore_callbacks(model: Any, kept: dict[str, Any], arrays: dict[str, Array]) -> bool:
    """Restore the described states of callbacks; return whether one had asked to stop."""
    weights, stop = model._weights, False
    for name, callback in _callbacks_with_state(model):
        if name in kept:
            best, elements = None, arrays.get(_CALLBACKS + name)
            if elements is not None:
                check_elements(f"resume_from must hold {_CALLBACKS}{name}", elements, weights)
                coefs, intercepts = weights.split(weights.with_padding(elements))
                best = [*coefs, *intercepts]
            try:
                stop |= callback.restore_run(model, kept[name], best)
            except (KeyError, TypeError) as error:
                raise ValueError(f"resume_from must hold the state of {name}.") from error
    return stop


def restore_training(
    model: Any,
    contents: dict[str, Any],
    arrays: dict[str, Array],
    samples: Samples,
    validation: Samples | None,
    data: dict[str, str | None],
) -> State:
    """Restore the described estimator in place, and return the state to continue from.

    `data` holds the digests of the data of this fit, from `digest_data`.

    Raises
    ------
    ValueError
        If the file holds no training, or one with other parameters or other data.
    """
    with _refuse(*MALFORMED):
        training = contents.get("training")
        if training is None:
            raise ValueError("resume_from holds a model, but no training run that can be resumed.")
        _check_training(model, contents, arrays, samples, validation)
        _check_data(training["data"], data)
        memory = None
        if model.solver == "lbfgs":
            units = _units_of(model, samples)
            described = {name.removeprefix(_MEMORY): array for name, array in arrays.items()}
            memory = LimitedMemory.of(units, described)
        with _refuse(ValueError):
            restore(model, contents, arrays)
            kept = {name: from_json(training[name]) for name in _STATE}
            check_types(kept, _STATE)
            _check_record(model)
            of_callbacks = {n: from_json(value) for n, value in training["callbacks"].items()}
        n_samples = samples.X.shape[0]
        rows: dict[str, Any] = {
            name: as_rows(arrays[f"training.{name}"], n_samples)
            for name in _STATE_ROWS
            if f"training.{name}" in arrays
        }
        rows.setdefault("order", number_rows(n_samples))
        state = State(memory=memory, data=data, **kept, **rows)
        if "training.latest" in arrays:
            latest = arrays["training.latest"]
            check_elements("resume_from must hold training.latest", latest, model._weights)
            state.best = model._weights.flat.copy()
            state.latest = model._weights.with_padding(latest)
        if _restore_callbacks(model, of_callbacks, arrays):
            state.goes_on = False
    return state


@contextmanager
def _refuse(*errors: type[Exception]) -> Iterator[None]:
    """Raise ValueError about the contents of resume_from in place of these errors."""
    try:
        yield
    except errors as error:
        raise ValueError(
            f"resume_from holds no training run that this fastbp can read: {error!r}."
        ) from error


def _check_record(model: Any) -> None:
    """Refuse a stochastic solver's training that lacks attributes or has another optimizer."""
    if model.solver == "lbfgs":
        return
    fresh, kept = model._make_optimizer(), model._optimizer
    for setting in fields(Optimizer):
        before, now = getattr(kept, setting.name), getattr(fresh, setting.name)
        if setting.init and before != now:
            raise ValueError(f"optimizer must have {setting.name}={now!r}, got {before!r:.50}.")
    check_types(
        {"learning_rate": kept.learning_rate, "steps_taken": kept.steps_taken},
        {"learning_rate": (float,), "steps_taken": (int,)},
    )
    decides = ["validation_scores_", "best_validation_score_"]
    decides = decides if model.early_stopping else ["best_loss_"]
    needed = ["loss_curve_", "_no_improvement_count", "t_", "_history", *decides]
    missing = [name for name in needed if vars(model).get(name) is None]
    if missing:
        raise ValueError(f"the attributes {missing} are missing.")


def _units_of(model: Any, samples: Samples) -> tuple[int, ...]:
    return samples.X.shape[1], *model._check_network()[0], model.n_outputs_


def _check_data(before: dict[str, Any], now: dict[str, str | None]) -> None:
    """Refuse data that differ from those of the checkpoint; see `digest_data`."""
    for name, digest in now.items():
        if before[name] != digest:
            how = (
                "without" if before[name] is None else "with a" if digest is None else "on another"
            )
            raise ValueError(f"resume_from holds a training run {how} {name}.")


def _check_training(
    model: Any,
    contents: dict[str, Any],
    arrays: dict[str, Array],
    samples: Samples,
    validation: Samples | None,
) -> None:
    """Refuse contents that are not a training of this model on these samples."""
    if contents["estimator"] != type(model).__name__:
        raise ValueError(f"resume_from holds a training run of a {contents['estimator']}.")
    _check_parameters(model, contents["parameters"])
    n_iter, n_val = contents["training"]["n_iter"], contents["training"]["n_val"]
    if n_iter > model.max_iter:
        raise ValueError(
            f"resume_from holds a training run of {n_iter} epochs, but max_iter is less."
        )
    if n_val != (None if validation is None else validation.X.shape[0]):
        samples_val = "no X_val" if n_val is None else f"an X_val of {n_val} samples"
        raise ValueError(f"resume_from holds a training run with {samples_val}.")
    shape = contents["training"]["n_samples"], contents["attributes"]["n_features_in_"]
    if shape != samples.X.shape:
        raise ValueError(f"resume_from holds a training run on X of shape {shape}.")
    for name, what in (("classes_", "classes"), ("feature_names_in_", "features")):
        if hasattr(model, name) and (name == "classes_" or name in contents):
            before = read_array(name, contents, arrays)
            if not np.array_equal(before, getattr(model, name)):
                raise ValueError(f"resume_from holds a training run with the {what} {before}.")
    _check_arrays(model, arrays, samples)


def _check_parameters(model: Any, described: dict[str, Any]) -> None:
    """Refuse parameters that differ from the model's and affect how training continues."""
    follows_max_iter = model.solver != "lbfgs" and needs_length(model.learning_rate)
    for name, value in model.get_params(deep=False).items():
        before: Any = described.get(name)
        now = describe_parameter(name, value, True)
        generators = [isinstance(v, dict) and "RandomState" in v for v in (before, now)]
        may_change = name in _MAY_CHANGE and not (name == "max_iter" and follows_max_iter)
        if before != now and not (may_change or all(generators)):
            before, now = (v["function"] if is_function(v) else v for v in (before, now))
            why = ", on which learning_rate depends" if name == "max_iter" else ""
            raise ValueError(
                f"resume_from holds a training run with {name}={before}, not {now}{why}."
            )


def _check_arrays(model: Any, arrays: dict[str, Array], samples: Samples) -> None:
    """Refuse weights of another dtype or shape, and row numbers outside the samples."""
    dtypes = arrays["coefs.0"].dtype, model._choose_dtype(samples.X, True)
    if dtypes[0] != dtypes[1]:
        raise ValueError(f"resume_from holds a training run in {dtypes[0]}, not in {dtypes[1]}.")
    units = _units_of(model, samples)
    shapes = {name: a.shape for name, a in arrays.items() if name.startswith(_WEIGHTS)}
    expected: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        expected |= {f"coefs.{i}": (n_in, n_out), f"intercepts.{i}": (n_out,)}
    if shapes != expected:
        raise ValueError(f"resume_from holds no training run of a network with units {units}.")
    for name in _STATE_ROWS:
        rows = arrays.get(f"training.{name}", np.arange(1))
        are_numbers = rows.ndim == 1 and rows.dtype.kind == "i" and rows.size > 0
        if not (are_numbers and rows.min() >= 0 and rows.max() < samples.X.shape[0]):
            raise ValueError(f"resume_from must hold row numbers of X as training.{name}.")
