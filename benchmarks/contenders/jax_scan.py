"""JAX: an epoch is one compiled call, a `lax.scan` over its mini-batches."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.contenders.draws import Draws
from benchmarks.problems import ALPHA, Problem

jax.config.update("jax_enable_x64", True)  # float64 data stay float64; float32 is unaffected

State = dict[str, Any]  # the weights, the solver's moments and the number of steps


class JaxScan:
    """Keeps weights and solver state in XLA's memory; each epoch reuses the donated buffers."""

    given = (
        "each epoch is one jitted `lax.scan` over the mini-batches, with donated buffers and "
        "hand-written Adam or SGD; XLA derives its threads from the processors it may run on"
    )

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        self.problem, self.dtype = problem, dtype
        X, y = problem.data(dtype)
        self.X, self.y = jnp.asarray(X), jnp.asarray(y)
        self.epoch = jax.jit(partial(_train_epoch, problem), donate_argnums=0)

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch."""
        draws = Draws(self.problem)
        state = _begin(self.problem, draws.weights(self.dtype))
        losses = []
        for order in draws.orders(epochs):
            state, loss = self.epoch(state, self.X, self.y, order)
            losses.append(loss)
        return [float(loss) for loss in losses]  # blocks until they are computed


def _begin(problem: Problem, weights: Any) -> State:
    weights = jax.tree.map(jnp.asarray, weights)
    moments = ("first", "second") if problem.solver == "adam" else ("first",)
    state = {name: jax.tree.map(jnp.zeros_like, weights) for name in moments}
    return {"weights": weights, "steps": jnp.zeros((), weights[0][0].dtype), **state}


def _train_epoch(
    problem: Problem, state: State, X: jax.Array, y: jax.Array, order: jax.Array
) -> tuple[State, jax.Array]:
    step = _adam if problem.solver == "adam" else _sgd

    def train_batch(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
        loss, gradient = jax.value_and_grad(_objective)(state["weights"], X[rows], y[rows])
        return step(state, gradient), loss * len(rows)

    whole = problem.n_samples // problem.batch_size * problem.batch_size
    batches = order[:whole].reshape(-1, problem.batch_size)
    state, losses = jax.lax.scan(train_batch, state, batches)
    total = losses.sum()
    if whole < problem.n_samples:
        state, loss = train_batch(state, order[whole:])
        total += loss
    return state, total / problem.n_samples


def _objective(weights: Any, X: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean log loss of a mini-batch plus the L2 penalty."""
    a = X
    for W, b in weights[:-1]:
        a = jax.nn.relu(a @ W + b)
    W, b = weights[-1]
    z = a @ W + b
    if z.shape[1] == 1:
        losses = jax.nn.softplus(z[:, 0]) - y * z[:, 0]
    else:
        losses = -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)
    squares = sum(jnp.vdot(W, W) for W, _ in weights)
    return losses.mean() + ALPHA / 2 * squares / len(X)


def _adam(state: State, gradient: Any) -> State:
    steps = state["steps"] + 1
    rate = 1e-3 * jnp.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["first"], gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["second"], gradient)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), state["weights"], first, second
    )
    return {"weights": weights, "first": first, "second": second, "steps": steps}


def _sgd(state: State, gradient: Any) -> State:
    """Take a step of SGD with Nesterov's momentum."""
    first = jax.tree.map(lambda v, g: 0.9 * v - 1e-3 * g, state["first"], gradient)
    weights = jax.tree.map(
        lambda w, v, g: w + 0.9 * v - 1e-3 * g, state["weights"], first, gradient
    )
    return {"weights": weights, "first": first, "steps": state["steps"] + 1}
