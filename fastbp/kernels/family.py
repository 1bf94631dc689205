"""Networks of one shape, trained and judged one after the other by each of several threads.

Each thread has a plan for training and one for prediction. A job is a network: the integers that
its plans differ in from those of the others are written into the thread's, and what they say is
done. Which network is next the threads take from a counter.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastbp.compiler.jit import c_function, call
from fastbp.compiler.memory import address, array_at, copy_bytes
from fastbp.kernels.arrays import ENDED, HALTED, N_TOTALS, N_WATCH, RATE, WAITED
from fastbp.kernels.atomics import add, load
from fastbp.kernels.plan import Plan, bundles, plan_function
from fastbp.kernels.scores import N_NANS, decide, score_classes

__all__ = [
    "BATCH_CHUNKS",
    "BEST_SCORE",
    "CHUNKS",
    "EPOCH_CHUNKS",
    "FIRST_STEP",
    "HELD_OUT",
    "IS_DONE",
    "JUDGED",
    "LEAST_RATE",
    "MIRROR",
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
    "STEPS",
    "STOP",
    "TEST_ROWS",
    "TOTALS",
    "WATCH_ROW",
    "addresses_of",
    "do_jobs",
]

# What a job says beside the integers of its plans.
MIRROR = 0  # the address of the transposes that it begins with
TOTALS = 1  # ... and of `Workspace.totals`
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
IS_DONE = 12  # 1 once it is
N_ROUNDED = 13  # how many weights are rounded to float32 in the end, with padding; 0 of most
PLACES = 14  # ... and the address of where each lies among those that are trained
N_OF_JOB = 15

# The entries of a network's `watches` after those of `Run.watch`: where it is validated, training
# halts when the score has not reached the best one so far and the tolerance for more epochs.
BEST_SCORE = N_WATCH
SCORE_WAITED = 7
SCORE_TOLERANCE = 8
SCORE_PATIENCE = 9
# Where the divisor is not 0, training goes on after a halt, with the rate times the factor, over
# the divisor, unless the rate is the least already.
RATE_FACTOR = 10
RATE_DIVISOR = 11
LEAST_RATE = 12
STEPS = 13  # where `Solver.steps` begins then, of one row
WATCH_ROW = 16  # numbers from one network's to the next one's

# What is counted of a job's outputs: the rows of test and of train that are decided rightly, and
# how many outputs are NaN.
N_COUNTS = 3

# The entries of what all threads share, each on a line of the cache of its own.
NEXT = 0  # how many jobs have been taken
STOP = 8  # 1 where no more are to be done
N_SHARED = 16

_BEGIN, _TRAIN, _PREDICT, _COUNT, _VALIDATE, _SCORE, _ROUND = range(7)
_N_FUNCTIONS = 7


def _do_jobs(
    shared, jobs, watches, counts, n_jobs, columns, values, ends, training, prediction, validation,
    functions, first_place, at_once,
):  # fmt: skip
    """Do the jobs that are left.

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
    k = add(shared, NEXT, 1)
    while k < n_jobs and load(shared, STOP) == 0:
        for j in range(ends[0]):
            training[columns[j]] = values[k, j]
        for j in range(ends[0], ends[1]):
            prediction[columns[j]] = values[k, j]
        for j in range(ends[1], ends[2]):
            validation[columns[j]] = values[k, j]
        job, watch, right = jobs[k], watches[k], counts[k]
        call(functions[_BEGIN], (address(training, 0), job[MIRROR], job[TOTALS]))
        first, n_chunks, per_epoch = 0, job[CHUNKS], job[EPOCH_CHUNKS]
        while first < n_chunks and watch[HALTED] == 0 and load(shared, STOP) == 0:
            last = min(first + at_once, n_chunks)
            if job[HELD_OUT] > 0:
                last = min(last, first - first % per_epoch + per_epoch)
            training[first_place], training[first_place + 1] = first, last
            training[first_place + 2] = job[FIRST_STEP] + first // job[BATCH_CHUNKS]
            call(functions[_TRAIN], (address(training, 0), 0, 1, 0))
            first = last
            if job[REPEATS] != 0 and first == n_chunks:
                first = 0
            if job[HELD_OUT] > 0 and first % per_epoch == 0:
                call(functions[_VALIDATE], (address(validation, 0), 0, 1, 0))
                call(functions[_SCORE], (address(validation, 0),))
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
            if watch[HALTED] != 0 and watch[RATE_DIVISOR] != 0:
                rate = watch[STEPS + RATE]
                if rate > watch[LEAST_RATE]:
                    watch[STEPS + RATE] = rate * watch[RATE_FACTOR] / watch[RATE_DIVISOR]
                    watch[HALTED] = watch[WAITED] = watch[SCORE_WAITED] = 0
                    first = np.int64(watch[ENDED]) * per_epoch
        if load(shared, STOP) == 0:
            if job[N_ROUNDED] > 0:
                operands = job[PARAMETERS], job[JUDGED], job[PLACES], job[N_ROUNDED]
                call(functions[_ROUND], operands)
            call(functions[_PREDICT], (address(prediction, 0), 0, 1, 0))
            call(functions[_COUNT], (address(prediction, 0), job[TEST_ROWS]))
            add(job, IS_DONE, 1)
        k = add(shared, NEXT, 1)


def _begin(plan, mirror, totals):
    """Set what a network begins with beside its weights."""
    b = bundles(plan)
    transposed, own = b.network.transposed, b.workspace.totals
    copy_bytes(mirror, address(transposed, 0), transposed.size * transposed.itemsize)
    copy_bytes(totals, address(own, 0), N_TOTALS * own.itemsize)


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
        integers, integers, numbers, numbers, i64, integers, integers, integers, integers, integers,
        integers, integers, i64, i64,
    )  # fmt: skip
    as_python = [ctypes.c_int64 if kind is i64 else ctypes.c_void_p for kind in kinds]
    return ctypes.CFUNCTYPE(None, *as_python)(c_function(_do_jobs, *kinds))
