"""The compiled extension; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        # Optional: without a C compiler the install goes on, and fastbp runs on Numba alone.
        [Extension("fastbp.matmul.blas", ["fastbp/matmul/blas.pyx"], optional=True)],
        language_level=3,
    )
)
