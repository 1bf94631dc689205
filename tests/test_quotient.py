"""Quotients by multiplications, against those of the processor."""

import numba
import numpy as np
import pytest
from numba import float32, float64

from fastbp.kernels import quotient as room


def implementation(monkeypatch, slow, kind):
    monkeypatch.setattr(room, "IS_INTEL_512", slow)
    return room._quotient(kind, kind)


def test_to_two_ulp_at_all_exponents(monkeypatch):
    multiply = numba.vectorize(["float64(float64, float64)"])(
        implementation(monkeypatch, True, float64)
    )
    random = np.random.default_rng(0)
    n = 200_000
    a = random.standard_normal(n)
    b = np.ldexp(1 + random.random(n), random.integers(-1000, 1000, n))
    exact = a / b
    error = np.abs(multiply(a, b) - exact) / np.spacing(np.abs(exact))
    assert 0 < error.max() <= 2


def test_what_is_no_number_stays_none_and_infinity_nearly_stops(monkeypatch):
    multiply = numba.njit(implementation(monkeypatch, True, float64))
    assert np.isnan(multiply(1.0, np.nan))
    assert np.isnan(multiply(np.nan, 1.0))
    assert multiply(-np.inf, 2.0) == -np.inf
    assert multiply(0.0, 1e-300) == 0
    assert abs(multiply(1e3, np.inf)) < 1e-300


@pytest.mark.parametrize(("slow", "kind"), [(False, float64), (True, float32)])
def test_elsewhere_it_is_the_processors(monkeypatch, slow, kind):
    divide = implementation(monkeypatch, slow, kind)
    assert divide(2.0, 3.0) == 2.0 / 3.0
