"""Fits in threads, forks and workers: never an abort, never a hang, always the same model."""

import os
from pathlib import Path

import pytest
from common import run_python

import fastbp

LONGEST = 120  # seconds of a process, which takes a few
PLACES = (Path(__file__).parent, Path(fastbp.__file__).parents[1])


def run_scenarios(layer, *names):
    """Run functions of concurrent_fits.py in a process of their own; return its standard error.

    Under FASTBP_REQUIRE_OPENMP=1 a missing OpenMP is an error instead of a skipped test.
    """
    if layer == "omp" and not os.environ.get("FASTBP_REQUIRE_OPENMP"):
        pytest.importorskip(
            "numba.np.ufunc.omppool",
            reason="Numba's OpenMP layer needs a libgomp or libomp that pip does not install",
            exc_type=ImportError,
        )
    if layer != "default":
        names += ("check_layer",)
    calls = "; ".join(f"concurrent_fits.{name}()" for name in names)
    return run_python(
        f"import concurrent_fits; {calls}",
        timeout=LONGEST,
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="2",
        PYTHONPATH=os.pathsep.join([*map(str, PLACES), os.environ.get("PYTHONPATH", "")]),
    ).stderr


every_layer = pytest.mark.parametrize("layer", ["omp", "workqueue"])
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@every_layer
def test_threads(layer):
    run_scenarios(layer, "fits_at_once", "predictions_at_once", "searches_at_once")


@forks
@every_layer
def test_forks(layer):
    run_scenarios(layer, "fork_before_threads", "fork_after_threads", "fork_amid_fits")


@forks
@every_layer
def test_forks_while_locks_are_held(layer):
    run_scenarios(layer, "fork_amid_locks", "fork_amid_blas")


@every_layer
def test_workers(layer):
    run_scenarios(layer, "workers", "nested_pools")


def test_scikit_learn():
    """Workers find the kernels in the disk cache, so nothing is compiled twice."""
    names = "stock", "shared_memory"
    if "compiling" in run_scenarios("default", *names):
        assert "compiling" not in run_scenarios("default", *names)


DEFERRED = """
import os, signal
from fastbp.model_selection.interrupts import Deferring, defer
with Deferring():
    defer()
    child = os.fork()
    if child == 0:
        os._exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@forks
def test_ctrl_c_is_not_deferred_in_what_a_search_forks():
    assert run_python(DEFERRED, timeout=LONGEST).stdout == "1\n"
