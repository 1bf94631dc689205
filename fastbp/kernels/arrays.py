"""The arrays the kernels work on, in the bundles in which they are handed over.

Matrices lie in flat vectors of the training dtype, row after row. A row is padded to the tile's
vectors. The padding of weights, deltas and gradients is 0, and so is that of the activations below
a narrow layer.

The parameters of a layer are a matrix and, as one more row below it, the bias. The matrix is W, of
shape (n_in, n_out); of a narrow layer, whose few outputs would leave most of a vector empty, it is
W.T. Some layers keep the transpose of their matrix beside it, where the tiles need that.
"""

from typing import Any, NamedTuple

import numpy as np

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "n_in",  # inputs
            "n_out",  # outputs
            "activation",  # its code in activations.py
            "function",  # the address of its compiled function
            "large",  # 1 where BLAS multiplies
            "narrow",  # 1 where the matrix is W.T
            "dropped",  # of 2**32 outputs in training; see dropout.py
            "by_subsets",  # 1 where its gradient is had by sums over subsets: matmul/subsets.py
            "rows",  # of the matrix, not counting the bias
            "weights",  # its offset in the parameters
            "weights_row",  # its stride, and so on below: elements from row to row
            "mirrored",  # 1 where its transpose is kept
            "transposed",  # the offset of that in `Network.transposed`
            "transposed_row",
            "input",  # offset of the inputs, (rows, n_in), in the activations
            "input_row",
            "output",  # offset of the outputs, in activations and deltas
            "output_row",
            "slopes",  # offset of f'(z) in `Workspace.slopes`, where it has a place there
            "panel_rows",  # rows of the matrix that are updated at a time, the first with the bias
            "first_panel",  # how many such panels the layers before have
            "last_panel",
            "scratch",  # where a thread's scratch has room for the gradient of a panel
        )
    ],
    align=True,
)


class Network(NamedTuple):
    """The layers and their weights."""

    layers: Any  # (n_layers,) records of LAYER
    parameters: Any  # for each layer the matrix above the bias
    transposed: Any  # for each mirrored layer the transpose of its matrix, kept by the update


class Data(NamedTuple):
    """What is learnt from or predicted. X is dense, or CSR where indptr is not empty."""

    X: Any  # (n_samples, n_features), or (0, n_features)
    values: Any  # (n_nonzero,)
    indices: Any  # (n_nonzero * index_size,) uint8: integers of so many bytes, as they are
    index_size: int
    indptr: Any  # (n_samples + 1,), or (0,)
    targets: Any  # (n_samples, n_outputs), or (0, n_outputs) where labels say it
    labels: Any  # (n_samples,) class numbers, or (0,)
    sample_weight: Any  # (n_samples,) float64, or (0,) for weights of 1
    order: Any  # (n_samples,) the order in which the samples come, shuffled in place
    generator: Any  # what shuffle.py draws from, or (0,) for the order as it is


class Solver(NamedTuple):
    """The rule of the update, and its state."""

    code: int  # update.py
    settings: Any  # (N_SETTINGS,) float64: what all steps go by, by the names below
    steps: Any  # (n_steps, OF_STEP) float64: what each goes by; or one row, for all
    steps_from: int  # the number of the step that the first row is for
    first: Any  # velocity or first moment, like the parameters, or (0,); of L-BFGS see lbfgs.py
    second: Any  # second moment, like the parameters, or (0,); of L-BFGS its numbers


class Workspace(NamedTuple):
    """Scratch memory, and the plan by which the work is cut and shared."""

    activations: Any  # for each layer (rows and a gap, n), after these X's where it is dense
    slopes: Any  # f'(z), (rows and a gap, n), for each layer where it is not read off the outputs
    deltas: Any
    codes: Any  # (groups of rows, n) uint8: of the layer with sums over subsets, else (0,)
    slope_below_zero: Any  # (1,) of that layer's activation
    above: Any  # (n,) the weights above that layer, where threads need a copy, else (0,)
    densities: Any  # (n_layers,) float64: how much of a layer's inputs is not 0, about
    gradient: Any  # like the parameters where it is kept, else (0,)
    partials: Any  # for each part of a chunk one, where threads sum them up apart, else (0,)
    scratch: Any  # for each thread, for each layer, a panel of a gradient that is used at once
    zeros: Any  # (widest row,)
    one: Any  # (1,) the number 1
    row_losses: Any  # (rows and a gap,) float64
    squares: Any  # (n_panels,) float64: the sum of squared weights of each panel
    sizes: Any  # (n_panels,) float64: the sum of their absolute values, where l1 is
    norms: Any  # (2 * n_panels,) float64: of squared gradients, by the matrix and by the bias
    totals: Any  # (N_TOTALS,) float64, by the names below
    column_starts: Any  # (n_features + 1,), and the two below: a sparse chunk by columns
    column_rows: Any
    column_values: Any
    bounds: Any  # (n_threads + 1,) which panels each thread updates
    team: Any  # team.py
    addresses: Any  # (N_ADDRESSES,) of functions, by the names below
    loss: int  # losses.py
    rows: int  # rows of a chunk: a larger batch is taken in chunks
    grain: int  # threads share rows in multiples of it
    parts: int  # of a chunk's rows, whose gradients are summed apart and then added up
    by_rows: int  # 1 where a thread that works alone sums the gradient of sparse X row by row


class Run(NamedTuple):
    """What a call is to do, and where its results go."""

    batch_size: int
    first: int  # chunks first..last, counted from epoch to epoch, are trained on
    last: int
    first_step: int  # of chunk `first`: how many there were in all before it
    seed: int  # of dropout
    losses: Any  # (n_epochs,) float64: the mean loss of each epoch that ends
    norms: Any  # (n_epochs,) float64: the norm of the gradient of its last batch
    watch: Any  # (N_WATCH,) float64: when the loss brings a halt
    result: Any  # (3,) float64: what scores.py or family.py makes of a prediction, or (0,)
    out: Any  # (n_samples, n_outputs) of a prediction, or (0, 1)


def no_run(dtype: Any) -> Run:
    """Return the bundle of a call that does nothing."""
    none = np.zeros(0)
    return Run(0, 0, 0, 0, 0, none, none, none, none, np.empty((0, 1), dtype))


def no_solver(dtype: Any, code: int = 0) -> Solver:
    """Return a rule without steps, with room for settings, and without a state."""
    empty = np.empty(0, dtype)
    return Solver(code, np.zeros(N_SETTINGS), np.zeros((1, OF_STEP)), 0, empty, empty)


class Bundles(NamedTuple):
    """All that a compiled function may need."""

    network: Network
    data: Data
    solver: Solver
    workspace: Workspace
    run: Run


class Chunk(NamedTuple):
    """Some consecutive samples of the order, of one batch."""

    epoch: int
    step: int  # of the batch, among the steps of this call
    start: int  # in the order
    rows: int
    begins: bool  # it is the first of its batch
    ends: bool  # it is the last, after which the weights are updated


# The entries of `Workspace.addresses`.
PRODUCT = slice(0, 3)  # by tiles, by BLAS, and BLAS's own function
# 3 is `product.NONZEROS`: by what is not 0 on the left; or 0, or WANTED
STEP = 4
YIELD = 5
FORWARD = 6
LOSS = 7
BACKWARD = 8
UPDATE = 9
MULTIPLY_SPARSE = 10
SORT = 11
DIFFERENTIATE_SPARSE = 12
DIFFERENTIATE_ROWS = 13
DROP = 14
DIFFERENTIATE = 15
DIFFERENTIATE_PARTS = 16
ENCODE = 17
MULTIPLY_SUBSETS = 18
OF_SUBSETS = slice(17, 19)  # both of these
ADVANCE = 19
N_ADDRESSES = 20

WANTED = -1  # a function that was not there, and would have been called

# The entries of `Workspace.totals`, which last from call to call.
WEIGHT = 0  # sum of the weights of the batch's samples so far
BATCH_LOSS = 1  # sum of the weighted losses of the batch's samples so far
EPOCH_LOSS = 2  # sum over the epoch's batches so far of the mean loss times the samples
SQUARES = 3  # sum of the squared weights
LOSS_PARAMETER = 4  # of a loss that has one; see losses.py
DIVISOR = 5  # what gradients are divided by for a step where they are clipped, in place of WEIGHT
NOT_FINITE = 6  # 1 once a prediction has come across an input that is not
REACHED = 7  # the chunk before which the last call has ended, counted as `Run.first` is
N_TOTALS = 8

# The entries of `Run.watch`: training halts when the loss has not fallen below the best one so far,
# less the tolerance, for more than so many epochs, or is not finite.
BEST_LOSS = 0
WAITED = 1  # epochs since it has
TOLERANCE = 2
PATIENCE = 3
ENDED = 4  # epochs since the order was set
HALTED = 5  # 1 after a halt
N_WATCH = 6

# The entries of `Solver.settings`.
PENALTY = 0  # alpha of the L2 penalty in the loss
BETA_1 = 1
REST_1 = 2  # 1 - beta_1, rounded once
BETA_2 = 3
REST_2 = 4  # 1 - beta_2, or 1 where the squares are summed
L1 = 5  # strength of the L1 penalty in the loss
CLIP = 6  # the largest norm of a gradient, 0 for any
N_SETTINGS = 7

# The columns of `Solver.steps`.
RATE = 0
EPSILON = 1
DECAY = 2  # factor of the weights
OF_STEP = 3

# What `update_panels` does, as the sum of these.
TAKE_STEP = 1  # after the gradients
MEASURE = 2  # sums of the squared gradients, into `Workspace.norms`, before there is a step
AT_HAND = 4  # the gradients are there already
ADD_PARTS = 8  # ... of each part of the chunk
