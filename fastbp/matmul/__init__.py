"""Matrix products for the kernels: register tiles, BLAS through Cython, and their choice."""
