"""Networks of one shape, trained and judged one after the other by each of several threads.

Each thread has plans for training, prediction and validation. A job is a network: the integers in
which its plans differ from those of the others are written into the thread's plans, which are then
carried out. The threads take the number of the next network from a counter.

The last networks are trained in turns: a free thread takes that with the most work left. So the
threads end together, although no two ever work on the same network (McNaughton 1959, "Scheduling
with Deadlines and Loss Functions").
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastbp.compiler.jit import c_function, call, inner_kernel
from fastbp.compiler.memory import address, array_at, copy_bytes
from fastbp.kernels.arrays import ENDED, HALTED, N_TOTALS, N_WATCH, RATE, WAITED
from fastbp.kernels.atomics import add, exchange, load, replace
from fastbp.kernels.plan import Plan, bundles, plan_function
from fastbp.kernels.scores import N_NANS, decide, score_classes
from fastbp.kernels.update import mirror

__all__ = [
    "BATCH_CHUNKS",
    "BEST_SCORE",
    "CHUNKS",
    "DONE",
    "EPOCH_CHUNKS",
    "FIRST_STEP",
    "HELD_OUT",
    "JUDGED",
    "LEAST_RATE",
    "LEFT",
    "NEXT",
    "N_BYTES",
    "N_COUNTS",
    "N_OF_JOB",
    "N_ROUNDED",
    "N_SHARED",
    "PARAMETERS",
    "PLACES",
    "RATE_DIVISOR",
    "RATE_FACTOR",
    "REPEATS",
    "SCORE_PATIENCE",
    "SCORE_TOLERANCE",
    "STATE",
    "STEPS",
    "STOP",
    "TEST_ROWS",
    "TOTALS",
    "TURN",
    "WAITING",
    "WATCH_ROW",
    "addresses_of",
    "do_jobs",
]

# The fields of a job, besides the integers of its plans.
STATE = 0  # WAITING, HELD or DONE
TOTALS = 1  # the address of its copy of `Workspace.totals`
FIRST_STEP = 2  # the number of steps that it took before
CHUNKS = 3  # the number of chunks in all its epochs
EPOCH_CHUNKS = 4  # ... in one epoch
BATCH_CHUNKS = 5  # ... in a mini-batch, and so in a step
REPEATS = 6  # 1 if its chunks are repeated until it halts
TEST_ROWS = 7  # the number of test rows, which come first in a prediction
HELD_OUT = 8  # rows to validate it by after each epoch; 0 for no validation
PARAMETERS = 9  # the address of its weights
JUDGED = 10  # ... of the weights to judge it by, if they differ: the best, or rounded ones
N_BYTES = 11  # of the weights
N_ROUNDED = 12  # weights to round to float32 at the end, with padding; 0 for most jobs
PLACES = 13  # ... the address of the index of each among the trained weights
NEXT_CHUNK = 14  # the one that it goes on with
LEFT = 15  # chunks, of those in all epochs
TURN = 16  # chunks after which another network may have its turn
N_OF_JOB = 17

WAITING, HELD, DONE = range(3)  # a network's states

# The entries of a network's `watches` after those of `Run.watch`. With validation, training halts
# when the score has been below the best so far plus the tolerance for more than the patience.
BEST_SCORE, SCORE_WAITED, SCORE_TOLERANCE, SCORE_PATIENCE = range(N_WATCH, N_WATCH + 4)
# If the divisor is not 0, training goes on after a halt, with the rate times the factor over the
# divisor, unless the rate is already the least. `Solver.steps`, of one row, begins at STEPS.
RATE_FACTOR, RATE_DIVISOR, LEAST_RATE, STEPS = range(N_WATCH + 4, N_WATCH + 8)
WATCH_ROW = 16  # numbers from one network's watches to the next

# The counts of a job: the rows of test and of train that are classified correctly, and how many
# outputs are NaN.
N_COUNTS = 3

# The entries of the array that all threads share, each on its own cache line.
NEXT = 0  # the next of the first `n_alone` jobs
STOP = 8  # 1 to stop all threads
N_SHARED = 16

_BEGIN, _TRAIN, _PREDICT, _COUNT, _VALIDATE, _SCORE, _ROUND, _REST = range(8)
_N_FUNCTIONS = 8


def _do_jobs(
    shared, jobs, watches, counts, n_jobs, n_alone, columns, values, ends, training, prediction,
    validation, functions, first_place, at_once,
):  # fmt: skip
    """Do the jobs that are left, each of the first `n_alone` without a rest.

    The columns are places in the plan for training up to the first end, then in that for
    prediction, and after the second end in that for validation. A call trains on at most `at_once`
    chunks, and STOP is read between calls; ``run.first``, ``run.last`` and ``run.first_step`` of
    the call are at `first_place`.
    """
    ends = array_at(ends, (3,))
    n_columns = ends[2]
    shared, functions = array_at(shared, (N_SHARED,)), array_at(functions, (_N_FUNCTIONS,))
    jobs, watches = array_at(jobs, (n_jobs, N_OF_JOB)), array_at(watches, (n_jobs, WATCH_ROW))
    columns, values = array_at(columns, (n_columns,)), array_at(values, (n_jobs, n_columns))
    training, prediction = array_at(training, (n_columns,)), array_at(prediction, (n_columns,))
    validation, counts = array_at(validation, (n_columns,)), array_at(counts, (n_jobs, N_COUNTS))
    k = _take(shared, jobs, n_alone)
    while k >= 0:
        for j in range(ends[0]):
            training[columns[j]] = values[k, j]
        for j in range(ends[0], ends[1]):
            prediction[columns[j]] = values[k, j]
        for j in range(ends[1], ends[2]):
            validation[columns[j]] = values[k, j]
        job, watch, right = jobs[k], watches[k], counts[k]
        call(functions[_BEGIN], (address(training, 0), job[TOTALS]))
        rests = False
        while not (rests or _is_trained(job, watch) or load(shared, STOP)):
            first, per_epoch = job[NEXT_CHUNK], job[EPOCH_CHUNKS]
            most = at_once if k < n_alone else min(at_once, job[TURN])
            last = min(first + most, job[CHUNKS])
            if job[HELD_OUT] > 0:
                last = min(last, first - first % per_epoch + per_epoch)
            training[first_place], training[first_place + 1] = first, last
            training[first_place + 2] = job[FIRST_STEP] + first // job[BATCH_CHUNKS]
            call(functions[_TRAIN], (address(training, 0), 0, 1, 0))
            job[LEFT] -= last - first
            job[NEXT_CHUNK] = 0 if job[REPEATS] and last == job[CHUNKS] else last
            if job[HELD_OUT] > 0 and last % per_epoch == 0:
                call(functions[_VALIDATE], (address(validation, 0), 0, 1, 0))
                call(functions[_SCORE], (address(validation, 0),))
                _judge(job, watch, right)
            if watch[HALTED] != 0 and watch[RATE_DIVISOR] != 0:
                _lower_rate(job, watch)
            rests = not _is_trained(job, watch) and _rests(jobs, k, n_alone)
        if rests:
            call(functions[_REST], (address(training, 0), job[TOTALS]))
            exchange(job, STATE, WAITING)
        elif load(shared, STOP) == 0:
            if job[N_ROUNDED] > 0:
                operands = job[PARAMETERS], job[JUDGED], job[PLACES], job[N_ROUNDED]
                call(functions[_ROUND], operands)
            call(functions[_PREDICT], (address(prediction, 0), 0, 1, 0))
            call(functions[_COUNT], (address(prediction, 0), job[TEST_ROWS]))
            exchange(job, STATE, DONE)
        k = _take(shared, jobs, n_alone)


@inner_kernel
def _take(shared, jobs, n_alone):
    """Take a job for the calling thread; return its number, or -1 if there is none."""
    if load(shared, STOP) != 0:
        return -1
    if load(shared, NEXT) < n_alone:
        k = add(shared, NEXT, 1)
        if k < n_alone:
            exchange(jobs[k], STATE, HELD)
            return k
    k = _find_longest(jobs, n_alone)
    while k >= 0 and not replace(jobs[k], STATE, WAITING, HELD):
        k = _find_longest(jobs, n_alone)
    return k


@inner_kernel
def _find_longest(jobs, n_alone):
    """Return the waiting job with the most left, of those after the first ones; -1 for none."""
    longest = -1
    for k in range(n_alone, jobs.shape[0]):
        if load(jobs[k], STATE) == WAITING and (longest < 0 or jobs[k, LEFT] > jobs[longest, LEFT]):
            longest = k
    return longest


@inner_kernel
def _rests(jobs, k, n_alone):
    """Return whether a job may rest now and should, since more is left of one that waits."""
    job = jobs[k]
    if k < n_alone or job[NEXT_CHUNK] % job[BATCH_CHUNKS] != 0:
        return False
    longest = _find_longest(jobs, n_alone)
    return longest >= 0 and jobs[longest, LEFT] > job[LEFT]


@inner_kernel
def _is_trained(job, watch):
    return job[NEXT_CHUNK] >= job[CHUNKS] or watch[HALTED] != 0


@inner_kernel
def _judge(job, watch, right):
    """Keep the weights if their score is the best; halt if it has not improved for too long."""
    score = right[0]
    right[0] = 0
    watch[SCORE_WAITED] += 1
    if score >= watch[BEST_SCORE] + watch[SCORE_TOLERANCE]:
        watch[SCORE_WAITED] = 0
    if score > watch[BEST_SCORE]:
        watch[BEST_SCORE] = score
        copy_bytes(job[PARAMETERS], job[JUDGED], job[N_BYTES])
    if watch[SCORE_WAITED] > watch[SCORE_PATIENCE]:
        watch[HALTED] = 1


@inner_kernel
def _lower_rate(job, watch):
    """Go on after a halt with a lower rate, unless the rate is already the least."""
    rate = watch[STEPS + RATE]
    if rate > watch[LEAST_RATE]:
        watch[STEPS + RATE] = rate * watch[RATE_FACTOR] / watch[RATE_DIVISOR]
        watch[HALTED] = watch[WAITED] = watch[SCORE_WAITED] = 0
        job[NEXT_CHUNK] = np.int64(watch[ENDED]) * job[EPOCH_CHUNKS]
        job[LEFT] = job[CHUNKS] - job[NEXT_CHUNK]


def _begin(plan, totals):
    """Restore what a network needs besides its weights: transposes and totals."""
    b = bundles(plan)
    network, own = b.network, b.workspace.totals
    for i in range(network.layers.size):
        if network.layers[i].mirrored != 0:
            mirror(network, i, 0, network.layers[i].rows)
    copy_bytes(totals, address(own, 0), N_TOTALS * own.itemsize)


def _rest(plan, totals):
    """Keep the totals with which the network is to go on."""
    own = bundles(plan).workspace.totals
    copy_bytes(address(own, 0), totals, N_TOTALS * own.itemsize)


def _round(parameters, model, places, size):
    """Write float64 weights into a float32 model, from their places; -1 stands for padding."""
    for i in range(size):
        if places[i] >= 0:
            model[i] = parameters[places[i]]


def _count(plan, test_rows):
    """Count correct classifications in ``run.result``, of the first rows and of the others.

    Its third element is the number of NaN outputs. Without labels nothing is counted. The team is
    reset for the next prediction.
    """
    b = bundles(plan)
    out, labels, result = b.run.out, b.data.labels, b.run.result
    b.workspace.team[:] = 0
    for i in range(labels.size):
        decided, n_nans = decide(out, i)
        result[N_NANS] += n_nans
        result[np.int64(i >= test_rows)] += decided == labels[i]


def addresses_of(
    plans: Sequence[Plan],
    compiled: Sequence[int],
    score: Callable[..., None] = score_classes,
    rounds: bool = False,
) -> Any:
    """Return the addresses of the functions that `do_jobs` calls.

    Parameters
    ----------
    plans : sequence of Plan
        For training, prediction and validation.
    compiled : sequence of int
        The addresses of the functions that do these.
    score : callable, default=score_classes
        The function that validates, of `fastbp.kernels.scores.FUNCTIONS`.
    rounds : bool, default=False
        Whether weights are rounded after training.
    """
    training, prediction, validation = plans
    addresses = np.zeros(_N_FUNCTIONS, np.int64)
    addresses[_BEGIN] = plan_function(_begin, training)
    addresses[_REST] = plan_function(_rest, training)
    addresses[_COUNT] = plan_function(_count, prediction)
    addresses[_SCORE] = plan_function(score, validation)
    if rounds:
        addresses[_ROUND] = _round_address()
    addresses[[_TRAIN, _PREDICT, _VALIDATE]] = compiled
    return addresses


@cache
def _round_address() -> int:
    i64 = types.int64
    arrays = map(types.CPointer, (types.float64, types.float32, i64))
    return c_function(_round, *arrays, i64)


@cache
def do_jobs() -> Any:
    """Compile or load `_do_jobs`, to be called with addresses in place of arrays."""
    integers, numbers, i64 = types.CPointer(types.int64), types.CPointer(types.float64), types.int64
    kinds = (
        integers, integers, numbers, numbers, i64, i64, integers, integers, integers, integers,
        integers, integers, integers, i64, i64,
    )  # fmt: skip
    as_python = [ctypes.c_int64 if kind is i64 else ctypes.c_void_p for kind in kinds]
    return ctypes.CFUNCTYPE(None, *as_python)(c_function(_do_jobs, *kinds))
