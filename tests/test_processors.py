"""The products on processors with shorter vectors than this one's, as their tests see them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastbp.matmul.tile import VECTOR_BYTES

TESTS = Path(__file__).parent
SHORTER = {16: "sse2", 32: "sse2,avx,fma"}


@pytest.mark.parametrize("features", [SHORTER[n] for n in SHORTER if n < VECTOR_BYTES])
def test_products(features, tmp_path):
    """A quarter of a vector, in which sums over subsets are looked up, is none there."""
    finished = subprocess.run(
        [
            sys.executable, "other_processor.py", features, "-q", "-p", "no:cacheprovider", "-p",
            "no:xdist", "test_subsets.py", "test_product.py", "test_nonzeros.py",
            "-k", "not same_bits_without",
        ],
        cwd=TESTS,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert " passed" in finished.stdout
