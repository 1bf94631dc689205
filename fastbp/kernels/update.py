"""The in-place update of the weights by each solver, fused with the gradient of a panel of rows.

A panel is some rows of one W. Its gradient is summed over the whole chunk and used at once, while
it is in the cache: no array of gradients exists unless a batch comes in several chunks, and no sum
over threads, so the same bits come out for any number of them.
"""

import math
from functools import cache, partial

import numpy as np
from numba import carray, types

from fastbp.kernels.arrays import (
    BETA_1,
    BETA_2,
    DECAY,
    EPSILON,
    N_SETTINGS,
    PENALTY,
    RATE,
    REST_1,
    REST_2,
    WEIGHT,
)
from fastbp.kernels.backward import differentiate, differentiate_sample, differentiate_sparse
from fastbp.kernels.jit import (
    DISABLED,
    address,
    c_function,
    call,
    inner_kernel,
    kernel,
    memory_view,
    part,
    store,
)
from fastbp.matmul.tile import TILE_ROWS

# The rules. AdamW is Adam with a decay and no penalty; AdaGrad and RMSprop differ in their betas.
SGD, NESTEROV, ADAM, ADAGRAD, GRADIENT_ONLY = range(5)

PANEL_SIZE = 2048  # numbers in a panel: it stays in the nearest cache, and each costs a few calls


def choose_panel_rows(weights_row: int) -> int:
    """Return how many rows of a W a panel has: whole tiles, 64 rows at the most."""
    return TILE_ROWS * max(1, min(PANEL_SIZE // weights_row, 64) // TILE_ROWS)


@inner_kernel
def update_panels(network, data, solver, workspace, chunk, thread):
    """Gradients of the panels of one thread over the chunk; their update at the batch's end."""
    panel = workspace.bounds[thread]
    last = workspace.bounds[thread + 1]
    for i in range(network.layers.size):
        layer = network.layers[i]
        while panel < min(last, layer.last_panel):
            _update_panel(network, data, solver, workspace, chunk, i, panel, thread)
            panel += 1


@part
def _update_panel(network, data, solver, workspace, chunk, i, panel, thread):
    """Gradient, and at the batch's end update, of one panel of layer i."""
    layer = network.layers[i]
    row = (panel - layer.first_panel) * layer.panel_rows
    end = min(row + layer.panel_rows, layer.n_in + 1)
    low = layer.weights + row * layer.weights_row
    high = layer.weights + end * layer.weights_row
    # In scratch each layer has its place, so the padding of its rows stays 0.
    n_threads = workspace.bounds.size - 1
    at = thread * (workspace.scratch.size // n_threads) + layer.scratch
    gradient = workspace.scratch
    if workspace.gradient.size > 0:
        at, gradient = low, workspace.gradient
    if i == 0 and data.indptr.size > 0:
        differentiate_sparse(network, workspace, chunk, row, end, gradient, at)
    elif chunk.rows == 1 and chunk.begins:
        differentiate_sample(network, workspace, i, row, end, gradient, at)
    else:
        differentiate(network, workspace, chunk, i, row, end, gradient, at)
    if not chunk.ends or workspace.totals[WEIGHT] <= 0:
        return
    bias = high if end <= layer.n_in else high - layer.weights_row
    squares = address(workspace.squares, panel)
    _step(network, solver, workspace, chunk.step, low, bias, address(gradient, at), squares)
    if bias < high:
        at += bias - low
        _step(network, solver, workspace, chunk.step, bias, high, address(gradient, at), 0)
    if i > 0:
        _transpose(network, i, row, min(end, layer.n_in))


@kernel
def transpose_weights(network):
    """Make W.T of each layer but the first."""
    for i in range(1, network.layers.size):
        _transpose(network, i, 0, network.layers[i].n_in)


@part
def _transpose(network, i, row, end):
    """Rows row..end of W into columns of W.T."""
    layer = network.layers[i]
    source, target = network.parameters, network.transposed
    for j in range(layer.n_out):
        at = layer.transposed + j * layer.transposed_row
        for r in range(row, end):
            target[at + r] = source[layer.weights + r * layer.weights_row + j]


@part
def _step(network, solver, workspace, step, low, high, gradient, squares):
    """Take a step with the parameters low..high, from the address of their gradient.

    `squares` is where their sum of squares goes, or 0 for biases, which no penalty is for.
    """
    operands = (
        solver.code,
        address(network.parameters, low),
        address(solver.first, low),
        address(solver.second, low),
        gradient,
        high - low,
        address(solver.steps, step * solver.steps.shape[1]),
        address(workspace.totals, WEIGHT),
        squares,
    )
    call(workspace.addresses[3], operands)


@cache
def step_address(dtype: str) -> int:
    """Return the address of the compiled function, for "float32" or "float64"."""
    if DISABLED:
        return c_function(partial(_take_step_in_python, dtype))
    f, d, i = types.CPointer(getattr(types, dtype)), types.CPointer(types.float64), types.int64
    return c_function(_take_step, i, f, f, f, f, i, d, d, i)


def _take_step_in_python(dtype, code, w, first, second, gradient, size, settings, weight, squares):
    w, first, second, gradient = (
        memory_view(x, dtype, (size,)) for x in (w, first, second, gradient)
    )
    settings, weight = memory_view(settings, "f8", (N_SETTINGS,)), memory_view(weight, "f8", (1,))
    total = _follow_rule(code, w, first, second, gradient, settings, weight[0], squares != 0)
    if squares != 0:
        memory_view(squares, "f8", (1,))[0] = total


def _take_step(code, w, first, second, gradient, size, settings, weight, squares):
    shape = (size,)
    w, gradient = carray(w, shape), carray(gradient, shape)
    first, second = carray(first, shape), carray(second, shape)
    settings, weight = carray(settings, (N_SETTINGS,)), carray(weight, (1,))[0]
    total = _follow_rule(code, w, first, second, gradient, settings, weight, squares != 0)
    if squares != 0:
        store(squares, total)


@inner_kernel
def _follow_rule(code, w, first, second, gradient, settings, weight, is_weights):
    """One step of w by the rule of the solver; returns the sum of the squares of the new w.

    The gradient comes as a sum over the batch; ``g = (gradient + penalty * w) / weight`` is that of
    the mean loss. The rules, with their sources, are listed in `fastbp.training.solvers`.
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
        for i in range(w.size):
            v = beta_1 * first[i] - rate * ((gradient[i] + penalty * w[i]) * scale)
            new = w[i] + v
            first[i], w[i] = v, new
            total += new * new
    elif code == NESTEROV:
        for i in range(w.size):
            g = (gradient[i] + penalty * w[i]) * scale
            v = beta_1 * first[i] - rate * g
            new = w[i] + (beta_1 * v - rate * g)
            first[i], w[i] = v, new
            total += new * new
    elif code == ADAM:
        for i in range(w.size):
            g = (gradient[i] + penalty * w[i]) * scale
            m = beta_1 * first[i] + rest_1 * g
            v = beta_2 * second[i] + rest_2 * (g * g)
            new = decay * w[i] - rate * m / (math.sqrt(v) + epsilon)
            first[i], second[i], w[i] = m, v, new
            total += new * new
    elif code == ADAGRAD:
        for i in range(w.size):
            g = (gradient[i] + penalty * w[i]) * scale
            v = beta_2 * second[i] + rest_2 * (g * g)
            new = w[i] - rate * g / (math.sqrt(v) + epsilon)
            second[i], w[i] = v, new
            total += new * new
    else:
        for i in range(w.size):
            gradient[i] = (gradient[i] + penalty * w[i]) * scale
    return np.float64(total)
