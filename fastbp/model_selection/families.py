"""Families: networks of one shape, each trained and judged without Python in between.

A short fit takes its arithmetic a millisecond, and Python, which one thread runs at a time, a third
of one. So the networks of a search that differ in numbers only, as rates, penalties, seeds and
folds, are prepared together, and threads train and judge them in one compiled call each, the next
as each has done its last (`kernels/family.py`). `members.py` says which fits are done so.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import count
from time import monotonic, perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastbp.estimators.base import BaseBP
from fastbp.kernels import family as kernel
from fastbp.kernels.arrays import ENDED, HALTED, LOSS_PARAMETER, N_TOTALS, SQUARES
from fastbp.kernels.jit import DISABLED
from fastbp.kernels.plan import Plan, address_of
from fastbp.kernels.shuffle import generator_addresses
from fastbp.model_selection.evaluation import Evaluator, describe, judged_parts, set_parameters
from fastbp.model_selection.fits import Fit, Kept, find_network
from fastbp.model_selection.members import Member, recruit
from fastbp.network import Weights, aligned_rows, transpose_weights
from fastbp.prediction import Prediction, Predictor
from fastbp.randomness import WORDS, borrowed_random_state, make_random_state, words_of
from fastbp.samples import Samples, row_type
from fastbp.training.engine import SLOWEST, Engine, Epochs, make_watch, sum_squares
from fastbp.training.stochastic import State, limit_of_epochs, take_note, warn_of_limit

__all__ = ["GRACE", "find_families", "run_families"]

Array = NDArray[Any]

MOST_BYTES = 1 << 24  # of all arrays of a family; one network that takes much of it is in none
FEWEST = 4  # networks of a family that is as large as it may be
MOST_AHEAD = 2 * MOST_BYTES  # of families that are prepared and have networks left
CALL_SECONDS = 0.05  # at the most, after which Ctrl-C is heard
TELLING_SECONDS = 0.02  # after which results are told of
GRACE = 0.7  # seconds that Ctrl-C waits for fits to end


def find_families(
    evaluator: Evaluator, fits: Sequence[Fit]
) -> tuple[list[list[Member]], list[int]]:
    """Return the members of each family among some fits, and the numbers of the other fits.

    The longest fits come first.
    """
    if DISABLED:
        return [], list(range(len(fits)))
    found, others = recruit(evaluator, fits)
    families = []
    for members in found:
        most = MOST_BYTES // max(member.n_bytes for member in members)
        if most < FEWEST:
            others += [member.number for member in members]
            continue
        members.sort(key=lambda member: -member.cost)
        families += [members[i : i + most] for i in range(0, len(members), most)]
    return sorted(families, key=lambda members: -members[0].cost), sorted(others)


class _Start(NamedTuple):
    """What networks begin with that are drawn by one seed."""

    weights: Array
    mirror: Array  # their transposes
    squares: float
    state: Array  # of the generator, after the draw


class Family:
    """Networks of one shape, trained and judged by threads that each call `work`.

    Parameters
    ----------
    members : list of Member
        In the order in which they are taken.
    """

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._shape, self._names = members[0].shape, members[0].names
        self._shared = np.zeros(kernel.N_SHARED, np.int64)
        self._spans: list[list[float]] = []  # when each thread has begun, and ended
        self._is_told = np.zeros(len(members), bool)
        self._allocate()
        engine, prediction = self._make_plans()
        self._at_once = max(1, int(CALL_SECONDS * SLOWEST / engine.work))
        self._first_place = engine.plan.place("run", "first")
        of_training = self._tabulate_training(engine.plan)
        of_prediction = self._tabulate_prediction(prediction.plan)
        self._n_training = len(of_training[0])
        self._columns = np.concatenate([of_training[0], of_prediction[0]])
        self._values = np.ascontiguousarray(np.hstack([of_training[1], of_prediction[1]]))
        engine.close()
        prediction.close()

    # What is not needed once all results are told of.
    _large = (
        "_parameters", "_first", "_second", "_orders", "_states", "_generators",
        "_losses", "_norms", "_values", "_alive",
    )  # fmt: skip

    # Preparing ---------------------------------------------------------------------------------

    def _allocate(self) -> None:
        """Make arrays with a row for each network."""
        members, n, dtype = self.members, len(self.members), self._shape.dtype
        n_epochs = max(member.candidate.network.max_iter for member in members)
        n_samples = max(member.n_samples for member in members)
        rows = row_type(members[0].fold.samples.X.shape[0])
        self._parameters, self._first, self._second = (
            aligned_rows(n, self._shape.flat.size, dtype) for _ in range(3)
        )
        self._orders = aligned_rows(n, n_samples, rows)
        self._states = aligned_rows(n, WORDS, np.uint32)
        self._generators = np.tile(generator_addresses(RandomState(0)), (n, 1))
        self._generators[:, 1] = _rows_at(self._states)
        self._losses, self._norms = (aligned_rows(n, n_epochs, np.float64) for _ in range(2))
        self._watches = aligned_rows(n, kernel.WATCH_ROW, np.float64)
        self._totals = np.zeros((n, N_TOTALS))
        self._counts = np.zeros((n, kernel.N_COUNTS))
        self._seconds = np.zeros(n)
        self._jobs = np.zeros((n, kernel.N_OF_JOB), np.int64)
        self._jobs[:, kernel.TOTALS] = _rows_at(self._totals)

    def _make_plans(self) -> tuple[Engine, Prediction]:
        """Return what a thread trains and predicts by; each network puts in its own arrays."""
        most = max(self.members, key=lambda member: len(member.judged))
        network, samples = most.candidate.network, most.fold.samples
        engine = network._make_engine(self._shape, self._names, samples, most.batch_size)
        predictor = Predictor(self._shape)
        judged = most.judged
        return engine, predictor.prepare(self._names, judged.X, 1, judged.numbers)

    def _tabulate_training(self, plan: Plan) -> tuple[Array, Array]:
        """Write down what each network begins with.

        Returns
        -------
        columns : ndarray
            The places of those integers of the plan that differ from network to network.
        values : ndarray of shape (n_networks, n_columns)
        """
        size = self._shape.flat.size
        data, solver, run = (plan.span(name) for name in ("data", "solver", "run"))
        table = np.zeros((len(self.members), len(plan.integers)), np.int64)
        of_fold: dict[int, Array] = {}
        of_candidate: dict[Any, Array] = {}
        starts: dict[Any, _Start] = {}
        self._alive: list[Any] = [of_fold, of_candidate, starts]  # what the integers point to
        for k, member in enumerate(self.members):
            network, fold = member.candidate.network, member.fold
            if id(fold) not in of_fold:
                arrays = fold.samples.bundle(self._shape.dtype)._asdict()
                arrays["order"] = self._orders[0, : member.n_samples]
                plan.set("data", **arrays)
                of_fold[id(fold)] = plan.integers[data].copy()
                self._alive.append(arrays)
            table[k, data] = of_fold[id(fold)]
            if network.shuffle:
                table[k, plan.place("data", "generator") + 1] = self._generators.shape[1]
            key = id(member.candidate), member.steps_per_epoch
            if key not in of_candidate:
                rules = self._rules_of(member)
                plan.set("solver", **rules)
                of_candidate[key] = plan.integers[solver].copy()
                self._alive.append(rules)
            table[k, solver] = of_candidate[key]
            drawn_by = member.seed, str(network.activation), network.init
            if drawn_by not in starts:
                starts[drawn_by] = self._draw(network, member.seed, plan)
            start = starts[drawn_by]
            self._parameters[k, :size] = start.weights
            self._orders[k, : member.n_samples] = fold.order()
            self._states[k, :WORDS] = start.state
            watch = make_watch(tolerance=network.tol, patience=network.n_iter_no_change)
            self._watches[k, : len(watch)] = watch
            self._totals[k, [SQUARES, LOSS_PARAMETER]] = start.squares, network._engine_loss()[1]
            self._jobs[k, [kernel.MIRROR, kernel.CHUNKS, kernel.TEST_ROWS]] = (
                address_of(start.mirror),
                member.n_steps,
                len(fold.test.rows),
            )
        rows_of_run = {"losses": self._losses, "norms": self._norms, "watch": self._watches}
        plan.set("run", **{name: rows[0] for name, rows in rows_of_run.items()})
        table[:, run] = plan.integers[run]
        rows_of = [("run", name, rows) for name, rows in rows_of_run.items()] + [
            ("network", "parameters", self._parameters),
            ("data", "order", self._orders),
            ("data", "generator", self._generators),
            ("solver", "first", self._first),
            ("solver", "second", self._second),
        ]
        for bundle, field, rows in rows_of:
            table[:, plan.place(bundle, field)] = _rows_at(rows)
        columns = np.array([plan.place("network", "parameters"), *data, *solver, *run])
        return columns, table[:, columns]

    def _rules_of(self, member: Member) -> dict[str, Any]:
        """Return the fields of `Solver` for a candidate; its vectors are those of the first row."""
        optimizer, n_epochs = member.candidate.optimizer, member.candidate.network.max_iter
        optimizer.begin(self._shape, member.steps_per_epoch, n_epochs)
        rules = optimizer.rule() | optimizer.next_steps(member.n_steps)
        for name, rows in (("first", self._first), ("second", self._second)):
            if rules[name].size:
                rules[name] = rows[0, : self._shape.flat.size]
        return rules

    def _draw(self, network: BaseBP, seed: Any, plan: Plan) -> _Start:
        with borrowed_random_state(seed) as random_state:
            units, dtype = self._shape.units, self._shape.dtype
            weights = network._draw(units, self._names[:-1], random_state, dtype)
            state = np.array(words_of(random_state))
        plan.set("network", parameters=weights.flat)
        transpose_weights(plan.network)
        mirror = plan.network.transposed.copy()
        return _Start(weights.flat, mirror, sum_squares(weights), state)

    def _tabulate_prediction(self, plan: Plan) -> tuple[Array, Array]:
        """Return columns and values as `_tabulate_training`, of the plan for prediction."""
        data = plan.span("data")
        table = np.zeros((len(self.members), len(plan.integers)), np.int64)
        of_fold: dict[int, Array] = {}
        for k, member in enumerate(self.members):
            if id(member.fold) not in of_fold:
                X, rows = member.judged.X, member.judged.numbers
                arrays = Samples(X).stored() | {"order": rows, "labels": member.labels()}
                plan.set("data", **arrays)
                of_fold[id(member.fold)] = plan.integers[data].copy()
                self._alive.append(arrays)
            table[k, data] = of_fold[id(member.fold)]
        columns = [plan.place("network", "parameters"), *data]
        for bundle, field, matrix in (
            ("network", "parameters", self._parameters),
            ("run", "watch", self._counts),
        ):
            place = plan.place(bundle, field)
            table[:, place] = _rows_at(matrix)
            table[:, place + 1] = matrix.shape[1]
        columns += [place, place + 1]
        return np.array(columns), table[:, columns]

    # Training ----------------------------------------------------------------------------------

    def work(self, begins: Callable[[], object]) -> None:
        """Train and judge networks until none is left; several threads may do so at once.

        `begins` is called before the compiled call, after which Python is free for others.
        """
        values = vars(self).get("_values")  # it is there while networks are left
        if self.n_bytes_left == 0:
            return
        engine, prediction = self._make_plans()
        plans = engine.plan, prediction.plan
        saved = [plan.integers.copy() for plan in plans]
        addresses = kernel.addresses_of(*plans, engine.address, prediction.address)
        prediction.plan.workspace.team[:] = 0
        span = [perf_counter(), np.inf]
        self._spans.append(span)
        begins()
        kernel.do_jobs()(
            *map(address_of, (self._shared, self._jobs, self._watches)), len(self.members),
            *map(address_of, (self._columns, values)), len(self._columns), self._n_training,
            *(plan.address for plan in plans), address_of(addresses), self._first_place,
            self._at_once,
        )  # fmt: skip
        span[1] = perf_counter()
        engine.compile_what_is_wanted()
        for plan, integers in zip(plans, saved, strict=True):
            plan.integers[:] = integers
        engine.close()
        prediction.close()

    @property
    def n_bytes_left(self) -> int:
        """What it takes as long as there are networks that no thread has taken, then 0."""
        has_left = self._shared[kernel.NEXT] < len(self.members)
        return sum(member.n_bytes for member in self.members) if has_left else 0

    def stop(self) -> None:
        """Have the threads leave soon, and do no more."""
        self._shared[kernel.STOP] = 1

    # Results -----------------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield the numbers of fits that are done and have not been told of, and their results.

        None as a result says that the fit is to be done by itself, to fail as it must.
        """
        is_done = self._jobs[:, kernel.IS_DONE] != 0
        seconds = sum(min(end, perf_counter()) - begin for begin, end in self._spans)
        # To learn from a sample takes three products of its weights, to be judged by it one.
        of_fit = 3 * self._watches[:, ENDED] * [member.n_samples for member in self.members]
        of_score = np.array([len(member.judged) for member in self.members])
        per_product = seconds / max(1, (of_fit + of_score)[is_done].sum())
        for k in np.flatnonzero(is_done & ~self._is_told).tolist():
            result = None
            if self._is_finite(k) and self._warn(k):
                result = self._describe(k, of_fit[k] * per_product, of_score[k] * per_product)
            yield self.members[k].number, result
            self._is_told[k] = True
        if self._is_told.all() and self.members[0].fit.key is None:  # none is to go on
            for name in self._large:
                self.__dict__.pop(name, None)

    def _is_finite(self, k: int) -> bool:
        """Tell whether all went well: what does not is reported by who does it by itself."""
        return bool(
            self._counts[k, kernel.N_NANS] == 0
            and np.isfinite(self._parameters[k]).all()
            and np.isfinite(self._losses[k, : int(self._watches[k, ENDED])]).all()
        )

    def _warn(self, k: int) -> bool:
        """Warn where it has not converged; false where warnings are errors."""
        try:
            if self._watches[k, HALTED] == 0:
                limit = limit_of_epochs(self.members[k].candidate.network.max_iter)
                warn_of_limit(limit, stacklevel=3)
        except ConvergenceWarning:
            return False
        return True

    def _describe(self, k: int, fit_time: float, score_time: float) -> dict[str, Any]:
        fit, fold = self.members[k].fit, self.members[k].fold
        self._seconds[k] = fit_time
        n_test, n_judged = len(fold.test.rows), len(self.members[k].judged)
        scores = self._counts[k, :2] / [n_test, max(1, n_judged - n_test)]
        if fit.key is not None:
            fit.kept = _Left(self, k)
        return describe(fit, fold, scores[: len(judged_parts(fit))].tolist(), fit_time, score_time)

    def take_up(self, k: int) -> tuple[BaseBP, State]:
        """Make a network as its training has left it, and what that can go on from."""
        member, size = self.members[k], self._shape.flat.size
        n_epochs, steps_per_epoch = int(self._watches[k, ENDED]), member.steps_per_epoch
        network: Any = find_network(set_parameters(member.fit.estimator, member.fit.parameters))
        member.fold.tell(network)
        weights = Weights(self._shape.units, self._shape.dtype)
        weights.flat[...] = self._parameters[k, :size]
        network._start_afresh(weights)
        optimizer = network._optimizer = network._make_optimizer()
        optimizer.begin(weights, steps_per_epoch, network.max_iter)
        optimizer.steps_taken = n_epochs * steps_per_epoch
        for vector, rows in ((optimizer.first, self._first), (optimizer.second, self._second)):
            if vector is not None:
                vector.flat[...] = rows[k, :size]
        random_state = make_random_state(0)
        words_of(random_state)[:] = self._states[k, :WORDS].tolist()
        state = State(self._orders[k, : member.n_samples].copy(), random_state)
        state.goes_on = bool(self._watches[k, HALTED] == 0)
        state.seconds = float(self._seconds[k])
        epochs = Epochs(
            self._losses[k, :n_epochs].tolist(),
            self._norms[k, :n_epochs].tolist(),
            range(steps_per_epoch - 1, optimizer.steps_taken, steps_per_epoch),
            state.seconds / n_epochs,
        )
        progress = network._take_up_progress()
        take_note(optimizer, progress, state, epochs, self._watches[k], {})
        network._keep_progress(progress)
        network.n_iter_ = state.n_iter
        return network, state


class _Left(Kept):
    """A network of a family, made only where its training goes on."""

    def __init__(self, family: Family, k: int) -> None:
        self._family, self._k = family, k

    def __reduce__(self) -> Any:
        # To another process it goes as what it stands for.
        return _itself, (Kept(self.network, self.state),)

    @cached_property
    def _made(self) -> tuple[BaseBP, State]:
        made = self._family.take_up(self._k)
        del self._family
        return made

    @property
    def network(self) -> BaseBP:  # type: ignore[override]
        """The network."""
        return self._made[0]

    @property
    def state(self) -> State:  # type: ignore[override]
        """Where its training stands."""
        return self._made[1]


def _itself(kept: Kept) -> Kept:
    return kept


def run_families(
    groups: Sequence[list[Member]], n_workers: int, done: Callable[[int, dict[str, Any]], None]
) -> tuple[list[int], bool]:
    """Train and judge families on threads; call ``done(number, result)`` for each fit.

    While they are at the first, the next are prepared.

    Returns
    -------
    again : list of int
        The numbers of fits that are to be done by themselves.
    is_interrupted : bool
        Whether Ctrl-C came in between: then some are not done.
    """
    again: list[int] = []
    errors: list[BaseException] = []
    families: list[Family] = []
    n_families, changed = len(groups), threading.Condition()
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        try:
            for i in count():
                with changed:
                    while len(families) <= i < n_families:
                        changed.wait()
                if n_families <= i:
                    break
                families[i].work(begun.release)
        except BaseException as error:
            errors.append(error)
        finally:
            ended.release()

    def give_up() -> None:
        nonlocal n_families
        n_families = 0
        for family in families:
            family.stop()
        with changed:
            changed.notify_all()

    def tell() -> None:
        for family in families:
            for number, result in family.results():
                if result is None:
                    again.append(number)
                else:
                    done(number, result)

    n_running = 0
    try:
        for members in groups:
            while not errors and sum(family.n_bytes_left for family in families) >= MOST_AHEAD:
                sleep(TELLING_SECONDS)
                tell()
            families.append(Family(members))
            with changed:
                changed.notify_all()
            while n_running < min(n_workers, sum(map(len, groups))):
                threading.Thread(target=work).start()
                n_running += 1
                begun.acquire(timeout=TELLING_SECONDS)  # now it needs no Python
        while n_running:
            n_running -= ended.acquire(timeout=TELLING_SECONDS)
            tell()
    except KeyboardInterrupt:
        give_up()
        until = monotonic() + GRACE
        with suppress(KeyboardInterrupt):
            while n_running and monotonic() < until:
                n_running -= ended.acquire(timeout=TELLING_SECONDS)
        tell()
        return again, True
    except BaseException:
        give_up()
        raise
    if errors:
        raise errors[0]
    return again, False


def _rows_at(rows: Array) -> Array:
    """Return the addresses of the rows of a matrix."""
    return address_of(rows) + rows.strides[0] * np.arange(len(rows))
