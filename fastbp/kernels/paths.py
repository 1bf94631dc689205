"""The choice of the path of a product, and the density of its left operand, which decides it."""

from fastbp.compiler.jit import inner_kernel, part
from fastbp.kernels.arrays import WANTED
from fastbp.matmul import product as p
from fastbp.matmul.nonzeros import WORD, count_nonzeros, fills_vectors, is_sparse_enough

ROWS_MEASURED = 8  # in which nonzeros are counted
STEPS_UNMEASURED = 16
DENSITIES_APART = 0.05


@part
def choose_path(addresses, large, density, k, n, itemsize):
    """Return the path of a product with a left operand (m, k) of this density, and n columns.

    If the best function is not compiled, it is marked as wanted.
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
    """Store the share of nonzeros in the inputs of layer i, in the first rows of the chunk."""
    if fills_vectors(layer.n_in, workspace.one.itemsize):
        density = _measure(workspace.activations, layer.input, layer.input_row, layer.n_in)
        # All threads read it, so it is written only if it has changed by much.
        if abs(density - workspace.densities[i]) > DENSITIES_APART:
            workspace.densities[i] = density


@inner_kernel
def _measure(a, offset, row, n):
    """Return the share of nonzeros in the first rows of n elements, from an offset on."""
    found = 0
    for r in range(ROWS_MEASURED):
        for j in range(0, n, WORD):
            found += count_nonzeros(a, offset + r * row + j, n - j)
    return found / (ROWS_MEASURED * n)
