"""A family: networks of one shape, each trained and judged without Python in between.

The networks differ only in numbers: rates, penalties, seeds and folds. They are prepared together,
and each thread trains and judges them one after another in a single compiled call
(`kernels/family.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.optimize import _check_optimize_result

from fastbp.estimators.early_stopping import score_function
from fastbp.kernels import family as kernel
from fastbp.kernels.arrays import HALTED
from fastbp.kernels.plan import address_of
from fastbp.model_selection.evaluation import describe
from fastbp.model_selection.members import Member
from fastbp.model_selection.scoring import judge_outputs, judged_parts
from fastbp.model_selection.survivors import Survivor
from fastbp.model_selection.tables import Tables
from fastbp.prediction import Prediction, Predictor
from fastbp.samples import number_rows
from fastbp.training.engine import SLOWEST, Engine
from fastbp.training.stochastic import limit_of_epochs, warn_of_limit

__all__ = ["Family"]

CALL_SECONDS = 0.05  # most time between two checks for Ctrl-C
LAST = 2  # last networks per thread, trained in turns so that the threads end together


class Family:
    """Networks of one shape, trained and judged by threads that each call `work`.

    Parameters
    ----------
    members : list of Member
        Of one kind, in the order in which threads take them.
    n_threads : int
        How many threads may call `work`.
    """

    def __init__(self, members: list[Member], n_threads: int) -> None:
        self.members = members
        n_last = LAST * n_threads if n_threads > 1 else 0
        self._n_alone = max(0, len(members) - n_last)
        self._shared = np.zeros(kernel.N_SHARED, np.int64)
        self._spans: list[list[float]] = []  # when each thread began, and when it ended
        self._is_told = np.zeros(len(members), bool)
        self._most = max(members, key=lambda member: len(member.form.judged))
        self._most_held_out = max(member.form.n_held_out for member in members)
        self._n_bytes = sum(member.n_bytes for member in members)
        self._costs = np.array([member.cost for member in members])
        self.n_coming = 0  # threads that have chosen this family but not begun
        with self._borrowed_plans() as (engine, *predictions):
            self._at_once = max(1, int(CALL_SECONDS * SLOWEST / engine.work))
            self._first_place = engine.plan.place("run", "first")
            plans = engine.plan, *(prediction.plan for prediction in predictions)
            self._tables: Tables | None = Tables(members, *plans)  # until all results are reported

    @contextmanager
    def _borrowed_plans(self) -> Iterator[tuple[Engine, Prediction, Prediction]]:
        """Yield a thread's engine, prediction and validation, used for each network in turn.

        If the networks hold out no samples, the validation is the prediction itself.
        """
        candidate, form, samples = self._most.candidate, self._most.form, self._most.fold.samples
        network = candidate.network
        engine = network._make_engine(
            form.shape,
            form.names,
            samples.for_dtype(form.shape.dtype),
            form.batch_size,
            keep_gradient=network.clip_norm is not None,
            dropout=candidate.dropout,
            by_lbfgs=candidate.by_lbfgs,
        )
        predictor, judged = Predictor(form.model), form.judged
        prediction = predictor.prepare(form.names, judged.X, 1, judged.numbers)
        validation = prediction
        if self._most_held_out > 0:
            rows = number_rows(samples.X.shape[0])[: self._most_held_out]
            validation = predictor.prepare(form.names, samples.X, 1, rows)
        yield engine, prediction, validation
        engine.close()
        for each in {prediction, validation}:
            each.close()

    # Training ----------------------------------------------------------------------------------

    def work(self, begins: Callable[[], object]) -> None:
        """Train and judge networks until none is left; several threads may call this at once.

        `begins` is called just before the compiled call, which releases the GIL, or at once if no
        network is left.
        """
        tables = self._tables
        if not self.has_left or tables is None:
            begins()
            return
        with self._borrowed_plans() as (engine, *predictions):
            plans = engine.plan, *(prediction.plan for prediction in predictions)
            saved = [plan.integers.copy() for plan in plans]
            compiled = engine.address, *(prediction.address for prediction in predictions)
            score = score_function(self._most.candidate.network)
            addresses = kernel.addresses_of(plans, compiled, score, self._most.form.rounds)
            for prediction in predictions:
                prediction.plan.workspace.team[:] = 0
            span = [perf_counter(), np.inf]
            self._spans.append(span)
            begins()
            kernel.do_jobs()(
                *map(address_of, (self._shared, tables.jobs, tables.watches, tables.counts)),
                len(self.members), self._n_alone,
                *map(address_of, (tables.columns, tables.values, tables.ends)),
                *(plan.address for plan in plans), address_of(addresses), self._first_place,
                self._at_once,
            )  # fmt: skip
            span[1] = perf_counter()
            engine.compile_what_is_wanted()
            for plan, integers in zip(plans, saved, strict=True):
                plan.integers[:] = integers

    @property
    def has_left(self) -> bool:
        """Whether some networks have not been taken by any thread."""
        tables = self._tables
        return tables is not None and bool((tables.jobs[:, kernel.STATE] == kernel.WAITING).any())

    @property
    def is_told(self) -> bool:
        """Whether all results have been reported."""
        return self._tables is None

    @property
    def n_bytes_left(self) -> int:
        """Bytes of the family while some networks are not taken, then 0."""
        return self._n_bytes if self.has_left else 0

    @property
    def work_for_one_more(self) -> float:
        """The work left per thread if one more joins; 0 if there is none for another thread."""
        tables = self._tables
        if tables is None or not self.has_left:
            return 0.0
        ks = np.flatnonzero(tables.jobs[:, kernel.STATE] != kernel.DONE)
        n_threads = sum(end == np.inf for _, end in self._spans) + self.n_coming
        if len(ks) <= n_threads:
            return 0.0
        left, n_chunks = tables.jobs[ks[:, None], [kernel.LEFT, kernel.CHUNKS]].T
        work = self._costs[ks] @ (np.maximum(left, 1) / n_chunks)
        return float(work) / (n_threads + 1)

    def stop(self) -> None:
        """Tell the threads to leave soon and take no more networks."""
        self._shared[kernel.STOP] = 1

    # Results -----------------------------------------------------------------------------------

    def results(self, in_time: bool = True) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield the numbers and results of fits that are done but not yet reported.

        A result of None means that the fit must be run again by itself, where any failure is
        reported properly. Unless `in_time`, fits still to be scored in Python are left out.
        """
        tables = self._tables
        if tables is None:
            return
        is_done = tables.jobs[:, kernel.STATE] == kernel.DONE
        ks = np.flatnonzero(is_done & ~self._is_told)
        if len(ks) == 0:
            return
        seconds = sum(min(end, perf_counter()) - begin for begin, end in self._spans)
        of_fit = tables.n_epochs * [member.products_per_epoch for member in self.members]
        of_score = np.array([len(member.form.judged) for member in self.members])
        per_product = seconds / max(1, (of_fit + of_score)[is_done].sum())
        for k, went_well in zip(ks.tolist(), tables.went_well(ks), strict=True):
            if not (in_time or self.members[k].candidate.is_counted):
                continue
            result, fit, fit_time = None, self.members[k].fit, of_fit[k] * per_product
            if went_well and _warn(tables, k):
                result = _describe(tables, k, fit_time, of_score[k] * per_product)
            if result is not None and fit.key is not None:
                fit.kept = Survivor(tables, k, fit_time)
            yield self.members[k].number, result
            self._is_told[k] = True
        if self._is_told.all():
            self._tables = None  # each `Survivor` keeps its own reference


def _warn(tables: Tables, k: int) -> bool:
    """Warn if network k has not converged; return False if the filters make that an error."""
    candidate = tables.members[k].candidate
    try:
        if candidate.by_lbfgs:
            _check_optimize_result("lbfgs", tables.end(k), candidate.network.max_iter)
        elif tables.watches[k, HALTED] == 0:
            limit = limit_of_epochs(candidate.network.max_iter)
            warn_of_limit(limit, stacklevel=3)
    except ConvergenceWarning:
        return False
    return True


def _describe(tables: Tables, k: int, fit_time: float, score_time: float) -> dict[str, Any] | None:
    """Return a result in the form of scikit-learn's `_fit_and_score`; None if scoring failed."""
    member = tables.members[k]
    fit, fold = member.fit, member.fold
    if member.candidate.is_counted:
        n_test, n_judged = len(fold.test.rows), len(member.form.judged)
        shares = tables.counts[k, :2] / [n_test, max(1, n_judged - n_test)]
        scores = shares[: len(judged_parts(fit))].tolist()
    else:
        began = perf_counter()
        try:
            scores = judge_outputs(fit, member.candidate.network, fold, tables.outputs(k))
        except Exception:  # raised again when the fit is run by itself
            return None
        score_time += (perf_counter() - began) / len(scores)
    return describe(fit, fold, scores, fit_time, score_time)
