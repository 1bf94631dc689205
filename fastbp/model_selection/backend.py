"""A backend of joblib's that does the fits of a search side by side in this process.

scikit-learn hands each fit to joblib as a task. This backend waits until it has all of them, then
trains the networks on threads, each network on one, the longest first: compiled calls do not hold
Python's lock, so the threads run at once. Where the user has chosen a backend of processes or of a
cluster, the fits go there in batches, and are done so by each worker.
"""

import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib._parallel_backends import ParallelBackendBase, SequentialBackend, ThreadingBackend
from joblib.parallel import get_active_backend
from sklearn import config_context, get_config
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics._scorer import _MultimetricScorer

from fastbp.baton import ENOUGH, Baton, others_suffice
from fastbp.model_selection.cluster import find_cluster
from fastbp.model_selection.evaluation import Evaluator
from fastbp.model_selection.families import GRACE, find_families, run_families
from fastbp.model_selection.fits import (
    Fit,
    Kept,
    add_training_state,
    put_training_state_back,
    receive,
    take_apart,
)
from fastbp.model_selection.folds import FoldData
from fastbp.model_selection.progress import Progress
from fastbp.threads import Cancelled, cancelled_by, count_workers, raise_if_cancelled

__all__ = ["SideBySide"]

ALL = 100_000  # tasks that joblib hands over before it waits for the first
BATCHES_PER_WORKER = 4  # so that one whose networks were faster gets more
ATTEMPTS = 2  # to have a fit done elsewhere
AHEAD = 2  # fits per worker that are left when the data of the next fold are made

# Of each fit its number, its result or the error to raise, and what its next round goes on from;
# and how many were left to scikit-learn, by the reason.
Results = tuple[list[tuple[int, dict[str, Any] | Exception, Kept | None]], Counter[str]]


class SideBySide(ParallelBackendBase):  # type: ignore[misc]
    """The backend; made in the context that the user has set, and used inside it.

    Parameters
    ----------
    n_jobs : int or None
        Networks trained at a time. None is all processors, in the main thread.
    resource : str or None
        The parameter that grows from round to round of a halving search. Where it is the network's
        `max_iter`, fits go on from where the round before has left them.
    verbose : int
        0 for silence.
    """

    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, n_jobs: int | None, resource: str | None, verbose: int) -> None:
        super().__init__(nesting_level=0)
        outer, _ = get_active_backend(prefer="threads")
        n_outer = get_active_backend()[1]  # with that preference it would be 1, not the user's
        self._elsewhere = not isinstance(outer, (ThreadingBackend, SequentialBackend))
        self._outer = outer
        if isinstance(outer, SequentialBackend):
            n_outer = 1
        self._n_jobs = n_outer if n_jobs is None else n_jobs
        self._cluster = find_cluster(outer, self._n_jobs)
        self._resource, self._verbose = resource, verbose
        self._evaluator = Evaluator()
        self._kept: dict[str | None, Kept | None] = {}
        self._queued: list[tuple[Any, Callable[[Any], None]]] = []
        self._lock = threading.Lock()
        self.interrupted = False
        self.n_done = self.n_asked = 0

    # What joblib asks of a backend ------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return so many that joblib hands over all tasks, one by one."""
        if self._n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return ALL

    def submit(self, func: Any, callback: Callable[[Any], None]) -> None:
        """Queue a batch of tasks, which is of one; the callback is to hear what it comes to."""
        with self._lock:
            self._queued.append((func, callback))

    def retrieve_result_callback(self, out: tuple[Any, BaseException | None]) -> Any:
        """Return what a task has returned, or raise what it has raised."""
        result, error = out
        if error is not None:
            raise error
        return [result]

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Forget the tasks."""
        with self._lock:
            self._queued.clear()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Do what is queued, and what joblib queues as tasks are done; then it collects."""
        while self._queued:
            with self._lock:
                taken, self._queued = self._queued, []
            self._do(taken)
        yield

    # What is done ----------------------------------------------------------------------------

    def raise_if_interrupted(self, where: str = "") -> None:
        """Raise the Ctrl-C that came in between, after scikit-learn has collected the results."""
        if self.interrupted:
            raise KeyboardInterrupt(f"{self.n_done} of {self.n_asked} fits were done{where}")

    def forget(self) -> None:
        """Free all data; joblib and this backend know each other, so they stay for a while."""
        self._evaluator.forget()
        self._kept.clear()

    def _do(self, taken: list[tuple[Any, Callable[[Any], None]]]) -> None:
        fits, callbacks = [], []
        digests: dict[int, str] = {}
        for batch, callback in taken:
            for function, (estimator, X, y), asked in batch.items:
                fit = Fit(function, estimator, X, y, asked)
                fit.key = fit.key_to_go_on(self._resource, digests)
                fit.kept = self._kept.pop(fit.key, None)
                fits.append(fit)
                callbacks.append(callback)
        self.n_asked += len(fits)
        n_before = self.n_done
        failed: dict[str, str] = {}  # errors of candidates
        outcomes: dict[int, tuple[Any, BaseException | None]] = {}

        def done(index: int, result: Any, error: BaseException | None = None) -> None:
            if fits[index].key is not None:
                self._kept[fits[index].key] = fits[index].kept
            if result is not None and result["fit_error"]:
                failed[str(fits[index].parameters)] = result["fit_error"]
            outcomes[index] = result, error
            self.n_done += 1
            progress.advance()

        if not self.interrupted:
            progress = Progress(len(fits), self._verbose)
            try:
                with progress:
                    if self._elsewhere:
                        self._send(fits, done)
                    else:
                        self._do_here(list(range(len(fits))), fits, done)
            except KeyboardInterrupt:  # before the first fit, or after the last
                self.interrupted = True
        if self._verbose:
            for reason, count in self._evaluator.left.items():
                print(f"fastbp left {count} fits to scikit-learn: {reason}.")
        self._evaluator.left.clear()
        if failed:
            lines = [f"{who}: {error.strip().splitlines()[-1]}" for who, error in failed.items()]
            warnings.warn("\n".join(["Failed candidates:", *lines]), FitFailedWarning, stacklevel=2)
        self.n_done = n_before + len(outcomes)
        scores = [result["test_scores"] for result, _ in outcomes.values() if result is not None]
        like = next((score for score in scores if isinstance(score, dict)), None)
        # Only now: joblib would take a Ctrl-C that comes while it hears of a result for the task's.
        for index, (fit, callback) in enumerate(zip(fits, callbacks, strict=True)):
            callback(outcomes.get(index) or (_not_done(fit, like), None))  # interrupted

    def _do_here(
        self, numbers: Sequence[int], fits: Sequence[Fit], done: Callable[..., None]
    ) -> None:
        """Do the fits of these numbers in this process."""
        n_workers, chosen = count_workers(self._n_jobs), [fits[i] for i in numbers]
        self._evaluator.expect(chosen)
        families, others = find_families(self._evaluator, chosen)

        def done_in_family(i: int, result: dict[str, Any]) -> None:
            self._evaluator.end(chosen[i])
            done(numbers[i], result)

        again, self.interrupted = run_families(families, n_workers, done_in_family)
        left = [numbers[i] for i in sorted(others + again)]
        if left and not self.interrupted:
            self.interrupted = run_on_workers(
                self._evaluator,
                [fits[i] for i in left],
                n_workers,
                lambda i, *result: done(left[i], *result),
            )

    def _send(self, fits: list[Fit], done: Callable[..., None]) -> None:
        """Share the fits out over the workers of the user's own backend.

        What is lost with a worker is sent once more, and what is lost again is done here.
        """
        sent, shared = take_apart(fits)
        left = dict.fromkeys(range(len(fits)))
        for _ in range(ATTEMPTS):
            try:
                with closing(self._share_out(list(left), fits, sent, shared)) as batches:
                    for results, reasons in batches:
                        self._evaluator.left += reasons
                        for index, result, kept in results:
                            del left[index]
                            fits[index].kept = kept
                            if isinstance(result, Exception):
                                done(index, None, result)
                                return
                            done(index, put_training_state_back(result))
            except KeyboardInterrupt:
                self.interrupted = True
                return
            except (BrokenExecutor, OSError):
                pass  # the workers are gone, or the way to them
            if not left:
                return
        warnings.warn(
            f"{len(left)} fits were lost with their workers, {ATTEMPTS} times: they are done in "
            "this process.",
            RuntimeWarning,
            stacklevel=2,
        )
        self._do_here(list(left), fits, done)

    def _share_out(
        self, numbers: list[int], fits: list[Fit], sent: list[Fit], shared: list[Any]
    ) -> Generator[Results, None, None]:
        """Yield the results of batches of these fits as they are done; some may be lost."""
        as_done = "generator_unordered" if self._outer.supports_return_generator else "list"
        with parallel_config(backend=self._outer, n_jobs=self._n_jobs):
            parallel = Parallel(return_as=as_done)
        if self._cluster is not None:
            n_workers = self._cluster.count_workers()
        else:
            n_workers = self._outer.effective_n_jobs(parallel.n_jobs)
        calls = []
        for batch in cut([fits[i] for i in numbers], n_workers * BATCHES_PER_WORKER):
            chosen = [(numbers[i], sent[numbers[i]]) for i in batch]
            calls.append((chosen, get_config(), list(warnings.filters)))
        if self._cluster is not None:
            yield from self._cluster.call(evaluate_batch, shared, calls)
            return
        try:
            yield from parallel(delayed(raise_failed)(evaluate_batch, shared, *c) for c in calls)
        except BatchError as failed:
            yield failed.results


def group_by_data(fits: Sequence[Fit]) -> list[list[int]]:
    """Group fits, by their numbers, as their data are made: in each group the longest comes first.

    Of fits with steps before the network, those of one fold and setting are a group; all others are
    one, whose data are made from the same table.
    """
    groups: dict[Any, list[int]] = {}
    for i, fit in enumerate(fits):
        groups.setdefault(fit.key_of_fold() if fit.has_steps else None, []).append(i)
    return [sorted(group, key=lambda i: -fits[i].cost()) for group in groups.values()]


def cut(fits: Sequence[Fit], n_batches: int) -> list[list[int]]:
    """Cut fits, by their numbers, into batches of about the same work, the data of each the same.

    Returns
    -------
    list of list of int
        The largest first.
    """
    groups = group_by_data(fits)
    each = max(1, round(n_batches / len(groups)))
    batches = []
    for group in groups:
        bins: list[tuple[float, list[int]]] = [(0.0, []) for _ in range(min(each, len(group)))]
        for i in group:
            at = min(range(len(bins)), key=lambda b: bins[b][0])
            bins[at] = (bins[at][0] + fits[i].cost(), [*bins[at][1], i])
        batches += bins
    return [batch for _, batch in sorted(batches, key=lambda batch: -batch[0])]


def evaluate_batch(
    shared: Sequence[Any],
    sent: list[tuple[int, Fit]],
    config: dict[str, Any],
    filters: list[Any],
) -> Results:
    """Do some fits in a worker of another backend, as far as nobody cancels them.

    The configuration is scikit-learn's, and the filters are those of warnings, of the user's
    process.
    """
    evaluator = Evaluator()
    shared = receive(shared)
    numbers, fits = [i for i, _ in sent], [fit.put_together(shared) for _, fit in sent]
    evaluator.expect(fits)
    results: list[tuple[int, dict[str, Any] | Exception, Kept | None]] = []

    def done(k: int, result: dict[str, Any]) -> None:
        results.append((numbers[k], add_training_state(result), fits[k].kept))

    with config_context(**config), warnings.catch_warnings(), suppress(Cancelled):
        warnings.filters[:] = filters  # type: ignore[index]
        families, others = find_families(evaluator, fits)
        again, is_interrupted = run_families(families, 1, done)
        if is_interrupted:
            raise KeyboardInterrupt
        for k in sorted(others + again):
            raise_if_cancelled()
            try:
                done(k, evaluator.evaluate(fits[k]))
            except Exception as error:  # a result, lest it be taken for a worker's that is lost
                error.add_note(traceback.format_exc())  # which is not sent along
                results.append((numbers[k], error, None))
                break
    return results, evaluator.left


class BatchError(Exception):
    """A batch whose last fit raised an error.

    joblib hears of it from the worker, and hands out no more batches. Where it is stopped from here
    while it hands one out, a thread of loky's fails to find that one and prints its own error.
    """

    def __init__(self, results: Results) -> None:
        super().__init__(results)
        self.results = results


def raise_failed(function: Callable[..., Results], *arguments: Any) -> Results:
    """Do a batch in a worker of joblib's; raise `BatchError` where a fit has raised an error."""
    results = function(*arguments)
    fits, _ = results
    if fits and isinstance(fits[-1][1], Exception):
        raise BatchError(results)
    return results


def run_on_workers(
    evaluator: Evaluator,
    fits: Sequence[Fit],
    n_workers: int,
    done: Callable[..., None],
) -> bool:
    """Do fits that the evaluator expects on threads, until one has raised an error.

    ``done(index, result, error)`` hears of each.

    One fold and setting comes after the other, so that the data of few, as the steps before the
    network have made them, are in memory: at most of as many as there are workers. The next one's
    are made by one worker while the others train the last networks of those before. After the last
    fold workers leave that are of no use any more, as they wait for others to run Python.

    Returns
    -------
    bool
        Whether Ctrl-C came in between: then some are not done.
    """
    groups, queue, in_use = group_by_data(fits), list[int](), list[FoldData]()
    lock = threading.Lock()
    stop, all_ended = threading.Event(), threading.Event()
    is_heard = True  # what workers tell
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
                    all_ended.set()

    def take() -> int | None:
        in_use[:] = [data for data in in_use if data.n_left > 0]
        are_made = all(data.folds for data in in_use)  # that takes the most memory
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
            threading.Thread(target=work).start()
        all_ended.wait()  # not `Thread.join`, which once interrupted takes the thread for ended
    except KeyboardInterrupt:
        stop.set()
        with lock:
            if n_running == 0:  # it came before they had begun
                all_ended.set()
        # A step or a scorer of the user's does not hear of it: it may end when nobody listens.
        with suppress(KeyboardInterrupt):
            all_ended.wait(GRACE)
        with lock:
            is_heard = False
        return True
    return False


def _not_done(fit: Fit, like: dict[str, Any] | None) -> dict[str, Any]:
    """Return the result of a fit that was not done: scores of NaN, of the names of others'."""
    scorer = fit.asked["scorer"]
    scores: Any = np.nan
    if like is not None:
        scores = dict.fromkeys(like, np.nan)
    elif isinstance(scorer, _MultimetricScorer):
        scores = dict.fromkeys(scorer._scorers, np.nan)
    # scikit-learn looks for what it asked for in all results, or for what the first has.
    others = {
        "return_train_score": {"train_scores": scores},
        "return_n_test_samples": {"n_test_samples": len(fit.asked["test"])},
        "return_times": {"fit_time": 0.0, "score_time": 0.0},
        "return_parameters": {"parameters": fit.parameters},
        "return_estimator": {"estimator": fit.estimator},
    }
    result = {"fit_error": None, "test_scores": scores}
    for asked, values in others.items():
        if fit.asked.get(asked):
            result |= values
    return result
