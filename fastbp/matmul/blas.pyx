# cython: language_level=3
"""Matrix products of row-major matrices through scipy's BLAS, for kernels to call by address.

BLAS takes column-major matrices and pointers to every argument. A row-major C is the column-major
transpose of itself, and ``C.T := B.T @ A.T + C.T`` needs no copy.
"""

from libc.stdint cimport int64_t, intptr_t
from scipy.linalg.cython_blas cimport dgemm, sgemm


cdef void multiply_float32(
    float* a, int64_t a_row, float* b, int64_t b_row, float* c, int64_t c_row,
    int64_t m, int64_t n, int64_t k,
) noexcept nogil:
    """C := A @ B + C, with A (m, k), B (k, n), C (m, n); ``x_row`` are strides in elements."""
    cdef int rows = m, columns = n, depth = k
    cdef int a_stride = a_row, b_stride = b_row, c_stride = c_row
    cdef float one = 1.0
    sgemm("N", "N", &columns, &rows, &depth, &one, b, &b_stride, a, &a_stride, &one, c, &c_stride)


cdef void multiply_float64(
    double* a, int64_t a_row, double* b, int64_t b_row, double* c, int64_t c_row,
    int64_t m, int64_t n, int64_t k,
) noexcept nogil:
    """C := A @ B + C, with A (m, k), B (k, n), C (m, n); ``x_row`` are strides in elements."""
    cdef int rows = m, columns = n, depth = k
    cdef int a_stride = a_row, b_stride = b_row, c_stride = c_row
    cdef double one = 1.0
    dgemm("N", "N", &columns, &rows, &depth, &one, b, &b_stride, a, &a_stride, &one, c, &c_stride)


#: Addresses of the products, by the name of the dtype.
ADDRESSES = {
    "float32": <intptr_t> &multiply_float32,
    "float64": <intptr_t> &multiply_float64,
}
