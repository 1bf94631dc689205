"""Sums of rows selected by a sparse vector, against NumPy: every width, each dtype of vector."""

from itertools import product

import numpy as np
import pytest
from test_product import draw, edges

from fastbp.compiler.jit import kernel
from fastbp.compiler.memory import address
from fastbp.matmul.rows import add_to_rows, number_at, sum_rows
from fastbp.matmul.tile import padded

DTYPES = ["float32", "float64"]
AT = 16  # where the rows begin

KINDS = list(product(DTYPES, DTYPES, ["uint16", "int32", "int64", "uint32"]))
of_any_kind = pytest.mark.parametrize(("dtype", "of_values", "of_numbers"), KINDS)


@kernel
def run_sum(values, numbers, first, last, matrix, row, start, out, n):
    where, size = address(numbers, 0), np.int64(numbers.itemsize)
    sum_rows(values, where, size, first, last, matrix, AT, row, start, AT, out, AT, n)


@kernel
def run_add(values, numbers, first, last, source, matrix, row, n):
    where, size = address(numbers, 0), np.int64(numbers.itemsize)
    add_to_rows(values, where, size, first, last, source, AT, matrix, AT, row, n)


@kernel
def read_number(numbers, entry):
    return number_at(address(numbers, 0), np.int64(numbers.itemsize), np.int64(entry))


def flat(matrix):
    """Return the rows as one vector that begins at AT."""
    return np.concatenate([np.full(AT, np.nan), matrix.ravel()]).astype(matrix.dtype)


def make(n, dtype, of_values, of_numbers):
    rng = np.random.default_rng(0)
    values = rng.normal(size=9).astype(of_values)
    numbers = rng.integers(0, 5, 9).astype(of_numbers)  # some occur more than once
    matrix, one = (draw((rows, n), padded(n, dtype), dtype, rng) for rows in (5, 1))
    return values, numbers, matrix, one


@of_any_kind
def test_the_sum_of_rows(dtype, of_values, of_numbers):
    for n in edges(dtype):
        values, numbers, matrix, start = make(n, dtype, of_values, of_numbers)
        for first, last in [(0, 9), (2, 3), (4, 4)]:
            out = flat(np.zeros_like(start))
            run_sum(
                values, numbers, first, last, flat(matrix), matrix.shape[1], flat(start), out, n
            )  # fmt: skip
            expected = start[0, :n].astype(float)
            for value, number in zip(values[first:last], numbers[first:last], strict=True):
                expected += value.astype(dtype).astype(float) * matrix[number, :n]
            tolerance = 20 * np.finfo(dtype).eps
            np.testing.assert_allclose(out[AT:][:n], expected, rtol=tolerance, atol=tolerance)


@of_any_kind
def test_what_is_added_to_rows(dtype, of_values, of_numbers):
    """Each row has the same bits as the sum, by `sum_rows`, of all that is added to it."""
    for n in edges(dtype):
        values, numbers, matrix, source = make(n, dtype, of_values, of_numbers)
        row, result = matrix.shape[1], flat(matrix)
        run_add(values, numbers, 1, 9, flat(source), result, row, n)
        for number in range(5):
            chosen = values[1:][numbers[1:] == number]
            start, out = flat(matrix[number : number + 1]), flat(np.zeros_like(source))
            none = np.zeros(len(chosen), of_numbers)
            run_sum(chosen, none, 0, len(chosen), flat(source), row, start, out, n)
            np.testing.assert_array_equal(result[AT + number * row :][:n], out[AT:][:n])


@pytest.mark.parametrize("of_numbers", ["uint16", "int32", "uint32", "int64"])
def test_numbers_are_read_as_they_are(of_numbers):
    largest = min(np.iinfo(of_numbers).max, 2**32 - 1)
    numbers = np.array([0, 5, largest, 1, largest - 1], of_numbers)
    assert [read_number(numbers, entry) for entry in range(5)] == numbers.tolist()
