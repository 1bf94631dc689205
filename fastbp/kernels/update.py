"""The in-place update of the weights by each solver, fused with the gradient of a panel of rows.

A panel is some rows of one layer's matrix; the first includes the bias. Its gradient is summed over
the whole chunk and used at once, while it is in the cache: no array of all gradients exists unless
one is kept, as for batches of several chunks. Sums do not depend on the number of threads, so the
same bits come out for any number of them.
"""

import math
from functools import cache, partial

import numpy as np
from numba import types

from fastbp.compiler.jit import DISABLED, c_function, call, part
from fastbp.compiler.memory import address, array_at, memory_view, store
from fastbp.kernels.arrays import (
    ADD_PARTS,
    AT_HAND,
    BETA_1,
    BETA_2,
    CLIP,
    DECAY,
    DIFFERENTIATE,
    DIFFERENTIATE_SPARSE,
    DIVISOR,
    EPSILON,
    L1,
    MEASURE,
    N_SETTINGS,
    OF_STEP,
    PENALTY,
    RATE,
    REST_1,
    REST_2,
    STEP,
    TAKE_STEP,
    WEIGHT,
)
from fastbp.kernels.backward import add_parts
from fastbp.kernels.plan import as_integer, bundles
from fastbp.kernels.quotient import quotient
from fastbp.kernels.sharing import find_panel, most_rows
from fastbp.matmul.tile import TILE_ROWS
from fastbp.matmul.transpose import transpose

# The rules. AdamW is Adam with a decay and no penalty; AdaGrad and RMSprop differ in their betas.
SGD, NESTEROV, ADAM, ADAGRAD, LBFGS, ADD_SIGNS, SUM_SQUARES = range(7)

PANEL_SIZE = 4352  # numbers in a panel: it fits the nearest cache, and each panel costs a few calls
PANELS = 4  # at least, in a matrix with enough rows: threads share them


def choose_panel_rows(
    rows: int, weights_row: int, batch_rows: int, tile_rows: int = TILE_ROWS
) -> int:
    """Return how many rows of a matrix a panel has: whole tiles, at most 64 rows."""
    # The gradient of a single sample is not worth sharing.
    most = -(-rows // PANELS) if batch_rows > 1 else rows
    tiles = min(-(-most // tile_rows), PANEL_SIZE // weights_row // tile_rows, 64 // tile_rows)
    return tile_rows * max(1, tiles)


def update_panels(plan, step, n_rows, begins, work, first, last, member, by_rows):
    """Compute gradients of panels first..last over a chunk, and do what `work` says; see arrays.py.

    `step` is the row in `Solver.steps`. With `by_rows`, the gradient of the first layer's matrix
    has already been summed row by row.
    """
    b = bundles(plan)
    network, solver, workspace = b.network, b.solver, b.workspace
    l1 = solver.settings[L1]
    has_mean = workspace.totals[WEIGHT] > 0
    measures = work & MEASURE != 0 and has_mean
    steps = work & TAKE_STEP != 0 and has_mean
    of_step = address(solver.steps, min(step, solver.steps.shape[0] - 1) * OF_STEP)
    settings = address(solver.settings, 0), of_step
    one = address(workspace.one, 0)
    for number in range(first, last):
        i, row, end, low, bias = find_panel(network.layers, number)
        layer = network.layers[i]
        with_bias = row == 0
        if _is_outer_product(b, layer, i, n_rows, l1):
            bias_gradient = address(workspace.deltas, layer.output)
            inputs = address(workspace.activations, layer.input)
            left, right = (bias_gradient, inputs) if layer.narrow else (inputs, bias_gradient)
            left += row * workspace.one.itemsize
            rows, columns = end - row, layer.weights_row
        else:
            panel = number, i, row, end, low, bias
            right, bias_gradient = _sum_gradient(
                plan, b, layer, panel, n_rows, begins, work, member, by_rows
            )
            left, rows, columns = one, 1, (end - row) * layer.weights_row
        matrix = (*_places(network, solver, low), left, right, rows, columns, *settings)
        below = *_places(network, solver, bias), one, bias_gradient, 1, layer.output_row, *settings
        step_function, weight = workspace.addresses[STEP], address(workspace.totals, WEIGHT)
        norm = address(workspace.norms, 2 * number)
        norm_below = address(workspace.norms, 2 * number + 1)
        if l1 > 0 and (steps or measures) and work & AT_HAND == 0:
            place = address(workspace.sizes, number)
            call(step_function, (np.int64(ADD_SIGNS), *matrix, weight, 1, place, 0))
        rule, total = np.int64(SUM_SQUARES), np.int64(0)
        if steps:
            rule, total = np.int64(solver.code), address(workspace.squares, number)
            if solver.settings[CLIP] > 0:  # measured before
                weight = address(workspace.totals, DIVISOR)
                norm = norm_below = np.int64(0)
        if steps or measures:
            call(step_function, (rule, *matrix, weight, 1, total, norm))
            if with_bias:
                call(step_function, (rule, *below, weight, 0, 0, norm_below))
        if steps and layer.mirrored:
            mirror(network, i, row, end)


@part
def _is_outer_product(b, layer, i, n_rows, l1):
    """Return whether the gradient is of one sample, with nothing to sum before the step."""
    sparse = i == 0 and b.data.indptr.size > 0
    is_kept = b.workspace.gradient.size > 0
    return n_rows == 1 and not (is_kept or sparse or l1 > 0 or layer.by_subsets)


@part
def _sum_gradient(plan, b, layer, panel, n_rows, begins, work, member, by_rows):
    """Sum the gradient of a panel over a chunk, unless AT_HAND; return its and the bias's address.

    Each layer has its own place in the scratch, so the padding of its rows stays 0.
    """
    number, i, row, end, low, bias = panel
    workspace = b.workspace
    n_threads = workspace.bounds.size - 1
    gradient = workspace.scratch
    at = member * (workspace.scratch.size // n_threads) + layer.scratch
    at_bias = at + layer.panel_rows * layer.weights_row
    if workspace.gradient.size > 0:
        at, at_bias, gradient = low, bias, workspace.gradient
    if work & AT_HAND == 0:
        part_rows = most_rows(workspace.parts, n_rows, workspace.grain)
        if work & ADD_PARTS != 0:
            n_parts = (n_rows + part_rows - 1) // part_rows  # a short batch may have one
            n = (end - row) * layer.weights_row
            add_parts(workspace, n_parts, begins, low, n, gradient, at)
            if row == 0:
                add_parts(workspace, n_parts, begins, bias, layer.output_row, gradient, at_bias)
        else:
            if i == 0 and b.data.indptr.size > 0 and by_rows == 0:
                function = workspace.addresses[DIFFERENTIATE_SPARSE]
                call(function, (as_integer(plan), begins, row, end, at))
            places = address(gradient, at), address(gradient, at_bias)
            operands = as_integer(plan), number, 0, n_rows, part_rows, begins, *places
            call(workspace.addresses[DIFFERENTIATE], operands)
    return address(gradient, at), address(gradient, at_bias)


@part
def _places(network, solver, offset):
    """Addresses of a block of the parameters, and of its part of the solver's state."""
    parameters = address(network.parameters, offset)
    return parameters, address(solver.first, offset), address(solver.second, offset)


@part
def mirror(network, i, row, end):
    """Copy rows row..end of the layer's matrix into columns of its transpose."""
    layer = network.layers[i]
    columns = layer.n_in if layer.narrow else layer.n_out
    transpose(
        network.parameters, layer.weights + row * layer.weights_row, layer.weights_row,
        end - row, columns,
        network.transposed, layer.transposed + row, layer.transposed_row,
    )  # fmt: skip


@cache
def step_address(dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"."""
    if DISABLED:
        return c_function(partial(_take_step_in_python, dtype))
    f, d, i = types.CPointer(getattr(types, dtype)), types.CPointer(types.float64), types.int64
    return c_function(_take_step, i, f, f, f, f, f, i, i, d, d, d, i, i, i)


def _take_step_in_python(
    dtype, code, w, first, second, left, right, rows, columns, settings, of_step, weight,
    is_weights, total_place, norm_place,
):  # fmt: skip
    """`_take_step`, on addresses."""
    n = rows * columns
    w, first, second, left, right = (
        memory_view(place, dtype, (size,))
        for place, size in ((w, n), (first, n), (second, n), (left, rows), (right, columns))
    )
    settings, of_step, weight = (
        memory_view(place, "f8", (size,))
        for place, size in ((settings, N_SETTINGS), (of_step, OF_STEP), (weight, 1))
    )
    _take_step(
        code, w, first, second, left, right, rows, columns, settings, of_step, weight, is_weights,
        total_place, norm_place,
    )  # fmt: skip


def _take_step(
    code, w, first, second, left, right, rows, columns, settings, of_step, weight, is_weights,
    total_place, norm_place,
):  # fmt: skip
    """Take a step of w, (rows, columns), by the rule of the solver; arrays are given by pointers.

    ``left[r] * right[i]`` is a sum over the batch; ``g = (left * right + penalty * w) / weight`` is
    the gradient of the mean loss. The sums of squares of the new w and of g go to the two places.
    The rules, with their sources, are in `fastbp.training.solvers`. Three take no step: LBFGS, with
    its step later (`lbfgs.py`), leaves g in `right`; ADD_SIGNS adds the L1 penalty's gradient to
    `right` and sums the absolute values of w; SUM_SQUARES only sums the squares of g.
    """
    shape = (rows, columns)
    w, first, second = array_at(w, shape), array_at(first, shape), array_at(second, shape)
    left, right = array_at(left, (rows,)), array_at(right, (columns,))
    settings, of_step = array_at(settings, (N_SETTINGS,)), array_at(of_step, (OF_STEP,))
    weight = array_at(weight, (1,))[0]
    T = w.dtype.type
    scale = T(1 / weight)
    penalty = T(settings[PENALTY]) if is_weights != 0 else T(0)
    decay = T(of_step[DECAY]) if is_weights != 0 else T(1)
    beta_1, rest_1 = T(settings[BETA_1]), T(settings[REST_1])
    beta_2, rest_2 = T(settings[BETA_2]), T(settings[REST_2])
    # A subnormal epsilon is flushed to 0, which would make the padding 0 / 0.
    rate, epsilon = T(of_step[RATE]), max(T(of_step[EPSILON]), T(np.finfo(T).tiny))
    total, norm = T(0), T(0)
    if code == SGD:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_1 * first[r, i] - rate * g
                new = w[r, i] + v
                first[r, i], w[r, i] = v, new
                total += new * new
                norm += g * g
    elif code == NESTEROV:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_1 * first[r, i] - rate * g
                new = w[r, i] + (beta_1 * v - rate * g)
                first[r, i], w[r, i] = v, new
                total += new * new
                norm += g * g
    elif code == ADAM:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                m = beta_1 * first[r, i] + rest_1 * g
                v = beta_2 * second[r, i] + rest_2 * (g * g)
                new = decay * w[r, i] - quotient(rate * m, math.sqrt(v) + epsilon)
                first[r, i], second[r, i], w[r, i] = m, v, new
                total += new * new
                norm += g * g
    elif code == ADAGRAD:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_2 * second[r, i] + rest_2 * (g * g)
                new = w[r, i] - quotient(rate * g, math.sqrt(v) + epsilon)
                second[r, i], w[r, i] = v, new
                total += new * new
                norm += g * g
    elif code == ADD_SIGNS:
        l1 = T(settings[L1])
        for i in range(right.size):
            right[i] += l1 if w[0, i] > 0 else -l1 if w[0, i] < 0 else T(0)
            total += abs(w[0, i])
    elif code == SUM_SQUARES:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                norm += g * g
    elif code == LBFGS:
        for i in range(right.size):
            right[i] = (right[i] + penalty * w[0, i]) * scale
    if total_place != 0:
        store(total_place, np.float64(total))
    if norm_place != 0:
        store(norm_place, np.float64(norm))
