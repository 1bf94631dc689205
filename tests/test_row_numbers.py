"""The row numbers of folds: packed, unpacked, and as passed to compiled code."""

import pickle

import joblib
import numpy as np
import pytest
from common import make_data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.model_selection import KFold

from fastbp import BPClassifier, samples
from fastbp.model_selection.row_numbers import (
    PackedRows,
    PackingSplitter,
    as_numbers,
    pack_rows,
    unpack_rows,
)
from fastbp.samples import row_type


@given(arrays(np.int64, st.integers(0, 60), elements=st.integers(-3, 200)), st.booleans())
def test_unpacked_they_are_what_they_were(numbers, rising):
    if rising:
        numbers = np.unique(numbers)
    unpacked = unpack_rows(pack_rows(numbers))
    np.testing.assert_array_equal(unpacked, numbers)
    assert unpacked.dtype == np.int64


@pytest.mark.parametrize(
    "numbers",
    [
        np.array([3, 1, 2]),
        np.array([1, 1, 2]),
        np.array([-1, 1, 2]),
        np.array([], np.int64),
        np.array([1, 2], np.int32),
        np.array([True, False]),
        np.array([[1], [2]]),
        [1, 2],
    ],
    ids=["falling", "twice", "negative", "none", "short", "mask", "matrix", "list"],
)
def test_what_a_bit_each_cannot_give_back_is_left_as_it_is(numbers):
    assert pack_rows(numbers) is numbers
    assert unpack_rows(numbers) is numbers


def test_a_row_takes_a_bit():
    numbers = np.arange(0, 80_000, 2)
    packed = pack_rows(numbers)
    assert len(packed) == len(numbers)
    assert len(pickle.dumps(packed)) < 11_000
    assert joblib.hash(packed) == joblib.hash(pack_rows(numbers.copy()))
    assert joblib.hash(packed) != joblib.hash(pack_rows(numbers + 1))
    assert np.asarray(packed, np.int32).dtype == np.int32


def test_a_splitter_gives_its_rows_packed():
    X, splitter = np.zeros((10, 1)), KFold(3)
    packed = list(PackingSplitter(splitter).split(X, None))
    for parts, expected in zip(packed, splitter.split(X), strict=True):
        for rows, numbers in zip(parts, expected, strict=True):
            assert isinstance(rows, PackedRows)
            np.testing.assert_array_equal(rows, numbers)


def test_kernels_are_given_numbers_from_0_on():
    for rows, expected in (
        (np.array([0, -1]), [0, 9]),
        (np.arange(10) < 2, [0, 1]),
        ([3, 3], [3, 3]),
        (pack_rows(np.array([2, 5])), [2, 5]),
    ):
        numbers = as_numbers(rows, 10)
        assert numbers.dtype == row_type(10)
        assert numbers.tolist() == expected
    with pytest.raises(IndexError):
        as_numbers(np.array([10]), 10)
    with pytest.raises(ValueError, match="shape"):
        as_numbers(np.zeros((2, 2), int), 10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rows_that_32_bits_cannot_number_have_64(monkeypatch):
    assert row_type(2**31) == np.int32
    assert row_type(2**31 + 1) == np.int64
    X, y = make_data("binary")
    for data in (X, csr_matrix(X)):
        models = []
        for most in (2**31, len(X) - 1):
            monkeypatch.setattr(samples, "MOST_SHORT", most)
            model = BPClassifier(max_iter=5, random_state=0, early_stopping=True)
            models.append(model.fit(data, y).predict_proba(data))
        np.testing.assert_array_equal(*models)
