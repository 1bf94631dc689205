"""What `show_config` says."""

import numba
import numpy as np
from common import run_python

from fastbp import show_config
from fastbp.matmul import product


def test_as_a_dict():
    config = show_config(as_dict=True)
    assert config["numba"] == numba.__version__
    assert config["numpy"] == np.__version__
    assert config["threads"] == numba.get_num_threads()
    assert config["threading layer"] in ("omp", "tbb", "workqueue")
    assert ("BLAS" in config["matmul"]) == product.has_blas()


def test_printed(capsys):
    assert show_config() is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(show_config(as_dict=True))
    assert lines[0].startswith("matmul")


def test_without_the_extension():
    """As without a C compiler: everything works with register tiles alone."""
    code = """
import sys
sys.modules["fastbp.matmul.blas"] = None
import numpy as np
from fastbp import BPClassifier, show_config
from fastbp.matmul import product
assert show_config(as_dict=True)["matmul"] == "register tiles (no extension)"
product.BLAS_BYTES = 0
X = np.random.default_rng(0).normal(size=(300, 40))
model = BPClassifier((50,), max_iter=500, tol=1, random_state=0).fit(X, X[:, 0] > 0)
assert model.score(X, X[:, 0] > 0) > 0.5
"""
    run_python(code)
