"""BPRegressor, a replacement for scikit-learn's MLPRegressor."""

import os
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fastbp.estimators.base import Array, BaseBP
from fastbp.estimators.checks import HIDDEN_ACTIVATIONS, flatten_column
from fastbp.estimators.documentation import documented
from fastbp.estimators.scoring import as_columns, r2
from fastbp.kernels import losses
from fastbp.samples import Samples

# Values of `out_activation` that suit the losses with a logarithm of the output.
_POSITIVE = ("auto", "exp", "softplus", "logistic")


@documented
class BPRegressor(RegressorMixin, BaseBP):  # type: ignore[misc]
    """Multilayer perceptron regressor, a replacement for scikit-learn's MLPRegressor.

    The same parameters and the same seed give the same model.

    Parameters
    ----------
    loss : str, default='squared_error'
        The loss to minimise; formulas and sources are in `fastbp.kernels.losses`.

        - 'squared_error': half the squared error
        - 'absolute_error': the prediction is a median
        - 'huber': squared up to `delta`, absolute beyond
        - 'quantile': the pinball loss; the prediction is the quantile `quantile`
        - 'log_cosh': the logarithm of the hyperbolic cosine
        - 'poisson': half the Poisson deviance, for ``y >= 0``
        - 'gamma': half the gamma deviance, for ``y > 0``

    {parameters}
    out_activation : str, default='auto'
        The activation of the outputs: any of the hidden units', or 'exp'. The losses 'poisson' and
        'gamma' need a positive one: 'exp', 'softplus' or 'logistic'. 'auto' is 'exp' for these two
        losses, else 'identity'.
    quantile : float, default=0.5
        The quantile that the loss 'quantile' predicts, between 0 and 1.
    delta : float, default=1.0
        The residual beyond which 'huber' is no longer squared, in the units of y.
    {scoring}
    {steering}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    BPClassifier : The classifier.

    Notes
    -----
    With several outputs, `loss_` is the mean of their squared errors, while a step follows the
    gradient of their sum, both as in scikit-learn. scikit-learn's 'lbfgs' minimises the mean along
    the gradient of the sum; here it minimises the sum.

    Examples
    --------
    >>> from fastbp import BPRegressor
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)
    >>> regressor = BPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X_train, y_train)
    >>> round(regressor.score(X_test, y_test), 2)
    0.98
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseBP._parameter_constraints,
        "loss": [StrOptions({loss for loss in losses.CODES if "log_loss" not in loss})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "delta": [Interval(Real, 0, None, closed="neither")],
        "out_activation": [StrOptions({"auto", "exp", *HIDDEN_ACTIVATIONS})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        out_activation: str = "auto",
        quantile: float = 0.5,
        delta: float = 1.0,
        scoring: str | Callable[..., float] | None = None,
        warmup_epochs: float = 0,
        decay_rate: float = 0.1,
        decay_epochs: float = 10,
        dropout: float | Sequence[float] = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        max_time: float | None = None,
    ) -> None:
        self.loss = loss
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
        self.out_activation = out_activation
        self.quantile = quantile
        self.delta = delta
        self.scoring = scoring
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
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 0 or more.
        coef_init : sequence of array-like, default=None
            Weights of each layer to start from, of shapes (n_in, n_out).
        intercept_init : sequence of array-like, default=None
            Biases of each layer to start from, of shapes (n_out,).
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation data for `early_stopping`, in place of a part of X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            The targets of X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the samples of X_val.
        resume_from : str or path-like, default=None
            A file that `fastbp.callbacks.Checkpoint` wrote in a fit with the same parameters and
            data: training resumes there, and ends with the model of the uninterrupted fit. Only a
            part of the rows is compared; see `Checkpoint`.

        Returns
        -------
        self : BPRegressor

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
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, 0 or more.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation data, which `early_stopping` requires.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            The targets of X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the samples of X_val.

        Returns
        -------
        self : BPRegressor

        Raises
        ------
        ValueError
            As in `fit`.
        AttributeError
            If the solver is 'lbfgs'.

        Warns
        -----
        UserWarning
            If `early_stopping` has ended training, or the solver's state was not kept with the
            model.
        """
        validation = X_val, y_val, sample_weight_val
        return self._fit(X, y, sample_weight, validation=validation, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the predicted targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype of the weights, float32 or float64.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is invalid, or has another number of features than in `fit`.
        """
        return _drop_single_column(self._predict_outputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², averaged over the targets.

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
        predicted, share = self.predict(X), None
        is_plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "iuf"
        if is_plain and sample_weight is None and y.shape == predicted.shape:
            share = r2(*as_columns(y, predicted))
        if share is None:
            share = float(r2_score(y, predicted, sample_weight=sample_weight))
        return share

    def _validate_targets(self, y: Any, dtype: np.dtype[Any], incremental: bool) -> Any:
        targets, labels = self._encode_targets(y, dtype)
        self.n_outputs_ = targets.shape[1]
        return targets, labels

    def _encode_targets(self, y: Any, dtype: np.dtype[Any], name: str = "y") -> Any:
        if scipy.sparse.issparse(y) and y.shape[1] > 1:
            y = y.toarray()
        if scipy.sparse.issparse(y):
            raise TypeError(
                f"A sparse matrix was passed for {name}, but a single target must be dense."
            )
        if y.dtype.kind not in "fiub":
            raise TypeError(f"{name} must hold numbers, got an array of {y.dtype}.")
        y = flatten_column(y)
        if self.loss in ("poisson", "gamma"):
            if self.out_activation not in _POSITIVE:
                raise ValueError(
                    f"out_activation must be among {list(_POSITIVE)} for loss={self.loss!r}, got "
                    f"{self.out_activation!r}."
                )
            if (y < 0).any():
                relation = ">=" if self.loss == "poisson" else ">"
                raise ValueError(
                    f"loss={self.loss!r} requires y {relation} 0, got negative values in {name}."
                )
        targets = np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)
        if self.loss == "gamma" and (targets == 0).any():
            raise ValueError(
                f"loss='gamma' requires y > 0, got zeros in {name} after conversion to {dtype}."
            )
        if name != "y" and targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{name} must have one column for each of the {self.n_outputs_} outputs, got "
                f"{targets.shape[1]}."
            )
        return targets, None

    def _decode_targets(self, samples: Samples, rows: Array) -> Array:
        assert samples.targets is not None
        return _drop_single_column(samples.targets[rows])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss in ("poisson", "gamma")
        return tags

    def _choose_out_activation(self) -> str:
        if self.out_activation != "auto":
            return self.out_activation
        return "exp" if self.loss in ("poisson", "gamma") else "identity"

    def _engine_loss(self) -> tuple[str, float]:
        return self.loss, {"quantile": self.quantile, "huber": self.delta}.get(self.loss, 0.0)


def _drop_single_column(outputs: Array) -> Array:
    return outputs.ravel() if outputs.shape[1] == 1 else outputs
