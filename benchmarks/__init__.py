"""What fastbp costs, compared with scikit-learn, PyTorch, JAX and the floor: see README.md."""
