"""The forward pass: ``z[l] = a[l-1] @ W[l] + b[l]``, ``a[l] = f(z[l])``."""

import numpy as np

from fastbp.compiler.jit import call, part
from fastbp.compiler.memory import address, matrix_view
from fastbp.kernels.activations import IDENTITY, NOT_ZERO_AT_ZERO, RELU, activate
from fastbp.kernels.arrays import DROP, MULTIPLY_SPARSE
from fastbp.kernels.gather import gather
from fastbp.kernels.paths import ROWS_MEASURED, STEPS_UNMEASURED, choose_path, measure_density
from fastbp.kernels.plan import as_integer, bundles, looks_into_x
from fastbp.matmul import product as p
from fastbp.matmul.product import NO_SUMS, Matrix, product
from fastbp.matmul.rows import sum_rows
from fastbp.matmul.tile import VECTOR_BYTES


@looks_into_x
def forward(plan, step, start, low, high):
    """Activations of all layers, for rows low..high of the chunk at `start` of the order.

    The number of the step and the seed determine which units are dropped.
    """
    b = bundles(plan)
    network, data, workspace = b.network, b.data, b.workspace
    sparse = data.indptr.size > 0
    measures = low == 0 and high >= ROWS_MEASURED and step % STEPS_UNMEASURED == 0
    if not sparse:
        layer = network.layers[0]
        row = layer.input_row
        a = matrix_view(workspace.activations, layer.input + low * row, high - low, row)
        gather(data.X, data.order, start + low, a)
    n_layers = network.layers.size
    for i in range(n_layers):
        layer = network.layers[i]
        # The slope of a hidden ReLU is read off its output; that of an output layer is not.
        fused = layer.activation == RELU and i + 1 < n_layers
        if i == 0 and sparse:
            operands = as_integer(plan), start, low, high, np.int64(fused)
            call(workspace.addresses[MULTIPLY_SPARSE], operands)
        else:
            if measures:
                measure_density(workspace, layer, i)
            _multiply(network, workspace, i, fused, low, high)
        first = layer.output + low * layer.output_row
        last = layer.output + high * layer.output_row
        if layer.activation != IDENTITY and not fused:
            z, slopes = workspace.activations[first:last], workspace.slopes
            at = layer.slopes + low * layer.output_row
            activate(layer.function, z, slopes, at, layer.n_out, layer.output_row)
            below_narrow = i + 1 < n_layers and network.layers[i + 1].narrow
            if below_narrow and layer.activation in NOT_ZERO_AT_ZERO:
                _clear_padding(layer, workspace.activations, first, last)
        if layer.dropped > 0:
            call(workspace.addresses[DROP], (as_integer(plan), step, start, low, high, i))


@part
def _clear_padding(layer, activations, first, last):
    """Set the padding to 0 again after an activation; rows with it are whole vectors."""
    vector = VECTOR_BYTES // activations.itemsize
    whole = layer.n_out - layer.n_out % vector
    for row in range(first, last, layer.output_row):
        for at in range(whole, layer.output_row, vector):
            elements, n_used = activations[row + at :], layer.n_out - at
            for j in range(vector):
                elements[j] = elements[j] if j < n_used else 0


@part
def _multiply(network, workspace, i, relu, low, high):
    """a[l] := a[l-1] @ W[l] + b[l], or its ReLU."""
    layer = network.layers[i]
    a, w = workspace.activations, network.parameters
    inputs = Matrix(address(a, layer.input + low * layer.input_row), layer.input_row, 1)
    if layer.narrow and layer.mirrored:
        weights = Matrix(address(network.transposed, layer.transposed), layer.transposed_row, 1)
    elif layer.narrow:
        weights = Matrix(address(w, layer.weights), 1, layer.weights_row)
    else:
        weights = Matrix(address(w, layer.weights), layer.weights_row, 1)
    bias = Matrix(address(w, layer.weights + layer.rows * layer.weights_row), 0, 1)
    outputs = Matrix(address(a, layer.output + low * layer.output_row), layer.output_row, 1)
    epilogue = p.RELU if relu else p.STORE
    shape = (high - low, layer.n_out, layer.n_in)
    path, by_columns = p.TILES, weights.column != 1
    if not by_columns:
        path = choose_path(
            workspace.addresses,
            layer.large == 1,
            workspace.densities[i],
            layer.n_in,
            layer.n_out,
            a.itemsize,
        )
    product(
        workspace.addresses, path, inputs, weights, outputs, bias, epilogue, outputs,
        shape, NO_SUMS,
    )  # fmt: skip


@looks_into_x
def multiply_sparse(plan, start, low, high, relu):
    """a[1] := X @ W[1] + b[1], or its ReLU, at a cost proportional to X's stored values."""
    b = bundles(plan)
    network, data, workspace = b.network, b.data, b.workspace
    layer, w = network.layers[0], network.parameters
    bias = layer.weights + layer.n_in * layer.weights_row
    for i in range(low, high):
        sample = data.order[start + i]
        first, last = np.int64(data.indptr[sample]), np.int64(data.indptr[sample + 1])
        a, at = workspace.activations, layer.output + i * layer.output_row
        sum_rows(
            data.values, address(data.indices, 0), data.index_size, first, last,
            w, layer.weights, layer.weights_row, w, bias, a, at, layer.n_out,
        )  # fmt: skip
        if relu != 0:
            for j in range(at, at + layer.n_out):
                a[j] = 0 if a[j] < 0 else a[j]  # a NaN stays NaN
