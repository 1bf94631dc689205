"""How the threads of a team share a chunk: its rows, and the panels of the weights."""

from typing import Any, NamedTuple

import numpy as np

from fastbp.compiler.jit import inner_kernel

# Rows of memory between those of two threads, a page for the narrowest layer. What a processor
# prefetches beyond its thread's last row, the other must take back before it can write there.
GAP = 64


def count_rows_apart(rows: int, training: bool) -> int:
    """Return how many rows of memory a layer has for a chunk of `rows` rows."""
    return rows + GAP if training else rows


@inner_kernel
def most_rows(n_shares, n_rows, grain):
    """Return the most rows that a share of `n_shares` has, in multiples of a grain."""
    grains = (n_rows + grain - 1) // grain
    return (grains + n_shares - 1) // n_shares * grain


@inner_kernel
def share_rows(thread, n_threads, n_rows, grain):
    """Return the first and end of a thread's rows of the chunk: whole grains but for the last."""
    rows = most_rows(n_threads, n_rows, grain)
    return min(thread * rows, n_rows), min((thread + 1) * rows, n_rows)


class Panel(NamedTuple):
    """Some rows of a layer's matrix."""

    layer: int
    row: int  # the first
    end: int  # one past the last
    weights: int  # its offset in the parameters
    bias: int  # the offset of the layer's bias


@inner_kernel
def find_panel(layers, number):
    """Return the panel of this number, counted over all layers."""
    i = 0
    while number >= layers[i].last_panel:
        i += 1
    layer = layers[i]
    row = (number - layer.first_panel) * layer.panel_rows
    end = min(row + layer.panel_rows, layer.rows)
    weights = layer.weights + row * layer.weights_row
    return Panel(i, row, end, weights, layer.weights + layer.rows * layer.weights_row)


class Shares(NamedTuple):
    """What a thread does for each chunk, besides its rows."""

    in_parts: bool  # gradients are summed over parts of the chunk, and added up later
    tasks: Any  # first and end of its tasks, which are panels times parts
    panels: Any  # first and end of the panels that it updates
    by_rows: Any  # 1 where the gradient of sparse X is summed row by row
    gap: Any  # rows of memory between consecutive parts of the chunk


@inner_kernel
def choose_shares(bounds, partials, parts, by_rows, member, size):
    """Return a member's shares in a team of `size`; the first four come from the workspace."""
    most = bounds.size - 1
    n_tasks = parts * bounds[most]
    in_parts = partials.size > 0 and size > 1
    return Shares(
        in_parts,
        (member * n_tasks // size, (member + 1) * n_tasks // size),
        (bounds[member * most // size], bounds[(member + 1) * most // size]),
        np.int64(by_rows != 0 and size == 1),
        np.int64(GAP if in_parts and size == parts else 0),
    )
