"""The arrays that the kernels work on, in the bundles in which they are passed.

Matrices lie in flat vectors of the training dtype, row after row. A row is padded to the tile's
vectors. The padding of weights, deltas and gradients is 0, and so is that of the activations below
a narrow layer.

The parameters of a layer are a matrix and, as one more row below it, the bias. The matrix is W, of
shape (n_in, n_out), or W.T in a narrow layer, whose few outputs would leave most of a vector empty.
Some layers also keep the transpose of their matrix, where the tiles need it.
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
            "dropped",  # how many of 2**32 outputs, in training; see dropout.py
            "by_subsets",  # 1 where its gradient is computed by matmul/subsets.py
            "rows",  # of the matrix, not counting the bias
            "weights",  # its offset in the parameters
            "weights_row",  # its row stride in elements; likewise the other strides below
            "mirrored",  # 1 where its transpose is kept
            "transposed",  # offset of the transpose in `Network.transposed`
            "transposed_row",
            "input",  # offset of the inputs, (rows, n_in), in the activations
            "input_row",
            "output",  # offset of the outputs, in activations and deltas
            "output_row",
            "slopes",  # offset of f'(z) in `Workspace.slopes`, if it is kept there
            "panel_rows",  # rows of the matrix in a panel; the first panel includes the bias
            "first_panel",  # the number of its first panel, counted over all layers
            "last_panel",  # ... and of the one after its last
            "scratch",  # offset of the gradient of a panel in a thread's scratch
        )
    ],
    align=True,
)


class Network(NamedTuple):
    """The layers and their weights."""

    layers: Any  # (n_layers,) records of LAYER
    parameters: Any  # for each layer the matrix, then the bias
    transposed: Any  # for each mirrored layer the transpose, which the update maintains


class Data(NamedTuple):
    """The samples to train on or to predict for. X is dense, or CSR if indptr is not empty."""

    X: Any  # (n_samples, n_features), or (0, n_features)
    values: Any  # (n_nonzero,)
    indices: Any  # (n_nonzero * index_size,) uint8: the bytes of the integers
    index_size: int  # bytes of an index
    indptr: Any  # (n_samples + 1,), or (0,)
    targets: Any  # (n_samples, n_outputs), or (0, 1) if labels are given
    labels: Any  # (n_samples,) class numbers, or (0,)
    sample_weight: Any  # (n_samples,) float64, or (0,) for weights of 1
    order: Any  # (n_samples,) the order in which the samples come, shuffled in place
    generator: Any  # what shuffle.py draws from, or (0,) to keep the order


class Solver(NamedTuple):
    """The update rule, and its state."""

    code: int  # update.py
    settings: Any  # (N_SETTINGS,) float64: the settings of all steps, by the names below
    steps: Any  # (n_steps, OF_STEP) float64: the settings of each step, or one row for all
    steps_from: int  # the number of the step of the first row
    first: Any  # velocity or first moment, like the parameters, or (0,); for L-BFGS see lbfgs.py
    second: Any  # second moment, like the parameters, or (0,); for L-BFGS its numbers


class Workspace(NamedTuple):
    """Scratch memory, and how the work is divided and shared."""

    activations: Any  # for each layer (rows and a gap, n), then those of X if it is dense
    slopes: Any  # f'(z), (rows and a gap, n), for each layer where it is not read off the outputs
    deltas: Any
    codes: Any  # (groups of rows, n) uint8: for the layer that is `by_subsets`, else (0,)
    slope_below_zero: Any  # (1,) of that layer's activation
    above: Any  # (n,) a copy of the weights above that layer, if threads need one, else (0,)
    densities: Any  # (n_layers,) float64: the approximate share of nonzeros in a layer's inputs
    gradient: Any  # like the parameters if it is kept, else (0,)
    partials: Any  # a gradient for each part of a chunk, if threads sum parts apart, else (0,)
    scratch: Any  # for each thread and layer, a panel of a gradient that is used at once
    zeros: Any  # (widest row,)
    one: Any  # (1,) the number 1
    row_losses: Any  # (rows and a gap,) float64
    squares: Any  # (n_panels,) float64: the sum of squared weights of each panel
    sizes: Any  # (n_panels,) float64: the sum of their absolute values, with an L1 penalty
    norms: Any  # (2 * n_panels,) float64: sums of squared gradients, by matrix and by bias
    totals: Any  # (N_TOTALS,) float64, by the names below
    column_starts: Any  # (n_features + 1,); with the next two, a sparse chunk by columns
    column_rows: Any
    column_values: Any
    bounds: Any  # (n_threads + 1,) which panels each thread updates
    team: Any  # team.py
    addresses: Any  # (N_ADDRESSES,) of functions, by the names below
    loss: int  # losses.py
    rows: int  # rows of a chunk: a larger batch is done in chunks
    grain: int  # threads share rows in multiples of this
    parts: int  # of a chunk, whose gradients are summed separately and then added up
    by_rows: int  # 1 if a single thread sums the gradient of sparse X row by row


class Run(NamedTuple):
    """What a call is to do, and where its results go."""

    batch_size: int
    first: int  # train on chunks first..last, counted through all epochs
    last: int
    first_step: int  # the number of steps before chunk `first`, over all calls
    seed: int  # of dropout
    losses: Any  # (n_epochs,) float64: the mean loss of each epoch that ends
    norms: Any  # (n_epochs,) float64: the gradient norm of the last batch of each
    watch: Any  # (N_WATCH,) float64: when the loss halts training
    result: Any  # (3,) float64: what scores.py or family.py finds in a prediction, or (0,)
    out: Any  # (n_samples, n_outputs) of a prediction, or (0, 1)


def no_run(dtype: Any) -> Run:
    """Return the bundle of a call that does nothing."""
    none = np.zeros(0)
    return Run(0, 0, 0, 0, 0, none, none, none, none, np.empty((0, 1), dtype))


def no_solver(dtype: Any, code: int = 0) -> Solver:
    """Return a solver with zeros as settings and as its one step, and without a state."""
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
    """Consecutive samples of the order, within one batch."""

    epoch: int
    step: int  # of the batch, among the steps of this call
    start: int  # in the order
    rows: int
    begins: bool  # it is the first chunk of its batch
    ends: bool  # it is the last one, after which the weights are updated


# The entries of `Workspace.addresses`.
PRODUCT = slice(0, 3)  # by tiles, by BLAS, and BLAS's own function
# 3 is `product.NONZEROS`, which skips zeros on the left; or 0, or WANTED
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
OF_SUBSETS = slice(17, 19)  # ENCODE and MULTIPLY_SUBSETS
ADVANCE = 19
N_ADDRESSES = 20

WANTED = -1  # marks a function that is not compiled and would have been called

# The entries of `Workspace.totals`, which persist between calls.
WEIGHT = 0  # sum of the weights of the batch's samples so far
BATCH_LOSS = 1  # sum of the weighted losses of the batch's samples so far
EPOCH_LOSS = 2  # sum over the epoch's batches so far of the mean loss times its samples
SQUARES = 3  # sum of the squared weights
LOSS_PARAMETER = 4  # of a loss that has one; see losses.py
DIVISOR = 5  # of the gradients in a step where they are clipped, in place of WEIGHT
NOT_FINITE = 6  # 1 once a prediction has met an input that is not finite
REACHED = 7  # the chunk before which the last call ended, counted like `Run.first`
N_TOTALS = 8

# The entries of `Run.watch`. Training halts when the loss is not finite, or has stayed above the
# best one so far minus TOLERANCE for more than PATIENCE epochs.
BEST_LOSS = 0
WAITED = 1  # epochs since the last improvement
TOLERANCE = 2
PATIENCE = 3
ENDED = 4  # epochs that have ended since the order was set
HALTED = 5  # 1 after a halt
N_WATCH = 6

# The entries of `Solver.settings`.
PENALTY = 0  # alpha of the L2 penalty in the loss
BETA_1 = 1
REST_1 = 2  # 1 - beta_1, rounded once
BETA_2 = 3
REST_2 = 4  # 1 - beta_2, or 1 if the squares are summed
L1 = 5  # strength of the L1 penalty in the loss
CLIP = 6  # the largest norm allowed for a gradient, 0 for no limit
N_SETTINGS = 7

# The columns of `Solver.steps`.
RATE = 0
EPSILON = 1
DECAY = 2  # factor on the weights
OF_STEP = 3

# What `update_panels` does, as a sum of these.
TAKE_STEP = 1  # once the gradients are there
MEASURE = 2  # store sums of squared gradients in `Workspace.norms`, before a step
AT_HAND = 4  # the gradients have been computed
ADD_PARTS = 8  # ... for each part of the chunk, and are to be added up
