"""Transposes of every shape around the blocks, with no writes out of bounds."""

import numpy as np
import pytest

from fastbp.compiler.jit import kernel
from fastbp.matmul.transpose import transpose


@kernel
def run_transpose(source, at, source_row, rows, columns, target, target_row):
    transpose(source, at, source_row, rows, columns, target, 1, target_row)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [*range(1, 20), 33])
def test_every_tail(rows, dtype):
    for columns in [*range(1, 20), 40]:
        source = np.random.default_rng(0).normal(size=(rows, columns + 3)).astype(dtype)
        target = np.full(1 + columns * (rows + 2), np.nan, dtype)
        run_transpose(source.ravel(), 2, columns + 3, rows, columns, target, rows + 2)
        assert np.isnan(target[0])
        result = target[1:].reshape(columns, rows + 2)
        np.testing.assert_array_equal(result[:, :rows], source[:, 2 : 2 + columns].T)
        assert np.isnan(result[:, rows:]).all()
