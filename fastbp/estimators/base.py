"""The base of the classifier and the regressor: parameters, checks, and the steps of fitting."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastbp.estimators.checks import (
    HIDDEN_ACTIVATIONS,
    are_plain,
    check_activation,
    check_dropout,
    check_hidden_layer_sizes,
    check_weights,
    multiply_weights,
    plain_number,
)
from fastbp.estimators.cloning import are_constant
from fastbp.estimators.early_stopping import Judge
from fastbp.estimators.pickling import OF_TRAINING, keep_training_state, keeps_training_state
from fastbp.estimators.predicting import PredictingMixin
from fastbp.estimators.resuming import digest_data, restore_training
from fastbp.estimators.watching import Watch
from fastbp.files import read
from fastbp.network import INITS, Weights, draw_weights
from fastbp.prediction import Predictor
from fastbp.randomness import borrowed_random_state
from fastbp.samples import Samples, number_rows
from fastbp.training import lbfgs, stochastic
from fastbp.training.engine import Engine
from fastbp.training.history import History
from fastbp.training.schedules import BY_EPOCHS, BY_STEPS
from fastbp.training.solvers import STOCHASTIC_SOLVERS, Optimizer

Array = NDArray[Any]

MOST_VALID = 1000
_valid: set[tuple[type, str]] = set()  # classes and parameters found valid so far

# Attributes that 'lbfgs' does not set.
_OF_STOCHASTIC_SOLVERS = (
    "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
    "_no_improvement_count",
)  # fmt: skip


class BaseBP(PredictingMixin, CallbackSupportMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A multilayer perceptron trained by backpropagation; the base of both estimators."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(HIDDEN_ACTIVATIONS)), "array-like"],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({*BY_EPOCHS, *BY_STEPS}), callable],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "init": [StrOptions(set(INITS))],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "warmup_epochs": [Interval(Real, 0, None, closed="left")],
        "decay_rate": [Interval(Real, 0, 1, closed="right")],
        "decay_epochs": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
    }

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return _param_names(cls)

    loss: str
    coefs_: list[Array]
    intercepts_: list[Array]
    n_outputs_: int
    _best: Array | None

    @abstractmethod
    def _validate_targets(self, y: Any, dtype: np.dtype[Any], incremental: bool) -> Any:
        """Check y, learn the classes if there are any, and return (targets, labels)."""

    @abstractmethod
    def _choose_out_activation(self) -> str:
        """Return the name of the output activation."""

    @abstractmethod
    def _encode_targets(self, y: Any, dtype: np.dtype[Any], name: str = "y") -> Any:
        """Return y as (targets, labels), by the classes and outputs learnt before."""

    @abstractmethod
    def _decode_targets(self, samples: Samples, rows: Array) -> Array:
        """Return the y of these rows as the user gave it."""

    def _class_weights(self, y: Any, counted: Samples | None = None) -> Array | None:
        """Return the weights of y by its classes; None if there are no class weights.

        Classes are counted in `counted` if given, else in y.
        """
        return None

    @abstractmethod
    def _engine_loss(self) -> tuple[str, float]:
        """Return the engine's name for the loss, and the loss's parameter or 0."""

    # Fitting ---------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        coef_init: Sequence[ArrayLike] | None = None,
        intercept_init: Sequence[ArrayLike] | None = None,
        validation: tuple[Any, Any, Any] = (None, None, None),
        resume_from: Any = None,
        incremental: bool = False,
    ) -> Self:
        if incremental and not get_config()["skip_parameter_validation"]:
            self._validate_params()  # scikit-learn validates the first call's only
        if incremental and self.early_stopping and validation[0] is None:
            raise ValueError(
                "partial_fit does not support early_stopping=True without X_val and y_val."
            )
        if incremental and self.early_stopping and getattr(self, "stopped_", False):
            warnings.warn(
                "early_stopping has already stopped partial_fit: the model is left unchanged.",
                stacklevel=2,
            )
            return self
        if resume_from is not None and (coef_init is not None or intercept_init is not None):
            raise ValueError(
                "coef_init and intercept_init cannot be used with resume_from, which has weights."
            )
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        self._check_regularisation()
        samples = self._take_in(X, y, sample_weight, first_pass, incremental)
        held_out = self._take_in_validation(*validation, samples)
        watch = self._watch(samples, y, sample_weight, incremental)
        data = {}
        if resume_from is not None or (watch and watch.keeps_state and not incremental):
            data = digest_data(samples, sample_weight, held_out, validation[2])
        with borrowed_random_state(self.random_state) as random_state:
            if resume_from is None:
                weights = self._begin(samples, random_state, first_pass, coef_init, intercept_init)
                order = number_rows(samples.X.shape[0])
                state = stochastic.State(order, random_state, one_epoch=incremental, data=data)
                if not (incremental and self.early_stopping):
                    self.stopped_, self._best = False, None
            else:
                state = restore_training(self, *read(resume_from), samples, held_out, data)
                weights = self._weights
            self._learn(samples, weights, state, incremental, held_out, watch)
        if watch:
            watch.end()
        return self

    def _watch(
        self, samples: Samples, y: Any, sample_weight: Any, incremental: bool
    ) -> Watch | None:
        """Return the object that notifies callbacks of the fit; None if there are no callbacks."""
        if not hasattr(self, "_skl_callbacks"):
            return None
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": samples.X, "y": y, "metadata": metadata}
        if incremental:
            return Watch(self, "partial_fit", 1, data)
        n_epochs = int(self.max_iter) + (self.solver == "lbfgs")  # one begun in excess
        return Watch(self, "fit", n_epochs, data)

    def _take_in(
        self, X: Any, y: Any, sample_weight: Any, first_pass: bool, incremental: bool = False
    ) -> Samples:
        """Check the data, and set the attributes that describe them."""
        X, y = self._validate_data(X, y, reset=first_pass)
        dtype = self._choose_dtype(X, first_pass)
        targets, labels = self._validate_targets(y, dtype, incremental)
        weights = check_weights(sample_weight, X)
        return Samples(X, targets, labels, multiply_weights(weights, self._class_weights(y)))

    def _take_in_validation(
        self, X: Any, y: Any, sample_weight: Any, samples: Samples
    ) -> Samples | None:
        """Return the user's validation set, checked; None if there is none."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError(
                "X_val and y_val must be given together, and sample_weight_val only with them."
            )
        if not self.early_stopping or self.solver == "lbfgs":
            raise ValueError(
                "X_val and y_val are for early_stopping=True and a stochastic solver; with "
                f"early_stopping={self.early_stopping} and solver={self.solver!r} they would not "
                "be used."
            )
        try:
            X, y = self._validate_data(X, y, reset=False)
            targets, labels = self._encode_targets(y, self._choose_dtype(samples.X, True), "y_val")
            weights = check_weights(sample_weight, X)
        except (TypeError, ValueError) as error:
            error.add_note("This concerns X_val, y_val and sample_weight_val.")
            raise
        of_classes = self._class_weights(y, samples)
        return Samples(X, targets, labels, multiply_weights(weights, of_classes))

    def _begin(
        self,
        samples: Samples,
        random_state: np.random.RandomState,
        first_pass: bool = True,
        coef_init: Sequence[ArrayLike] | None = None,
        intercept_init: Sequence[ArrayLike] | None = None,
    ) -> Weights:
        """Return the weights to start from."""
        hidden, names = self._check_network()
        dtype = self._choose_dtype(samples.X, first_pass)
        units = (samples.X.shape[1], *hidden, self.n_outputs_)
        if first_pass:
            weights = self._draw(units, names, random_state, dtype)
            _start_from(weights, coef_init, intercept_init)
            self._start_afresh(weights)
        else:
            weights = self._go_on_from(units, dtype)
            _start_from(weights, coef_init, intercept_init)
        return weights

    def _draw(
        self,
        units: Sequence[int],
        names: tuple[str, ...],
        random_state: np.random.RandomState,
        dtype: np.dtype[Any],
    ) -> Weights:
        # As in scikit-learn, the output layer is initialised for the hidden units' activation.
        styles = (self.activation,) if isinstance(self.activation, str) else names
        return draw_weights(units, styles or ("relu",), self.init, random_state, dtype)

    def _learn(
        self,
        samples: Samples,
        weights: Weights,
        state: stochastic.State,
        incremental: bool = False,
        validation: Samples | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """Train on the rows of the samples in `state.order`, continuing from the state."""
        names = (*self._check_network()[1], self.out_activation_)
        if self.solver == "lbfgs":
            self._fit_lbfgs(samples, weights, names, state, watch)
        else:
            self._fit_stochastic(samples, weights, names, state, incremental, validation, watch)
        if not np.isfinite(weights.flat).all():
            elements = weights.without_padding(weights.flat)
            if not np.isfinite(elements).all():
                raise ValueError(
                    "Solver produced non-finite parameter weights. The input data may contain large"
                    " values and need to be preprocessed."
                )
            weights.flat[...] = weights.with_padding(elements)  # a callback restored all the rest
        return self

    def _start_afresh(self, weights: Weights) -> None:
        self.n_iter_ = 0
        self.t_ = 0
        self.stopped_ = False
        self._best = None
        self.n_layers_ = len(weights.units)
        self.out_activation_ = self._choose_out_activation()
        self._show(weights)
        if self.solver == "lbfgs":
            for name in _OF_STOCHASTIC_SOLVERS:
                self.__dict__.pop(name, None)
        else:
            self._keep_record(self._fresh_record())

    def _go_on_from(self, units: tuple[int, ...], dtype: np.dtype[Any]) -> Weights:
        """Return the current weights, which the user may have replaced, to continue from."""
        coefs = [np.asarray(w) for w in self.coefs_]
        shapes = [w.shape for w in coefs]
        if shapes != list(pairwise(units)):
            self.n_outputs_ = shapes[-1][1]  # back to its old value
            raise ValueError(
                "warm_start and partial_fit continue with the layers of the first fit: `coefs_` "
                f"has shapes {shapes}, but X, y and hidden_layer_sizes require units {units}."
            )
        before = weights = getattr(self, "_weights", None)
        if (
            weights is None
            or not weights.seen_as(self.coefs_, self.intercepts_)
            or (weights.dtype != dtype)
        ):
            weights = Weights.of(coefs, self.intercepts_, dtype)
            best, self._best = getattr(self, "_best", None), None
            if best is not None and before is not None and before.units == weights.units:
                self._best = weights.with_padding(before.without_padding(best))
        self._show(weights)
        return weights

    def _show(self, weights: Weights) -> None:
        """Expose the weights as views, so that the kernels see what users write to them."""
        self._weights = weights
        self._predictor = Predictor(weights)
        self.coefs_ = list(weights.coefs)
        self.intercepts_ = list(weights.intercepts)

    def _fit_lbfgs(
        self,
        samples: Samples,
        weights: Weights,
        names: tuple[str, ...],
        state: stochastic.State,
        watch: Watch | None,
    ) -> None:
        self._check_regularisation()
        for name in ("_history", "_optimizer"):  # left by another solver before a warm start
            self.__dict__.pop(name, None)
        # The line search needs float64, whatever the dtype of the model.
        exact, samples = weights.astype(np.float64), samples.for_dtype(np.dtype(np.float64))
        engine = self._make_engine(exact, names, samples, state.n_samples, by_lbfgs=True)

        def publish() -> dict[str, Any]:
            weights.flat[...] = exact.astype(weights.dtype).flat
            self.n_iter_, self.loss_ = state.n_iter, state.loss
            return {}

        if watch:
            watch.publish = publish
        self._state = state
        try:
            lbfgs.minimize(
                engine,
                state,
                listener=watch,
                **self._plain("alpha", "max_iter", "max_fun", "tol", "max_time", "verbose"),
            )
        finally:
            del self._state
            publish()
            engine.close()

    def _fit_stochastic(
        self,
        samples: Samples,
        weights: Weights,
        names: tuple[str, ...],
        state: stochastic.State,
        incremental: bool,
        validation: Samples | None,
        watch: Watch | None,
    ) -> None:
        optimizer = getattr(self, "_optimizer", None)
        if optimizer is None or not (incremental or state.n_iter > 0):
            if incremental and getattr(self, "loss_curve_", None):
                warnings.warn(
                    "The solver's state was not kept with the model: partial_fit begins with a "
                    "fresh one. See fastbp.keep_training_state and the `state` of fastbp.save.",
                    stacklevel=2,
                )
            optimizer = self._make_optimizer()
        # partial_fit keeps the solver's other settings from its first call.
        optimizer.alpha = plain_number(self.alpha)
        self._optimizer = optimizer
        samples = samples.for_dtype(weights.dtype)
        validation = validation and validation.for_dtype(weights.dtype)
        dropout = self._check_regularisation()
        if dropout and state.n_iter == 0:
            state.dropout_seed = stochastic.draw_dropout_seed(state.random_state)
        judge = self._choose_judge(samples, names, state, validation)
        if incremental and judge:
            state.best = getattr(self, "_best", None)
        if state.latest is not None:
            weights.flat[...] = state.latest
        engine = self._make_engine(
            weights,
            names,
            samples,
            self._choose_batch_size(len(state.order)),
            keep_gradient=self.clip_norm is not None,
            dropout=dropout,
            seed=state.dropout_seed,
        )
        limits = stochastic.Limits(
            **self._plain("max_iter", "shuffle", "tol", "n_iter_no_change", "max_time", "verbose")
        )
        record = self._take_up_record()
        if incremental and judge and state.best is None:  # it was not kept with the model
            record.best_validation_score = -np.inf

        def publish() -> dict[str, Any]:
            self._keep_record(record)
            self.n_iter_ = state.n_iter
            if incremental and judge:
                self._best, self.stopped_ = state.best, not state.goes_on
            if state.best is None:
                return {}
            coefs, intercepts = weights.split(state.best)
            return {"coefs_": list(coefs), "intercepts_": list(intercepts)}

        if watch:
            watch.publish = publish
        self._state = state
        try:
            stochastic.train(engine, optimizer, record, limits, state, judge, watch)
        finally:
            del self._state
            publish()
            engine.close()
            if judge:
                judge.close()

    def _make_engine(
        self,
        weights: Weights,
        names: tuple[str, ...],
        samples: Samples,
        batch_size: int,
        **options: Any,
    ) -> Engine:
        loss, parameter = self._engine_loss()
        return Engine(
            weights,
            names,
            loss,
            samples,
            batch_size,
            self.n_jobs,
            loss_parameter=parameter,
            **options,
        )

    def _choose_judge(
        self,
        samples: Samples,
        names: tuple[str, ...],
        state: stochastic.State,
        validation: Samples | None,
    ) -> Judge | None:
        """Return early stopping's judge, on the user's validation set or a part of the data."""
        if not self.early_stopping:
            return None
        if validation is not None:
            state.n_val = validation.X.shape[0]
            return Judge(self, validation, number_rows(state.n_val), names)
        if state.held_out is None:
            split = self._split(samples, state.order, state.random_state)
            state.order, state.held_out = split
        return Judge(self, samples, state.held_out, names)

    def _split(
        self, samples: Samples, rows: Array, random_state: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Return row numbers to train on and to validate with, drawn as scikit-learn draws them."""
        if self.validation_fraction == 0:
            raise ValueError("validation_fraction must be more than 0 for early_stopping=True.")
        labels, splitter = None, ShuffleSplit
        if samples.targets is not None and hasattr(self, "classes_") and self.n_outputs_ == 1:
            # scikit-learn stratifies a column by the string of each row, made one by one.
            labels = np.where(samples.targets[rows, 0] != 0, "True", "False")
            splitter = StratifiedShuffleSplit
        # `train_test_split` does this, and takes twice as long.
        split = splitter(test_size=self.validation_fraction, random_state=random_state)
        to_train, held_out = next(split.split(rows, labels))
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return rows[to_train], rows[held_out]

    def _make_optimizer(self) -> Optimizer:
        names = (
            "solver", "learning_rate_init", "alpha", "power_t", "momentum", "nesterovs_momentum",
            "beta_1", "beta_2", "epsilon", "l1", "clip_norm", "decay_rate", "decay_epochs",
            "warmup_epochs",
        )  # fmt: skip
        return Optimizer(schedule=self.learning_rate, **self._plain(*names))

    def _plain(self, *names: str) -> dict[str, Any]:
        """Return parameters by their names, with NumPy's numbers as Python's."""
        return {name: plain_number(getattr(self, name)) for name in names}

    # Conversion of scikit-learn's attributes to and from `Record`, which holds them in training.

    def _fresh_record(self) -> stochastic.Record:
        return stochastic.Record.for_validation() if self.early_stopping else stochastic.Record()

    def _take_up_record(self) -> stochastic.Record:
        if getattr(self, "loss_curve_", None) is None:
            return self._fresh_record()  # the first fit was by L-BFGS
        record = stochastic.Record(
            loss_curve=self.loss_curve_,
            best_loss=getattr(self, "best_loss_", None),
            validation_scores=getattr(self, "validation_scores_", None),
            best_validation_score=getattr(self, "best_validation_score_", None),
            epochs_without_improvement=self._no_improvement_count,
            samples_seen=self.t_,
            history=getattr(self, "_history", History()),
        )
        if self.early_stopping != (record.validation_scores is not None):
            # early_stopping has been switched since, so the best value so far has no meaning
            fresh = self._fresh_record()
            fresh.loss_curve, fresh.samples_seen = record.loss_curve, record.samples_seen
            fresh.history = record.history
            return fresh
        return record

    def _keep_record(self, record: stochastic.Record) -> None:
        self.loss_curve_ = record.loss_curve
        self.best_loss_ = record.best_loss
        self.validation_scores_ = record.validation_scores
        self.best_validation_score_ = record.best_validation_score
        self._no_improvement_count = record.epochs_without_improvement
        self.t_ = record.samples_seen
        self._history = record.history
        self.loss_ = record.loss_curve[-1] if record.loss_curve else np.nan

    @property
    def history_(self) -> dict[str, Array]:
        """The record of each epoch; see the attributes of the class."""
        if not hasattr(self, "_history"):
            if self.solver != "lbfgs" and getattr(self, "loss_curve_", None):
                raise AttributeError(
                    "history_ was not kept with the model: pickles hold it that are made inside "
                    "fastbp.keep_training_state(), and files by fastbp.save(..., state=True)."
                )
            raise AttributeError(
                "there is no history_ before a fit by a stochastic solver: 'lbfgs' has none."
            )
        history: History = self._history
        return history.as_arrays()

    # Checks ----------------------------------------------------------------------------------

    def _check_network(self) -> tuple[list[int], tuple[str, ...]]:
        """Return the units of the hidden layers, and their activations."""
        if isinstance(self.n_jobs, bool):
            raise ValueError(f"n_jobs must be None or an integer, got {self.n_jobs}.")
        hidden = check_hidden_layer_sizes(self.hidden_layer_sizes)
        return hidden, check_activation(self.activation, len(hidden))

    def _check_regularisation(self) -> tuple[float, ...]:
        """Return each hidden layer's dropout; refuse options that loss or solver do not support."""
        dropout = check_dropout(self.dropout, len(self._check_network()[0]))
        self._engine_loss()
        if self.solver == "lbfgs":
            asked = {"dropout": dropout, "l1": self.l1, "clip_norm": self.clip_norm}
            for name, value in asked.items():
                if value:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} is for stochastic solvers, not for "
                        "'lbfgs'."
                    )
        return dropout

    def _validate_params(self) -> None:
        """Check the parameters, only once for the same immutable values."""
        values = [getattr(self, name) for name in self._get_param_names()]
        key = (type(self), repr(values)) if are_constant(values) else None
        if key not in _valid:
            super()._validate_params()
            if key:
                if len(_valid) >= MOST_VALID:
                    _valid.clear()
                _valid.add(key)

    def _validate_data(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        if are_plain(X, y):
            if reset:
                self.n_features_in_ = X.shape[1]
                self.__dict__.pop("feature_names_in_", None)
            if X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_"):
                return X, y
        y_numeric = not hasattr(self, "predict_proba")
        checked: tuple[Any, Any] = self._check_data(
            X, y, reset=reset, multi_output=True, y_numeric=y_numeric
        )
        return checked

    def _choose_dtype(self, X: Any, first_pass: bool) -> np.dtype[Any]:
        if self.dtype != "auto":
            return np.dtype(self.dtype)
        if not first_pass and self.coefs_[0].dtype in (np.float32, np.float64):
            X = self.coefs_[0]
        dtype: np.dtype[Any] = X.dtype
        return dtype

    def _choose_batch_size(self, n_samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, n_samples)
        if self.batch_size == "full":
            return n_samples
        if self.batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=2,
            )
        return max(1, int(min(self.batch_size, n_samples)))

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    # Pickling and tags -----------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("_predictor", "_state"):  # the latter exists during a fit
            state.pop(name, None)
        best = state.pop("_best", None)
        if not keeps_training_state():
            for name in OF_TRAINING:
                state.pop(name, None)
        elif best is not None and self._current_weights().units == self._weights.units:
            state["_best"] = self._weights.without_padding(best)  # specific to the processor
        weights = state.pop("_weights", None)
        if weights is not None:
            for name in ("coefs_", "intercepts_"):  # not padded to this processor's vectors
                state[name] = [np.array(w, order="C") for w in state[name]]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "coefs_" in state:
            coefs = [np.asarray(w) for w in self.coefs_]
            self._show(Weights.of(coefs, self.intercepts_, Weights.dtype_for(coefs)))
            if "_best" in state:
                self._best = self._weights.with_padding(state["_best"])

    def __copy__(self) -> Self:
        # The copy shares parameters and callbacks, but trains independently.
        shared = [*self.get_params(deep=False).values(), *getattr(self, "_skl_callbacks", ())]
        return self.__deepcopy__({id(value): value for value in shared})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        with keep_training_state():
            state = self.__getstate__()
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(deepcopy(state, memo))
        return twin

    def __sklearn_clone__(self) -> Self:
        # As scikit-learn's, without the steps that an unfitted estimator of immutable parameters
        # does not need; see cloning.py.
        parameters = vars(self)
        is_plain = are_constant(parameters.values())
        if is_plain and parameters.keys() == set(self._get_param_names()):
            twin = type(self)(**parameters)
            if vars(twin) == parameters:
                return twin
        copied: Self = super().__sklearn_clone__()
        return copied

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")  # a fit that failed leaves other attributes


@cache
def _param_names(estimator: Any) -> list[str]:
    """Return the names that scikit-learn finds in a signature, the slowest part of a clone."""
    names: list[str] = BaseEstimator._get_param_names.__func__(estimator)
    return names


def _start_from(
    weights: Weights,
    coef_init: Sequence[ArrayLike] | None,
    intercept_init: Sequence[ArrayLike] | None,
) -> None:
    """Overwrite the weights with the given initial values, if all of them are valid."""
    checked = []
    for name, given, views in (
        ("coef_init", coef_init, weights.coefs),
        ("intercept_init", intercept_init, weights.intercepts),
    ):
        if given is None:
            continue
        n_given = len(given) if hasattr(given, "__len__") else repr(given)
        if n_given != len(views):
            raise ValueError(f"{name} must hold {len(views)} arrays, got {n_given}.")
        for i, (values, view) in enumerate(zip(given, views, strict=True)):
            try:
                array = np.array(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}[{i}] must be an array of numbers.") from error
            if array.shape != view.shape:
                raise ValueError(f"{name}[{i}] must have shape {view.shape}, got {array.shape}.")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}[{i}] contains NaN or infinity.")
            checked.append((view, array))
    for view, array in checked:
        view[...] = array
