"""A joblib backend that runs the fits of a search side by side in this process.

scikit-learn hands each fit to joblib as a task. This backend collects all of them, then trains the
networks on threads, one thread per network, the longest first: compiled calls release the GIL, so
the threads run in parallel. If the user has chosen a backend of processes or of a cluster, the fits
go there in batches, and each worker runs its batch in the same way.
"""

import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib._parallel_backends import ParallelBackendBase, SequentialBackend, ThreadingBackend
from joblib.parallel import get_active_backend
from sklearn import get_config
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics._scorer import _MultimetricScorer

from fastbp.model_selection.batches import BatchError, Results, cut, evaluate_batch, raise_failed
from fastbp.model_selection.cluster import find_cluster
from fastbp.model_selection.evaluation import Evaluator
from fastbp.model_selection.families import do_in_families
from fastbp.model_selection.fits import Fit, put_training_state_back, take_apart
from fastbp.model_selection.interrupts import Listening, defer, has_come
from fastbp.model_selection.progress import Progress
from fastbp.model_selection.standing import Kept
from fastbp.model_selection.workers import run_on_workers
from fastbp.threads import count_workers

__all__ = ["SideBySide"]

ALL = 100_000  # tasks that joblib hands over before it waits for the first
BATCHES_PER_WORKER = 4  # more than one, so that a worker with faster networks takes more batches
ATTEMPTS = 2  # at running a fit on the user's backend


class SideBySide(ParallelBackendBase):  # type: ignore[misc]
    """The backend; created and used inside the joblib context that the user has set.

    Parameters
    ----------
    n_jobs : int or None
        Number of networks trained at a time. None means all processors, in the main thread.
    resource : str or None
        The parameter that grows from round to round of a halving search. If it is the network's
        `max_iter`, fits continue from where the previous round left them.
    verbose : int
        0 for silence.
    """

    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, n_jobs: int | None, resource: str | None, verbose: int) -> None:
        super().__init__(nesting_level=0)
        outer, _ = get_active_backend(prefer="threads")
        n_outer = get_active_backend()[1]  # `prefer` would make it 1 instead of the user's value
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

    # The interface that joblib calls ----------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return a number so large that joblib hands over all tasks before it waits."""
        if self._n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return ALL

    def submit(self, func: Any, callback: Callable[[Any], None]) -> None:
        """Queue a batch, which holds one task; `callback` is called with its outcome later."""
        with self._lock:
            self._queued.append((func, callback))

    def retrieve_result_callback(self, out: tuple[Any, BaseException | None]) -> Any:
        """Return the result of a task, or raise its error."""
        result, error = out
        if error is not None:
            raise error
        return [result]

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Discard the queued tasks."""
        with self._lock:
            self._queued.clear()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Run the queued tasks, and those that joblib queues meanwhile, before it collects."""
        while self._queued:
            with self._lock:
                taken, self._queued = self._queued, []
            self._do(taken)
        yield

    # Running the fits ------------------------------------------------------------------------

    def raise_if_interrupted(self, where: str = "") -> None:
        """Re-raise a Ctrl-C that came during the fits, once scikit-learn has their results."""
        if self.interrupted or has_come():
            raise KeyboardInterrupt(f"{self.n_done} of {self.n_asked} fits were done{where}")

    def forget(self) -> None:
        """Free all data; the reference cycle with joblib keeps this object alive for a while."""
        self._evaluator.forget()
        self._kept.clear()

    def _do(self, taken: list[tuple[Any, Callable[[Any], None]]]) -> None:
        defer()
        fits, callbacks = self._take_up(taken)
        n_before = self.n_done
        failed: dict[str, str] = {}  # errors of candidates
        outcomes: dict[int, tuple[Any, BaseException | None]] = {}
        progress = Progress(len(fits), self._verbose)

        def done(index: int, result: Any, error: BaseException | None = None) -> None:
            if fits[index].key is not None:
                self._kept[fits[index].key] = fits[index].kept
            if result is not None and result["fit_error"]:
                failed[str(fits[index].parameters)] = result["fit_error"]
            outcomes[index] = result, error
            self.n_done = n_before + len(outcomes)
            progress.advance()

        if not self.interrupted:
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
        results = [result for result, _ in outcomes.values()]
        if failed:
            all_failed = all(result and result["fit_error"] for result in results)
            _warn_of_failed(failed, all_failed)
        scores = [result["test_scores"] for result in results if result is not None]
        like = next((score for score in scores if isinstance(score, dict)), None)
        # Only now: joblib would treat a Ctrl-C during a callback as an error of the task.
        for index, (fit, callback) in enumerate(zip(fits, callbacks, strict=True)):
            callback(outcomes.get(index) or (_not_done(fit, like), None))  # interrupted

    def _take_up(
        self, taken: list[tuple[Any, Callable[[Any], None]]]
    ) -> tuple[list[Fit], list[Callable[[Any], None]]]:
        """Return the fits of joblib's tasks, with state kept from earlier rounds, and callbacks."""
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
        return fits, callbacks

    def _do_here(
        self, numbers: Sequence[int], fits: Sequence[Fit], done: Callable[..., None]
    ) -> None:
        """Run the fits with these numbers in this process."""
        n_workers, chosen = count_workers(self._n_jobs), [fits[i] for i in numbers]
        self._evaluator.expect(chosen)

        def done_in_family(i: int, result: dict[str, Any]) -> None:
            self._evaluator.end(chosen[i])
            done(numbers[i], result)

        # These threads never block, so more of them than processors would gain nothing.
        n_threads = min(n_workers, count_workers(-1))
        others, self.interrupted = do_in_families(
            self._evaluator, chosen, n_threads, done_in_family
        )
        left = [numbers[i] for i in others]
        if left and not self.interrupted:
            self.interrupted = run_on_workers(
                self._evaluator,
                [fits[i] for i in left],
                n_workers,
                lambda i, *result: done(left[i], *result),
            )

    def _send(self, fits: list[Fit], done: Callable[..., None]) -> None:
        """Distribute the fits over the workers of the user's own backend.

        Fits lost with a worker are sent once more; those lost again are run in this process.
        """
        sent, shared = take_apart(fits)
        left = dict.fromkeys(range(len(fits)))
        lost: Exception | None = None
        for _ in range(ATTEMPTS):
            try:
                with closing(self._share_out(list(left), fits, sent, shared)) as batches:
                    while True:
                        with Listening():
                            batch = next(batches, None)
                        if batch is None:
                            break
                        results, reasons = batch
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
            except (BrokenExecutor, OSError) as error:
                lost = error  # the workers are gone, or the connection to them
            if not left:
                return
        cause = "" if lost is None else f" ({lost!r})"
        warnings.warn(
            f"{len(left)} fits were lost with their workers, {ATTEMPTS} times{cause}: they are "
            "done in this process.",
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


def _warn_of_failed(failed: dict[str, str], all_failed: bool) -> None:
    """Name the candidates that have failed, with their errors."""
    lines = [f"{who}: {_first_line(error)}" for who, error in failed.items()]
    # If all have failed, scikit-learn raises its own error; a warning filter must not replace it.
    with suppress(FitFailedWarning) if all_failed else nullcontext():
        message = "\n".join(["Failed candidates:", *lines])
        warnings.warn(message, FitFailedWarning, stacklevel=3)


def _first_line(error: str) -> str:
    """Return the first line of an error's message, which follows its traceback."""
    lines = error.strip().splitlines()
    last_frame = max((i for i, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    return next((line for line in lines[last_frame + 1 :] if line[:1].strip()), lines[-1])


def _not_done(fit: Fit, like: dict[str, Any] | None) -> dict[str, Any]:
    """Return the result of a fit that was not run: NaN scores under the names in `like`."""
    scorer = fit.asked["scorer"]
    scores: Any = np.nan
    if like is not None:
        scores = dict.fromkeys(like, np.nan)
    elif isinstance(scorer, _MultimetricScorer):
        scores = dict.fromkeys(scorer._scorers, np.nan)
    # scikit-learn expects in every result the keys it asked for, or those of the first result.
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
