"""By which path a product goes, and how much of its left side is not 0, which decides it."""

from fastbp.compiler.jit import inner_kernel, part
from fastbp.kernels.arrays import WANTED
from fastbp.matmul import product as p
from fastbp.matmul.nonzeros import WORD, count_nonzeros, fills_vectors, is_sparse_enough

ROWS_MEASURED = 8  # of which it is seen how much is not 0
STEPS_UNMEASURED = 16
DENSITIES_APART = 0.05


@part
def choose_path(addresses, large, density, k, n, itemsize):
    """The path of a product with so much of its left side, (m, k), not 0, and of n columns.

    Where a function that is not there is the best, that is noted.
    """
    if large:
        return p.BLAS
    if not is_sparse_enough(density, k, n, itemsize):
        return p.TILES
    if addresses[p.NONZEROS] > 0:
        return p.NONZEROS
    if addresses[p.NONZEROS] == 0:
        addresses[p.NONZEROS] = WANTED
    return p.TILES


@part
def measure_density(workspace, layer, i):
    """How much of the inputs of layer i is not 0, in the first rows of the chunk, is noted."""
    if fills_vectors(layer.n_in, workspace.one.itemsize):
        density = _measure(workspace.activations, layer.input, layer.input_row, layer.n_in)
        # All threads read it, so it is written only where it has changed by much.
        if abs(density - workspace.densities[i]) > DENSITIES_APART:
            workspace.densities[i] = density


@inner_kernel
def _measure(a, offset, row, n):
    """How much of rows of n elements from an offset on is not 0, in the first of them."""
    found = 0
    for r in range(ROWS_MEASURED):
        for j in range(0, n, WORD):
            found += count_nonzeros(a, offset + r * row + j, n - j)
    return found / (ROWS_MEASURED * n)
