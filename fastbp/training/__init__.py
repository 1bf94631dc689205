"""Python that orchestrates training: the engine, the loop over epochs, solvers and L-BFGS."""
