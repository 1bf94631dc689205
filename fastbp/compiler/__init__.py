"""Compilation of kernels and products, and the processor that they are compiled for."""
