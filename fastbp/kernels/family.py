"""Networks of one shape, trained and judged one after the other by each of several threads.

Each thread has a plan for training and one for prediction. A job is a network: the integers that
its plans differ in from those of the others are written into the thread's, and what they say is
done. Which network is next the threads take from a counter.

The last networks are trained in turns, each time that of which most is left, by whoever is free: so
the threads end together, though no two are ever at the same network (McNaughton 1959, "Scheduling
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

# What a job says beside the integers of its plans.
STATE = 0  # by the names below
TOTALS = 1  # the address of `Workspace.totals`
FIRST_STEP = 2  # how many steps it has taken before
CHUNKS = 3  # of its samples in all epochs
EPOCH_CHUNKS = 4  # ... and in one
BATCH_CHUNKS = 5  # ... and in a mini-batch: so many chunks are a step
REPEATS = 6  # 1 where its chunks come again and again, until there is a halt
TEST_ROWS = 7  # how many of the rows that are predicted come before the others
HELD_OUT = 8  # rows that it is validated by after each epoch; 0 where it is not
PARAMETERS = 9  # the address of its weights
JUDGED = 10  # ... and of those that it is judged by, where they are others: the best, or rounded
N_BYTES = 11  # of the weights
N_ROUNDED = 12  # how many weights are rounded to float32 in the end, with padding; 0 of most
PLACES = 13  # ... and the address of where each lies among those that are trained
NEXT_CHUNK = 14  # from which it goes on
LEFT = 15  # chunks, of those of all epochs
TURN = 16  # ... after which another network may be trained first
N_OF_JOB = 17

WAITING, HELD, DONE = range(3)  # a network's states

# The entries of a network's `watches` after those of `Run.watch`: where it is validated, training
# halts when the score has not reached the best one so far and the tolerance for more epochs.
BEST_SCORE, SCORE_WAITED, SCORE_TOLERANCE, SCORE_PATIENCE = range(N_WATCH, N_WATCH + 4)
# Where the divisor is not 0, training goes on after a halt, with the rate times the factor, over
# the divisor, unless the rate is the least already. Then `Solver.steps` begins, of one row.
RATE_FACTOR, RATE_DIVISOR, LEAST_RATE, STEPS = range(N_WATCH + 4, N_WATCH + 8)
WATCH_ROW = 16  # numbers from one network's to the next one's

# What is counted of a job's outputs: the rows of test and of train that are decided rightly, and
# how many outputs are NaN.
N_COUNTS = 3

# The entries of what all threads share, each on a line of the cache of its own.
NEXT = 0  # how many jobs have been taken
STOP = 8  # 1 where no more are to be done
N_SHARED = 16

_BEGIN, _TRAIN, _PREDICT, _COUNT, _VALIDATE, _SCORE, _ROUND, _REST = range(8)
_N_FUNCTIONS = 8


def _do_jobs(
    shared, jobs, watches, counts, n_jobs, n_alone, columns, values, ends, training, prediction,
    validation, functions, first_place, at_once,
):  # fmt: skip
    """Do the jobs that are left, each of the first `n_alone` without a rest.

    The columns are places in the plan for training, up to the first end, then in that for
    prediction, and after the second end in that for validation. Between two calls, of so many
    chunks at once, it is seen whether to stop: at `first_place` are ``run.first``, ``run.last`` and
    ``run.first_step``.
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
    """The number of a job that is the thread's own now; -1 where there is none for it."""
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
    """Of the jobs that wait behind the first ones, that of which most is left; -1 for none."""
    longest = -1
    for k in range(n_alone, jobs.shape[0]):
        if load(jobs[k], STATE) == WAITING and (longest < 0 or jobs[k, LEFT] > jobs[longest, LEFT]):
            longest = k
    return longest


@inner_kernel
def _rests(jobs, k, n_alone):
    """Whether one that may rest now does, since more is left of another, which waits."""
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
    """Keep the weights if they have the best score, and halt if it is long since any had."""
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
    """Go on after a halt, with a lower rate, unless it is the least."""
    rate = watch[STEPS + RATE]
    if rate > watch[LEAST_RATE]:
        watch[STEPS + RATE] = rate * watch[RATE_FACTOR] / watch[RATE_DIVISOR]
        watch[HALTED] = watch[WAITED] = watch[SCORE_WAITED] = 0
        job[NEXT_CHUNK] = np.int64(watch[ENDED]) * job[EPOCH_CHUNKS]
        job[LEFT] = job[CHUNKS] - job[NEXT_CHUNK]


def _begin(plan, totals):
    """Set what a network goes on with beside its weights."""
    b = bundles(plan)
    network, own = b.network, b.workspace.totals
    for i in range(network.layers.size):
        if network.layers[i].mirrored != 0:
            mirror(network, i, 0, network.layers[i].rows)
    copy_bytes(totals, address(own, 0), N_TOTALS * own.itemsize)


def _rest(plan, totals):
    """Keep what it is to go on with."""
    own = bundles(plan).workspace.totals
    copy_bytes(address(own, 0), totals, N_TOTALS * own.itemsize)


def _round(parameters, model, places, size):
    """Write weights of float64 as a model of float32 has them, from their places; -1 is padding."""
    for i in range(size):
        if places[i] >= 0:
            model[i] = parameters[places[i]]


def _count(plan, test_rows):
    """Count in ``run.result`` what is decided as the labels say, of the first rows and the others.

    Its third element is how many outputs are NaN. Nothing is counted where there are no labels. The
    next prediction may begin.
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
    """Return the addresses of all that `do_jobs` calls.

    Parameters
    ----------
    plans : sequence of Plan
        For training, prediction and validation.
    compiled : sequence of int
        The addresses of what does these.
    score : callable, default=score_classes
        Of `fastbp.kernels.scores.FUNCTIONS`: what validates.
    rounds : bool, default=False
        Whether weights are rounded once they are trained.
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
    """Compile, or load, `_do_jobs`; it is called with addresses in place of arrays."""
    integers, numbers, i64 = types.CPointer(types.int64), types.CPointer(types.float64), types.int64
    kinds = (
        integers, integers, numbers, numbers, i64, i64, integers, integers, integers, integers,
        integers, integers, integers, i64, i64,
    )  # fmt: skip
    as_python = [ctypes.c_int64 if kind is i64 else ctypes.c_void_p for kind in kinds]
    return ctypes.CFUNCTYPE(None, *as_python)(c_function(_do_jobs, *kinds))
