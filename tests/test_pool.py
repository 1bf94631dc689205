"""What is kept for the next use of the same kind, and how much of it."""

import numpy as np
import pytest

from fastbp import BPRegressor, prediction
from fastbp.pool import Pool
from fastbp.training import engine


def fail():
    raise AssertionError("it was there")


def take(pool, kind):
    """Return an object of this kind from the pool, or None."""
    return pool.take(kind, lambda: None)


def test_what_is_given_is_taken_once():
    pool = Pool(most=4)
    pool.give("a", 1)
    pool.give("a", 2)
    assert {pool.take("a", fail) for _ in range(2)} == {1, 2}
    assert take(pool, "a") is None
    assert pool.n_kept == 0


def test_the_kind_not_used_for_longest_goes_first():
    pool = Pool(most=3)
    for kind in "abc":
        pool.give(kind, kind)
    pool.give("a", pool.take("a", fail))
    pool.give("d", "d")
    assert [take(pool, kind) for kind in "abcd"] == ["a", None, "c", "d"]


def test_memory_is_limited():
    pool = Pool(most=100, most_bytes=800)
    for kind in range(20):
        pool.give(kind, kind, 100)
    assert (pool.n_kept, pool.n_bytes) == (8, 800)
    pool.give("large", "large", 101)
    assert take(pool, "large") is None
    assert [take(pool, kind) for kind in (11, 12, 19)] == [None, 12, 19]
    assert (pool.n_kept, pool.n_bytes) == (6, 600)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_networks_leave_no_more_memory_than_a_pool_keeps(monkeypatch):
    training, predicting = pools = Pool(64, 1 << 20), Pool(64, 1 << 20)
    monkeypatch.setattr(engine, "_pool", training)
    monkeypatch.setattr(prediction, "_pool", predicting)
    X = np.zeros((300, 10), np.float32)
    X[:, 0] = y = np.arange(300) / 300
    widths = (3, 20, 40, 30)
    for width in (*widths, 10_000):  # the last is too large
        model = BPRegressor(hidden_layer_sizes=(width,), max_iter=1, batch_size=100)
        model.fit(X, y).predict(X)
    assert all(pool.n_kept == len(widths) for pool in pools)
    rows = {training: 2 * 100, predicting: 256}  # of activations and deltas; of activations
    for pool, n in rows.items():
        assert 4 * n * sum(widths) < pool.n_bytes <= 1 << 20
