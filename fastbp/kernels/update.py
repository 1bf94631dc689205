"""The in-place update of the weights by each solver, fused with the gradient of a panel of rows.

A panel is some rows of one layer's matrix, the first with the bias. Its gradient is summed over the
whole chunk and used at once, while it is in the cache: no array of gradients exists unless a batch
comes in several chunks, and no sum over threads, so the same bits come out for any number of them.
"""

import math
from functools import cache, partial

import numpy as np
from numba import types

from fastbp.kernels.arrays import (
    ADD_PARTS,
    AT_HAND,
    BETA_1,
    BETA_2,
    CLIP,
    DECAY,
    DIFFERENTIATE_SPARSE,
    DIVISOR,
    EPSILON,
    L1,
    MEASURE,
    N_SETTINGS,
    PENALTY,
    RATE,
    REST_1,
    REST_2,
    STEP,
    TAKE_STEP,
    WEIGHT,
)
from fastbp.kernels.backward import (
    add_parts,
    differentiate,
    differentiate_bias,
    find_panel,
    share,
)
from fastbp.kernels.jit import (
    DISABLED,
    address,
    array_at,
    c_function,
    call,
    memory_view,
    part,
    store,
)
from fastbp.kernels.plan import as_integer, bundles
from fastbp.matmul.tile import TILE_ROWS
from fastbp.matmul.transpose import transpose

# The rules. AdamW is Adam with a decay and no penalty; AdaGrad and RMSprop differ in their betas.
SGD, NESTEROV, ADAM, ADAGRAD, GRADIENT_ONLY, ADD_SIGNS, SUM_SQUARES = range(7)

PANEL_SIZE = 2048  # numbers in a panel: it stays in the nearest cache, and each costs a few calls
PANELS = 4  # of a matrix at least, where it has the rows: threads share them


def choose_panel_rows(rows: int, weights_row: int, batch_rows: int) -> int:
    """Return how many rows of a matrix a panel has: whole tiles, 64 rows at the most."""
    # The gradient of one sample is nothing to share.
    most = -(-rows // PANELS) if batch_rows > 1 else rows
    tiles = min(-(-most // TILE_ROWS), PANEL_SIZE // weights_row // TILE_ROWS, 64 // TILE_ROWS)
    return TILE_ROWS * max(1, tiles)


def update_panels(plan, step, n_rows, begins, work, first, last, member, by_rows):
    """Gradients of panels first..last over a chunk, and what `work` says; see arrays.py.

    `step` is the row of the settings. The matrix of the first layer has its gradient where that was
    summed row by row, `by_rows`.
    """
    b = bundles(plan)
    network, data, solver, workspace = b.network, b.data, b.solver, b.workspace
    l1 = solver.steps[0, L1]
    at_hand, adds_parts = work & AT_HAND != 0, work & ADD_PARTS != 0
    has_mean = workspace.totals[WEIGHT] > 0
    measures = work & MEASURE != 0 and has_mean
    steps = work & TAKE_STEP != 0 and has_mean
    samples = 0, n_rows, share(workspace.parts, n_rows, workspace.grain)
    n_parts = (n_rows + samples[2] - 1) // samples[2]  # of a short batch there may be one
    for number in range(first, last):
        i, row, end, low, bias = find_panel(network, number)
        layer = network.layers[i]
        with_bias = row == 0
        one = address(workspace.one, 0)
        sparse = i == 0 and data.indptr.size > 0
        if n_rows == 1 and workspace.gradient.size == 0 and not sparse and l1 == 0:
            # The gradient of one sample is an outer product: nothing to be summed before the step.
            inputs = address(workspace.activations, layer.input)
            bias_gradient = address(workspace.deltas, layer.output)
            left, right = (bias_gradient, inputs) if layer.narrow else (inputs, bias_gradient)
            left += row * workspace.one.itemsize
            rows, columns = end - row, layer.weights_row
        else:
            # In scratch each layer has its place, so the padding of its rows stays 0.
            n_threads = workspace.bounds.size - 1
            at = member * (workspace.scratch.size // n_threads) + layer.scratch
            at_bias, gradient = at + layer.panel_rows * layer.weights_row, workspace.scratch
            if workspace.gradient.size > 0:
                at, at_bias, gradient = low, bias, workspace.gradient
            rows, columns = 1, (end - row) * layer.weights_row
            if at_hand:
                pass
            elif adds_parts:
                add_parts(workspace, n_parts, begins, low, columns, gradient, at)
                if with_bias:
                    n = layer.output_row
                    add_parts(workspace, n_parts, begins, bias, n, gradient, at_bias)
            elif sparse and by_rows == 0:
                function = workspace.addresses[DIFFERENTIATE_SPARSE]
                call(function, (as_integer(plan), begins, row, end, at))
            elif not sparse:
                these = row, end
                differentiate(network, workspace, samples, begins, i, these, gradient, at, at_bias)
            if sparse and with_bias and not at_hand:
                differentiate_bias(network, workspace, samples, begins, i, gradient, at_bias)
            bias_gradient = address(gradient, at_bias)
            left, right = one, address(gradient, at)
        matrix = low, left, right, rows, columns, 1
        below = bias, one, bias_gradient, 1, layer.output_row, 0
        adds_signs = (steps or measures) and l1 > 0 and not at_hand
        blocks = matrix, below, with_bias
        _use_gradient(b, step, number, blocks, adds_signs, measures, steps)
        if steps and layer.mirrored:
            _transpose(network, i, row, end)


@part
def _use_gradient(b, step, panel, blocks, adds_signs, measures, steps):
    """The L1 penalty into the gradient of a panel, its norm, and the step, as far as asked for."""
    (matrix, below, with_bias), workspace = blocks, b.workspace
    weight = address(workspace.totals, WEIGHT)
    norm, norm_below = address(workspace.norms, 2 * panel), address(workspace.norms, 2 * panel + 1)
    if adds_signs:
        _step(b, ADD_SIGNS, step, matrix, weight, address(workspace.sizes, panel), 0)
    if measures:
        _step(b, SUM_SQUARES, step, matrix, weight, 0, norm)
        if with_bias:
            _step(b, SUM_SQUARES, step, below, weight, 0, norm_below)
    if steps:
        if b.solver.steps[0, CLIP] > 0:  # measured before
            weight = address(workspace.totals, DIVISOR)
            norm = norm_below = 0
        _step(b, b.solver.code, step, matrix, weight, address(workspace.squares, panel), norm)
        if with_bias:
            _step(b, b.solver.code, step, below, weight, 0, norm_below)


@part
def _transpose(network, i, row, end):
    """Rows row..end of the layer's matrix into columns of its transpose."""
    layer = network.layers[i]
    columns = layer.n_in if layer.narrow else layer.n_out
    transpose(
        network.parameters, layer.weights + row * layer.weights_row, layer.weights_row,
        end - row, columns,
        network.transposed, layer.transposed + row, layer.transposed_row,
    )  # fmt: skip


@part
def _step(b, code, step, block, weight, total, norm):
    """Take a step by a rule with a block of the parameters.

    The block is where it begins, where the two vectors are whose outer product is its gradient, its
    rows and columns, and whether it is weights. `weight` is the address of what that gradient is
    divided by, `total` and `norm` are where the rule's sums go, or 0 for nowhere.
    """
    low, left, right, rows, columns, is_weights = block
    solver = b.solver
    operands = (
        np.int64(code),
        address(b.network.parameters, low),
        address(solver.first, low),
        address(solver.second, low),
        left,
        right,
        rows,
        columns,
        address(solver.steps, min(step, solver.steps.shape[0] - 1) * solver.steps.shape[1]),
        weight,
        np.int64(is_weights),
        np.int64(total),
        np.int64(norm),
    )
    call(b.workspace.addresses[STEP], operands)


@cache
def step_address(dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"."""
    if DISABLED:
        return c_function(partial(_take_step_in_python, dtype))
    f, d, i = types.CPointer(getattr(types, dtype)), types.CPointer(types.float64), types.int64
    return c_function(_take_step, i, f, f, f, f, f, i, i, d, d, i, i, i)


def _take_step_in_python(
    dtype, code, w, first, second, left, right, rows, columns, settings, weight, is_weights,
    total, norm,
):  # fmt: skip
    shape = (rows, columns)
    w, first, second = (memory_view(x, dtype, shape) for x in (w, first, second))
    left, right = memory_view(left, dtype, (rows,)), memory_view(right, dtype, (columns,))
    settings, weight = memory_view(settings, "f8", (N_SETTINGS,)), memory_view(weight, "f8", (1,))
    sums = _follow_rule(code, w, first, second, left, right, settings, weight[0], is_weights != 0)
    for place, value in zip((total, norm), sums, strict=True):
        if place != 0:
            memory_view(place, "f8", (1,))[0] = value


def _take_step(
    code, w, first, second, left, right, rows, columns, settings, weight, is_weights, total, norm
):
    shape = (rows, columns)
    w, first, second = array_at(w, shape), array_at(first, shape), array_at(second, shape)
    left, right = array_at(left, (rows,)), array_at(right, (columns,))
    settings, weight = array_at(settings, (N_SETTINGS,)), array_at(weight, (1,))[0]
    sums = _follow_rule(code, w, first, second, left, right, settings, weight, is_weights != 0)
    if total != 0:
        store(total, sums[0])
    if norm != 0:
        store(norm, sums[1])


@part
def _follow_rule(code, w, first, second, left, right, settings, weight, is_weights):
    """One step of w by the rule of the solver; returns the sums of the squares of new w and of g.

    ``left[r] * right[i]`` is a sum over the batch; ``g = (left * right + penalty * w) / weight`` is
    the gradient of the mean loss. The rules, with their sources, are in `fastbp.training.solvers`.
    Three are no steps: one leaves g in `right`, one adds the L1 penalty's gradient to it and
    returns the sum of the absolute values of w, one returns only that of the squares of g.
    """
    T = w.dtype.type
    scale = T(1 / weight)
    penalty = T(settings[PENALTY]) if is_weights else T(0)
    decay = T(settings[DECAY]) if is_weights else T(1)
    beta_1, rest_1 = T(settings[BETA_1]), T(settings[REST_1])
    beta_2, rest_2 = T(settings[BETA_2]), T(settings[REST_2])
    rate, epsilon = T(settings[RATE]), T(settings[EPSILON])
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
                new = decay * w[r, i] - rate * m / (math.sqrt(v) + epsilon)
                first[r, i], second[r, i], w[r, i] = m, v, new
                total += new * new
                norm += g * g
    elif code == ADAGRAD:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_2 * second[r, i] + rest_2 * (g * g)
                new = w[r, i] - rate * g / (math.sqrt(v) + epsilon)
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
    else:
        for i in range(right.size):
            right[i] = (right[i] + penalty * w[0, i]) * scale
    return np.float64(total), np.float64(norm)
