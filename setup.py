"""The compiled extension; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

extensions = cythonize(
    [Extension("fastbp.matmul.blas", ["fastbp/matmul/blas.pyx"])], language_level=3
)
for extension in extensions:
    # Without a C compiler the install goes on, and fastbp runs on Numba alone. (Set here, because
    # cythonize forgets it.)
    extension.optional = True

setup(ext_modules=extensions)
