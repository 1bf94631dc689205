"""Networks of one shape, trained and judged one after the other by each of several threads.

Each thread has a plan for training and one for prediction. A job is a network: the integers that
its plans differ in from those of the others are written into the thread's, and what they say is
done. Which network is next the threads take from a counter.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastbp.kernels.arrays import HALTED, N_TOTALS
from fastbp.kernels.atomics import add, load
from fastbp.kernels.jit import address, array_at, c_function, call, copy_bytes
from fastbp.kernels.plan import Plan, bundles, plan_function

__all__ = [
    "CHUNKS",
    "FIRST_STEP",
    "IS_DONE",
    "MIRROR",
    "NEXT",
    "N_COUNTS",
    "N_NANS",
    "N_OF_JOB",
    "N_SHARED",
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
CHUNKS = 3  # of its mini-batches in all epochs
TEST_ROWS = 4  # how many of the rows that are predicted come before the others
IS_DONE = 5  # 1 once it is
N_OF_JOB = 6

WATCH_ROW = 8  # numbers from one network's `Run.watch` to the next one's

# What is counted of a job's outputs: beside these those of the rows that are decided rightly.
N_NANS = 2  # how many are NaN
N_COUNTS = 3

# The entries of what all threads share, each on a line of the cache of its own.
NEXT = 0  # how many jobs have been taken
STOP = 8  # 1 where no more are to be done
N_SHARED = 16

_BEGIN, _TRAIN, _PREDICT, _COUNT = range(4)


def _do_jobs(
    shared, jobs, watches, n_jobs, columns, values, n_columns, n_training, training, prediction,
    functions, first_place, at_once,
):  # fmt: skip
    """Do the jobs that are left.

    The first `n_training` of the columns are places in the plan for training, the others in that
    for prediction. Between two calls, of so many chunks at once, it is seen whether to stop: at
    `first_place` are ``run.first``, ``run.last`` and ``run.first_step``, each chunk being a step.
    """
    shared, functions = array_at(shared, (N_SHARED,)), array_at(functions, (4,))
    jobs, watches = array_at(jobs, (n_jobs, N_OF_JOB)), array_at(watches, (n_jobs, WATCH_ROW))
    columns, values = array_at(columns, (n_columns,)), array_at(values, (n_jobs, n_columns))
    training, prediction = array_at(training, (n_columns,)), array_at(prediction, (n_columns,))
    k = add(shared, NEXT, 1)
    while k < n_jobs and load(shared, STOP) == 0:
        for j in range(n_training):
            training[columns[j]] = values[k, j]
        for j in range(n_training, n_columns):
            prediction[columns[j]] = values[k, j]
        job = jobs[k]
        call(functions[_BEGIN], (address(training, 0), job[MIRROR], job[TOTALS]))
        first, n_chunks = 0, job[CHUNKS]
        while first < n_chunks and watches[k, HALTED] == 0 and load(shared, STOP) == 0:
            training[first_place] = first
            training[first_place + 2] = job[FIRST_STEP] + first
            first += at_once
            training[first_place + 1] = min(first, n_chunks)
            call(functions[_TRAIN], (address(training, 0), 0, 1, 0))
        if load(shared, STOP) == 0:
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


def _count(plan, test_rows):
    """Into ``run.watch``: how many rows are decided as the labels say, of the first and the others.

    Its third element is how many outputs are NaN. Nothing is counted where there are no labels. The
    next prediction may begin.
    """
    b = bundles(plan)
    out, labels, result = b.run.out, b.data.labels, b.run.watch
    b.workspace.team[:] = 0
    for i in range(labels.size):
        if out.shape[1] == 1:
            decided = np.int64(out[i, 0] > 0.5)
            result[N_NANS] += out[i, 0] != out[i, 0]
        else:
            decided = np.int64(0)
            for j in range(out.shape[1]):
                decided = np.int64(j) if out[i, j] > out[i, decided] else decided
                result[N_NANS] += out[i, j] != out[i, j]
        result[np.int64(i >= test_rows)] += decided == labels[i]


def addresses_of(training: Plan, prediction: Plan, train: int, predict: int) -> Any:
    """Compile, or load, what `do_jobs` calls for plans of these types; return all addresses."""
    addresses = np.zeros(4, np.int64)
    addresses[_BEGIN] = plan_function(_begin, training.type, 2)
    addresses[_COUNT] = plan_function(_count, prediction.type, 1)
    addresses[_TRAIN], addresses[_PREDICT] = train, predict
    return addresses


@cache
def do_jobs() -> Any:
    """Compile, or load, `_do_jobs`; it is called with addresses in place of arrays."""
    integers, numbers, i64 = types.CPointer(types.int64), types.CPointer(types.float64), types.int64
    kinds = (
        integers, integers, numbers, i64, integers, integers, i64, i64, integers, integers,
        integers, i64, i64,
    )  # fmt: skip
    as_python = [ctypes.c_int64 if kind is i64 else ctypes.c_void_p for kind in kinds]
    return ctypes.CFUNCTYPE(None, *as_python)(c_function(_do_jobs, *kinds))
