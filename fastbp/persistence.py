"""Saving and loading of models, in the format of `fastbp.files`."""

import os
from typing import Any

import sklearn
from sklearn.utils.validation import check_is_fitted

from fastbp import files
from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor
from fastbp.estimators.resuming import describe_training
from fastbp.estimators.serialization import MALFORMED, describe, read_parameters, restore

__all__ = ["load", "save", "save_training"]

_ESTIMATORS = {kind.__name__: kind for kind in (BPClassifier, BPRegressor)}


def save(model: BaseBP, path: str | os.PathLike[str], state: bool = False) -> None:
    """Write a fitted model to a file.

    The file is written atomically: to a temporary file in the same folder, which is then renamed.

    Parameters
    ----------
    model : BPClassifier or BPRegressor
    path : str or path-like
    state : bool, default=False
        Save `history_` and the solver's state too, so that `partial_fit` continues as if
        uninterrupted; with Adam the file is about three times the size. `loss_curve_` and
        `validation_scores_` are saved in any case.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    ValueError
        If it is another estimator, or a parameter is neither a number nor text, for example a
        function; the message names it.
    OSError
        If the file cannot be written.
    """
    check_is_fitted(model)
    if type(model) not in _ESTIMATORS.values():
        raise ValueError(
            f"model must be a BPClassifier or BPRegressor, got {type(model).__name__}."
        )
    _write(path, *describe(model, state))


def save_training(model: BaseBP, path: str | os.PathLike[str]) -> None:
    """Write a model during its fit, with the state from which `fit` can resume."""
    _write(path, *describe_training(model))


def _write(path: str | os.PathLike[str], contents: dict[str, Any], arrays: dict[str, Any]) -> None:
    from fastbp import __version__

    contents["versions"] = {"fastbp": __version__, "scikit-learn": sklearn.__version__}
    files.write(path, contents, arrays)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model that `save` or a `Checkpoint` wrote to a file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    BPClassifier or BPRegressor

    Raises
    ------
    ValueError
        If the file is not one of fastbp's, has another version of the format, is truncated, or was
        altered, or if it holds no model, or one of a newer fastbp.
    OSError
        If the file does not exist, cannot be read, or is a folder.

    Warns
    -----
    UserWarning
        If a parameter is a function, of which a `Checkpoint` saves only the name: it is left at its
        default.
    """
    contents, arrays = files.read(path)
    try:
        model: Any = _ESTIMATORS[contents["estimator"]](**read_parameters(contents))
        restore(model, contents, arrays)
    except (*MALFORMED, ValueError) as error:
        raise ValueError(f"{path} holds no model that this fastbp can read: {error!r}.") from error
    return model
