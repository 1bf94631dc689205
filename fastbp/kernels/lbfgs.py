"""L-BFGS: from the objective and its gradient at one point to the next point.

To `epoch.train` an evaluation is an epoch of one mini-batch, after which `advance` moves the
parameters. The direction ``-H @ gradient`` comes from the last ten updates by the two-loop
recursion (Nocedal 1980, "Updating Quasi-Newton Matrices with Limited Storage"), the step length
from `line_search.py`. Updates are dropped, and iterations end, as in L-BFGS-B (Zhu, Byrd, Lu and
Nocedal 1997, ACM TOMS 23:4), the algorithm of scipy by which scikit-learn trains networks.

All numbers are float64. ``Solver.first`` holds vectors like the parameters, one after the other,
and ``Solver.second`` numbers, by the names below.
"""

import math

import numpy as np

from fastbp.compiler.jit import inner_kernel, summing_kernel
from fastbp.compiler.memory import matrix_view
from fastbp.kernels.arrays import ENDED, HALTED, PENALTY, SQUARES
from fastbp.kernels.line_search import LONGEST, OF_SEARCH, STEP, begin_search, ends_search
from fastbp.kernels.plan import bundles
from fastbp.kernels.update import mirror

N_KEPT = 10  # updates
MOST_TRIALS = 20  # of a search
LEAST_REDUCTION = 2.2204460492503131e-09  # of the objective, relative to it or to 1
EPSILON = float(np.finfo(float).eps)

# The vectors: the last iterate and its gradient, the direction from there, then the updates: steps
# and the changes of the gradient along them.
POINT, GRADIENT, DIRECTION, STEPS = range(4)
CHANGES = STEPS + N_KEPT
N_VECTORS = CHANGES + N_KEPT

# The numbers.
STAGE = 0
N_ITER = 1  # iterations done
N_EVALUATIONS = 2
N_UPDATES = 3  # since the last were dropped; at 2 * N_KEPT it returns to N_KEPT
SUM_SQUARES = 4  # of the weights
LOSS, OBJECTIVE = 5, 6
LOSS_BEFORE, OBJECTIVE_BEFORE = 7, 8  # of the last iterate
SLOPE, SLOPE_BEFORE = 9, 10  # of the objective along the direction
N_TRIALS = 11  # of this search, not counting the first
# The settings.
TOLERANCE = 12  # a gradient is small if no element is larger than this
MAX_ITER = 13
MAX_FUN = 14  # evaluations
HALTS = 15  # 1 to halt at each iterate
N_ERRORS = 16  # the number of errors whose mean is the loss, and whose sum the objective
TOTAL_WEIGHT = 17  # of the samples
SEARCH = 18  # the state of the line search
FACTORS = SEARCH + OF_SEARCH  # of each update in the first loop
INVERSES = FACTORS + N_KEPT  # 1 / (step @ change)
SCALE = INVERSES + N_KEPT  # of H before the updates
N_NUMBERS = SCALE + 1

# The stages: before the first evaluation, on a line, at a new iterate; then how it ended; and, in
# between, ready to choose a line.
BEGINNING, SEARCHING, AT_ITERATE = range(3)
SMALL_GRADIENT, SMALL_REDUCTION, MOST_ITERATIONS, MOST_EVALUATIONS, NO_STEP = range(3, 8)
READY = 8


def advance(plan):
    """Go from the point evaluated last, or the iterate resumed from, to the next to evaluate.

    The run halts when L-BFGS has ended, and at each iterate if HALTS is set.
    """
    b = bundles(plan)
    run, numbers = b.run, b.solver.second
    vectors = matrix_view(b.solver.first, 0, N_VECTORS, b.workspace.gradient.size)
    _clear_padding(b.network.layers, b.workspace.gradient)
    if numbers[STAGE] != AT_ITERATE:  # else it was evaluated before
        penalty = b.solver.settings[PENALTY] / 2 * numbers[SUM_SQUARES] / numbers[TOTAL_WEIGHT]
        loss = run.losses[np.int64(run.watch[ENDED]) - 1]
        numbers[LOSS], numbers[OBJECTIVE] = loss, numbers[N_ERRORS] * (loss - penalty) + penalty
    take_in(b.network, b.workspace, vectors, numbers)
    run.watch[HALTED] = np.float64(numbers[STAGE] != SEARCHING)


@inner_kernel
def take_in(network, workspace, vectors, numbers):
    """Judge an evaluation, or resume from an iterate, and go on."""
    x, gradient = network.parameters, workspace.gradient
    if numbers[STAGE] == AT_ITERATE:
        _leave_iterate(x, gradient, vectors, numbers)
    else:
        _judge(x, gradient, vectors, numbers)
    if numbers[STAGE] == READY:
        _search(network.layers, vectors, numbers)
    if numbers[STAGE] == SEARCHING or numbers[STAGE] == NO_STEP:
        _move(x, vectors, numbers)
        _follow(network, workspace, numbers)


@inner_kernel
def _judge(x, gradient, vectors, numbers):
    """Deal with an evaluation: the first, a trial of a search, or the last trial of one."""
    numbers[N_EVALUATIONS] += 1
    if numbers[STAGE] == BEGINNING:
        if _largest(gradient) <= numbers[TOLERANCE]:
            numbers[STAGE] = SMALL_GRADIENT
        else:
            _begin(x, gradient, vectors, numbers)
        return
    search = numbers[SEARCH : SEARCH + OF_SEARCH]
    numbers[SLOPE] = _dot(gradient, vectors[DIRECTION])
    if ends_search(search, numbers[OBJECTIVE], numbers[SLOPE]):
        numbers[N_ITER] += 1
        numbers[STAGE] = AT_ITERATE
        if numbers[HALTS] == 0:
            _leave_iterate(x, gradient, vectors, numbers)
        return
    numbers[N_TRIALS] += 1
    if numbers[N_TRIALS] == MOST_TRIALS:
        # Back to the last iterate: search along the gradient, unless that has just failed.
        numbers[LOSS], numbers[OBJECTIVE] = numbers[LOSS_BEFORE], numbers[OBJECTIVE_BEFORE]
        numbers[STAGE] = READY if numbers[N_UPDATES] > 0 else NO_STEP
        numbers[N_UPDATES] = 0


@inner_kernel
def _leave_iterate(x, gradient, vectors, numbers):
    """End if the iterate is the last; else keep the update and begin the next search."""
    before = numbers[OBJECTIVE_BEFORE]
    largest = max(abs(before), abs(numbers[OBJECTIVE]), 1.0)
    if numbers[N_ITER] >= numbers[MAX_ITER]:
        numbers[STAGE] = MOST_ITERATIONS
    elif numbers[N_EVALUATIONS] > numbers[MAX_FUN]:
        numbers[STAGE] = MOST_EVALUATIONS
    elif _largest(gradient) <= numbers[TOLERANCE]:
        numbers[STAGE] = SMALL_GRADIENT
    elif before - numbers[OBJECTIVE] <= LEAST_REDUCTION * largest:
        numbers[STAGE] = SMALL_REDUCTION
    else:
        _keep_update(gradient, vectors, numbers)
        _begin(x, gradient, vectors, numbers)


@inner_kernel
def _keep_update(gradient, vectors, numbers):
    """Keep the step to this iterate in the oldest's place, if the curvature is positive."""
    n, step = gradient.size, numbers[SEARCH + STEP]
    product = (numbers[SLOPE] - numbers[SLOPE_BEFORE]) * step
    if product <= EPSILON * -numbers[SLOPE_BEFORE] * step:
        return
    number = np.int64(numbers[N_UPDATES]) % N_KEPT
    steps, changes = vectors[STEPS + number], vectors[CHANGES + number]
    direction, before = vectors[DIRECTION], vectors[GRADIENT]
    for i in range(n):
        steps[i] = step * direction[i]
        changes[i] = gradient[i] - before[i]
    numbers[INVERSES + number] = 1 / product
    numbers[SCALE] = product / _dot(changes, changes)
    numbers[N_UPDATES] += 1
    if numbers[N_UPDATES] == 2 * N_KEPT:
        numbers[N_UPDATES] = N_KEPT


@inner_kernel
def _begin(x, gradient, vectors, numbers):
    """Make this point the iterate from which a search begins."""
    point, before = vectors[POINT], vectors[GRADIENT]
    for i in range(x.size):
        point[i], before[i] = x[i], gradient[i]
    numbers[LOSS_BEFORE], numbers[OBJECTIVE_BEFORE] = numbers[LOSS], numbers[OBJECTIVE]
    numbers[STAGE] = READY


@inner_kernel
def _search(layers, vectors, numbers):
    """Begin a search from the last iterate, with its updates if they give a descent direction."""
    direction, gradient = vectors[DIRECTION], vectors[GRADIENT]
    slope = 0.0
    for _ in range(2):
        _set_direction(gradient, vectors, numbers)
        _clear_padding(layers, direction)
        slope = _dot(gradient, direction)
        if not (slope >= 0 and numbers[N_UPDATES] > 0):
            break
        numbers[N_UPDATES] = 0
    if slope >= 0:
        numbers[STAGE] = NO_STEP
        return
    step = 1.0
    if numbers[N_ITER] == 0:
        step = min(1 / math.sqrt(_dot(direction, direction)), LONGEST)
    numbers[SLOPE_BEFORE] = slope
    numbers[STAGE], numbers[N_TRIALS] = SEARCHING, 0
    search = numbers[SEARCH : SEARCH + OF_SEARCH]
    begin_search(search, step, numbers[OBJECTIVE_BEFORE], slope)


@inner_kernel
def _set_direction(gradient, vectors, numbers):
    """``DIRECTION := -H @ gradient``, by the updates that are kept."""
    n = gradient.size
    direction = vectors[DIRECTION]
    for i in range(n):
        direction[i] = -gradient[i]
    end = int(numbers[N_UPDATES])
    first = max(0, end - N_KEPT)
    for k in range(end - 1, first - 1, -1):
        number = k % N_KEPT
        step, change = vectors[STEPS + number], vectors[CHANGES + number]
        factor = numbers[INVERSES + number] * _dot(step, direction)
        numbers[FACTORS + number] = factor
        for i in range(n):
            direction[i] -= factor * change[i]
    if end > 0:
        for i in range(n):
            direction[i] *= numbers[SCALE]
    for k in range(first, end):
        number = k % N_KEPT
        step, change = vectors[STEPS + number], vectors[CHANGES + number]
        factor = numbers[FACTORS + number] - numbers[INVERSES + number] * _dot(change, direction)
        for i in range(n):
            direction[i] += factor * step[i]


@inner_kernel
def _move(x, vectors, numbers):
    """Move the parameters to the trial, or back to the last iterate if there is none."""
    point, direction = vectors[POINT], vectors[DIRECTION]
    if numbers[STAGE] == NO_STEP:
        for i in range(x.size):
            x[i] = point[i]
        return
    step = numbers[SEARCH + STEP]
    for i in range(x.size):
        x[i] = point[i] + step * direction[i]


@inner_kernel
def _follow(network, workspace, numbers):
    """Update what depends on the parameters: the transposes and the sum of squares."""
    x, total = network.parameters, 0.0
    for i in range(network.layers.size):
        layer = network.layers[i]
        matrix = x[layer.weights : layer.weights + layer.rows * layer.weights_row]
        total += _dot(matrix, matrix)
        if layer.mirrored != 0:
            mirror(network, i, 0, layer.rows)
    numbers[SUM_SQUARES] = workspace.totals[SQUARES] = total


@inner_kernel
def _clear_padding(layers, vector):
    """Set the padding to 0: after a search met non-finite numbers, it holds 0 times these."""
    for i in range(layers.size):
        layer = layers[i]
        columns = layer.n_in if layer.narrow != 0 else layer.n_out
        for r in range(layer.rows + 1):
            n = columns if r < layer.rows else layer.n_out
            start = layer.weights + r * layer.weights_row
            for j in range(start + n, start + layer.weights_row):
                vector[j] = 0


@summing_kernel
def _dot(a, b):
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@summing_kernel
def _largest(values):
    largest = 0.0
    for i in range(values.size):
        largest = max(largest, abs(values[i]))
    return largest
