"""The loop over mini-batches, compiled as a whole, and prediction; by one thread or a team.

A mini-batch is two steps, each shared by the threads and followed by a barrier: forward pass and
deltas, divided by rows of the batch, then gradients and updates, divided by rows of the weights.
Where threads exchange less data that way, gradients are part of the first step: each is summed over
a part of the rows, and the parts are added up in the second. A batch of more than
``workspace.rows`` rows is done in chunks of that size, over which the gradient is summed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastbp.compiler.helpers import compile_together
from fastbp.compiler.jit import call, inner_kernel, part, summing_kernel
from fastbp.kernels import losses
from fastbp.kernels.activations import NAMES, activation_address
from fastbp.kernels.arrays import (
    ADD_PARTS,
    ADVANCE,
    AT_HAND,
    BACKWARD,
    BATCH_LOSS,
    BEST_LOSS,
    CLIP,
    DIFFERENTIATE,
    DIFFERENTIATE_PARTS,
    DIFFERENTIATE_ROWS,
    DIFFERENTIATE_SPARSE,
    DIVISOR,
    DROP,
    ENDED,
    EPOCH_LOSS,
    FORWARD,
    HALTED,
    L1,
    LOSS,
    MEASURE,
    MULTIPLY_SPARSE,
    NOT_FINITE,
    OF_SUBSETS,
    PATIENCE,
    PENALTY,
    PRODUCT,
    REACHED,
    SORT,
    SQUARES,
    STEP,
    TAKE_STEP,
    TOLERANCE,
    UPDATE,
    WAITED,
    WEIGHT,
    YIELD,
    Chunk,
)
from fastbp.kernels.backward import (
    backward,
    differentiate,
    differentiate_parts,
    differentiate_rows,
    differentiate_sparse,
    keep_weights_above,
    sort_columns,
)
from fastbp.kernels.dropout import drop
from fastbp.kernels.forward import forward, multiply_sparse
from fastbp.kernels.gather import are_finite
from fastbp.kernels.lbfgs import advance
from fastbp.kernels.plan import Plan, PlanFunction, as_integer, bundles
from fastbp.kernels.scheduler import yield_address
from fastbp.kernels.sharing import choose_shares, most_rows, share_rows
from fastbp.kernels.shuffle import shuffle
from fastbp.kernels.subnormals import flush_subnormals, set_float_mode
from fastbp.kernels.team import admit, invite, take, wait
from fastbp.kernels.update import LBFGS, step_address, update_panels
from fastbp.matmul.nonzeros import nonzeros_address
from fastbp.matmul.product import NONZEROS, product_addresses
from fastbp.matmul.subsets import subset_addresses

PIECES = 8  # per thread that a prediction is cut into, if there are enough rows


@inner_kernel
def _place(index, first, n_samples, batch_size, rows):
    """The fields of the Chunk with this index; it is empty past the end of a short batch."""
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
def _add_weights(data, workspace, chunk):
    """Add the weights of the chunk's samples to the total."""
    weight = 0.0
    if data.sample_weight.size == 0:
        weight += chunk.rows
    else:
        for i in range(chunk.rows):
            weight += data.sample_weight[data.order[chunk.start + i]]
    workspace.totals[WEIGHT] += weight


@summing_kernel
def _sum_losses(losses, weights, order, start, n_rows, parts, grain, gap):
    """Sum the weighted losses of the chunk at `start`, always in the same order."""
    loss = 0.0
    for number in range(parts):
        low, high = share_rows(number, parts, n_rows, grain)
        shift = number * gap
        if weights.size == 0:
            for i in range(low, high):
                loss += losses[i + shift]
        else:
            for i in range(low, high):
                loss += weights[order[start + i]] * losses[i + shift]
    return loss


@summing_kernel
def _sum(values):
    """The sum of a vector; Numba's own takes longer to compile."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@part
def _finish_batch(solver, workspace, chunk, n_samples, run):
    """Add the batch's mean loss, with the penalty of the weights it began with, to the epoch's.

    A batch whose sample weights sum to 0 has no mean: it adds nothing and has changed nothing. At
    the end of the epoch its loss is stored and judged.
    """
    batch_size = run.batch_size
    totals = workspace.totals
    end = chunk.start + chunk.rows
    size = end % batch_size if end % batch_size > 0 else batch_size
    if totals[WEIGHT] > 0:
        loss = totals[BATCH_LOSS] + 0.5 * solver.settings[PENALTY] * totals[SQUARES]
        if solver.settings[L1] > 0:
            loss += solver.settings[L1] * _sum(workspace.sizes)
        totals[EPOCH_LOSS] += loss / totals[WEIGHT] * size
        totals[SQUARES] = _sum(workspace.squares)
    totals[BATCH_LOSS] = 0
    totals[WEIGHT] = 0
    if end == n_samples:
        loss, watch = totals[EPOCH_LOSS] / n_samples, run.watch
        run.losses[chunk.epoch] = loss
        run.norms[chunk.epoch] = math.sqrt(_sum(workspace.norms))
        watch[ENDED] = chunk.epoch + 1
        if loss > watch[BEST_LOSS] - watch[TOLERANCE]:
            watch[WAITED] += 1
        else:
            watch[WAITED] = 0
        if loss < watch[BEST_LOSS]:
            watch[BEST_LOSS] = loss
        if watch[WAITED] > watch[PATIENCE] or not math.isfinite(loss):
            watch[HALTED] = 1


@part
def _clip(solver, workspace):
    """Set the divisor of the gradients so that their norm is at most the one allowed.

    Pascanu et al. 2013, with 1e-6 added to the norm as in PyTorch.
    """
    norm = math.sqrt(_sum(workspace.norms))
    factor = solver.settings[CLIP] / (norm + 1e-6)
    weight = workspace.totals[WEIGHT]
    workspace.totals[DIVISOR] = weight if factor > 1 else weight / factor


def train(plan, member, size, place):
    """Train on chunks ``run.first`` to ``run.last``, or to a halt, as a thread of a team of `size`.

    It begins `place` chunks after the first. Member 0 does what is not shared.
    """
    b = bundles(plan)
    data, workspace, batch_size = b.data, b.workspace, b.run.batch_size
    addresses = workspace.addresses
    this = as_integer(plan)
    n_samples = data.order.size
    leads = member == 0
    shared = workspace.bounds, workspace.partials, workspace.parts, workspace.by_rows
    mine = choose_shares(*shared, member, size)
    float_mode = flush_subnormals()
    reached = b.run.last
    for index in range(b.run.first + place, b.run.last):
        chunk = Chunk(*_place(index, b.run.first, n_samples, batch_size, workspace.rows))
        if chunk.rows <= 0:
            continue
        if chunk.start == 0:
            if leads and b.run.watch[HALTED] == 0:
                _begin_epoch(data, workspace)
            wait(workspace.team, size, addresses[YIELD])  # for the order
            if b.run.watch[HALTED] != 0:
                reached = index
                break
        if leads:
            if data.indptr.size > 0 and mine.by_rows == 0:
                call(addresses[SORT], (this, chunk.start, chunk.rows))
            _add_weights(data, workspace, chunk)
            if workspace.above.size > 0:
                keep_weights_above(b.network.layers, b.network.parameters, workspace.above)
        low, high = share_rows(member, size, chunk.rows, workspace.grain)
        shift = member * mine.gap  # of the rows in memory
        start, low, high = chunk.start - shift, low + shift, high + shift
        step = b.run.first_step + chunk.step
        if low < high:
            call(addresses[FORWARD], (this, step, start, low, high))
            call(addresses[LOSS], (this, start, low, high))
            call(addresses[BACKWARD], (this, low, high))
        if mine.in_parts:
            if size != workspace.parts:  # else each thread has the rows of one part
                wait(workspace.team, size, addresses[YIELD])
            call(addresses[DIFFERENTIATE_PARTS], (this, chunk.rows, mine.gap, *mine.tasks))
        wait(workspace.team, size, addresses[YIELD])
        if leads:
            workspace.totals[BATCH_LOSS] += _sum_losses(
                workspace.row_losses, data.sample_weight, data.order, chunk.start, chunk.rows,
                workspace.parts, workspace.grain, mine.gap,
            )  # fmt: skip
        begins, ends = np.int64(chunk.begins), np.int64(chunk.ends)
        if mine.by_rows != 0:
            call(addresses[DIFFERENTIATE_ROWS], (this, chunk.start, chunk.rows, begins))
        panels = *mine.panels, member, mine.by_rows
        row = step - b.solver.steps_from
        clips = b.solver.settings[CLIP] > 0
        source = np.int64(mine.in_parts) * ADD_PARTS
        work = ends * TAKE_STEP + source
        if clips and chunk.ends:
            call(addresses[UPDATE], (this, row, chunk.rows, begins, MEASURE + source, *panels))
            wait(workspace.team, size, addresses[YIELD])
            if leads:
                _clip(b.solver, workspace)
            wait(workspace.team, size, addresses[YIELD])
            work = np.int64(TAKE_STEP + AT_HAND)
        call(addresses[UPDATE], (this, row, chunk.rows, begins, work, *panels))
        if leads and chunk.ends:
            invite(workspace.team)
        wait(workspace.team, size, addresses[YIELD])
        if leads and chunk.ends:
            _finish_batch(b.solver, workspace, chunk, n_samples, b.run)
            if b.solver.code == LBFGS:
                call(addresses[ADVANCE], (this,))
        if chunk.ends:
            before = size
            size = admit(workspace.team, member, size, index + 1 - b.run.first)
            if size != before:
                mine = choose_shares(*shared, member, size)
    if leads:
        workspace.totals[REACHED] = reached
    set_float_mode(float_mode)


def predict(plan, member, size, _):
    """``run.out[i]`` := the outputs of sample ``order[i]``, in pieces that threads take one by one.

    Each goes through a piece in chunks, on its own ``workspace.rows`` rows; a late thread takes the
    pieces left. Dense X is checked on the way: to check it beforehand takes a fifth of the time.
    """
    b = bundles(plan)
    workspace, out, n_samples = b.workspace, b.run.out, b.data.order.size
    first_layer, layer = b.network.layers[0], b.network.layers[b.network.layers.size - 1]
    inputs = first_layer.input + member * workspace.rows * first_layer.input_row
    is_dense = b.data.indptr.size == 0
    n_threads = workspace.bounds.size - 1
    smallest = min(workspace.rows, most_rows(n_threads, n_samples, workspace.grain))
    size_of_piece = max(smallest, most_rows(PIECES * n_threads, n_samples, workspace.grain))
    row = member * workspace.rows
    step = 0  # nothing is dropped
    first = take(workspace.team) * size_of_piece
    while first < n_samples:
        end = min(first + size_of_piece, n_samples)
        for start in range(first, end, workspace.rows):
            rows = min(workspace.rows, end - start)
            operands = as_integer(plan), step, start - row, row, row + rows
            call(workspace.addresses[FORWARD], operands)
            end_of_inputs = inputs + rows * first_layer.input_row  # whose padding is 0
            if is_dense and not are_finite(workspace.activations[inputs:end_of_inputs]):
                workspace.totals[NOT_FINITE] = 1
            for i in range(rows):
                o = layer.output + (row + i) * layer.output_row
                for j in range(layer.n_out):
                    out[start + i, j] = workspace.activations[o + j]
            if member == 0:
                invite(workspace.team)
                size = admit(workspace.team, member, size, 0)
        first = take(workspace.team) * size_of_piece


# All functions called with a plan and integers, except `advance`, which is for float64 only.
CALLED: list[Callable[..., None]] = [
    forward,
    drop,
    *losses.FUNCTIONS,
    backward,
    update_panels,
    multiply_sparse,
    sort_columns,
    differentiate,
    differentiate_sparse,
    differentiate_rows,
    differentiate_parts,
]


def compile_training(plan: Plan) -> int:
    """Compile or load `train` and what it calls for this type of plan; return its address."""
    dtype = plan.network.parameters.dtype.name
    called: list[tuple[Any, Callable[[], Any]]] = [(STEP, partial(step_address, dtype))]
    if plan.network.layers["by_subsets"].any():
        called.append((OF_SUBSETS, partial(subset_addresses, dtype)))
    loss = losses.choose_function(plan.workspace.loss, plan.data.labels)
    functions: dict[int, Any] = {
        LOSS: loss,
        BACKWARD: backward,
        DIFFERENTIATE: differentiate,
        UPDATE: update_panels,
    }
    if plan.data.indptr.size > 0:
        functions[SORT] = sort_columns
        functions[DIFFERENTIATE_SPARSE] = differentiate_sparse
        functions[DIFFERENTIATE_ROWS] = differentiate_rows
    if plan.network.layers["dropped"].any():
        functions[DROP] = drop
    if plan.workspace.partials.size > 0:
        functions[DIFFERENTIATE_PARTS] = differentiate_parts
    if plan.solver.code == LBFGS:
        functions[ADVANCE] = advance
    called += [(place, PlanFunction(function, plan)) for place, function in functions.items()]
    return _compile(plan, train, called)


def compile_prediction(plan: Plan) -> int:
    """Compile or load `predict` and what it calls for this type of plan; return its address."""
    return _compile(plan, predict, [])


def _compile(
    plan: Plan, function: Callable[..., None], called: list[tuple[Any, Callable[[], Any]]]
) -> int:
    """Compile a function of a plan and what it calls, given as (place of its address, task)."""
    layers, addresses = plan.network.layers, plan.workspace.addresses
    dtype = plan.network.parameters.dtype.name
    large = bool(layers["large"].any())
    called.append((PRODUCT, partial(product_addresses, dtype, large)))
    called.append((FORWARD, PlanFunction(forward, plan)))
    if plan.data.indptr.size > 0:
        called.append((MULTIPLY_SPARSE, PlanFunction(multiply_sparse, plan)))
    wanted: list[tuple[Any, Any, Callable[[], Any]]] = [
        (layers["function"], i, partial(activation_address, NAMES[code], dtype))
        for i, code in enumerate(layers["activation"].tolist())
    ]
    wanted += [(addresses, place, task) for place, task in called]
    tasks: list[Callable[[], Any]] = [task for _, _, task in wanted]
    *found, address = compile_together([*tasks, PlanFunction(function, plan)])
    for (places, place, _), value in zip(wanted, found, strict=True):
        places[place] = value
    addresses[NONZEROS] = nonzeros_address(dtype, compile_it=False)
    addresses[YIELD] = yield_address()
    return int(address)
