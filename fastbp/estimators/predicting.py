"""What a fitted network computes: outputs, hidden activations, derivatives."""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted, validate_data

from fastbp.estimators.checks import check_activation, check_layers, native
from fastbp.network import Weights
from fastbp.prediction import Predictor
from fastbp.samples import Rows
from fastbp.sensitivity import input_gradient

__all__ = ["PredictingMixin"]

Array = NDArray[Any]

MOST_SKIPPED = 1_000_000  # up to this many elements, X may skip scikit-learn's validation


class _HiddenLayers:
    """`transform`, apart from TransformerMixin, which gives every layer the last layer's names."""

    def transform(self: Any, X: Any, layer: int = -1) -> Any:
        """Return the activations of a hidden layer for X: features that were learnt.

        They are ``f(W.T @ x + b)`` layer by layer, as in Yosinski et al. (2014, arXiv:1411.1792),
        who transfer them to other tasks.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        layer : int, default=-1
            The hidden layer: 0 is the first, -1 the last, or X itself if there are none.

        Returns
        -------
        ndarray of shape (n_samples, n_units)
            The activations of the layer's units, in the dtype of the weights; a data frame if
            `set_output` asks for one.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If `layer` is not an integer.
        ValueError
            If X is invalid, or there is no such hidden layer.
        """
        check_is_fitted(self)
        data = self._check_data(X, reset=False)
        weights = self._current_weights()
        n_hidden = len(weights.units) - 2
        if isinstance(layer, bool) or not hasattr(layer, "__index__"):
            raise TypeError(f"layer must be an integer, got {layer!r}.")
        if layer == -1 and n_hidden == 0:
            return _wrap_data_with_container("transform", data, X, self)
        if layer not in range(-n_hidden, n_hidden):
            raise ValueError(
                f"layer must be from {-n_hidden} to {n_hidden - 1}, as there are {n_hidden} hidden "
                f"layers, got {layer!r}."
            )
        n_layers = layer % n_hidden + 1
        names = check_activation(self.activation, n_hidden)[:n_layers]
        coefs, intercepts = weights.coefs[:n_layers], weights.intercepts[:n_layers]
        features = Predictor(Weights.of(coefs, intercepts, weights.dtype))(names, data, self.n_jobs)
        shown: Any = object.__new__(type(self))  # a model whose last hidden layer is this one
        vars(shown).update(vars(self), coefs_=self.coefs_[: n_layers + 1])
        return _wrap_data_with_container("transform", features, X, shown)


class PredictingMixin(_HiddenLayers, ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """Prediction with a fitted network, whose weights users may have replaced."""

    activation: Any
    dtype: str
    n_jobs: int | None
    coefs_: list[Array]
    intercepts_: list[Array]
    n_features_in_: int
    n_outputs_: int
    out_activation_: str
    _weights: Weights
    _predictor: Predictor

    def _predict_outputs(self, X: Any) -> Array:
        """Return the activations of the output layer, of shape (n_samples, n_outputs)."""
        given, rows = X, None
        if isinstance(given, Rows):
            X, rows = given.X, given.numbers
        elif not self._may_skip_validation(given):
            check_is_fitted(self)
            # The prediction itself detects numbers in an array that are not finite.
            is_array = isinstance(given, np.ndarray)
            X = self._check_data(given, reset=False, ensure_all_finite=not is_array)
        weights, names = self._current_network()
        predictor = self._predictor if weights is self._weights else Predictor(weights)
        prediction = predictor.prepare(names, X, self.n_jobs, rows)
        outputs = prediction()
        prediction.close()
        if prediction.saw_infinite and rows is None:
            self._check_data(given, reset=False)
        if X.dtype.itemsize > weights.dtype.itemsize:
            is_too_large = prediction.saw_infinite
            if scipy.sparse.issparse(X) and not np.isfinite(outputs).all():
                with np.errstate(over="ignore"):
                    is_too_large = not np.isfinite(X.data.astype(weights.dtype)).all()
            if is_too_large:
                raise ValueError(f"Input X contains a value too large for {weights.dtype!r}.")
        return outputs

    def _current_weights(self) -> Weights:
        """Return the weights in `coefs_` and `intercepts_`, which the user may have replaced."""
        if self._weights.seen_as(self.coefs_, self.intercepts_):
            return self._weights
        coefs, intercepts = ([np.asarray(a) for a in v] for v in (self.coefs_, self.intercepts_))
        check_layers(coefs, intercepts, self.n_features_in_, self.n_outputs_)
        return Weights.of(coefs, intercepts, Weights.dtype_for(coefs))

    def _current_network(self) -> tuple[Weights, tuple[str, ...]]:
        """Return the current weights, and the activation of each layer."""
        weights = self._current_weights()
        hidden = check_activation(self.activation, len(weights.units) - 2)
        return weights, (*hidden, self.out_activation_)

    def input_gradient(self, X: Any) -> Array:
        """Return the derivatives of the network's outputs with respect to its inputs.

        The outputs are a regressor's predictions, or a classifier's probabilities, for two classes
        that of the second. They are differentiated by the chain rule from the outputs back; the
        absolute value is the saliency of Simonyan et al. (2014, arXiv:1312.6034).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
            ``[i, j]`` is the derivative of sample i's output with respect to its feature j.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is invalid, or has another number of features than in `fit`.
        """
        check_is_fitted(self)
        X = self._check_data(X, reset=False)
        weights, names = self._current_network()
        jacobian = input_gradient(weights, names, X)
        return jacobian[:, :, 0] if jacobian.shape[2] == 1 else jacobian

    @property
    def _n_features_out(self) -> int:
        """The number of features that `transform` returns."""
        return int(self.coefs_[-1].shape[0])

    def _check_data(self, X: Any, *y: Any, **options: Any) -> Any:
        """Return X, and y if it is given, in the form that the kernels take."""
        # Data in one of these dtypes keep it; all others are converted to the first.
        dtypes = [np.float64, np.float32]
        if self.dtype == "float32":
            dtypes.reverse()
        return validate_data(
            self, native(X), *y, accept_sparse="csr", dtype=dtypes, order="C", **options
        )

    def _may_skip_validation(self, X: Any) -> bool:
        """Return whether X is a small array that validation would return unchanged.

        For one row, validation takes longer than the prediction.
        """
        return (
            type(X) is np.ndarray
            and 0 < X.size <= MOST_SKIPPED
            and X.dtype in (np.float32, np.float64)
            and X.ndim == 2
            and X.flags.c_contiguous
            and X.flags.aligned
            and hasattr(self, "_weights")
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
        )
