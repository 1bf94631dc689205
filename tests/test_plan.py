"""The addresses of arrays that compiled functions receive."""

import numpy as np
import pytest

from fastbp.kernels.arrays import LAYER
from fastbp.kernels.plan import address_of


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float32),
        np.zeros((4, 5))[1:],
        np.zeros(2, LAYER),
        np.zeros(2, LAYER).view(np.recarray),
        read_only(np.arange(3)),
        np.empty((0, 5)),
    ],
    ids=["vector", "part", "records", "recarray", "read-only", "empty"],
)
def test_addresses_are_numpys(array):
    assert address_of(array) == array.ctypes.data


def test_of_a_mapped_file(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((3, 4)))
    for mode in ("r", "c", "r+"):
        mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
        assert address_of(mapped) == mapped.ctypes.data
