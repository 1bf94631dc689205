"""BPClassifier, a replacement for scikit-learn's MLPClassifier."""

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastbp.estimators.base import Array, BaseBP
from fastbp.estimators.checks import find_classes, fit_binarizer, flatten_column
from fastbp.estimators.documentation import documented
from fastbp.estimators.scoring import accuracy
from fastbp.kernels.decisions import find_largest
from fastbp.samples import Samples


@documented
class BPClassifier(ClassifierMixin, BaseBP):  # type: ignore[misc]
    """Multilayer perceptron classifier, a replacement for scikit-learn's MLPClassifier.

    The same parameters and the same seed give the same model. Binary and multilabel targets use
    logistic outputs, multiclass targets a softmax.

    Parameters
    ----------
    {parameters}
    loss : {'log_loss', 'squared_error'}, default='log_loss'
        Cross-entropy, or half the squared difference between the probabilities and the targets
        (for one output, half the Brier score).
    {scoring}
    class_weight : dict, 'balanced', list of dict or None, default=None
        Weights of the classes, which multiply the sample weights, also in early stopping.
        'balanced' is ``n_samples / (n_classes * count)`` (King and Zeng 2001), counted in y, also
        for `y_val`; `partial_fit` does not support it. For multilabel targets, the product over the
        labels.
    label_smoothing : float, default=0.0
        The fraction e of each target that is spread evenly over the n classes, in [0, 1), so that
        no probability is driven to 1: ``(1 - e) * y + e / n`` (Szegedy et al. 2016,
        arXiv:1512.00567). For 'log_loss' only; n is 2 for two classes, and for each of several
        labels.
    {steering}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    {attributes}

    See Also
    --------
    BPRegressor : The regressor.

    Examples
    --------
    >>> from fastbp import BPClassifier
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
    >>> classifier = BPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
    >>> classifier.predict(X_test[:5])
    array([1, 0, 1, 0, 1])
    >>> round(classifier.score(X_test, y_test), 2)
    0.88
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseBP._parameter_constraints,
        "loss": [StrOptions({"log_loss", "squared_error"})],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    classes_: Array

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[int, int], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dtype: str = "auto",
        n_jobs: int | None = None,
        init: str = "auto",
        loss: str = "log_loss",
        scoring: str | Callable[..., float] | None = None,
        class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None = None,
        label_smoothing: float = 0.0,
        warmup_epochs: float = 0,
        decay_rate: float = 0.1,
        decay_epochs: float = 10,
        dropout: float | Sequence[float] = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        max_time: float | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.init = init
        self.loss = loss
        self.scoring = scoring
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.warmup_epochs = warmup_epochs
        self.decay_rate = decay_rate
        self.decay_epochs = decay_epochs
        self.dropout = dropout
        self.l1 = l1
        self.clip_norm = clip_norm
        self.max_time = max_time

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        coef_init: Sequence[ArrayLike] | None = None,
        intercept_init: Sequence[ArrayLike] | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        resume_from: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fit the network to X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The training data. Dense float32 and float64 in C order, and CSR, are not copied.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, numbers or strings; or the indicator matrix of multilabel targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 0 or more.
        coef_init : sequence of array-like, default=None
            Weights of each layer to start from, of shapes (n_in, n_out).
        intercept_init : sequence of array-like, default=None
            Biases of each layer to start from, of shapes (n_out,).
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation data for `early_stopping`, in place of a part of X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            The classes of X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the samples of X_val.
        resume_from : str or path-like, default=None
            A file that `fastbp.callbacks.Checkpoint` wrote in a fit with the same parameters and
            data: training resumes there, and ends with the model of the uninterrupted fit. Only a
            part of the rows is compared; see `Checkpoint`.

        Returns
        -------
        self : BPClassifier

        Raises
        ------
        ValueError
            If data or parameters are invalid, or differ from those of `resume_from`, or weights
            have become infinite or NaN.
        TypeError
            If a parameter or y has the wrong type.
        OSError
            If the file of `resume_from` cannot be read.

        Warns
        -----
        ConvergenceWarning
            If training ends at `max_iter` or `max_time`.
        UserWarning
            If Ctrl-C ends it, or `batch_size` exceeds the number of samples.
        """
        return self._fit(
            X,
            y,
            sample_weight,
            coef_init=coef_init,
            intercept_init=intercept_init,
            validation=(X_val, y_val, sample_weight_val),
            resume_from=resume_from,
        )

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train for one more epoch, on these samples.

        With `early_stopping`, each call is scored on X_val. Once the score has not improved for
        more than `n_iter_no_change` calls, the weights of the best call are restored, `stopped_` is
        True, and further calls change nothing.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels; or the indicator matrix of multilabel targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 0 or more.
        classes : array-like of shape (n_classes,), default=None
            All classes that occur in any call; required in the first call.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation data, which `early_stopping` requires.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            The classes of X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the samples of X_val.

        Returns
        -------
        self : BPClassifier

        Raises
        ------
        ValueError
            As in `fit`, and if y has classes that are not in `classes`, or `class_weight` is
            'balanced'.
        AttributeError
            If the solver is 'lbfgs'.

        Warns
        -----
        UserWarning
            If `early_stopping` has ended training, or the solver's state was not kept with the
            model.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs the number of samples of each class, "
                "which partial_fit does not know; give a dict."
            )
        if not hasattr(self, "coefs_"):
            self.__dict__.pop("classes_", None)  # left by a first call that failed
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            labels = y if type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer.fit(labels)
        validation = X_val, y_val, sample_weight_val
        return self._fit(X, y, sample_weight, validation=validation, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the class of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, in the dtype of `classes_`; for multilabel targets an indicator matrix of
            integers, sparse if y was sparse.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is invalid, or has another number of features than in `fit`.
        """
        outputs = self._predict_outputs(X)
        if self._multilabel:  # sparse if y was
            labels: Array = self._label_binarizer.inverse_transform(outputs)
            return labels
        return self.classes_[self._decide(outputs)]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, and in the dtype of the weights; a single class has two
            columns too.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is invalid, or has another number of features than in `fit`.
        """
        outputs = self._predict_outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, and in the dtype of the weights; a single class has two
            columns too.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is invalid, or has another number of features than in `fit`.
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; for multilabel targets, the share of samples with all labels right.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X, y or the weights are invalid.
        """
        predicted = self.predict(X)
        share = accuracy(y, predicted) if sample_weight is None else None
        if share is None:
            share = float(accuracy_score(y, predicted, sample_weight=sample_weight))
        return share

    @property
    def _multilabel(self) -> bool:
        return bool(self._label_binarizer.y_type_.startswith("multilabel"))

    def _decide(self, outputs: Array) -> Array:
        """Return class numbers, (n_samples,), or the indicator matrix of multilabel targets."""
        if self._multilabel:
            return (outputs > 0.5).astype(int)
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0.5).astype(int) * (len(self.classes_) > 1)
        return find_largest(outputs)

    def _validate_targets(self, y: Any, dtype: np.dtype[Any], incremental: bool) -> Any:
        y = flatten_column(y)
        if not (incremental or (self.warm_start and hasattr(self, "coefs_"))):
            self._label_binarizer = fit_binarizer(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(y)
        targets, labels = self._encode_targets(y, dtype)
        self.n_outputs_ = len(self.classes_) if targets is None else targets.shape[1]
        return targets, labels

    def _encode_targets(self, y: Any, dtype: np.dtype[Any], name: str = "y") -> Any:
        if name != "y":
            y = flatten_column(y)
            if type_of_target(y).startswith("multilabel") != self._multilabel:
                raise ValueError(
                    f"{name} must be of the same kind as y: classes, or several labels."
                )
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
            if len(unknown):
                raise ValueError(f"{name} has classes that are not in y: {unknown.tolist()}.")
        if self._label_binarizer.y_type_ == "multiclass":
            return None, np.searchsorted(self.classes_, y).astype(np.int32)
        if type(y) is np.ndarray and y.ndim == 1:  # two classes, or one
            targets = (y[:, None] == self.classes_[1:2]).astype(dtype)
            return targets if len(self.classes_) == 2 else np.zeros((len(y), 1), dtype), None
        targets = self._label_binarizer.transform(y)
        targets = targets.toarray() if scipy.sparse.issparse(targets) else targets
        return np.ascontiguousarray(targets != 0, dtype=dtype), None  # labels may be any numbers

    def _decode_targets(self, samples: Samples, rows: Array) -> Array:
        if samples.labels is not None:
            return self.classes_[samples.labels[rows]]
        assert samples.targets is not None
        targets = samples.targets[rows].astype(int)
        return targets if self._multilabel else self.classes_[targets[:, 0]]

    def _class_weights(self, y: Any, counted: Samples | None = None) -> Array | None:
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, Mapping) and not self._multilabel:
            of_class = _weigh(self.classes_.tolist(), self.class_weight)
            chosen: Array = of_class[np.searchsorted(self.classes_, np.ravel(y))]
            return chosen
        if isinstance(self.class_weight, list):
            for of_label in self.class_weight:
                _weigh([0, 1], of_label)
        y = y.toarray() if scipy.sparse.issparse(y) else y
        if counted is None or self.class_weight != "balanced":
            weights: Array = compute_sample_weight(self.class_weight, y)
            return weights
        counted_y = self._decode_targets(counted, np.arange(counted.X.shape[0]))
        both = np.concatenate([counted_y, y if self._multilabel else np.ravel(y)])
        places = np.arange(len(counted_y))
        weights = compute_sample_weight("balanced", both, indices=places)
        return weights[len(places) :]

    def _engine_loss(self) -> tuple[str, float]:
        if self.label_smoothing == 0:
            return self.loss, 0.0
        if self.loss != "log_loss":
            raise ValueError(f"label_smoothing is for loss='log_loss', not for {self.loss!r}.")
        return "smoothed_log_loss", self.label_smoothing

    def _check_classes(self, y: Any) -> None:
        plain = find_classes(y)
        classes = unique_labels(y) if plain is None else plain
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        has_labels = plain is None and type_of_target(y).startswith("multilabel")
        if has_labels != self._multilabel:
            raise ValueError(
                "`y` must be of the same kind in all calls: classes, or several labels."
            )

    def _choose_out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _weigh(classes: list[Any], weights: Any) -> Array:
    """Return the weights of these classes, 1 for those without one."""
    if not isinstance(weights, Mapping):
        raise ValueError(f"class_weight must hold a dict for each label, got {weights!r}.")
    unknown = set(weights) - set(classes)
    if unknown:
        names = sorted(unknown, key=str)
        raise ValueError(f"class_weight has classes that are not in y: {names}.")
    given = [weights.get(c, 1) for c in classes]
    are_numbers = all(isinstance(w, Real) and 0 <= float(w) < np.inf for w in given)
    if not (are_numbers and any(given)):
        raise ValueError(
            f"class_weight must be finite numbers, 0 or more and not all 0, got {dict(weights)}."
        )
    return np.array(given, np.float64)
