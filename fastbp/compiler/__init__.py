"""How kernels and products are compiled, and for which processor."""
