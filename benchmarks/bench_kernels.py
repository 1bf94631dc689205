"""Kernels under pytest-benchmark, each on one thread: products, activations, steps, prediction.

Functions that only kernels call have wrappers here that Python can call.
"""

from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks.problems import ALPHA, PROBLEMS, SEED, Array
from fastbp.blas_limit import single_threaded_blas
from fastbp.compiler.jit import call, kernel
from fastbp.compiler.memory import address
from fastbp.kernels import activations
from fastbp.kernels.activations import activate, activation_address
from fastbp.kernels.arrays import STEP, Solver
from fastbp.kernels.update import step_address
from fastbp.matmul.nonzeros import nonzeros_address
from fastbp.matmul.product import (
    BLAS,
    NO_SUMS,
    NONZEROS,
    STORE,
    TILES,
    Matrix,
    padded,
    product,
    product_addresses,
    uses_blas,
    vector_length,
)
from fastbp.matmul.subsets import GROUP, subset_addresses
from fastbp.network import Weights, aligned_zeros
from fastbp.prediction import Predictor
from fastbp.training.solvers import STOCHASTIC_SOLVERS, Optimizer

BEYOND_THE_LADDER = (256, 1024, 1024)  # large enough for BLAS
LAYERS = sorted(
    {
        (problem.batch_size, n_in, n_out)
        for problem in PROBLEMS.values()
        for n_in, n_out in pairwise(problem.units)
    }
    | {BEYOND_THE_LADDER}
)
# Layers whose rows are whole vectors in memory, in either dtype: others never skip zeros.
OF_WHOLE_VECTORS = [
    layer
    for layer in LAYERS
    if all(padded(n, "float32") % vector_length("float32") == 0 for n in layer[1:])
]


@kernel
def multiply(addresses, path, a, a_row, a_column, b, c, start, shape):
    left = Matrix(address(a, 0), a_row, a_column)
    right = Matrix(address(b, 0), b.shape[1], 1)
    result = Matrix(address(c, 0), c.shape[1], 1)
    first = Matrix(address(start, 0), 0, 1)
    product(addresses, path, left, right, result, first, STORE, result, shape, NO_SUMS)


@kernel
def multiply_subsets(functions, a, codes, x, d, slope, w, c, sums, shape):
    encode, multiply = functions
    k, m, n = shape
    call(encode, (address(a, 0), a.shape[1], address(codes, 0), codes.shape[1], k, n))
    operands = (
        address(x, 0), x.shape[1], address(d, 0), d.shape[1], address(codes, 0), codes.shape[1],
        address(slope, 0), address(w, 0), m, k, n, address(c, 0), c.shape[1], 1,
        address(a, 0), a.shape[1], address(sums, 0), 1,
    )  # fmt: skip
    call(multiply, operands)


@kernel
def apply_activation(function, z, slope, n, row):
    activate(function, z, slope, 0, n, row)


@kernel
def take_step(addresses, solver, parameters, one, gradient, weight, squares):
    operands = (
        solver.code,
        address(parameters, 0),
        address(solver.first, 0),
        address(solver.second, 0),
        address(one, 0),
        address(gradient, 0),
        1,
        gradient.size,
        address(solver.settings, 0),
        address(solver.steps, 0),
        address(weight, 0),
        1,
        address(squares, 0),
        0,
    )
    call(addresses[STEP], operands)


@pytest.fixture
def addresses(dtype: str) -> Array:
    """Return the function addresses that kernels read from `Workspace.addresses`."""
    return np.array([*product_addresses(dtype), nonzeros_address(dtype), step_address(dtype)])


def draw(rows: int, columns: int, dtype: str) -> Array:
    """Return a random matrix whose rows are padded with zeros, as the kernels' are."""
    row = padded(columns, dtype)
    matrix = aligned_zeros(rows * row, dtype).reshape(rows, row)
    matrix[:, :columns] = np.random.default_rng(SEED).standard_normal((rows, columns))
    return matrix


@pytest.mark.parametrize(
    ("layer", "density"),
    [(layer, 1.0) for layer in LAYERS] + [(layer, 0.5) for layer in OF_WHOLE_VECTORS],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
@pytest.mark.parametrize("operation", ["forward", "gradient"])
def test_product(
    benchmark: Any,
    measure: Any,
    addresses: Array,
    dtype: str,
    density: float,
    operation: str,
    layer: tuple[int, int, int],
) -> None:
    """``X @ W`` and ``X.T @ delta`` of a layer: batch x inputs x outputs; X may be half zeros."""
    batch, n_in, n_out = layer
    benchmark.group = f"{operation} {'x'.join(map(str, layer))}"
    inputs = draw(batch, n_in, dtype)
    inputs[np.random.default_rng(SEED).random(inputs.shape) >= density] = 0
    path = NONZEROS if density < 1 else TILES
    if operation == "forward":
        left, b, strides = inputs[:, :n_in], draw(n_in, n_out, dtype), (inputs.shape[1], 1)
        if density == 1 and uses_blas(n_in, n_out, dtype):
            path = BLAS
    else:
        left, b, strides = inputs[:, :n_in].T, draw(batch, n_out, dtype), (1, inputs.shape[1])
    m, k = left.shape
    c, zeros = draw(m, n_out, dtype), aligned_zeros(b.shape[1], dtype)
    with single_threaded_blas() if path == BLAS else nullcontext():
        measure(multiply, addresses, path, inputs, *strides, b, c, zeros, (m, n_out, k))
    tolerance = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(c[:, :n_out], left @ b[:, :n_out], atol=tolerance)
    if benchmark.stats:
        rate = 2 * m * n_out * k / benchmark.stats.stats.median
        benchmark.extra_info["GFLOP/s"] = round(rate / 1e9, 1)


@pytest.mark.parametrize("problem", ["small", "batch32", "medium"])
def test_gradient_below_one_output(benchmark: Any, measure: Any, dtype: str, problem: str) -> None:
    """``X.T @ delta`` of the last hidden layer, by sums over subsets, and its biases' gradient."""
    batch, (n_in, n_out) = PROBLEMS[problem].batch_size, PROBLEMS[problem].units[-3:-1]
    benchmark.group = f"gradient {batch}x{n_in}x{n_out}"
    rows = -(-batch // GROUP) * GROUP
    x, a, d = draw(rows, n_in, dtype), draw(rows, n_out, dtype), draw(rows, 1, dtype)
    a[a < 0] = 0
    w, sums = draw(1, n_out, dtype), draw(1, n_out, dtype)
    codes = np.zeros((rows // GROUP, a.shape[1]), np.uint8)
    c = draw(n_in, n_out, dtype)
    functions, slope = subset_addresses(dtype), np.zeros(1, dtype)
    measure(multiply_subsets, functions, a, codes, x, d, slope, w, c, sums, (batch, n_in, n_out))
    delta = np.where(a[:batch, :n_out] != 0, d[:batch, :1] * w[:, :n_out], 0)
    tolerance = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(c[:, :n_out], x[:batch, :n_in].T @ delta, atol=tolerance)
    np.testing.assert_allclose(sums[0, :n_out], delta.sum(axis=0), atol=tolerance)


@pytest.mark.parametrize("name", [name for name in activations.CODES if name != "identity"])
def test_activation(benchmark: Any, dtype: str, name: str) -> None:
    """Values and slopes of 200 rows of 100 units, in place."""
    benchmark.group = f"activations in {dtype}"
    z = draw(200, 100, dtype)
    row = z.shape[1]
    values, slope = aligned_zeros(z.size, dtype), aligned_zeros(z.size, dtype)
    arguments = activation_address(name, dtype), values, slope, 100, row

    def begin() -> tuple[tuple[Any, ...], dict[str, Any]]:
        values[:] = z.ravel()
        return arguments, {}

    benchmark.pedantic(apply_activation, setup=begin, rounds=200, warmup_rounds=5)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("solver", STOCHASTIC_SOLVERS)
@pytest.mark.parametrize("problem", ["small", "mnist"])
def test_step(
    benchmark: Any, measure: Any, addresses: Array, dtype: str, problem: str, solver: str
) -> None:
    """One step with all the parameters of a network."""
    benchmark.group = f"step of {problem} in {dtype}"
    weights = Weights(PROBLEMS[problem].units, dtype)
    gradient = draw(1, weights.flat.size, dtype).ravel()[: weights.flat.size]
    optimizer = Optimizer(
        solver,
        learning_rate_init=1e-3,
        alpha=ALPHA,
        schedule="constant",
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
    )
    optimizer.begin(weights)
    one, weight, squares = np.ones(1, dtype), np.array([200.0]), np.zeros(1)
    bundle = Solver(**optimizer.rule(), **optimizer.next_steps(1))
    measure(take_step, addresses, bundle, weights.flat, one, gradient, weight, squares)
    assert weights.flat.any()
    assert np.isfinite(weights.flat).all()


@pytest.mark.parametrize("name", ["small", "mnist"])
@pytest.mark.parametrize("rows", [1, 512])
def test_predict(benchmark: Any, measure: Any, dtype: str, rows: int, name: str) -> None:
    """The forward pass of a network, including the arrays it needs, without validation of X."""
    problem = PROBLEMS[name]
    benchmark.group = f"predict of {name} in {dtype}"
    weights = Weights(problem.units, dtype)
    output = "softmax" if problem.n_classes > 2 else "logistic"
    names = (*("relu" for _ in problem.hidden), output)
    X = np.ones((rows, problem.n_inputs), dtype)
    predicted = measure(Predictor(weights), names, X, 1)
    np.testing.assert_allclose(predicted, 1 / problem.n_classes, rtol=1e-6)  # all weights are 0
