"""Products that skip zeros: the same bits as register tiles, which are tested against NumPy."""

import numpy as np
import pytest
from networks import make_case, make_optimizer
from test_product import DTYPES, multiply, whole_vectors

from fastbp.compiler.jit import kernel
from fastbp.kernels import epoch
from fastbp.matmul import nonzeros
from fastbp.matmul.nonzeros import MOST_AT_A_TIME, WORD, is_sparse_enough, nonzeros_address
from fastbp.matmul.product import (
    ADD,
    KEEP,
    MASK,
    NONZEROS,
    RELU,
    SCALE,
    SET,
    STORE,
    TILES,
    product_addresses,
)
from fastbp.matmul.tile import padded, vector_length
from fastbp.samples import number_rows
from fastbp.training import engine as engine_module


def widths(dtype):
    """Widths of whole vectors, from one to more than fit at a time, and just below."""
    vector = vector_length(dtype)
    numbers = (1, 2, 3, 5, MOST_AT_A_TIME, MOST_AT_A_TIME + 1)
    return [vector // 2 + 1, *(vector * v - d for v in numbers for d in (0, 1))]


def left_side(rows, columns, density, dtype, rng):
    """A matrix of mostly zeros, padded to vectors, with one more row that is read; NaN in both."""
    memory = np.full((rows + 1, whole_vectors(columns, dtype)), np.nan, dtype)
    memory[:rows, :columns] = rng.normal(size=(rows, columns))
    memory[:rows, :columns][rng.random((rows, columns)) >= density] = 0
    return memory


def compare(m, n, k, dtype, density, epilogue=STORE, by_columns=False, mode=KEEP, in_place=False):
    rng = np.random.default_rng(m + 10 * n + 1000 * k)
    columns = whole_vectors(n, dtype)
    a = left_side(*((k, m) if by_columns else (m, k)), density, dtype, rng)
    strides = (1, a.shape[1]) if by_columns else (a.shape[1], 1)
    b, factor, start = (rng.normal(size=(r, columns)).astype(dtype) for r in (k, m, m))
    factor[rng.random(factor.shape) < 0.3] = 0
    sums = rng.normal(size=columns).astype(dtype)
    addresses = np.array([*product_addresses(dtype), nonzeros_address(dtype)])
    results = []
    for path in (TILES, NONZEROS):
        c = start.copy() if in_place else np.zeros((m + 1, columns), dtype)
        first, row = (c, columns) if in_place else (start, 0)
        summed = sums.copy()
        multiply(
            addresses, path, a, strides, b, (columns, 1), c, first, row, epilogue, factor,
            (m, n, k), summed, mode,
        )  # fmt: skip
        assert in_place or not c[m:].any()
        results.append((c[:m, :n], summed[:n]))
    for by_tiles, mine in zip(*results, strict=True):
        assert np.isfinite(by_tiles).all()
        np.testing.assert_array_equal(mine, by_tiles)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("k", [9, WORD - 1, WORD, WORD + 1, 2 * WORD + 17])
def test_by_rows(k, density, dtype):
    for n in widths(dtype):
        for m in (1, 6):
            compare(m, n, k, dtype, density)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epilogue", [RELU, MASK, SCALE])
def test_every_epilogue(epilogue, dtype):
    for n in widths(dtype):
        for k in (20, WORD + 20):
            compare(5, n, k, dtype, 0.4, epilogue)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("k", [1, WORD // 2, WORD // 2 + 1, WORD, 2 * WORD + 40])
def test_by_columns(k, density, in_place, dtype):
    for n in widths(dtype):
        for m in (9, 16, WORD + 3):
            compare(m, n, k, dtype, density, by_columns=True, in_place=in_place)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", [SET, ADD])
@pytest.mark.parametrize("m", [2, 4, 20])
def test_sums_of_columns(m, mode, dtype):
    for n in widths(dtype):
        for k in (1, 3, 70):
            compare(m, n, k, dtype, 0.3, by_columns=True, mode=mode)


@kernel
def tell(density, k, n, itemsize):
    return is_sparse_enough(density, k, n, itemsize)


@pytest.mark.parametrize("dtype", DTYPES)
def test_when_it_is_worth_it(dtype):
    vector, itemsize = vector_length(dtype), np.dtype(dtype).itemsize
    assert tell(0.5, 100, 100, itemsize)
    assert tell(0.1, 784, vector, itemsize)
    assert not tell(0.9, 100, 100, itemsize)
    assert not tell(1.0, 1000, 1000, itemsize)
    for short in range(1, vector // 2 + 1):  # rows that are not whole vectors in memory
        assert padded(short, dtype) <= max(vector // 2, 16 // itemsize)
        assert not tell(0.0, short, 100, itemsize)
        assert not tell(0.0, 100, short, itemsize)


def test_once_it_is_compiled_all_find_it(monkeypatch):
    made = []

    def compile_product(function, dtype, compile_it=True):
        made.append(compile_it)
        return 7 if compile_it else 0

    monkeypatch.setattr(nonzeros, "compile_product", compile_product)
    monkeypatch.setattr(nonzeros, "_compiled", set())
    found = [nonzeros_address("float32", compile_it) for compile_it in (False, True, False)]
    assert found == [0, 7, 7]
    assert nonzeros_address("float64", compile_it=False) == 0


def train(monkeypatch, has_it, at_first=True):
    """Train a network with zeros in X and after ReLU; return its weights and its workspace."""

    def address_of(dtype, compile_it=True):
        return nonzeros_address(dtype) if has_it and (at_first or compile_it) else 0

    for module in (epoch, engine_module):
        monkeypatch.setattr(module, "nonzeros_address", address_of)
    case = make_case((70, 64, 200, 40, 3), ["relu", "relu", "tanh", "softmax"], "log_loss", 300)
    case.X[np.random.default_rng(0).random(case.X.shape) < 0.7] = 0
    engine = case.engine(np.float32, 32, keep_gradient=False)
    optimizer = make_optimizer()
    optimizer.begin(engine.weights)
    for _ in range(2):
        list(engine.train(number_rows(300), 1, optimizer))
    return engine.weights.flat, engine.workspace


def test_a_network_has_the_same_bits_without(monkeypatch):
    by_tiles, memory = train(monkeypatch, has_it=False)
    assert memory.addresses[NONZEROS] == 0
    flat, memory = train(monkeypatch, has_it=True)
    np.testing.assert_array_equal(flat, by_tiles)
    assert ((memory.densities[:3] > 0.2) & (memory.densities[:3] < 0.6)).all()
    assert memory.densities[3] == 1  # tanh's outputs


def test_it_is_compiled_when_it_is_first_wanted(monkeypatch):
    flat, memory = train(monkeypatch, has_it=True, at_first=False)
    assert memory.addresses[NONZEROS] == nonzeros_address("float32")
    np.testing.assert_array_equal(flat, train(monkeypatch, has_it=True)[0])
