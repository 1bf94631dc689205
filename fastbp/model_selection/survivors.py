"""Networks of families that may continue in the next round of a search."""

from functools import cached_property
from typing import Any

from fastbp.estimators.base import BaseBP
from fastbp.model_selection.evaluation import set_parameters
from fastbp.model_selection.fits import find_network
from fastbp.model_selection.standing import Kept, Standing
from fastbp.model_selection.tables import Tables
from fastbp.network import Weights
from fastbp.randomness import make_random_state, words_of
from fastbp.training.engine import Epochs
from fastbp.training.limited_memory import LimitedMemory
from fastbp.training.stochastic import State, take_note

__all__ = ["Survivor"]


class Survivor(Kept):
    """The state of a family's network; the network itself is made only if a fit needs it.

    Parameters
    ----------
    tables : Tables
    k : int
        The network's row.
    seconds : float
        How long it was trained.
    """

    def __init__(self, tables: Tables, k: int, seconds: float) -> None:
        self._tables: Tables | None = tables  # until the network is made
        self._k, self._seconds = k, seconds

    def __reduce__(self) -> Any:
        # It is pickled as a plain `Kept`, with its network made.
        return _itself, (Kept(self.network, self.state),)

    @property
    def network(self) -> BaseBP:  # type: ignore[override]
        """The network."""
        return self._made[0]

    @property
    def state(self) -> State:  # type: ignore[override]
        """The state of its training."""
        return self._made[1]

    @property
    def n_iter(self) -> int:
        """Epochs so far."""
        if self._tables is None:
            return super().n_iter
        member = self._tables.members[self._k]
        if member.candidate.by_lbfgs:
            return int(self._tables.end(self._k).nit)
        return int(self._tables.n_epochs[self._k]) + (member.kept.n_iter if member.kept else 0)

    def standing(self) -> Standing:
        """Return the training state as arrays and numbers."""
        return super().standing() if self._tables is None else self._tables.standing(self._k)

    @cached_property
    def _made(self) -> tuple[BaseBP, State]:
        assert self._tables is not None
        made = _make(self._tables, self._k, self._seconds)
        self._tables = None
        return made


def _itself(kept: Kept) -> Kept:
    return kept


def _make(tables: Tables, k: int, seconds: float) -> tuple[BaseBP, State]:
    """Return a network as its training in a family has left it, and the state to continue from."""
    member = tables.members[k]
    network: Any
    if member.kept:
        network, state = member.kept.network, member.kept.state
        network.max_iter = member.candidate.network.max_iter
    else:
        network = find_network(set_parameters(member.fit.estimator, member.fit.parameters))
        member.fold.tell(network)
        network._start_afresh(Weights(member.form.model.units, member.form.model.dtype))
        state = State(member.fold.order(), make_random_state(0))
    state.seconds += seconds
    if member.candidate.by_lbfgs:
        _take_up_memory(network, state, member.form.shape, tables.standing(k))
    else:
        _take_up_epochs(network, state, tables, k, seconds)
    network.n_iter_ = state.n_iter
    return network, state


def _take_up_memory(network: Any, state: State, shape: Weights, standing: Any) -> None:
    """Bring a network and its state to where L-BFGS stands."""
    weights = Weights(shape.units, shape.dtype)
    weights.flat[...] = standing.weights
    network._weights.flat[...] = weights.astype(network._weights.dtype).flat
    memory = state.memory = LimitedMemory(weights)
    memory.vectors[...], memory.numbers[...] = standing.first, standing.second
    state.n_iter, state.loss = memory.n_iter, memory.loss
    network.loss_ = memory.loss


def _take_up_epochs(network: Any, state: State, tables: Tables, k: int, seconds: float) -> None:
    """Bring a network and its state to where its epochs in a family have led.

    The score and learning rate of each epoch are not kept: fits that need them are in no family.
    """
    standing: Any = tables.standing(k)
    member, n_epochs = tables.members[k], int(tables.n_epochs[k])
    if not member.kept:
        network._optimizer = network._make_optimizer()
    optimizer, first_step = network._optimizer, member.steps_taken
    optimizer.begin(network._weights, member.steps_per_epoch, network.max_iter)
    optimizer.steps_taken = first_step + n_epochs * member.steps_per_epoch
    vectors = optimizer.first, optimizer.second
    for vector, values in zip(vectors, (standing.first, standing.second), strict=True):
        if vector is not None:
            vector.flat[...] = values
    words_of(state.random_state)[:] = standing.words.tolist()
    state.order = standing.order.copy()
    state.goes_on, state.dropout_seed = standing.goes_on, standing.dropout_seed
    last_steps = range(
        first_step + member.steps_per_epoch - 1, optimizer.steps_taken, member.steps_per_epoch
    )
    epochs = Epochs(
        tables.losses[k, :n_epochs].tolist(),
        tables.norms[k, :n_epochs].tolist(),
        last_steps,
        seconds / max(1, n_epochs),
    )
    record, halt = network._take_up_record(), tables.watches[k]
    weights = standing.weights
    if standing.validation:
        state.held_out, weights, score = standing.validation
        state.best, state.latest = weights.copy(), standing.weights.copy()
        record.validation_scores.append(score)
        record.best_validation_score, halt = score, None
        record.epochs_without_improvement = standing.waited
    if standing.rate is not None:
        optimizer.learning_rate = standing.rate
    network._weights.flat[...] = weights
    take_note(optimizer, record, state, epochs, halt, {})
    network._keep_record(record)
