"""Models in files, whose format is in `fastbp.files`."""

import os
from typing import Any

import sklearn
from sklearn.utils.validation import check_is_fitted

from fastbp import files
from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor
from fastbp.estimators.resuming import describe_training
from fastbp.estimators.stored import MALFORMED, describe, read_parameters, restore

__all__ = ["load", "save", "save_training"]

_ESTIMATORS = {kind.__name__: kind for kind in (BPClassifier, BPRegressor)}


def save(model: BaseBP, path: str | os.PathLike[str], state: bool = False) -> None:
    """Write a fitted model to a file.

    The file is there whole or not at all: it is written beside its place and then moved.

    Parameters
    ----------
    model : BPClassifier or BPRegressor
    path : str or path-like
    state : bool, default=False
        Keep the solver's state too, so that `partial_fit` goes on as if nothing had been, about
        three times the size with Adam; and `history_`. Without it there are `loss_curve_` and
        `validation_scores_`.

    Raises
    ------
    NotFittedError
        Where the model is not.
    ValueError
        Where it is another estimator, or a parameter is no number or text, a function for one; the
        message names it.
    """
    check_is_fitted(model)
    if type(model) not in _ESTIMATORS.values():
        raise ValueError(
            f"model must be a BPClassifier or BPRegressor, got {type(model).__name__}."
        )
    _write(path, *describe(model, state))


def save_training(model: BaseBP, path: str | os.PathLike[str]) -> None:
    """Write a model in the midst of its fit, from where `fit` can go on."""
    _write(path, *describe_training(model))


def _write(path: str | os.PathLike[str], contents: dict[str, Any], arrays: dict[str, Any]) -> None:
    from fastbp import __version__

    contents["versions"] = {"fastbp": __version__, "scikit-learn": sklearn.__version__}
    files.write(path, contents, arrays)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model that `save`, or a `Checkpoint`, wrote to a file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    BPClassifier or BPRegressor

    Raises
    ------
    ValueError
        Where the file is none of fastbp's, of another version of the format, cut short, or altered,
        or where it holds no model, or one of a newer fastbp.
    OSError
        Where it is not there, cannot be read, or is a folder.
    """
    contents, arrays = files.read(path)
    try:
        model: Any = _ESTIMATORS[contents["estimator"]](**read_parameters(contents))
        restore(model, contents, arrays)
    except (*MALFORMED, ValueError) as error:
        raise ValueError(f"{path} holds no model that this fastbp knows: {error!r}.") from error
    return model
