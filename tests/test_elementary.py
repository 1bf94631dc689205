"""The elementary functions against NumPy's in extended precision, and at their ends."""

from fractions import Fraction

import numba
import numpy as np
import pytest
from common import compiled, grid

from fastbp.compiler.jit import EXACT_ORDER, kernel
from fastbp.kernels import elementary
from fastbp.kernels.elementary import exp, expm1, log

DTYPES = ["float32", "float64"]


def ulp_error(values, exact):
    """The largest error in units in the last place of the values' dtype."""
    spacing = np.spacing(np.abs(exact).astype(values.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(values.astype(np.longdouble) - exact) / spacing))


@kernel
def map_exp(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


@kernel
def map_expm1(x, out):
    for i in range(x.size):
        out[i] = expm1(x[i])


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_within_an_ulp(dtype):
    top = 88.0 if dtype == "float32" else 709.0
    x = grid(dtype, -top + 1, top)
    out = np.empty_like(x)
    map_exp(x, out)
    assert ulp_error(out, np.exp(x.astype(np.longdouble))) <= 1.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_at_its_ends(dtype):
    x = np.array([0, -0.0, 1000, -1000, np.inf, -np.inf, np.nan, -100, 89, 710], dtype)
    out = np.empty_like(x)
    map_exp(x, out)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(x)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=np.finfo(dtype).tiny)
    assert out[0] == out[1] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_expm1(dtype):
    x = np.concatenate([grid(dtype, -30, 0), -np.logspace(-30, 0, 999).astype(dtype)])
    out = np.empty_like(x)
    map_expm1(x, out)
    assert ulp_error(out, np.expm1(x.astype(np.longdouble))) <= (1.5 if dtype == "float32" else 2.5)


@compiled
@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_square_has_twice_the_digits(dtype, has_fma, monkeypatch):
    monkeypatch.setattr(elementary, "HAS_FMA", has_fma)
    square = numba.njit(elementary._square_overload(dtype), fastmath=EXACT_ORDER)
    epsilon = np.finfo(dtype).eps
    for y in grid(dtype, 0.1, 30, 999):
        w, rest, rounded = square(y)
        error = Fraction(float(w)) - Fraction(float(rest)) - Fraction(float(y)) ** 2
        assert abs(error) <= (0 if has_fma else epsilon * abs(rest))
        assert abs(rounded - y * y) <= epsilon * rounded


@kernel
def map_log(x, out):
    for i in range(x.size):
        out[i] = log(x[i])


def test_log():
    x = np.concatenate([grid("float64", 1e-6, 4), np.logspace(-300, 300, 9999), [np.nan]])
    out = np.empty_like(x)
    map_log(x, out)
    assert np.isnan(out[-1])
    exact = np.log(x[:-1].astype(np.longdouble))
    np.testing.assert_allclose(out[:-1], exact.astype(float), rtol=1e-15, atol=3e-16)
