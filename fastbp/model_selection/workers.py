"""Threads of this process that run fits one by one, each with Python in between."""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from contextvars import copy_context

from sklearn import config_context, get_config

from fastbp.baton import ENOUGH, Baton, others_suffice
from fastbp.cancellation import Cancelled, cancelled_by
from fastbp.model_selection.evaluation import Evaluator
from fastbp.model_selection.fits import Fit, group_by_data
from fastbp.model_selection.folds import FoldData
from fastbp.model_selection.interrupts import GRACE, Listening, Tokens

__all__ = ["run_on_workers"]

HEARING_SECONDS = 0.2  # longest single wait, after which Ctrl-C is noticed
AHEAD = 2  # make the data of the next fold when this many fits per worker are left


def run_on_workers(
    evaluator: Evaluator,
    fits: Sequence[Fit],
    n_workers: int,
    done: Callable[..., None],
) -> bool:
    """Run fits that the evaluator expects on threads, until one raises an error.

    ``done(index, result, error)`` is called for each.

    Folds and settings are taken one after another, so that transformed data are in memory for no
    more of them than there are workers. One worker makes the data of the next while the others
    train the last networks of those before. After the last fold, workers leave that would only wait
    for others to run Python.

    Returns
    -------
    bool
        Whether Ctrl-C came in between: then some fits are not done.
    """
    groups, queue, in_use = group_by_data(fits), list[int](), list[FoldData]()
    lock = threading.Lock()
    stop, all_ended = threading.Event(), Tokens()
    is_heard = True  # whether results of workers are still reported
    n_running, n_workers = 0, min(n_workers, len(fits))
    n_wanted = n_workers
    config = get_config()
    in_turn = Baton(n_workers).passed_on if n_workers > 1 else nullcontext

    def work() -> None:
        nonlocal n_running
        with lock:
            n_running += 1
        try:
            with config_context(**config), cancelled_by(stop), suppress(Cancelled), in_turn():
                while do_next():
                    pass
        finally:
            with lock:
                n_running -= 1
                if n_running == 0:
                    all_ended.put()

    def take() -> int | None:
        in_use[:] = [data for data in in_use if data.n_left > 0]
        are_made = all(data.folds for data in in_use)  # making data takes the most memory
        is_time = are_made and len(in_use) < n_workers and len(queue) <= AHEAD * n_workers
        if groups and (is_time or not queue):
            first, *others = groups.pop(0)
            in_use.append(fits[first].data)
            queue.extend(others)
            return first
        return queue.pop(0) if queue else None

    def is_wanted() -> bool:
        nonlocal n_wanted
        if others_suffice() and not groups and n_wanted > ENOUGH + 1:
            n_wanted -= 1
            return False
        return True

    def do_next() -> bool:
        with lock:
            index = None if stop.is_set() or not is_wanted() else take()
        if index is None:
            return False
        result, error = None, None
        try:
            result = evaluator.evaluate(fits[index])
        except Cancelled:
            raise
        except BaseException as e:
            error = e
            stop.set()
        with lock:
            if is_heard:
                evaluator.end(fits[index])
                done(index, result, error)
        return True

    try:
        for _ in range(n_workers):
            threading.Thread(target=copy_context().run, args=(work,)).start()
        # A Ctrl-C that comes just before a wait is noticed after it.
        have_ended = False
        while not have_ended:
            with Listening():
                have_ended = all_ended.take(HEARING_SECONDS)
    except KeyboardInterrupt:
        stop.set()
        with lock:
            if n_running == 0:  # before any worker had begun
                all_ended.put()
        # A step or a scorer of the user's does not notice it, and may end after the wait.
        with suppress(KeyboardInterrupt), Listening():
            all_ended.take(GRACE)
        with lock:
            is_heard = False
        return True
    return False
