"""The product tests again, as on processors with shorter vectors than this one's."""

import pytest
from common import run_tests

from fastbp.matmul.tile import VECTOR_BYTES

SHORTER = {"sse2": 16, "neon": 16, "sse2,avx,fma": 32}


@pytest.mark.parametrize("features", [name for name, n in SHORTER.items() if n < VECTOR_BYTES])
def test_products(features, tmp_path):
    """There, the quarter vector in which sums over subsets are looked up does not exist."""
    run_tests(
        ["other_processor.py", features], "test_subsets.py", "test_product.py", "test_nonzeros.py",
        "-k", "not same_bits_without", NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="1",
    )  # fmt: skip
