"""Settings for all tests."""

import signal

import pytest
from common import need_blas
from hypothesis import HealthCheck, settings

from fastbp.matmul import product

# The same cases in every run, and no time limit, since the first case may wait for compilation.
settings.register_profile(
    "fastbp",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fastbp")

# A shell starts background jobs with SIGINT ignored, but some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["tiles", "blas"])
def matmul(request, monkeypatch):
    if request.param == "blas":
        need_blas()
        monkeypatch.setattr(product, "BLAS_BYTES", 0)
    return request.param
