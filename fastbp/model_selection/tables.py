"""The initial and final states of a family's networks: a row for each network in every array.

Beside the arrays there is a table of integers: those of the plans for training and prediction that
differ between networks, such as the addresses of their rows. Each thread has plans of its own, into
which it writes the next network's integers (`kernels/family.py`).
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from fastbp.estimators.early_stopping import compared_with
from fastbp.kernels import family as kernel
from fastbp.kernels import lbfgs
from fastbp.kernels.arrays import (
    BEST_LOSS,
    ENDED,
    HALTED,
    LOSS_PARAMETER,
    N_TOTALS,
    PATIENCE,
    RATE,
    SQUARES,
    TOLERANCE,
    WAITED,
)
from fastbp.kernels.plan import Plan, address_of
from fastbp.kernels.scores import N_NANS
from fastbp.kernels.shuffle import generator_addresses
from fastbp.kernels.update import LBFGS
from fastbp.model_selection.members import Member
from fastbp.model_selection.standing import Standing, Validation
from fastbp.network import Weights, aligned_rows
from fastbp.randomness import WORDS, borrowed_random_state, words_of
from fastbp.samples import Samples, row_type
from fastbp.training.engine import sum_squares
from fastbp.training.limited_memory import ask_for, describe_end, make_settings
from fastbp.training.solvers import LEAST_RATE
from fastbp.training.stochastic import draw_dropout_seed

__all__ = ["Tables"]

Array = NDArray[Any]

TURNS = 16  # about how many turns the training of one of the last networks takes


class Tables:
    """The arrays of a family.

    Parameters
    ----------
    members : list of Member
        Of one kind, in the order of the rows.
    training, prediction, validation : Plan
        For networks of this kind; they are overwritten. If nothing is validated, `validation` is
        `prediction`.

    Attributes
    ----------
    columns : ndarray
        The places, in one plan after the other, of the integers that differ between networks.
    values : ndarray of shape (n_networks, n_columns)
        These integers.
    ends : ndarray of shape (3,)
        The end of each plan's columns.
    """

    def __init__(
        self, members: list[Member], training: Plan, prediction: Plan, validation: Plan
    ) -> None:
        self.members, self._shape = members, members[0].form.shape
        self._model = members[0].form.model
        self._by_lbfgs = members[0].candidate.by_lbfgs
        self._scratch = Weights(self._shape.units, self._shape.dtype)
        self._alive: list[Any] = []  # keeps alive the arrays that the integers point to
        self._make_rows()
        parts = [
            self._tabulate_training(training),
            self._tabulate_prediction(
                prediction,
                self._judged_weights,
                lambda member: id(member.fold),
                self._judged,
                keeps_outputs=not members[0].candidate.is_counted,
            ),
        ]
        if members[0].form.n_held_out:
            parts.append(
                self._tabulate_prediction(validation, self.parameters, _start_key, self._validated)
            )
        lengths = [len(columns) for columns, _ in parts]
        self.ends = np.cumsum([*lengths, 0][:3])
        self.columns = np.concatenate([columns for columns, _ in parts])
        self.values = np.ascontiguousarray(np.hstack([values for _, values in parts]))

    # Results -----------------------------------------------------------------------------------

    @property
    def n_epochs(self) -> Array:
        """How many epochs, or evaluations of L-BFGS, each network has been trained for."""
        if self._by_lbfgs:
            return self.second[:, lbfgs.N_EVALUATIONS] - self._n_before
        return self.watches[:, ENDED]

    def end(self, k: int) -> OptimizeResult:
        """Return how L-BFGS has ended for network k."""
        return describe_end(self.second[k])

    def went_well(self, ks: Array) -> Array:
        """Return, for each of the networks `ks`, whether all its numbers are finite.

        If not, the fit is run again by itself, which reports the failure.
        """
        kept = [self._judged_weights, self._outputs]
        if not self._by_lbfgs:  # its line search may try points with a loss that is not finite
            kept.append(self.losses)
        are_finite = [np.isfinite(rows[ks]).all(axis=1) for rows in kept]
        went_well: Array = (self.counts[ks, N_NANS] == 0) & np.all(are_finite, axis=0)
        return went_well

    def standing(self, k: int) -> Standing:
        """Return the training state of network k; the arrays are not copied."""
        member, size, watch = self.members[k], self._shape.flat.size, self.watches[k]
        if self._by_lbfgs:
            vectors = self.first[k, : lbfgs.N_VECTORS * size]
            numbers = self.second[k, : lbfgs.N_NUMBERS]
            return Standing.of_lbfgs(self.parameters[k, :size], vectors, numbers)
        optimizer = member.candidate.optimizer
        assert optimizer
        rule = optimizer.rule()
        first, second = (
            rows[k, :size] if rule[name].size else None
            for name, rows in (("first", self.first), ("second", self.second))
        )
        validation, waited = None, WAITED
        if member.form.n_held_out:
            held_out = self._held_out[_start_key(member)]
            best, score = self._judged_weights[k, :size], float(watch[kernel.BEST_SCORE])
            validation, waited = Validation(held_out, best, score), kernel.SCORE_WAITED
        return Standing(
            self.parameters[k, :size],
            first,
            second,
            order=self.orders[k, : member.form.n_samples],
            words=self.states[k, :WORDS],
            best_loss=float(watch[BEST_LOSS]),
            waited=int(watch[waited]),
            goes_on=bool(watch[HALTED] == 0),
            dropout_seed=int(self._seeds[k]),
            rate=float(watch[kernel.STEPS + RATE]) if optimizer.after_halt else None,
            validation=validation,
        )

    def outputs(self, k: int) -> Array:
        """Return the outputs of network k for the rows that it is scored on."""
        member = self.members[k]
        rows: Array = self._outputs[k, : member.n_outputs_kept]
        return rows.reshape(len(member.form.judged), -1)

    # Initial states ----------------------------------------------------------------------------

    def _make_rows(self) -> None:
        members, n, dtype = self.members, len(self.members), self._shape.dtype
        size = self._shape.flat.size
        n_epochs = max(member.n_epochs for member in members)
        n_samples = max(member.form.n_samples for member in members)
        rows = row_type(members[0].fold.samples.X.shape[0])
        sizes = size, size, size
        if self._by_lbfgs:
            sizes = size, lbfgs.N_VECTORS * size, lbfgs.N_NUMBERS
        self.parameters, self.first, self.second = (aligned_rows(n, m, dtype) for m in sizes)
        self._judged_weights = self.parameters
        self.orders = aligned_rows(n, n_samples, rows)
        self.states = aligned_rows(n, WORDS, np.uint32)
        self._generators = np.tile(generator_addresses(RandomState(0)), (n, 1))
        self._generators[:, 1] = _rows_at(self.states)
        self._seeds = np.zeros(n, np.int64)  # of dropout
        self._n_before = np.zeros(n)  # evaluations of L-BFGS in previous rounds
        self.losses, self.norms = (aligned_rows(n, n_epochs, np.float64) for _ in range(2))
        self.watches = aligned_rows(n, kernel.WATCH_ROW, np.float64)
        self.counts = np.zeros((n, kernel.N_COUNTS))
        n_outputs = max(member.n_outputs_kept for member in members)
        self._outputs = aligned_rows(n, n_outputs, self._model.dtype)
        self._totals = np.zeros((n, N_TOTALS))
        self.jobs = np.zeros((n, kernel.N_OF_JOB), np.int64)
        self.jobs[:, kernel.TOTALS] = _rows_at(self._totals)
        self.jobs[:, kernel.FIRST_STEP] = [member.steps_taken for member in members]
        per_epoch = np.array([member.chunks_per_epoch for member in members])
        n_chunks, per_batch = per_epoch * [m.n_epochs for m in members], members[0].chunks_per_batch
        self.jobs[:, kernel.EPOCH_CHUNKS] = per_epoch
        self.jobs[:, kernel.BATCH_CHUNKS] = per_batch
        self.jobs[:, kernel.CHUNKS] = self.jobs[:, kernel.LEFT] = n_chunks
        self.jobs[:, kernel.TURN] = (n_chunks // (TURNS * per_batch) + 1) * per_batch
        self.jobs[:, kernel.REPEATS] = self._by_lbfgs
        self.jobs[:, kernel.TEST_ROWS] = [len(member.fold.test.rows) for member in members]
        networks = [member.candidate.network for member in members]
        tolerance, patience = TOLERANCE, PATIENCE
        if members[0].form.n_held_out:
            self._hold_out(size)
            tolerance, patience = kernel.SCORE_TOLERANCE, kernel.SCORE_PATIENCE
            self.watches[:, PATIENCE] = np.inf
        elif members[0].form.rounds:
            self._round()
        self.watches[:, tolerance] = [network.tol for network in networks]
        self.watches[:, patience] = [network.n_iter_no_change for network in networks]
        self._totals[:, LOSS_PARAMETER] = [network._engine_loss()[1] for network in networks]

    def _hold_out(self, size: int) -> None:
        """Allocate the extra arrays for early stopping by a score on held-out samples."""
        self._judged_weights = aligned_rows(len(self.members), size, self._shape.dtype)
        self._held_out: dict[Hashable, Array] = {}
        self.jobs[:, kernel.HELD_OUT] = [member.form.n_held_out for member in self.members]
        self.jobs[:, kernel.PARAMETERS] = _rows_at(self.parameters)
        self.jobs[:, kernel.JUDGED] = _rows_at(self._judged_weights)
        self.jobs[:, kernel.N_BYTES] = self._shape.flat.nbytes

    def _round(self) -> None:
        """Allocate the extra arrays for a model of another dtype than the training."""
        n, size = len(self.members), self._model.flat.size
        self._judged_weights = aligned_rows(n, size, self._model.dtype)
        places = self._model.places_in(self._shape)
        self._alive.append(places)
        self.jobs[:, kernel.PARAMETERS] = _rows_at(self.parameters)
        self.jobs[:, kernel.JUDGED] = _rows_at(self._judged_weights)
        self.jobs[:, kernel.N_ROUNDED] = size
        self.jobs[:, kernel.PLACES] = address_of(places)

    def _alike(self, key: Callable[[Member], Hashable]) -> list[tuple[Member, list[int]]]:
        """Group the members by a key; return the first of each group, and the rows of all."""
        found: dict[Hashable, list[int]] = {}
        for k, member in enumerate(self.members):
            found.setdefault(key(member), []).append(k)
        return [(self.members[ks[0]], ks) for ks in found.values()]

    def _tabulate_training(self, plan: Plan) -> tuple[Array, Array]:
        """Return the columns and values of the plan for training."""
        table = np.zeros((len(self.members), len(plan.integers)), np.int64)
        self._write_data(plan, table)
        self._write_rules(plan, table)
        for member, ks in self._alike(_start_key):
            self._begin(member, ks)
        rows = {"losses": self.losses, "norms": self.norms, "watch": self.watches}
        plan.set("run", **{name: matrix[0] for name, matrix in rows.items()})
        run = plan.span("run")
        table[:, _slice(run)] = plan.integers[_slice(run)]
        for name, matrix in rows.items():
            table[:, plan.place("run", name)] = _rows_at(matrix)
        table[:, plan.place("run", "seed")] = self._seeds
        parameters = plan.place("network", "parameters")
        table[:, parameters] = _rows_at(self.parameters)
        columns = np.array([parameters, *plan.span("data"), *plan.span("solver"), *run])
        return columns, table[:, columns]

    def _write_data(self, plan: Plan, table: Array) -> None:
        """Write the data that each network is trained on, and their order."""
        data = _slice(plan.span("data"))
        for member, ks in self._alike(_data_key):
            samples = member.fold.samples.for_dtype(self._shape.dtype)
            arrays = samples.bundle(self._shape.dtype)._asdict()
            arrays["order"] = self.orders[0, : member.form.n_samples]
            plan.set("data", **arrays)
            table[ks, data] = plan.integers[data]
            self._alive.append(arrays)
            if not member.form.n_held_out:
                self.orders[ks, : member.form.n_samples] = member.fold.order()
        table[:, plan.place("data", "order")] = _rows_at(self.orders)
        generator = plan.place("data", "generator")
        table[:, generator] = _rows_at(self._generators)
        networks = [member.candidate.network for member in self.members]
        shuffles = [network.shuffle and not self._by_lbfgs for network in networks]
        table[shuffles, generator + 1] = self._generators.shape[1]

    def _write_rules(self, plan: Plan, table: Array) -> None:
        """Write the settings of each network's solver."""
        solver = _slice(plan.span("solver"))
        for member, ks in self._alike(_rules_key):
            rules = self._rules_of(member)
            plan.set("solver", **rules)
            table[ks, solver] = plan.integers[solver]
            self._alive.append(rules)
            optimizer = member.candidate.optimizer
            if optimizer and optimizer.after_halt:  # halts change the rate, so each has its own row
                watches = self.watches[ks]
                watches[:, [kernel.RATE_FACTOR, kernel.RATE_DIVISOR]] = optimizer.after_halt
                watches[:, kernel.LEAST_RATE] = LEAST_RATE
                watches[:, kernel.STEPS :] = rules["steps"]
                self.watches[ks] = watches
                own = _rows_at(self.watches) + kernel.STEPS * self.watches.itemsize
                table[ks, plan.place("solver", "steps")] = own[ks]
        for name, rows in (("first", self.first), ("second", self.second)):
            table[:, plan.place("solver", name)] = _rows_at(rows)

    def _ask_for(self, member: Member, numbers: Array) -> None:
        """Write the objective's settings and the limits of L-BFGS."""
        network, fold = member.candidate.network, member.fold
        ask_for(
            numbers,
            member.candidate.loss,
            self._shape.units[-1],
            fold.samples.total_weight(fold.order()),
            tol=network.tol,
            max_iter=network.max_iter,
            max_fun=network.max_fun,
        )

    def _rules_of(self, member: Member) -> dict[str, Any]:
        """Return the fields of `Solver` for a candidate, with the vectors of the first row."""
        optimizer, network = member.candidate.optimizer, member.candidate.network
        if optimizer is None:
            vectors, numbers = self.first[0], self.second[0, : lbfgs.N_NUMBERS]
            n = lbfgs.N_VECTORS * self._shape.flat.size
            state = {"code": LBFGS, "first": vectors[:n], "second": numbers}
            return state | make_settings(network.alpha)
        # The optimizer's own vectors are not used: its state is in the rows.
        lengths = member.steps_per_epoch, network.max_iter
        optimizer.begin(self._shape, *lengths, make=lambda *_: self._scratch)
        optimizer.steps_taken = member.steps_taken
        optimizer.learning_rate = float(optimizer.learning_rate_init)
        rules = optimizer.rule() | optimizer.steps_ahead(
            member.n_epochs, member.steps_per_epoch, member.form.n_samples
        )
        for name, rows in (("first", self.first), ("second", self.second)):
            if rules[name].size:
                rules[name] = rows[0, : self._shape.flat.size]
        return rules

    def _begin(self, member: Member, ks: list[int]) -> None:
        """Write the initial state of networks with one seed, or of one that continues."""
        start = member.kept.standing() if member.kept else self._draw(member)
        weights = self._scratch
        weights.flat[...] = start.weights
        self._totals[ks, SQUARES] = sum_squares(weights)
        for rows, values in (
            (self.parameters, start.weights),
            (self.first, start.first),
            (self.second, start.second),
            (self.orders, start.order),
            (self.states, start.words),
        ):
            if values is not None:
                rows[ks, : values.size] = values
        self._seeds[ks] = start.dropout_seed
        if self._by_lbfgs:
            self._n_before[ks] = self.second[ks, lbfgs.N_EVALUATIONS]
            if start.second is None:
                self.second[ks, lbfgs.SUM_SQUARES] = sum_squares(weights)
            for k in ks:
                self._ask_for(self.members[k], self.second[k])
        waited = WAITED
        if start.validation:
            self._held_out[_start_key(member)] = start.validation.held_out
            self._judged_weights[ks, : start.weights.size] = start.validation.best
            self.watches[ks, kernel.BEST_SCORE] = start.validation.score
            waited = kernel.SCORE_WAITED
        self.watches[ks, BEST_LOSS], self.watches[ks, waited] = start.best_loss, start.waited
        self.watches[ks, HALTED] = not start.goes_on
        if start.rate is not None:
            self.watches[ks, kernel.STEPS + RATE] = start.rate

    def _draw(self, member: Member) -> Standing:
        """Return the initial state of a training, drawn from the member's seed."""
        network, units = member.candidate.network, self._shape.units
        order, dropout_seed, validation = None, 0, None
        with borrowed_random_state(member.seed) as random_state:
            weights = network._draw(units, member.candidate.names, random_state, self._model.dtype)
            weights = weights.astype(self._shape.dtype)
            if member.candidate.dropout:
                dropout_seed = draw_dropout_seed(random_state)
            if member.form.n_held_out:
                fold = member.fold
                fold.tell(network)
                order, held_out = network._split(fold.samples, fold.order(), random_state)
                validation = Validation(held_out, weights.flat, -np.inf)
            words = np.array(words_of(random_state))
        return Standing(
            weights.flat,
            order=order,
            words=words,
            dropout_seed=dropout_seed,
            validation=validation,
        )

    def _judged(self, member: Member) -> tuple[Samples, Array]:
        """Return the samples a network is scored on, with labels for accuracy, and the rows."""
        rows = member.form.judged
        assert rows.numbers is not None
        labels = member.labels() if member.candidate.is_counted else None
        return Samples(rows.X, labels=labels), rows.numbers

    def _validated(self, member: Member) -> tuple[Samples, Array]:
        """Return the samples that a network is validated with, and the rows."""
        samples, rows = member.fold.samples, self._held_out[_start_key(member)]
        member.fold.tell(member.candidate.network)
        return compared_with(member.candidate.network, samples, rows), rows

    def _tabulate_prediction(
        self,
        plan: Plan,
        weights: Array,
        key: Callable[[Member], Hashable],
        data_of: Callable[[Member], tuple[Samples, Array]],
        keeps_outputs: bool = False,
    ) -> tuple[Array, Array]:
        """Return the columns and values of a plan for prediction with each row of `weights`.

        Members with equal keys predict the same rows. Unless outputs are kept, each thread
        overwrites its own.
        """
        table = np.zeros((len(self.members), len(plan.integers)), np.int64)
        data, out = _slice(plan.span("data")), plan.place("run", "out")
        result = plan.place("run", "result")
        for member, ks in self._alike(key):
            samples, rows = data_of(member)
            arrays = samples.bundle(self._model.dtype)._asdict()
            arrays["order"] = rows
            plan.set("data", **arrays)
            table[ks, data] = plan.integers[data]
            table[ks, out + 1] = len(rows)
            self._alive.append(arrays)
        for place, matrix in (
            (plan.place("network", "parameters"), weights),
            (result, self.counts),
            (out, self._outputs),
        ):
            table[:, place] = _rows_at(matrix)
        table[:, result + 1] = kernel.N_COUNTS
        columns = [plan.place("network", "parameters"), *plan.span("data"), result, result + 1]
        columns += [out, out + 1] if keeps_outputs else [out + 1]
        return np.array(columns), table[:, columns]


def _data_key(member: Member) -> Hashable:
    return id(member.fold), member.form.n_samples


def _rules_key(member: Member) -> Hashable:
    return id(member.candidate), member.form.n_samples, member.steps_taken


def _start_key(member: Member) -> Hashable:
    network = member.candidate.network
    if member.kept:
        return id(member.kept)
    held_out = (id(member.fold), network.validation_fraction) if network.early_stopping else None
    return member.seed, str(network.activation), network.init, held_out


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)


def _rows_at(rows: Array) -> Array:
    """Return the addresses of the rows of a matrix."""
    return address_of(rows) + rows.strides[0] * np.arange(len(rows))
