"""The layout of a network in memory, the initial draw, and the matrices that users see."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp.kernels import activations
from fastbp.kernels.arrays import LAYER, Network
from fastbp.kernels.update import choose_panel_rows, transpose_weights
from fastbp.matmul.product import padded, uses_blas

__all__ = ["INITS", "Weights", "aligned_zeros", "draw_weights", "make_network"]

Array = NDArray[Any]

ALIGNMENT = 64  # bytes: a line of the cache, and the longest vector


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """Return zeros of shape (size,) that start on a line of the cache."""
    dtype = np.dtype(dtype)
    memory = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT
    return memory[offset : offset + size * dtype.itemsize].view(dtype)


class Weights:
    """All weights and biases of a network in one flat vector.

    For each layer the vector holds W, of shape (n_in, n_out), and below it b; each row is padded to
    the vectors of the processor. `coefs` and `intercepts` are views of it: what is written into
    them is in the vector.

    Parameters
    ----------
    units : sequence of int, of length n_layers + 1
        The inputs, then the outputs of each layer.
    dtype : {"float32", "float64"} or numpy dtype
    """

    def __init__(self, units: Sequence[int], dtype: DTypeLike) -> None:
        self.units = tuple(units)
        self.dtype = np.dtype(dtype)
        self.flat = self.zeros()
        blocks = self.blocks(self.flat)
        self.coefs = [block[:-1] for block in blocks]
        self.intercepts = [block[-1] for block in blocks]

    @classmethod
    def of(cls, coefs: Sequence[Array], intercepts: Sequence[Array], dtype: DTypeLike) -> Self:
        """Return a copy of given weights, of shapes (n_in, n_out), and biases, (n_out,)."""
        weights = cls([coefs[0].shape[0], *(w.shape[1] for w in coefs)], dtype)
        for view, values in zip(weights.coefs, coefs, strict=True):
            view[...] = values
        for view, values in zip(weights.intercepts, intercepts, strict=True):
            view[...] = values
        return weights

    def zeros(self) -> Array:
        """Return a vector of zeros of the layout of the parameters."""
        size = sum((n + 1) * padded(m, self.dtype) for n, m in pairwise(self.units))
        return aligned_zeros(size, self.dtype)

    def blocks(self, flat: Array) -> list[Array]:
        """Return W above b of each layer, (n_in + 1, n_out), as views of such a vector."""
        views, offset = [], 0
        for n_in, n_out in pairwise(self.units):
            row = padded(n_out, self.dtype)
            size = (n_in + 1) * row
            views.append(flat[offset : offset + size].reshape(n_in + 1, row)[:, :n_out])
            offset += size
        return views

    def without_padding(self, flat: Array) -> Array:
        """Return the elements of such a vector that are in use, as a new vector."""
        return np.concatenate([block.ravel() for block in self.blocks(flat)])

    def with_padding(self, elements: Array) -> Array:
        """Return the vector of which these are the elements in use."""
        flat, offset = self.zeros(), 0
        for block in self.blocks(flat):
            block[...] = elements[offset : offset + block.size].reshape(block.shape)
            offset += block.size
        return flat

    def __getstate__(self) -> dict[str, Any]:
        # The padding is this processor's, and a view would be stored beside its base.
        elements = self.without_padding(self.flat)
        return {"units": self.units, "dtype": self.dtype, "elements": elements}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["units"], state["dtype"])  # type: ignore[misc]
        self.flat[...] = self.with_padding(state["elements"])

    def seen_as(self, coefs: Any, intercepts: Any) -> bool:
        """Tell whether these lists hold the very views of these weights."""
        mine, theirs = self.coefs + self.intercepts, [*coefs, *intercepts]
        return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))


def make_network(
    weights: Weights, names: Sequence[str], rows: int, training: bool = True
) -> Network:
    """Return the bundle the kernels work on; its parameters are the weights' own vector.

    Parameters
    ----------
    weights : Weights
    names : sequence of str, of length n_layers
        The activation of each layer.
    rows : int
        The rows of activations that the layers lie apart.
    training : bool, default=True
        Make the transposed weights too, which the delta recursion uses.
    """
    dtype = weights.dtype
    layers = np.zeros(len(names), LAYER).view(np.recarray)
    at_weights = at_transposed = at_panel = at_scratch = at_output = 0
    output_row = padded(weights.units[0] + 1, dtype)
    for i, (n_in, n_out) in enumerate(pairwise(weights.units)):
        layer = layers[i]
        layer.n_in, layer.n_out = n_in, n_out
        layer.activation = activations.CODES[names[i]]
        layer.large = uses_blas(n_in, n_out, dtype)
        layer.weights, layer.weights_row = at_weights, padded(n_out, dtype)
        at_weights += (n_in + 1) * layer.weights_row
        layer.transposed, layer.transposed_row = at_transposed, padded(n_in, dtype)
        at_transposed += n_out * layer.transposed_row if i > 0 and training else 0
        layer.input, layer.input_row = at_output, output_row
        at_output += rows * output_row
        output_row = padded(n_out + 1, dtype)
        layer.output, layer.output_row = at_output, output_row
        layer.panel_rows = choose_panel_rows(layer.weights_row)
        layer.first_panel = at_panel
        at_panel += -(-(n_in + 1) // int(layer.panel_rows))
        layer.last_panel = at_panel
        layer.scratch = at_scratch
        at_scratch += int(layer.panel_rows) * int(layer.weights_row)
    network = Network(layers, weights.flat, aligned_zeros(at_transposed, dtype))
    if training:
        transpose_weights(network)
    return network


INITS = ("auto", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal")


def draw_weights(
    units: Sequence[int],
    names: Sequence[str],
    init: str,
    random_state: np.random.RandomState,
    dtype: DTypeLike,
) -> Weights:
    """Draw initial weights.

    Parameters
    ----------
    units : sequence of int, of length n_layers + 1
        The inputs, then the outputs of each layer.
    names : sequence of str
        The activation each layer's draw is meant for; the last stands for the layers after it.
    init : str
        ``"auto"`` draws as scikit-learn does: weights and biases uniform in ``±sqrt(6 / (n_in +
        n_out))`` (Glorot and Bengio 2010), with 2 in place of 6 for logistic units. The others
        start biases at 0 and draw weights with mean 0 and a variance of ``2 / (n_in + n_out)``
        (glorot), ``2 / n_in`` (he; He et al. 2015, arXiv:1502.01852) or ``1 / n_in`` (lecun; LeCun
        et al. 1998, "Efficient BackProp").
    random_state : RandomState
        Moves on by one draw of W and, for ``"auto"``, one of b for each layer.
    dtype : float32 or float64
        Draws are made in float64 and rounded.
    """
    weights = Weights(units, dtype)
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        if init == "auto":
            name = names[min(i, len(names) - 1)]
            bound = np.sqrt((2.0 if name == "logistic" else 6.0) / (n_in + n_out))
            weights.coefs[i][...] = random_state.uniform(-bound, bound, (n_in, n_out))
            weights.intercepts[i][...] = random_state.uniform(-bound, bound, n_out)
            continue
        family, shape = init.split("_")
        variance = {"glorot": 2 / (n_in + n_out), "he": 2 / n_in, "lecun": 1 / n_in}[family]
        if shape == "uniform":
            bound = np.sqrt(3 * variance)
            weights.coefs[i][...] = random_state.uniform(-bound, bound, (n_in, n_out))
        else:
            weights.coefs[i][...] = random_state.normal(0, np.sqrt(variance), (n_in, n_out))
    return weights
