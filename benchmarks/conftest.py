"""Fixtures that both bench files share."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.options import DTYPES


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., Any]:
    """Benchmark a function after one call that compiles its kernels."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        function(*arguments)
        return benchmark(function, *arguments)

    return call
