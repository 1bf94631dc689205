"""Multilayer perceptrons for scikit-learn, trained by compiled kernels.

`BPClassifier` and `BPRegressor` stand in for MLPClassifier and MLPRegressor: the same parameters
and the same seed give the same model, many times faster.
"""

from fastbp.configuration import show_config
from fastbp.displays import TrainingDisplay, WeightsDisplay
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.pickling import keep_training_state
from fastbp.estimators.regressor import BPRegressor
from fastbp.export import to_onnx, to_torch
from fastbp.persistence import load, save
from fastbp.warmup import warmup

__version__ = "0.1.0"

__all__ = [
    "BPClassifier",
    "BPRegressor",
    "TrainingDisplay",
    "WeightsDisplay",
    "__version__",
    "keep_training_state",
    "load",
    "save",
    "show_config",
    "to_onnx",
    "to_torch",
    "warmup",
]
