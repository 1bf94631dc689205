"""Numbers below the smallest normal one, in kernels and in whole fits."""

import numpy as np
import pytest
from numba import njit
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPClassifier
from fastbp.compiler import jit
from fastbp.compiler.processor import IS_X86
from fastbp.kernels.subnormals import flush_subnormals, set_float_mode

SUBNORMAL = np.float32(1e-40)

pytestmark = pytest.mark.skipif(
    jit.DISABLED or not IS_X86, reason="only compiled code for x86 sets the mode"
)


def times_one(x):
    return float((np.full(1, x) * np.float32(1))[0])


def test_they_are_zero_inside_and_numbers_outside():
    @njit
    def inside(x, y):
        mode = flush_subnormals()
        product = x[0] * y
        set_float_mode(mode)
        return product, x[0] * y

    product, after = inside(np.full(1, SUBNORMAL), np.float32(1))
    assert product == 0
    assert after == SUBNORMAL


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_leaves_none_behind(n_jobs):
    """Only the penalty moves the weights of a zero feature: tiny gradients, which Adam squares."""
    X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    X[:, 0] = 0
    model = BPClassifier(
        (8,), max_iter=3000, tol=0, n_iter_no_change=3000, n_jobs=n_jobs, random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(X, X[:, 1] > 0)
    kept = model._optimizer
    for numbers in (kept.first.flat, kept.second.flat, *model.coefs_):
        size = np.abs(numbers)
        assert not ((size > 0) & (size < np.finfo(np.float32).tiny)).any()
    assert times_one(SUBNORMAL) == float(SUBNORMAL)
