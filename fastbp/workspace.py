"""The scratch memory of a compiled call, and the division of its work among threads."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.kernels.activations import SLOPES_BELOW_ZERO
from fastbp.kernels.arrays import (
    N_ADDRESSES,
    N_TOTALS,
    Network,
    Workspace,
)
from fastbp.kernels.sharing import count_rows_apart
from fastbp.kernels.team import make_team
from fastbp.matmul.product import BLAS_ROWS
from fastbp.matmul.subsets import GROUP
from fastbp.matmul.tile import ROW_CHOICES
from fastbp.network import Weights, aligned_zeros, plain

__all__ = ["count_weights", "make_workspace"]

Array = NDArray[Any]

MOST_BY_ROWS = 1 << 18  # bytes of W: half of the second-level cache of the smallest machines


def count_weights(weights: Weights) -> int:
    """Return the number of weights, equal to the multiply-adds of a sample's forward pass."""
    return sum(n_in * n_out for n_in, n_out in pairwise(weights.units))


def make_workspace(
    network: Network,
    weights: Weights,
    rows: int,
    n_threads: int,
    loss: int,
    keep_gradient: bool = False,
    sparse: Any = None,
    training: bool = True,
) -> Workspace:
    """Allocate all the memory that a call may need."""
    dtype = weights.dtype
    layers = plain(network.layers)
    first, last = layers[0], layers[-1]
    rows_apart = count_rows_apart(rows, training)
    size = int(first["input"])  # X comes last
    n_inputs = int(rows_apart * first["input_row"]) if sparse is None else 0
    n_panels = int(last["last_panel"])
    widest = max(int(layers[f"{kind}_row"].max()) for kind in ("weights", "transposed", "input"))
    per_thread = int(((layers["panel_rows"] + 1) * layers["weights_row"]).sum())
    large = bool(layers["large"].any())
    # If X is sparse and W fits the cache, W's gradient is kept, to be summed row by row.
    by_columns = sparse is not None and training
    n_bytes = first["n_in"] * first["weights_row"] * dtype.itemsize
    by_rows = by_columns and n_bytes <= MOST_BY_ROWS
    keep_gradient = keep_gradient or by_rows
    parts = _choose_parts(layers, rows, weights.flat.size) if sparse is None and training else 1
    n_partials = parts * weights.flat.size if parts > 1 and n_threads > 1 else 0
    by_subsets = layers[layers["by_subsets"] == 1]  # at most one layer
    units = int(by_subsets["output_row"].sum())
    slopes_below_zero = [SLOPES_BELOW_ZERO[code] for code in by_subsets["activation"]]
    n_entries = 0
    if by_columns:
        stored = np.diff(sparse.indptr)
        n_entries = int(np.partition(stored, len(stored) - min(rows, len(stored)))[-rows:].sum())
    return Workspace(
        activations=aligned_zeros(size + n_inputs, dtype),
        slopes=aligned_zeros(int(last["slopes"] + rows_apart * last["output_row"]), dtype),
        deltas=aligned_zeros(size * training, dtype),
        codes=np.zeros(-(-rows_apart // GROUP) * units, np.uint8),
        slope_below_zero=np.array(slopes_below_zero or [0.0], dtype),
        above=aligned_zeros(units if n_threads > 1 and n_partials == 0 else 0, dtype),
        densities=np.ones(len(layers)),
        gradient=weights.zeros() if keep_gradient else np.empty(0, dtype),
        partials=aligned_zeros(n_partials, dtype),
        scratch=aligned_zeros(n_threads * per_thread * training, dtype),
        zeros=aligned_zeros(widest, dtype),
        one=np.ones(1, dtype),
        row_losses=aligned_zeros(rows_apart, np.float64),
        squares=aligned_zeros(n_panels, np.float64),
        sizes=aligned_zeros(n_panels, np.float64),
        norms=aligned_zeros(2 * n_panels, np.float64),
        totals=aligned_zeros(N_TOTALS, np.float64),
        column_starts=np.zeros(weights.units[0] + 1 if by_columns else 0, np.int64),
        column_rows=np.zeros(n_entries, np.int64),
        column_values=np.zeros(n_entries, dtype),
        bounds=_share_panels(layers, n_threads),
        team=make_team(),
        addresses=np.zeros(N_ADDRESSES, np.int64),  # set once there is a plan
        loss=loss,
        rows=rows,
        grain=BLAS_ROWS if large else ROW_CHOICES[1],
        parts=parts,
        by_rows=int(by_rows),
    )


def _choose_parts(layers: Any, rows: int, n_parameters: int) -> int:
    """Return the number of parts of a chunk's samples over which gradients are summed separately.

    Two threads that divide the gradients by weights read half of each other's activations and
    deltas; if they divide them by samples, they read gradients instead. The choice depends on the
    shapes alone, so that any number of threads does the same additions.
    """
    exchanged = rows * int((layers["input_row"] + layers["output_row"]).sum()) // 2
    return 2 if exchanged > 2 * n_parameters else 1


def _share_panels(layers: Any, n_threads: int) -> Array:
    """Return the bounds of each thread's panels, which divide the work about equally."""
    if n_threads == 1:
        return np.array([0, layers[-1]["last_panel"]])
    cost = [
        (min(layer["panel_rows"], layer["rows"] - first) + (first == 0)) * layer["weights_row"]
        for layer in layers
        for first in range(0, layer["rows"], layer["panel_rows"])
    ]
    done = np.concatenate([[0], np.cumsum(cost)])
    shares = np.linspace(0, done[-1], n_threads + 1)
    nearest = np.abs(done[:, None] - shares).argmin(axis=0)
    bounds: Array = nearest.astype(np.int64)
    return bounds
