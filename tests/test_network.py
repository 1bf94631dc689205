"""The layout: packing is reversible, views are views, rows start on cache lines."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.network import ALIGNMENT, INITS, Weights, aligned_zeros, draw_weights, make_network

UNITS = st.lists(st.integers(1, 70), min_size=2, max_size=5)
DTYPES = st.sampled_from(["float32", "float64"])


def drawn(units, dtype):
    rng = np.random.default_rng(0)
    weights = Weights(units, dtype)
    for view in weights.coefs + weights.intercepts:
        view[...] = rng.normal(size=view.shape)
    return weights


@given(units=UNITS, dtype=DTYPES)
def test_packing_and_back(units, dtype):
    weights = drawn(units, dtype)
    shapes = list(pairwise(units))
    assert [w.shape for w in weights.coefs] == shapes
    assert [b.shape for b in weights.intercepts] == [(n,) for n in units[1:]]
    elements = weights.without_padding(weights.flat)
    assert elements.size == sum((n + 1) * m for n, m in shapes)
    np.testing.assert_array_equal(weights.with_padding(elements), weights.flat)
    copy = Weights.of(weights.coefs, weights.intercepts, dtype)
    np.testing.assert_array_equal(copy.flat, weights.flat)
    assert not np.shares_memory(copy.flat, weights.flat)


@given(units=UNITS, dtype=DTYPES, other=DTYPES)
def test_another_dtype(units, dtype, other):
    weights = drawn(units, dtype)
    there = weights.astype(other)
    assert (there is weights) == (dtype == other)
    elements = weights.without_padding(weights.flat).astype(other)
    np.testing.assert_array_equal(there.without_padding(there.flat), elements)
    places = there.places_in(weights)
    taken = np.where(places < 0, 0, weights.flat[places])
    np.testing.assert_array_equal(taken.astype(other), there.flat)


@given(units=UNITS, dtype=DTYPES)
def test_pickle(units, dtype):
    weights = drawn(units, dtype)
    loaded = pickle.loads(pickle.dumps(weights))
    np.testing.assert_array_equal(loaded.flat, weights.flat)
    loaded.coefs[0][0, 0] = 5
    assert loaded.flat[0] == 5
    assert weights.flat[0] != 5


def test_views():
    weights = drawn([3, 4, 2], "float64")
    assert weights.seen_as(weights.coefs, weights.intercepts)
    assert not weights.seen_as([w.copy() for w in weights.coefs], weights.intercepts)
    assert not weights.seen_as(weights.coefs[:1], weights.intercepts)
    assert all(np.shares_memory(w, weights.flat) for w in weights.coefs + weights.intercepts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_alignment(dtype, size):
    array = aligned_zeros(size, dtype)
    assert array.ctypes.data % ALIGNMENT == 0
    assert array.shape == (size,)
    assert not array.any()


@given(units=UNITS, dtype=DTYPES, rows_of_batch=st.integers(1, 9))
def test_layers_do_not_overlap(units, dtype, rows_of_batch):
    """Each matrix of the plan has its own place, with room for its padded rows."""
    network = make_network(Weights(units, dtype), ["tanh"] * (len(units) - 1), rows_of_batch)
    places = {"parameters": [], "transposed": [], "activations": []}
    for i, layer in enumerate(network.layers):
        rows, columns = (layer.n_out, layer.n_in) if layer.narrow else (layer.n_in, layer.n_out)
        assert layer.rows == rows
        places["parameters"].append((layer.weights, (rows + 1) * layer.weights_row))
        assert layer.weights_row >= columns
        if layer.mirrored:
            places["transposed"].append((layer.transposed, columns * layer.transposed_row))
            assert layer.transposed_row >= rows
        if i > 0:
            assert layer.input == network.layers[i - 1].output
            assert layer.input_row == network.layers[i - 1].output_row
        else:
            assert not layer.narrow
            inputs = layer.input, rows_of_batch * layer.input_row
        assert layer.input_row >= layer.n_in
        places["activations"].append((layer.output, rows_of_batch * layer.output_row))
    places["activations"].append(inputs)
    for parts in places.values():
        for (at, size), (following, _) in pairwise(parts):
            assert at + size <= following
    assert network.parameters.size == sum(places["parameters"][-1])
    if places["transposed"]:
        assert network.transposed.size == sum(places["transposed"][-1])


def test_every_layer_has_the_rows_that_its_products_need():
    """Row-wise: W or a transpose of W.T going forward, W.T or a transpose of W going back."""
    weights = drawn([5, 40, 50, 9, 30, 2], "float32")
    network = make_network(weights, ["relu"] * 5, 4)
    for i, (layer, w) in enumerate(zip(network.layers, weights.coefs, strict=True)):
        assert layer.narrow == (i in (2, 4))
        matrix = network.parameters[layer.weights :][: layer.rows * layer.weights_row]
        matrix = matrix.reshape(layer.rows, layer.weights_row)
        np.testing.assert_array_equal(
            matrix[:, : layer.n_in if layer.narrow else layer.n_out], w.T if layer.narrow else w
        )
        assert layer.mirrored == (i in (1, 2, 3))
        if layer.mirrored:
            part = network.transposed[layer.transposed :][: matrix.size * layer.transposed_row]
            columns = layer.n_in if layer.narrow else layer.n_out
            part = part[: columns * layer.transposed_row].reshape(columns, layer.transposed_row)
            np.testing.assert_array_equal(part[:, : layer.rows], matrix[:, :columns].T)


@pytest.mark.parametrize(
    ("units", "name", "options", "layer"),
    [
        ((9, 40, 1), "relu", {}, 0),
        ((9, 30, 40, 1), "relu", {}, 1),
        ((9, 30, 40, 1), "relu", {"sparse": True}, 1),
        ((9, 40, 1), "relu", {"sparse": True}, None),
        ((9, 40, 1), "relu", {"dropout": (0.5,)}, None),
        ((9, 30, 40, 1), "relu", {"dropout": (0.5, 0.0)}, 1),
        ((9, 40, 1), "relu", {"training": False}, None),
        ((9, 40, 1), "leaky_relu", {}, 0),
        ((9, 40, 1), "identity", {}, 0),
        ((9, 40, 1), "tanh", {}, None),
        ((9, 40, 2), "relu", {}, None),
        ((9, 40, 16, 1), "relu", {}, None),  # a narrow layer
        ((9, 1), "relu", {}, None),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_which_layer_has_its_gradient_by_sums_over_subsets(units, name, options, layer, dtype):
    network = make_network(Weights(units, dtype), [name] * (len(units) - 1), 32, **options)
    chosen = [i for i, record in enumerate(network.layers) if record.by_subsets]
    assert chosen == ([] if layer is None else [layer])


@pytest.mark.parametrize("init", INITS)
def test_draws_are_those_of_the_seed(init):
    first, second = (
        draw_weights([4, 6, 2], ["relu"], init, np.random.RandomState(0), np.float64)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.flat, second.flat)
    single = draw_weights([4, 6, 2], ["relu"], init, np.random.RandomState(0), np.float32)
    np.testing.assert_array_equal(single.coefs[0], first.coefs[0].astype(np.float32))
