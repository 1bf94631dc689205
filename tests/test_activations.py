"""Activations and their slopes against SciPy, in units in the last place."""

import naive
import numpy as np
import pytest
from scipy.special import expit

from fastbp.kernels import activations
from fastbp.kernels.activations import CODES, activate, activate_address, exp, expm1, log, log1p
from fastbp.kernels.jit import kernel

DTYPES = ["float32", "float64"]


@kernel
def map_exp(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


@kernel
def map_expm1(x, out):
    for i in range(x.size):
        out[i] = expm1(x[i])


@kernel
def map_log1p(x, out):
    for i in range(x.size):
        out[i] = log1p(x[i])


@kernel
def run_activate(addresses, code, z, slope, n, row):
    activate(addresses, code, z, slope, n, row)


def apply(name, z, n=None, row=None):
    """Activations and slopes of z, which fastbp overwrites."""
    z = z.copy()
    slope = np.zeros_like(z)
    addresses = np.array([0, 0, activate_address(z.dtype.name)])
    run_activate(addresses, CODES[name], z, slope, n or z.size, row or z.size)
    return z, slope


def ulp_error(values, exact):
    """The largest error in units in the last place of the values' dtype."""
    spacing = np.spacing(np.abs(exact).astype(values.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(values.astype(np.longdouble) - exact) / spacing))


def grid(dtype, low, high, n=200_001):
    return np.linspace(low, high, n).astype(dtype)


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
    assert ulp_error(out, np.expm1(x.astype(np.longdouble))) <= 2.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_log1p(dtype):
    x = np.concatenate([grid(dtype, 0, 1), np.logspace(-30, 0, 999).astype(dtype)])
    out = np.empty_like(x)
    map_log1p(x, out)
    assert ulp_error(out, np.log1p(x.astype(np.longdouble))) <= 2.5


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


# In units of the last place, over [-20, 20]: polynomials, quotients and their roundings.
BOUNDS = {"identity": 0, "relu": 0, "leaky_relu": 1, "selu": 4, "elu": 2.5, "exp": 1.5}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(CODES) - {"softmax", "identity"}))
def test_against_scipy(name, dtype):
    z = grid(dtype, -20, 20, 10_001)
    a, slope = apply(name, z)
    exact = z.astype(np.float64)
    tolerance = 30 * np.finfo(dtype).eps
    np.testing.assert_allclose(a, naive.FUNCTIONS[name](exact), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, naive.SLOPES[name](exact), rtol=tolerance, atol=tolerance)
    if name in BOUNDS and dtype == "float32":
        assert ulp_error(a, naive.FUNCTIONS[name](exact).astype(np.longdouble)) <= BOUNDS[name]


@pytest.mark.parametrize("name", ["logistic", "tanh"])
def test_small_values_keep_their_relative_precision(name):
    z = np.concatenate([-np.logspace(-1, 2.8, 999), np.logspace(-300, 0, 999)])
    a, _ = apply(name, z)
    exact = expit(z) if name == "logistic" else np.tanh(z)
    np.testing.assert_allclose(a, exact, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(CODES) - {"identity"}))
def test_nan_stays_nan(name, dtype):
    a, _ = apply(name, np.array([np.nan, 1.0], dtype))
    assert np.isnan(a[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(CODES) - {"identity", "softmax", "exp"}))
def test_the_far_ends_are_finite(name, dtype):
    z = np.array([-1e4, -200.0, 200.0, 1e4], dtype)
    a, slope = apply(name, z)
    exact = z.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_allclose(a, naive.FUNCTIONS[name](exact), rtol=1e-5, atol=1e-30)
        np.testing.assert_allclose(slope, naive.SLOPES[name](exact), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype):
    rng = np.random.default_rng(0)
    rows, n, row = 5, 7, 16
    z = rng.normal(scale=30, size=(rows, row)).astype(dtype)
    a, _ = apply("softmax", z.ravel(), n, row)
    expected = naive.FUNCTIONS["softmax"](z[:, :n].astype(float))
    np.testing.assert_allclose(
        a.reshape(rows, row)[:, :n], expected, rtol=300 * np.finfo(dtype).eps, atol=1e-30
    )


def test_selu_keeps_mean_and_variance():
    """The fixed point that its constants were chosen for."""
    z = np.random.default_rng(0).normal(size=1_000_000)
    a, _ = apply("selu", z)
    assert abs(a.mean()) < 0.005
    assert abs(a.var() - 1) < 0.01


def test_codes_are_the_constants():
    assert {name.upper(): code for name, code in CODES.items()}.items() <= vars(activations).items()
