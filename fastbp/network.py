"""The memory layout of a network, its initial weights, and the matrices that users see."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from math import sqrt
from operator import is_
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp.kernels import activations
from fastbp.kernels.arrays import LAYER, Network
from fastbp.kernels.dropout import choose_threshold
from fastbp.kernels.plan import address_of
from fastbp.kernels.sharing import count_rows_apart
from fastbp.kernels.update import choose_panel_rows
from fastbp.matmul.product import padded, uses_blas, vector_length
from fastbp.matmul.subsets import GROUP
from fastbp.matmul.tile import TILE_ROWS

__all__ = [
    "INITS",
    "Weights",
    "aligned_rows",
    "aligned_zeros",
    "draw_weights",
    "make_network",
    "plain",
    "transpose_weights",
]

Array = NDArray[Any]

ALIGNMENT = 64  # bytes: a cache line, and the longest vector


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """Return zeros of shape (size,) that share no cache line with other data.

    A cache line that two threads write to moves back and forth between their processors.
    """
    dtype = np.dtype(dtype)
    n_bytes = size * dtype.itemsize
    memory = np.zeros((-(-n_bytes // ALIGNMENT) + 1) * ALIGNMENT, np.uint8)
    offset = -address_of(memory) % ALIGNMENT
    return memory[offset : offset + n_bytes].view(dtype)


def aligned_rows(n: int, size: int, dtype: DTypeLike) -> Array:
    """Return zeros in n rows of at least `size` elements, each row on its own cache lines."""
    per_line = ALIGNMENT // np.dtype(dtype).itemsize
    row = -(-size // per_line) * per_line
    return aligned_zeros(n * row, dtype).reshape(n, row)


NARROW = 16  # a layer with at most this many outputs stores W.T
BY_COLUMNS = 4  # ... and with at most this many, its forward product uses W.T, not a transpose


def is_narrow(layer: int, n_in: int, n_out: int, dtype: DTypeLike) -> bool:
    """Return whether a layer stores W.T, because its outputs are few and fewer than its inputs.

    The first layer never does, because a sparse X selects rows of its W, nor does one that uses
    BLAS.
    """
    fills_vectors = padded(n_in, dtype) % vector_length(dtype) == 0
    few = n_out <= NARROW and n_out < n_in
    return layer > 0 and few and fills_vectors and not uses_blas(n_in, n_out, dtype)


def is_by_subsets(
    layer: int, units: Sequence[int], activation: str, rows: int, dtype: DTypeLike
) -> bool:
    """Return whether the gradient of a layer is computed by subset sums; see matmul/subsets.py.

    Such a layer is directly below a single output, whose weights are contiguous; it stores W, and
    its activation has slope 1 above zero and another constant slope below.
    """
    last_hidden = tuple(units[layer + 2 :]) == (1,)
    has_two_slopes = activations.CODES[activation] in activations.SLOPES_BELOW_ZERO
    if not (last_hidden and has_two_slopes and rows >= GROUP):
        return False
    n_in, n_out = units[layer : layer + 2]
    return is_narrow(layer + 1, n_out, 1, dtype) and not is_narrow(layer, n_in, n_out, dtype)


class Weights:
    """All weights and biases of a network in one flat vector.

    For each layer the vector holds W, of shape (n_in, n_out), or W.T if the layer is narrow, and
    then b as one more row; each row is padded to whole vectors of the processor. `coefs` and
    `intercepts` are views of it, so writing to them changes the vector. `large` holds, for each
    layer, whether BLAS computes its products.

    Parameters
    ----------
    units : sequence of int, of length n_layers + 1
        The number of inputs, then the number of outputs of each layer.
    dtype : {"float32", "float64"} or numpy dtype
    """

    def __init__(self, units: Sequence[int], dtype: DTypeLike) -> None:
        self.units = tuple(units)
        self.dtype = np.dtype(dtype)
        self.large = tuple(uses_blas(n_in, n_out, dtype) for n_in, n_out in pairwise(self.units))
        self._matrices, self._size = _lay_out_matrices(self.units, self.dtype, self.large)
        self.flat = self.zeros()

    @cached_property
    def _views(self) -> tuple[list[Array], list[Array]]:
        return self.split(self.flat)

    @property
    def coefs(self) -> list[Array]:
        """W of each layer."""
        return self._views[0]

    @property
    def intercepts(self) -> list[Array]:
        """b of each layer."""
        return self._views[1]

    @staticmethod
    def dtype_for(coefs: Sequence[Array]) -> np.dtype[Any]:
        """Return the dtype to compute in: float32 if it can hold these weights, else float64."""
        holds = np.can_cast(np.result_type(*coefs), np.float32)
        return np.dtype(np.float32 if holds else np.float64)

    @classmethod
    def of(cls, coefs: Sequence[Array], intercepts: Sequence[Array], dtype: DTypeLike) -> Self:
        """Return a copy of the given weights, of shapes (n_in, n_out), and biases, (n_out,)."""
        weights = cls([coefs[0].shape[0], *(w.shape[1] for w in coefs)], dtype)
        for view, values in zip(weights.coefs, coefs, strict=True):
            view[...] = values
        for view, values in zip(weights.intercepts, intercepts, strict=True):
            view[...] = values
        return weights

    def astype(self, dtype: DTypeLike) -> "Weights":
        """Return a copy in this dtype and its layout; the weights themselves if it is theirs."""
        if self.dtype == dtype:
            return self
        return Weights.of(self.coefs, self.intercepts, dtype)

    def places_in(self, other: "Weights") -> Array:
        """Return, for each element, its index in `other.flat`; -1 for padding."""
        places = np.full(self.flat.size, -1)
        mine, theirs = self.split(places), other.split(np.arange(other.flat.size))
        for views, numbers in zip(mine, theirs, strict=True):
            for view, values in zip(views, numbers, strict=True):
                view[...] = values
        return places

    def zeros(self) -> Array:
        """Return a vector of zeros with the layout of the parameters."""
        return aligned_zeros(self._size, self.dtype)

    def split(self, flat: Array) -> tuple[list[Array], list[Array]]:
        """Return each layer's W, (n_in, n_out), and b, (n_out,): views of a vector like `flat`."""
        coefs, intercepts, offset = [], [], 0
        for narrow, rows, columns, row in self._matrices:
            size = (rows + 1) * row
            block = flat[offset : offset + size].reshape(rows + 1, row)
            matrix = block[:-1, :columns]
            coefs.append(matrix.T if narrow else matrix)
            intercepts.append(block[-1, : rows if narrow else columns])
            offset += size
        return coefs, intercepts

    def without_padding(self, flat: Array) -> Array:
        """Return a copy of a vector like `flat` without its padding: all W, then all b."""
        coefs, intercepts = self.split(flat)
        return np.concatenate([view.ravel() for view in coefs + intercepts])

    def with_padding(self, elements: Array) -> Array:
        """Return the padded vector with these elements; inverts `without_padding`."""
        flat, offset = self.zeros(), 0
        coefs, intercepts = self.split(flat)
        for view in coefs + intercepts:
            view[...] = elements[offset : offset + view.size].reshape(view.shape)
            offset += view.size
        return flat

    def __getstate__(self) -> dict[str, Any]:
        # The padding depends on the processor, and pickle would store a view apart from its base.
        elements = self.without_padding(self.flat)
        return {"units": self.units, "dtype": self.dtype, "elements": elements}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["units"], state["dtype"])  # type: ignore[misc]
        self.flat[...] = self.with_padding(state["elements"])

    def seen_as(self, coefs: Any, intercepts: Any) -> bool:
        """Return whether these lists hold the very view objects of `coefs` and `intercepts`."""
        mine, theirs = self.coefs + self.intercepts, [*coefs, *intercepts]
        return len(mine) == len(theirs) and all(map(is_, mine, theirs))


@lru_cache(maxsize=128)
def _lay_out_matrices(
    units: tuple[int, ...], dtype: np.dtype[Any], large: tuple[bool, ...]
) -> tuple[list[tuple[bool, int, int, int]], int]:
    """Return the layout of the layers' matrices, and the length of the vector.

    Each layout is (narrow, rows, columns, length of a row). `large` follows from the rest; it is an
    argument so that cached layouts stay right when the choice of BLAS changes.
    """
    matrices = []
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        narrow = is_narrow(i, n_in, n_out, dtype)
        rows, columns = (n_out, n_in) if narrow else (n_in, n_out)
        matrices.append((narrow, rows, columns, padded(columns, dtype)))
    return matrices, sum((rows + 1) * row for _, rows, _, row in matrices)


def make_network(
    weights: Weights,
    names: Sequence[str],
    rows: int,
    training: bool = True,
    dropout: Sequence[float] = (),
    sparse: bool = False,
) -> Network:
    """Return the `Network` for the kernels, whose parameters are the weights' own vector.

    Parameters
    ----------
    weights : Weights
    names : sequence of str, of length n_layers
        The activation of each layer.
    rows : int
        The rows of a chunk; each layer has room for this many rows of activations, and in training
        for a gap.
    training : bool, default=True
        Keep transposes, which each update must refresh. Without them the weights may change freely.
    dropout : sequence of float, of length n_layers - 1, default=()
        The fraction of each hidden layer's units that is dropped; empty for no dropout.
    sparse : bool, default=False
        Whether X is sparse.
    """
    dtype = weights.dtype.name
    dropped = tuple(map(choose_threshold, dropout))
    layers, n_transposed = _lay_out(
        weights.units, tuple(names), dropped, dtype, weights.large, rows, training, sparse
    )
    network = Network(layers, weights.flat, aligned_zeros(n_transposed, weights.dtype))
    transpose_weights(network)
    return network


@lru_cache(maxsize=128)
def _lay_out(
    units: tuple[int, ...],
    names: tuple[str, ...],
    dropped: tuple[int, ...],
    dtype: str,
    large: tuple[bool, ...],
    rows: int,
    training: bool,
    sparse: bool,
) -> tuple[Any, int]:
    """Return the records of the layers, and the total size of the transposes that are kept.

    The addresses of activations, the same for all plans of such layers, are set with a plan's.
    """
    layers = np.zeros(len(names), LAYER).view(np.recarray)
    at_weights = at_transposed = at_panel = at_scratch = at_input = at_output = at_slopes = 0
    output_row = padded(units[0], dtype)
    rows_apart = count_rows_apart(rows, training)
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        layer = layers[i]
        layer.n_in, layer.n_out = n_in, n_out
        layer.activation = activations.CODES[names[i]]
        layer.large = large[i]
        layer.dropped = dropped[i] if i < len(dropped) else 0
        layer.narrow = is_narrow(i, n_in, n_out, dtype)
        if training and not (sparse and i == 0) and layer.dropped == 0:
            layer.by_subsets = is_by_subsets(i, units, names[i], rows, dtype)
        layer.rows, columns = (n_out, n_in) if layer.narrow else (n_in, n_out)
        layer.weights, layer.weights_row = at_weights, padded(columns, dtype)
        at_weights += int((layer.rows + 1) * layer.weights_row)
        # The delta recursion reads W.T by rows. The forward pass is faster with W by rows, unless
        # the outputs are very few.
        mirrored = n_out > BY_COLUMNS if layer.narrow else i > 0
        layer.mirrored = mirrored and training
        layer.transposed, layer.transposed_row = at_transposed, padded(int(layer.rows), dtype)
        at_transposed += int(columns * layer.transposed_row * layer.mirrored)
        # X comes last, because the deltas, and for sparse X the activations, have no X.
        layer.input, layer.input_row = at_input, output_row
        output_row = padded(n_out, dtype)
        layer.output, layer.output_row = at_output, output_row
        at_input, at_output = at_output, at_output + rows_apart * output_row
        layer.slopes = at_slopes
        if layer.dropped > 0 or names[i] not in ("identity", "relu"):
            at_slopes += rows_apart * output_row  # the output is last, and always has a place
        tile_rows = vector_length(dtype) if layer.by_subsets else TILE_ROWS
        layer.panel_rows = choose_panel_rows(
            int(layer.rows), int(layer.weights_row), rows, tile_rows
        )
        layer.first_panel = at_panel
        at_panel += -(-int(layer.rows) // int(layer.panel_rows))
        layer.last_panel = at_panel
        layer.scratch = at_scratch
        at_scratch += int(layer.panel_rows + 1) * int(layer.weights_row)
    layers[0].input = at_output
    return layers, at_transposed


def transpose_weights(network: Network) -> None:
    """Compute the transposes that the network keeps."""
    for values in plain(network.layers).tolist():
        layer = dict(zip(LAYER.names or (), values, strict=True))
        if not layer["mirrored"]:
            continue
        rows, row, mirror_row = layer["rows"], layer["weights_row"], layer["transposed_row"]
        columns = layer["n_in"] if layer["narrow"] else layer["n_out"]
        matrix = network.parameters[layer["weights"] :][: rows * row].reshape(rows, row)
        mirror = network.transposed[layer["transposed"] :][: columns * mirror_row]
        mirror.reshape(columns, mirror_row)[:, :rows] = matrix[:, :columns].T


def plain(records: Any) -> Any:
    """Return records as a plain array, whose fields are faster to access, by ``[name]``."""
    return records.view(np.ndarray)


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
        The number of inputs, then the number of outputs of each layer.
    names : sequence of str
        The activation each layer is initialised for; the last also serves the layers after it.
    init : str
        ``"auto"`` draws as scikit-learn does: weights and biases uniform in ``±sqrt(6 / (n_in +
        n_out))`` (Glorot and Bengio 2010), with 2 in place of 6 for logistic units. The others
        start biases at 0 and draw weights with mean 0 and a variance of ``2 / (n_in + n_out)``
        (glorot), ``2 / n_in`` (he; He et al. 2015, arXiv:1502.01852) or ``1 / n_in`` (lecun; LeCun
        et al. 1998, "Efficient BackProp").
    random_state : RandomState
        Advanced, for each layer, by one draw of W and, for ``"auto"``, one of b.
    dtype : float32 or float64
        The weights are drawn in float64 and rounded to it.
    """
    weights = Weights(units, dtype)
    for i, (n_in, n_out) in enumerate(pairwise(units)):
        if init == "auto":
            name = names[min(i, len(names) - 1)]
            bound = sqrt((2.0 if name == "logistic" else 6.0) / (n_in + n_out))
            weights.coefs[i][...] = random_state.uniform(-bound, bound, (n_in, n_out))
            weights.intercepts[i][...] = random_state.uniform(-bound, bound, n_out)
            continue
        family, shape = init.split("_")
        variance = {"glorot": 2 / (n_in + n_out), "he": 2 / n_in, "lecun": 1 / n_in}[family]
        if shape == "uniform":
            bound = sqrt(3 * variance)
            weights.coefs[i][...] = random_state.uniform(-bound, bound, (n_in, n_out))
        else:
            weights.coefs[i][...] = random_state.normal(0, sqrt(variance), (n_in, n_out))
    return weights
