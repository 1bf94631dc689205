"""The training state of a search's network, from which the next round continues."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fastbp.estimators.base import BaseBP
from fastbp.kernels.lbfgs import AT_ITERATE, STAGE
from fastbp.network import Weights
from fastbp.randomness import words_of
from fastbp.training.limited_memory import reopen
from fastbp.training.stochastic import State

__all__ = ["Kept", "Standing", "Validation"]

Array = NDArray[Any]


class Validation(NamedTuple):
    """Further state of a training with early stopping by a score on held-out samples."""

    held_out: Array  # the row numbers of these samples
    best: Array  # the weights with the best score, in the flat layout
    score: float  # the best score


class Standing(NamedTuple):
    """The state of a training as arrays and numbers, from which it can continue."""

    weights: Array  # in the flat layout, as are the vectors of a stochastic solver
    first: Array | None = None  # the velocity or first moment; the vectors of L-BFGS
    second: Array | None = None  # the second moment; the numbers of L-BFGS
    order: Array | None = None  # of the samples; None before the first epoch
    words: Array | None = None  # the generator's state; None for L-BFGS, which does not shuffle
    best_loss: float = np.inf
    waited: int = 0  # epochs without improvement of the loss or of the score
    goes_on: bool = True  # False once training has halted of its own accord
    dropout_seed: int = 0
    rate: float | None = None  # the learning rate, if halts change it
    validation: Validation | None = None

    @classmethod
    def of_lbfgs(cls, weights: Array, vectors: Array, numbers: Array) -> Self:
        """Return the state of a training by L-BFGS, which may continue if a limit ended it."""
        numbers = numbers.copy()
        reopen(numbers)
        goes_on = bool(numbers[STAGE] == AT_ITERATE)
        return cls(weights, vectors, numbers, goes_on=goes_on)


@dataclass
class Kept:
    """A network and its training state, from which the next round of a search continues."""

    network: BaseBP
    state: State

    @property
    def n_iter(self) -> int:
        """Epochs so far."""
        return self.state.n_iter

    def standing(self) -> Standing:
        """Return the training state as arrays and numbers."""
        network: Any = self.network
        state, weights = self.state, network._weights.flat
        if state.memory is not None:
            memory = state.memory
            return Standing.of_lbfgs(memory.weights.flat, memory.vectors, memory.numbers)
        validation = None
        if state.held_out is not None and state.best is not None:
            validation = Validation(state.held_out, state.best, network.best_validation_score_)
        optimizer = network._optimizer
        first, second = (
            None if vector is None else vector.flat
            for vector in (optimizer.first, optimizer.second)
        )
        return Standing(
            weights if state.latest is None else state.latest,
            first,
            second,
            order=state.order,
            words=np.array(words_of(state.random_state)),
            best_loss=np.inf if validation else network.best_loss_,
            waited=network._no_improvement_count,
            goes_on=state.goes_on,
            dropout_seed=state.dropout_seed,
            rate=optimizer.learning_rate if optimizer.after_halt else None,
            validation=validation,
        )

    def __getstate__(self) -> dict[str, Any]:
        # The padding depends on the processor.
        state = self._change_vectors(Weights.without_padding)
        optimizer = getattr(self.network, "_optimizer", None)
        return {"network": self.network, "optimizer": optimizer, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.network, self.state = state["network"], state["state"]
        self.network._optimizer = state["optimizer"]
        self.state = self._change_vectors(Weights.with_padding)
        # The order is shuffled in place, but a received array may be shared.
        self.state.order = self.state.order.copy()

    def _change_vectors(self, change: Callable[[Weights, Array], Array]) -> State:
        """Return a copy of the state with its vectors of weights in another layout."""
        state = copy(self.state)
        if state.best is not None:
            state.best = change(self.network._weights, state.best)
        if state.latest is not None:
            state.latest = change(self.network._weights, state.latest)
        return state
