"""The delta recursion and the gradients.

``delta[l] = (delta[l+1] @ W[l+1].T) * f'(z[l])`` and ``dJ/dW[l] = a[l-1].T @ delta[l]``, the latter
for a panel of rows of W at a time, so that the update finds it in the cache.
"""

import numpy as np

from fastbp.compiler.jit import call, inner_kernel, part
from fastbp.compiler.memory import address
from fastbp.kernels.activations import IDENTITY, RELU
from fastbp.kernels.arrays import DIFFERENTIATE, ENCODE, MULTIPLY_SUBSETS
from fastbp.kernels.paths import choose_path
from fastbp.kernels.plan import as_integer, bundles, looks_into_x
from fastbp.kernels.sharing import find_panel, most_rows
from fastbp.matmul import product as p
from fastbp.matmul.product import NO_SUMS, Matrix, Sums, product
from fastbp.matmul.rows import add_to_rows, number_at, sum_rows
from fastbp.matmul.subsets import GROUP


def backward(plan, low, high):
    """Deltas of the hidden layers, for rows low..high of the chunk."""
    b = bundles(plan)
    network, workspace = b.network, b.workspace
    a, d = workspace.activations, workspace.deltas
    for i in range(network.layers.size - 1, 0, -1):
        layer, below = network.layers[i], network.layers[i - 1]
        if below.by_subsets == 1:
            first, units = below.output + low * below.output_row, below.output_row
            codes = address(workspace.codes, low // GROUP * units)
            operands = address(a, first), units, codes, units, high - low, units
            call(workspace.addresses[ENCODE], operands)
            if i == 1:
                continue  # these deltas are not needed
        delta = Matrix(address(d, layer.output + low * layer.output_row), layer.output_row, 1)
        if layer.narrow:
            weights = Matrix(address(network.parameters, layer.weights), layer.weights_row, 1)
        else:
            weights = Matrix(address(network.transposed, layer.transposed), layer.transposed_row, 1)
        first = below.output + low * below.output_row
        result = Matrix(address(d, first), below.output_row, 1)
        if below.activation == RELU and below.dropped == 0:
            epilogue, factor = p.MASK, Matrix(address(a, first), below.output_row, 1)
        else:
            linear = below.activation == IDENTITY and below.dropped == 0
            epilogue = p.STORE if linear else p.SCALE
            at = below.slopes + low * below.output_row
            factor = Matrix(address(workspace.slopes, at), below.output_row, 1)
        zeros = Matrix(address(workspace.zeros, 0), 0, 1)
        shape = (high - low, layer.n_in, layer.n_out)
        density = 1.0
        if layer.activation == RELU and i + 1 < network.layers.size:
            density = workspace.densities[i + 1]  # where its outputs are 0, so are its deltas
        addresses, large = workspace.addresses, layer.large == 1
        path = choose_path(addresses, large, density, layer.n_out, layer.n_in, a.itemsize)
        product(
            addresses, path, delta, weights, result, zeros, epilogue, factor,
            shape, NO_SUMS,
        )  # fmt: skip


def differentiate(plan, number, low, high, at_a_time, begins, gradient, bias_gradient):
    """Store the gradient of a panel of a matrix and, with row 0, that of the bias, at addresses.

    For W it is ``a[l-1].T @ delta[l]``, for W.T the transpose, for the bias the sum of
    ``delta[l]``, over rows low..high of the chunk. Each sum over `at_a_time` rows begins at 0 and
    is added to those before, so that the bits are the same if threads sum them separately. After a
    batch's first chunk, the gradient is added to. For sparse X only the bias is done here.
    """
    b = bundles(plan)
    network, workspace = b.network, b.workspace
    panel = find_panel(network.layers, number)
    layer = network.layers[panel.layer]
    dense = panel.layer > 0 or b.data.indptr.size == 0
    beside = dense and not layer.narrow  # the bias's gradient comes with the matrix's
    itemsize = workspace.one.itemsize
    nothing = Matrix(address(workspace.zeros, 0), 0, 1)
    result = Matrix(gradient, layer.weights_row, 1)
    for sample in range(low, high, at_a_time):
        afresh = begins != 0 and sample == low
        start = nothing if afresh else result
        k = min(at_a_time, high - sample)
        inputs = address(workspace.activations, layer.input + sample * layer.input_row)
        deltas = address(workspace.deltas, layer.output + sample * layer.output_row)
        rows_of_deltas = Matrix(deltas, layer.output_row, 1)
        if layer.by_subsets == 1:
            _multiply_subsets(
                b.network, workspace, panel, sample, k, gradient, bias_gradient, afresh
            )
            continue
        sums = Sums(bias_gradient, p.SET if afresh else p.ADD)
        if panel.row == 0 and not beside:
            shape = (0, layer.n_out, k)
            _sum(workspace, p.TILES, nothing, rows_of_deltas, nothing, nothing, shape, sums)
        if not dense:
            continue
        if layer.narrow:
            left = Matrix(deltas + panel.row * itemsize, 1, layer.output_row)
            right, n = Matrix(inputs, layer.input_row, 1), layer.n_in
        else:
            left = Matrix(inputs + panel.row * itemsize, 1, layer.input_row)
            right, n = rows_of_deltas, layer.n_out
        path, rows = p.TILES, panel.end - panel.row
        if not layer.narrow:
            density = workspace.densities[panel.layer]
            path = choose_path(workspace.addresses, False, density, layer.n_in, n, itemsize)
        sums = sums if panel.row == 0 and beside else NO_SUMS
        _sum(workspace, path, left, right, result, start, (rows, n, k), sums)


@part
def _sum(workspace, path, left, right, result, start, shape, sums):
    product(workspace.addresses, path, left, right, result, start, p.STORE, result, shape, sums)


@part
def _multiply_subsets(network, workspace, panel, sample, k, gradient, bias_gradient, afresh):
    """The gradient of a panel from the deltas of the single output above, over k rows."""
    layer, above = network.layers[panel.layer], network.layers[panel.layer + 1]
    a = workspace.activations
    units = layer.output_row
    w = address(network.parameters, above.weights)
    if workspace.above.size > 0:
        w = address(workspace.above, 0)
    operands = (
        address(a, layer.input + sample * layer.input_row + panel.row),
        layer.input_row,
        address(workspace.deltas, above.output + sample * above.output_row),
        above.output_row,
        address(workspace.codes, sample // GROUP * units),
        units,
        address(workspace.slope_below_zero, 0),
        w,
        panel.end - panel.row,
        k,
        units,
        gradient,
        layer.weights_row,
        np.int64(afresh),
        address(a, layer.output + sample * units),
        units,
        bias_gradient,
        np.int64(panel.row == 0),
    )
    call(workspace.addresses[MULTIPLY_SUBSETS], operands)


@inner_kernel
def keep_weights_above(layers, parameters, above):
    """Copy the weights of a single output, for threads that read them while one updates them."""
    place = layers[layers.size - 1].weights
    for j in range(above.size):
        above[j] = parameters[place + j]


def differentiate_parts(plan, n_rows, gap, first, last):
    """Separate gradients over each part of a chunk, for panels first..last of all parts.

    The panels are counted through all parts; the parts are added up in `add_parts`. In memory, the
    rows of consecutive parts are `gap` rows apart.
    """
    b = bundles(plan)
    network, workspace = b.network, b.workspace
    size = workspace.partials.size // workspace.parts
    n_panels = network.layers[network.layers.size - 1].last_panel
    rows = most_rows(workspace.parts, n_rows, workspace.grain)
    for task in range(first, last):
        number = task // n_panels
        panel = find_panel(network.layers, task - number * n_panels)
        shift = number * gap
        operands = (
            as_integer(plan),
            task - number * n_panels,
            number * rows + shift,
            min((number + 1) * rows, n_rows) + shift,
            rows,
            1,
            address(workspace.partials, number * size + panel.weights),
            address(workspace.partials, number * size + panel.bias),
        )
        call(workspace.addresses[DIFFERENTIATE], operands)


@part
def add_parts(workspace, n_parts, begins, weights, n, gradient, at):
    """Set n elements of `gradient` to the sums over the parts, or add these unless `begins`."""
    size = workspace.partials.size // workspace.parts
    g = gradient[at : at + n]
    for number in range(n_parts):
        partial = workspace.partials[number * size + weights :][:n]
        if number == 0 and begins != 0:
            for i in range(n):
                g[i] = partial[i]
        else:
            for i in range(n):
                g[i] += partial[i]


@looks_into_x
def differentiate_sparse(plan, begins, first, last, at):
    """`differentiate` for the first layer with sparse X, from the chunk sorted by columns."""
    b = bundles(plan)
    workspace, layer = b.workspace, b.network.layers[0]
    gradient = workspace.gradient if workspace.gradient.size > 0 else workspace.scratch
    n, starts = layer.n_out, workspace.column_starts
    for feature in range(first, last):
        place = at + (feature - first) * layer.weights_row
        if begins != 0 and starts[feature] == starts[feature + 1]:  # most features, if many
            g = gradient[place : place + n]
            for j in range(n):
                g[j] = 0
            continue
        before, before_at = (workspace.zeros, 0) if begins != 0 else (gradient, place)
        sum_rows(
            workspace.column_values, address(workspace.column_rows, 0),
            np.int64(workspace.column_rows.itemsize), starts[feature], starts[feature + 1],
            workspace.deltas, layer.output, layer.output_row,
            before, before_at, gradient, place, n,
        )  # fmt: skip


@looks_into_x
def differentiate_rows(plan, start, n_rows, begins):
    """`differentiate_sparse` for the whole first layer, from the chunk as it is: the same sums.

    Nothing is sorted, but the whole gradient must fit a near cache, and one thread does it all.
    """
    b = bundles(plan)
    data, workspace, layer = b.data, b.workspace, b.network.layers[0]
    gradient = workspace.gradient
    if begins != 0:
        for i in range(layer.weights, layer.weights + layer.n_in * layer.weights_row):
            gradient[i] = 0
    for i in range(n_rows):
        sample = data.order[start + i]
        first, last = np.int64(data.indptr[sample]), np.int64(data.indptr[sample + 1])
        add_to_rows(
            data.values, address(data.indices, 0), data.index_size, first, last,
            workspace.deltas, layer.output + i * layer.output_row,
            gradient, layer.weights, layer.weights_row, layer.n_out,
        )  # fmt: skip


@looks_into_x
def sort_columns(plan, start, rows):
    """Sort the sparse chunk by columns, by counting: starts, rows and values."""
    b = bundles(plan)
    data, workspace = b.data, b.workspace
    starts = workspace.column_starts
    indices, size = address(data.indices, 0), data.index_size
    for feature in range(starts.size):
        starts[feature] = 0
    for i in range(rows):
        sample = data.order[start + i]
        for entry in range(data.indptr[sample], data.indptr[sample + 1]):
            starts[number_at(indices, size, entry)] += 1
    total = 0
    for feature in range(starts.size):
        total += starts[feature]
        starts[feature] = total  # the end; counted down to the start below
    for i in range(rows - 1, -1, -1):
        sample = data.order[start + i]
        for entry in range(data.indptr[sample + 1] - 1, data.indptr[sample] - 1, -1):
            feature = number_at(indices, size, entry)
            starts[feature] -= 1
            place = starts[feature]
            workspace.column_rows[place] = i
            workspace.column_values[place] = data.values[entry]
