"""The loop over mini-batches, compiled whole, and prediction; each for one thread and for several.

A mini-batch is two steps, each shared by the threads, which wait for one another after each:
forward and deltas over the rows of the batch, then gradients and updates over the rows of the
weights. A batch of more than ``workspace.rows`` rows comes in chunks of as many, over which the
gradient is summed.
"""

import numpy as np
from numba import prange

from fastbp.kernels.arrays import (
    BATCH_LOSS,
    EPOCH_LOSS,
    PENALTY,
    SQUARES,
    WEIGHT,
    YIELD,
    Chunk,
)
from fastbp.kernels.backward import backward, sort_columns
from fastbp.kernels.forward import forward
from fastbp.kernels.jit import inner_kernel, kernel, parallel_kernel, part
from fastbp.kernels.losses import differentiate_loss
from fastbp.kernels.shuffle import shuffle
from fastbp.kernels.team import join, wait
from fastbp.kernels.update import update_panels


@part
def _place(index, first, n_samples, batch_size, rows):
    """The fields of a Chunk by its index; past a short batch's end it is empty."""
    per_batch = (batch_size + rows - 1) // rows
    batch, within = index // per_batch, index % per_batch
    batches = (n_samples + batch_size - 1) // batch_size
    epoch = batch // batches
    batch_start = (batch - epoch * batches) * batch_size
    batch_end = min(batch_start + batch_size, n_samples)
    start = batch_start + within * rows
    end = min(start + rows, batch_end)
    step = batch - first // per_batch
    return epoch, step, start, end - start, within == 0, end == batch_end


@part
def _begin_epoch(data, workspace):
    workspace.totals[EPOCH_LOSS] = 0
    if data.generator.size > 0:
        shuffle(data.order, data.generator)


@part
def _share(thread, n_threads, n_rows, grain):
    """Rows of the chunk for a thread: first and end, whole grains but for the last."""
    grains = (n_rows + grain - 1) // grain
    low = thread * grains // n_threads * grain
    high = (thread + 1) * grains // n_threads * grain
    return min(low, n_rows), min(high, n_rows)


@inner_kernel
def _differentiate_rows(network, data, workspace, chunk, member, size):
    """Forward pass, loss and deltas, for one thread's rows."""
    low, high = _share(member, size, chunk.rows, workspace.grain)
    if low < high:
        forward(network, data, workspace, chunk.start, low, high)
        differentiate_loss(network, data, workspace, chunk.start, low, high)
        backward(network, workspace, low, high)


@part
def _update_weights(network, data, solver, workspace, chunk, member, size):
    """Gradients, and at the batch's end updates, of one thread's panels."""
    most = workspace.bounds.size - 1
    first = workspace.bounds[member * most // size]
    last = workspace.bounds[(member + 1) * most // size]
    update_panels(network, data, solver, workspace, chunk, first, last, member)


@part
def _add_weights(data, workspace, chunk):
    """Weights of the chunk's samples into the total."""
    weight = 0.0
    if data.sample_weight.size == 0:
        weight += chunk.rows
    else:
        for i in range(chunk.rows):
            weight += data.sample_weight[data.order[chunk.start + i]]
    workspace.totals[WEIGHT] += weight


@part
def _add_losses(data, workspace, chunk):
    """Losses of the chunk's samples into the total, always in the same order."""
    loss = 0.0
    if data.sample_weight.size == 0:
        for i in range(chunk.rows):
            loss += workspace.row_losses[i]
    else:
        for i in range(chunk.rows):
            w = data.sample_weight[data.order[chunk.start + i]]
            loss += w * workspace.row_losses[i]
    workspace.totals[BATCH_LOSS] += loss


@part
def _finish_batch(solver, workspace, chunk, batch_size, n_samples, losses):
    """The batch's mean loss, with the penalty of the weights it began with, into the epoch's.

    A batch whose weights sum to 0 has no mean: it counts nothing and has changed nothing. `losses`
    gets that of an epoch at its end.
    """
    totals = workspace.totals
    end = chunk.start + chunk.rows
    size = end % batch_size if end % batch_size > 0 else batch_size
    if totals[WEIGHT] > 0:
        loss = totals[BATCH_LOSS] + 0.5 * solver.steps[0, PENALTY] * totals[SQUARES]
        totals[EPOCH_LOSS] += loss / totals[WEIGHT] * size
        totals[SQUARES] = workspace.squares.sum()
    totals[BATCH_LOSS] = 0
    totals[WEIGHT] = 0
    if end == n_samples:
        losses[chunk.epoch] = totals[EPOCH_LOSS] / n_samples


@inner_kernel
def _train(network, data, solver, workspace, batch_size, first, last, losses, member, size):
    """Chunks first..last, by one thread of a team. The first thread does what is not shared."""
    n_samples = data.order.size
    sparse = data.indptr.size > 0
    leads = member == 0
    for index in range(first, last):
        chunk = Chunk(*_place(index, first, n_samples, batch_size, workspace.rows))
        if leads and chunk.start == 0:
            _begin_epoch(data, workspace)
        if chunk.rows <= 0:
            continue
        if leads and sparse:
            sort_columns(data, workspace, chunk)
        if chunk.start == 0:
            wait(workspace.team, size, workspace.addresses[YIELD])  # for the order
        if leads:
            _add_weights(data, workspace, chunk)
        _differentiate_rows(network, data, workspace, chunk, member, size)
        wait(workspace.team, size, workspace.addresses[YIELD])
        if leads:
            _add_losses(data, workspace, chunk)
        _update_weights(network, data, solver, workspace, chunk, member, size)
        wait(workspace.team, size, workspace.addresses[YIELD])
        if leads and chunk.ends:
            _finish_batch(solver, workspace, chunk, batch_size, n_samples, losses)


@kernel
def train_serial(network, data, solver, workspace, batch_size, first, last, losses):
    """Chunks first..last, counted from epoch to epoch, on the calling thread.

    ``solver.steps[0]`` belongs to the batch of chunk `first`; `losses`, of shape (n_epochs,), get
    the mean loss of each epoch at its end.
    """
    member, size = np.int64(0), np.int64(1)  # literals would be another type, to be compiled anew
    _train(network, data, solver, workspace, batch_size, first, last, losses, member, size)


@parallel_kernel
def train_parallel(network, data, solver, workspace, batch_size, first, last, losses):
    """The same on several threads, as many as ``workspace.bounds`` says; to the same bits.

    ``workspace.team`` must be of zeros.
    """
    n_threads = workspace.bounds.size - 1
    for _ in prange(n_threads):
        member, size = join(workspace.team, n_threads)
        if member < size:
            _train(network, data, solver, workspace, batch_size, first, last, losses, member, size)


@inner_kernel
def _predict_share(network, data, workspace, out, thread, n_threads):
    """out[i] := the outputs of sample order[i], for the samples of one thread.

    Each thread goes through its samples in chunks, on its own ``workspace.rows`` rows.
    """
    layer = network.layers[network.layers.size - 1]
    begin, end = _share(thread, n_threads, data.order.size, workspace.grain)
    row = thread * workspace.rows
    for start in range(begin, end, workspace.rows):
        rows = min(workspace.rows, end - start)
        forward(network, data, workspace, start - row, row, row + rows)
        for i in range(rows):
            o = layer.output + (row + i) * layer.output_row
            for j in range(layer.n_out):
                out[start + i, j] = workspace.activations[o + j]


@kernel
def predict_serial(network, data, workspace, out):
    """out[i] := the outputs of sample order[i], on the calling thread."""
    _predict_share(network, data, workspace, out, 0, 1)


@parallel_kernel
def predict_parallel(network, data, workspace, out):
    """The same on several threads, as many as ``workspace.bounds`` says; to the same bits."""
    n_threads = workspace.bounds.size - 1
    for thread in prange(n_threads):
        _predict_share(network, data, workspace, out, np.int64(thread), n_threads)
