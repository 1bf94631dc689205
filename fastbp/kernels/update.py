"""The in-place update of the weights by each solver, fused with the gradient of a panel of rows.

A panel is some rows of one layer's matrix, the bias below it. Its gradient is summed over the whole
chunk and used at once, while it is in the cache: no array of gradients exists unless a batch comes
in several chunks, and no sum over threads, so the same bits come out for any number of them.
"""

import math
from functools import cache, partial

import numpy as np
from numba import types

from fastbp.kernels.arrays import (
    BETA_1,
    BETA_2,
    DECAY,
    DIFFERENTIATE_SPARSE,
    EPSILON,
    N_SETTINGS,
    PENALTY,
    RATE,
    REST_1,
    REST_2,
    STEP,
    WEIGHT,
)
from fastbp.kernels.backward import differentiate, differentiate_bias
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
SGD, NESTEROV, ADAM, ADAGRAD, GRADIENT_ONLY = range(5)

PANEL_SIZE = 2048  # numbers in a panel: it stays in the nearest cache, and each costs a few calls
PANELS = 4  # of a matrix at least, where it has the rows: threads share them


def choose_panel_rows(rows: int, weights_row: int) -> int:
    """Return how many rows of a matrix a panel has: whole tiles, 64 rows at the most."""
    most = min(PANEL_SIZE // weights_row, rows // PANELS, 64)
    return TILE_ROWS * max(1, most // TILE_ROWS)


def update_panels(plan, step, n_rows, begins, ends, first, last, member, by_rows):
    """Gradients of panels first..last over a chunk; at the end of its batch, step number `step`.

    The matrix of the first layer has its gradient where that was summed row by row, `by_rows`.
    """
    b = bundles(plan)
    network, data, solver, workspace = b.network, b.data, b.solver, b.workspace
    steps = ends != 0 and workspace.totals[WEIGHT] > 0
    i = 0
    for panel in range(first, last):
        while panel >= network.layers[i].last_panel:
            i += 1
        layer = network.layers[i]
        row = (panel - layer.first_panel) * layer.panel_rows
        end = min(row + layer.panel_rows, layer.rows)
        with_bias = row + layer.panel_rows > layer.rows
        low = layer.weights + row * layer.weights_row
        bias = layer.weights + layer.rows * layer.weights_row
        squares = address(workspace.squares, panel)
        one = address(workspace.one, 0)
        sparse = i == 0 and data.indptr.size > 0
        if n_rows == 1 and workspace.gradient.size == 0 and not sparse:
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
            gradient = workspace.scratch
            if workspace.gradient.size > 0:
                at, gradient = low, workspace.gradient
            if sparse and by_rows == 0:
                function = workspace.addresses[DIFFERENTIATE_SPARSE]
                call(function, (as_integer(plan), begins, row, end, at))
            elif not sparse:
                differentiate(network, workspace, n_rows, begins, i, row, end, gradient, at)
            if with_bias:
                differentiate_bias(network, workspace, n_rows, begins, i, gradient, at + bias - low)
            bias_gradient = address(gradient, at + bias - low)
            left, right = one, address(gradient, at)
            rows, columns = 1, (end - row) * layer.weights_row
        if not steps:
            continue
        _step(network, solver, workspace, step, low, rows, columns, left, right, squares)
        if with_bias:
            columns = layer.output_row
            _step(network, solver, workspace, step, bias, 1, columns, one, bias_gradient, 0)
        if layer.mirrored:
            _transpose(network, i, row, end)


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
def _step(network, solver, workspace, step, low, rows, columns, left, right, squares):
    """Take a step with a block of so many rows and columns of the parameters, from `low` on.

    Its gradient is the outer product of the numbers at the addresses `left` and `right`. `squares`
    is where the sum of its squares goes, or 0 for biases, which no penalty is for.
    """
    operands = (
        solver.code,
        address(network.parameters, low),
        address(solver.first, low),
        address(solver.second, low),
        left,
        right,
        rows,
        columns,
        address(solver.steps, min(step, solver.steps.shape[0] - 1) * solver.steps.shape[1]),
        address(workspace.totals, WEIGHT),
        squares,
    )
    call(workspace.addresses[STEP], operands)


@cache
def step_address(dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"."""
    if DISABLED:
        return c_function(partial(_take_step_in_python, dtype))
    f, d, i = types.CPointer(getattr(types, dtype)), types.CPointer(types.float64), types.int64
    return c_function(_take_step, i, f, f, f, f, f, i, i, d, d, i)


def _take_step_in_python(
    dtype, code, w, first, second, left, right, rows, columns, settings, weight, squares
):
    shape = (rows, columns)
    w, first, second = (memory_view(x, dtype, shape) for x in (w, first, second))
    left, right = memory_view(left, dtype, (rows,)), memory_view(right, dtype, (columns,))
    settings, weight = memory_view(settings, "f8", (N_SETTINGS,)), memory_view(weight, "f8", (1,))
    total = _follow_rule(code, w, first, second, left, right, settings, weight[0], squares != 0)
    if squares != 0:
        memory_view(squares, "f8", (1,))[0] = total


def _take_step(code, w, first, second, left, right, rows, columns, settings, weight, squares):
    shape = (rows, columns)
    w, first, second = array_at(w, shape), array_at(first, shape), array_at(second, shape)
    left, right = array_at(left, (rows,)), array_at(right, (columns,))
    settings, weight = array_at(settings, (N_SETTINGS,)), array_at(weight, (1,))[0]
    total = _follow_rule(code, w, first, second, left, right, settings, weight, squares != 0)
    if squares != 0:
        store(squares, total)


@part
def _follow_rule(code, w, first, second, left, right, settings, weight, is_weights):
    """One step of w by the rule of the solver; returns the sum of the squares of the new w.

    ``left[r] * right[i]`` is a sum over the batch; ``g = (left * right + penalty * w) / weight`` is
    the gradient of the mean loss. The rules, with their sources, are in `fastbp.training.solvers`.
    """
    T = w.dtype.type
    scale = T(1 / weight)
    penalty = T(settings[PENALTY]) if is_weights else T(0)
    decay = T(settings[DECAY]) if is_weights else T(1)
    beta_1, rest_1 = T(settings[BETA_1]), T(settings[REST_1])
    beta_2, rest_2 = T(settings[BETA_2]), T(settings[REST_2])
    rate, epsilon = T(settings[RATE]), T(settings[EPSILON])
    total = T(0)
    if code == SGD:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_1 * first[r, i] - rate * g
                new = w[r, i] + v
                first[r, i], w[r, i] = v, new
                total += new * new
    elif code == NESTEROV:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_1 * first[r, i] - rate * g
                new = w[r, i] + (beta_1 * v - rate * g)
                first[r, i], w[r, i] = v, new
                total += new * new
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
    elif code == ADAGRAD:
        for r in range(left.size):
            factor = left[r]
            for i in range(right.size):
                g = (factor * right[i] + penalty * w[r, i]) * scale
                v = beta_2 * second[r, i] + rest_2 * (g * g)
                new = w[r, i] - rate * g / (math.sqrt(v) + epsilon)
                second[r, i], w[r, i] = v, new
                total += new * new
    else:
        for i in range(right.size):
            right[i] = (right[i] + penalty * w[0, i]) * scale
    return np.float64(total)
