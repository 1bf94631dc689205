"""Fits and predictions under pytest-benchmark, as users call them, on one thread."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.contenders import load
from benchmarks.problems import PROBLEMS

pytestmark = pytest.mark.parametrize("contender", ["fastbp", "scikit-learn"])

FITS = [(name, PROBLEMS[name].solver) for name in ("small", "medium", "digits", "online")]


@pytest.mark.parametrize(("name", "solver"), [*FITS, ("iris", "lbfgs"), ("digits", "lbfgs")])
def test_fit(
    benchmark: Any, measure: Any, name: str, solver: str, contender: str, dtype: str
) -> None:
    """A whole fit with a tenth of the ladder's epochs, including validation and set-up."""
    problem = replace(PROBLEMS[name].shortened(), solver=solver)
    benchmark.group = f"fit of {name} by {solver} in {dtype}, {problem.epochs} epochs"
    losses = measure(load(contender)(problem, dtype, threads=1).fit, problem.epochs)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("rows", [1, 10_000])
def test_predict(benchmark: Any, measure: Any, rows: int, contender: str, dtype: str) -> None:
    """`predict` with the network and the samples of `medium`."""
    benchmark.group = f"predict {rows} rows in {dtype}"
    trained = load(contender)(PROBLEMS["medium"], dtype, threads=1)
    estimator = trained.fitted(epochs=1)
    predicted = measure(estimator.predict, trained.X[:rows])
    assert predicted.shape == (rows,)
