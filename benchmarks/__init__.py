"""What fastbp costs beside scikit-learn, PyTorch, JAX and the processor: see README.md."""
