"""Plots of a trained network: its training curves and its weights."""

from collections.abc import Mapping, Sequence
from math import ceil, isqrt, sqrt
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

__all__ = ["TrainingDisplay", "WeightsDisplay"]

Array = NDArray[Any]

SMALLEST_SIDE = 8  # of the square images that kind='auto' draws
MOST_TITLED = 36  # with more images than this, they have no titles
LONGEST_NAME = 24  # characters of a feature's name; longer names are cut
FEWEST_BARS = 8  # with fewer bars than this, leave blank space instead of thickening them
SCORES = "validation score"  # the label that identifies the twin axes of another display
NEGATIVE, POSITIVE = "#2166AC", "#B2182B"  # close to the ends of 'RdBu_r', the images' colours


class TrainingDisplay:
    """Training curves: the losses and the validation score of each epoch.

    Create it with `from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    history : dict of ndarray of shape (n_epochs,)
        A model's `history_`.
    score_name : str, default='score'
        What the validation score measures.
    name : str, default=None
        The model's name in the legend; None for no name.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The training loss, the validation loss and the validation score; the last two only if the
        history has values for them.
    best_epoch_ : int or None
        The epoch of the highest validation score, whose weights early stopping keeps; None if
        there is no score.
    best_line_ : matplotlib Line2D or None
        The line that marks the best epoch.
    ax_ : matplotlib Axes
        The axes of the losses.
    score_ax_ : matplotlib Axes or None
        The axes of the validation score.
    figure_ : matplotlib Figure
        The figure of both axes.

    Notes
    -----
    The training loss is the mean over an epoch's mini-batches, each taken before its step, with the
    penalty; the validation loss is taken after the epoch, without the penalty.

    Examples
    --------
    >>> from fastbp import BPClassifier, TrainingDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BPClassifier(early_stopping=True, random_state=0).fit(X, y)
    >>> display = TrainingDisplay.from_estimator(model)
    >>> display.score_ax_.get_ylabel()
    'Validation accuracy'
    """

    ax_: "Axes"
    score_ax_: "Axes | None"
    figure_: "Figure | SubFigure"
    lines_: "list[Line2D]"
    best_line_: "Line2D | None"
    best_epoch_: int | None

    def __init__(
        self, *, history: Mapping[str, Array], score_name: str = "score", name: str | None = None
    ) -> None:
        self.history = history
        self.score_name = score_name
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        *,
        ax: "Axes | None" = None,
        x: str = "epoch",
        name: str | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the training curves of a fitted model.

        Parameters
        ----------
        model : BPClassifier, BPRegressor or Pipeline
            A fitted model, or a fitted Pipeline that ends in one.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. Pass another display's `ax_` to compare the two.
        x : {'epoch', 'seconds'}, default='epoch'
            The horizontal axis: the epoch, or the cumulative training time in seconds.
        name : str, default=None
            The model's name in the legend.
        line_kwargs : dict, default=None
            Keyword arguments of ``Axes.plot``, for every curve.

        Returns
        -------
        TrainingDisplay

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If the model has no `history_`, as after ``solver='lbfgs'`` or from a pickle, or the
            history has no epoch, or `x` is invalid.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        network = _find_network(model)
        try:
            history = {key: np.array(values) for key, values in network.history_.items()}
        except AttributeError as error:
            raise ValueError(f"model has nothing to draw: {error}") from error
        scoring = network.scoring
        if scoring is None:
            scoring = "accuracy" if is_classifier(network) else "R²"
        elif not isinstance(scoring, str):
            scoring = "score"
        score_name = "negative loss" if scoring == "loss" else scoring.replace("_", " ")
        display = cls(history=history, score_name=score_name, name=name)
        return display.plot(ax, x=x, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        x: str = "epoch",
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. Pass another display's `ax_` to compare the two.
        x : {'epoch', 'seconds'}, default='epoch'
            The horizontal axis: the epoch, or the cumulative training time in seconds.
        line_kwargs : dict, default=None
            Keyword arguments of ``Axes.plot``, for every curve.

        Returns
        -------
        self : TrainingDisplay

        Raises
        ------
        ValueError
            If the history has no epoch, or `x` is invalid.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        if x not in ("epoch", "seconds"):
            raise ValueError(f"x must be 'epoch' or 'seconds', got {x!r}.")
        epochs, scores = self.history["epoch"], self.history["validation_score"]
        if len(epochs) == 0:
            raise ValueError("history has no epochs: there is nothing to draw.")
        places = epochs if x == "epoch" else np.nancumsum(self.history["seconds"])
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        siblings: list[Axes] = ax.get_shared_x_axes().get_siblings(ax)
        twins = [a for a in siblings if a.get_label() == SCORES and a.bbox.bounds == ax.bbox.bounds]
        score_ax = twins[0] if twins else None  # made by another display
        n_before = len(ax.lines) + (len(score_ax.lines) if score_ax else 0)
        prefix = "" if self.name is None else f"{self.name}: "
        given = normalize_kwargs(dict(line_kwargs or {}), Line2D)

        self.ax_, self.score_ax_, self.figure_, self.lines_ = ax, None, ax.figure, []
        self.best_line_, self.best_epoch_ = None, None

        def draw(axes: "Axes", key: str, label: str, **style: Any) -> None:
            values = self.history[key]
            style |= {"color": f"C{n_before + len(self.lines_)}", "label": _plain(prefix + label)}
            if np.isfinite(values).sum() == 1:
                style["marker"] = "o"  # a single point draws no line
            self.lines_ += axes.plot(places, values, **(style | given))

        draw(ax, "loss", "training loss")
        if np.isfinite(self.history["validation_loss"]).any():
            draw(ax, "validation_loss", "validation loss")
        if np.isfinite(scores).any():
            self.score_ax_ = score_ax = score_ax or ax.twinx()
            score_ax.set_label(SCORES)
            draw(score_ax, "validation_score", f"validation {self.score_name}", linestyle="--")
            score_ax.set_ylabel(_plain(f"Validation {self.score_name}"))
            best = int(np.nanargmax(scores))
            self.best_epoch_ = int(epochs[best])
            self.best_line_ = ax.axvline(
                float(places[best]),
                color=self.lines_[-1].get_color(),
                linestyle=":",
                label=_plain(f"{prefix}best epoch ({self.best_epoch_})"),
            )
        ax.set(xlabel=x.capitalize(), ylabel="Loss")
        if x == "epoch":
            ax.xaxis.set_major_locator(
                MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
            )
        lines = [*ax.lines, *(score_ax.lines if score_ax else [])]
        labelled = [line for line in lines if not str(line.get_label()).startswith("_")]
        if score_ax and (legend := ax.get_legend()):
            legend.remove()
        (score_ax or ax).legend(handles=labelled, loc="center right" if score_ax else "best")
        return self


class WeightsDisplay:
    """The weights of a network: the first layer's by unit or feature, and histograms of each layer.

    Create it with `from_estimator`. The parameters are kept as attributes.

    Parameters
    ----------
    coefs : list of ndarray of shape (n_in, n_out)
        A model's `coefs_`.
    feature_names : array-like of str, of shape (n_features,), default=None
        None names them x0, x1, ...

    Attributes
    ----------
    units_ : ndarray of int or None
        The units drawn as images, in descending order of their weights' norm; None with bars.
    features_ : ndarray of int or None
        The features drawn as bars, in the same order; None with images.
    axes_ : dict of list of matplotlib Axes
        ``'features'``: one for each image, or one for the bars; ``'layers'``: one for each layer.
    figure_ : matplotlib Figure
        The figure of all axes.

    Examples
    --------
    >>> from fastbp import BPClassifier, WeightsDisplay
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = BPClassifier((24,), max_iter=1000, random_state=0).fit(X / 16, y)
    >>> display = WeightsDisplay.from_estimator(model)
    >>> len(display.axes_["features"]), len(display.axes_["layers"])
    (16, 2)
    """

    units_: Array | None
    features_: Array | None
    axes_: "dict[str, list[Axes]]"
    figure_: "Figure | SubFigure"

    def __init__(self, *, coefs: Sequence[Array], feature_names: ArrayLike | None = None) -> None:
        self.coefs = coefs
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        *,
        kind: str = "auto",
        image_shape: tuple[int, int] | None = None,
        max_units: int = 16,
        max_features: int = 30,
        feature_names: ArrayLike | None = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> Self:
        """Draw the weights of a fitted model.

        Parameters
        ----------
        model : BPClassifier, BPRegressor or Pipeline
            A fitted model, or a fitted Pipeline that ends in one.
        kind : {'auto', 'images', 'bars'}, default='auto'
            How the first layer is drawn:

            - 'images': the weights of each unit, red above 0 and blue below
            - 'bars': the norm of each feature's weights, or the weights themselves of a single unit
            - 'auto': images if `image_shape` is given, or if the features have no names and form a
              square of 8 by 8 or more; else bars

        image_shape : (int, int), default=None
            Rows and columns of an image; None makes it square.
        max_units : int, default=16
            Maximum number of images; the units whose weights have the largest norms are drawn.
        max_features : int, default=30
            Maximum number of bars; the features whose weights have the largest norms are drawn.
        feature_names : array-like of str, of shape (n_features,), default=None
            None takes `feature_names_in_`, or the output names of the Pipeline's earlier steps.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw, best with ``layout='constrained'``; None makes a new figure.

        Returns
        -------
        WeightsDisplay

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If a parameter is invalid, or does not fit the model.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        network = _find_network(model)
        if feature_names is None:
            feature_names = _find_feature_names(model, network)
        # copied, because training may continue in the same arrays
        display = cls(coefs=[np.array(w) for w in network.coefs_], feature_names=feature_names)
        return display.plot(
            figure,
            kind=kind,
            image_shape=image_shape,
            max_units=max_units,
            max_features=max_features,
        )

    def plot(
        self,
        figure: "Figure | SubFigure | None" = None,
        *,
        kind: str = "auto",
        image_shape: tuple[int, int] | None = None,
        max_units: int = 16,
        max_features: int = 30,
    ) -> Self:
        """Draw the weights.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw, best with ``layout='constrained'``; None makes a new figure.
        kind : {'auto', 'images', 'bars'}, default='auto'
            How the first layer is drawn; see `from_estimator`.
        image_shape : (int, int), default=None
            Rows and columns of an image; None makes it square.
        max_units : int, default=16
            Maximum number of images; the units whose weights have the largest norms are drawn.
        max_features : int, default=30
            Maximum number of bars; the features whose weights have the largest norms are drawn.

        Returns
        -------
        self : WeightsDisplay

        Raises
        ------
        ValueError
            If a parameter is invalid, or does not fit the weights.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        most: dict[str, Any] = {"max_units": max_units, "max_features": max_features}
        for parameter, value in most.items():
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{parameter} must be an integer, 1 or more, got {value!r}.")
        n_features = len(self.coefs[0])
        names = [f"x{i}" for i in range(n_features)]
        if self.feature_names is not None:
            names = [str(name) for name in np.asarray(self.feature_names).ravel()]
        if len(names) != n_features:
            raise ValueError(f"feature_names must be {n_features} names, got {len(names)}.")
        shape = self._choose_shape(kind, image_shape)
        if figure is None:
            bars = 0 if shape else 0.2 * min(n_features, max_features)
            height = max(4.2, 0.8 * len(self.coefs), 1.2 + bars)
            figure = plt.figure(figsize=(8, height), layout="constrained")
        panels: Any = figure.subfigures(1, 2, width_ratios=(5, 3))
        left, right = panels
        self.figure_, self.units_, self.features_ = figure, None, None
        if shape:
            features = self._draw_images(left, shape, max_units)
        else:
            features = [self._draw_bars(left, names, max_features)]
        self.axes_ = {"features": features, "layers": self._draw_layers(right)}
        return self

    def _choose_shape(self, kind: str, shape: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the rows and columns of an image; None for bars."""
        if kind not in ("auto", "images", "bars"):
            raise ValueError(f"kind must be 'auto', 'images' or 'bars', got {kind!r}.")
        n_features = len(self.coefs[0])
        if shape is None:
            side = isqrt(n_features)
            square = side**2 == n_features
            if kind == "images" and not square:
                raise ValueError(
                    f"kind='images' needs image_shape: {n_features} is not a perfect square."
                )
            looks_like_one = square and side >= SMALLEST_SIDE and self.feature_names is None
            return (side, side) if kind == "images" or (kind == "auto" and looks_like_one) else None
        sides = np.asarray(shape)
        if (
            sides.shape != (2,)
            or sides.dtype.kind not in "iu"
            or sides.min() < 1
            or sides.prod() != n_features
        ):
            raise ValueError(
                "image_shape must be rows and columns whose product is the number of features, "
                f"{n_features}, got {shape!r}."
            )
        return None if kind == "bars" else (int(sides[0]), int(sides[1]))

    def _draw_images(
        self, figure: "SubFigure", shape: tuple[int, int], max_units: int
    ) -> "list[Axes]":
        weights = self.coefs[0]
        self.units_ = _largest(np.linalg.norm(weights, axis=0), max_units)
        n_units = len(self.units_)
        n_columns = min(n_units, ceil(sqrt(n_units * shape[0] / shape[1])))
        grid = figure.subplots(ceil(n_units / n_columns), n_columns, squeeze=False).ravel()
        limit = float(np.abs(weights[:, self.units_]).max()) or 1.0
        for axes in grid:
            axes.axis("off")
        for axes, unit in zip(grid, self.units_, strict=False):
            pixels = weights[:, unit].reshape(shape)
            image = axes.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit)
            if n_units <= MOST_TITLED:
                axes.set_title(f"unit {unit}", size=8, pad=3)
        figure.colorbar(image, ax=grid, shrink=0.7, aspect=30, pad=0.02)
        figure.suptitle(_title("unit", n_units, weights.shape[1]))
        return list(grid[:n_units])

    def _draw_bars(self, figure: "SubFigure", names: list[str], max_features: int) -> "Axes":
        weights = self.coefs[0]
        lengths = np.linalg.norm(weights, axis=1)
        self.features_ = _largest(lengths, max_features)
        alone = weights.shape[1] == 1
        lengths = (weights[:, 0] if alone else lengths)[self.features_]
        axes: Axes = figure.subplots()
        colours = [POSITIVE if length > 0 else NEGATIVE for length in lengths]
        axes.barh(range(len(lengths)), lengths, color=colours if alone else "C0")
        labels = [_plain(names[i], LONGEST_NAME) for i in self.features_]
        axes.set_yticks(range(len(lengths)), labels, size=8)
        margin = max(0, FEWEST_BARS - len(lengths)) / 2
        axes.set_ylim(len(lengths) - 0.4 + margin, -0.6 - margin)
        axes.axvline(0, color="0.2", linewidth=0.8)
        axes.set_xlabel("Weight" if alone else "Norm of the feature's weights")
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.suptitle(_title("feature", len(lengths), len(weights)))
        return axes

    def _draw_layers(self, figure: "SubFigure") -> "list[Axes]":
        grid = list(figure.subplots(len(self.coefs), sharex=True, squeeze=False).flat)
        for number, (axes, weights) in enumerate(zip(grid, self.coefs, strict=True), 1):
            limit = float(np.abs(weights).max()) or 1.0
            n_bins = 2 * min(20, isqrt(weights.size)) + 1
            counts, edges = np.histogram(weights, n_bins, (-limit, limit))
            axes.stairs(counts, edges, fill=True, color="C0")
            axes.set_title(f"layer {number}: {weights.shape[0]} → {weights.shape[1]}", size=8)
            axes.set_yticks([])
            axes.spines[["top", "right", "left"]].set_visible(False)
        grid[-1].set_xlabel("Weight")
        figure.suptitle("Weights of each layer")
        return grid


def _find_network(model: Any) -> Any:
    """Return the fitted network: the model itself, or the last step of the Pipeline."""
    network = model
    while isinstance(network, Pipeline):
        network = network[-1]
    message = "model has no coefs_: this %(name)s is not a network, or is not fitted yet."
    check_is_fitted(network, "coefs_", msg=message)
    return network


def _find_feature_names(model: Any, network: Any) -> Array | None:
    """Return the names of the network's features; None if they are only numbered."""
    names: Array | None = getattr(network, "feature_names_in_", None)
    if names is None and isinstance(model, Pipeline) and len(model) > 1:
        try:
            names = model[:-1].get_feature_names_out()
        except (AttributeError, ValueError):  # a step cannot name its outputs
            return None
        if list(names) == [f"x{i}" for i in range(len(names))]:
            return None
    return names


def _largest(norms: Array, most: int) -> Array:
    """Return the indices of the `most` largest norms, in descending order."""
    largest: Array = np.argsort(-norms, kind="stable")[:most]
    return largest


def _title(what: str, n_drawn: int, n_all: int) -> str:
    if n_drawn == n_all:
        return "First layer"
    return f"First layer: the {n_drawn} largest of {n_all} {what}s".replace("the 1 ", "the ")


def _plain(text: str, most: int = 80) -> str:
    """Return a text that matplotlib shows literally, not as a formula, cut to `most` characters."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")
