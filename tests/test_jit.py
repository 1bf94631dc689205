"""The memory that kernels see, and the kernels as plain Python."""

import numpy as np
import pytest
from common import run_tests

from fastbp.compiler.memory import memory_view


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_view_is_the_memory(dtype):
    array = np.arange(24, dtype=dtype).reshape(4, 6)
    strides = (6 * array.itemsize, array.itemsize)
    view = memory_view(array.ctypes.data, dtype, (4, 5), strides)
    np.testing.assert_array_equal(view, array[:, :5])
    view[1, 1] = -1
    assert array[1, 1] == -1


def test_the_kernels_as_plain_python():
    """Run the oracle tests again without the compiler, on their smallest cases."""
    chosen = (
        "(test_every_solver and not 11) or test_every_momentum or test_sparse"
        " or (test_every_loss_and_output and True-0.5-1) or test_every_epilogue"
        " or (test_every_activation and 0.5-True and units1) or test_one_activation_per_layer"
        " or (test_dropout_of_every_activation and elu) or test_the_norm or test_philox"
        " or (test_numpys_order and 31)"
    )
    run_tests(
        ["-m", "pytest"], "test_epoch.py", "test_gradients.py", "test_product.py",
        "test_regularisation.py", "test_shuffle.py", "-k", chosen, NUMBA_DISABLE_JIT="1",
    )  # fmt: skip
