"""L-BFGS on any function: the points of scipy's L-BFGS-B, and the same ends."""

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from fastbp.compiler.jit import kernel
from fastbp.kernels import lbfgs, line_search
from fastbp.kernels.arrays import LAYER, N_TOTALS, Network, Workspace
from fastbp.training.limited_memory import describe_end


@kernel
def take_in(network, workspace, vectors, numbers):
    lbfgs.take_in(network, workspace, vectors, numbers)


@kernel
def begin_search(search, step, value, slope):
    line_search.begin_search(search, step, value, slope)


@kernel
def ends_search(search, value, slope):
    return line_search.ends_search(search, value, slope)


def start(x):
    """Return the initial arrays of a minimisation, with a network without layers."""
    n = len(x)
    network = Network(np.zeros(0, LAYER).view(np.recarray), np.array(x, float), np.zeros(0))
    nothing = dict.fromkeys(Workspace._fields, np.zeros(0))
    workspace = Workspace(**{**nothing, "gradient": np.zeros(n), "totals": np.zeros(N_TOTALS)})
    return network, workspace, np.zeros((lbfgs.N_VECTORS, n)), np.zeros(lbfgs.N_NUMBERS)


def run(function, x, *, max_iter=200, max_fun=10_000, tol=1e-5):
    """Minimise; return the evaluated points, the last point and the final numbers."""
    network, workspace, _, numbers = parts = start(x)
    wanted = lbfgs.TOLERANCE, lbfgs.MAX_ITER, lbfgs.MAX_FUN
    numbers[list(wanted)] = tol, max_iter, max_fun
    points = []
    while numbers[lbfgs.STAGE] in (lbfgs.BEGINNING, lbfgs.SEARCHING):
        points.append(network.parameters.copy())
        value, workspace.gradient[:] = function(points[-1])
        numbers[[lbfgs.OBJECTIVE, lbfgs.LOSS]] = value
        take_in(*parts)
    return points, network.parameters, numbers


def run_scipy(function, x, *, max_iter=200, max_fun=10_000, tol=1e-5):
    points = []

    def noted(x):
        points.append(x.copy())
        return function(x)

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    return points, minimize(noted, x, method="L-BFGS-B", jac=True, options=options)


def quadratic(n, condition):
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix = rotation * np.geomspace(1, condition, n) @ rotation.T
    return lambda x: (x @ matrix @ x / 2, matrix @ x)


def turned_below(level):
    """Wrap a function so that it falls along its gradient once its value is low enough."""

    def function(x):
        value = x @ x
        return value, 2 * x if value > level else -2 * x

    return function


FUNCTIONS = {
    "rosenbrock-2": (lambda x: (rosen(x), rosen_der(x)), [-1.2, 1.0]),
    "rosenbrock-30": (lambda x: (rosen(x), rosen_der(x)), np.linspace(-2, 2, 30)),
    "quadratic": (quadratic(20, 1e3), np.ones(20)),
    "flat": (quadratic(20, 1e-3), np.ones(20)),
    "one variable": (lambda x: (x[0] ** 4 - x[0], 4 * x**3 - 1), [30.0]),
    "far away": (lambda x: (np.sum(np.log1p(x**2)), 2 * x / (1 + x**2)), [1e4, -3e3, 7.0]),
    "steep": (lambda x: (np.sum(np.exp(x) - x), np.exp(x) - 1), [9.0, -20.0, 3.0]),
    "kinks": (lambda x: (np.abs(x).sum(), np.sign(x)), [1.0, 2.0, 3.3]),
    "it turns": (turned_below(0.5), [1.0, 2.0, 3.0]),
    "at once": (turned_below(1e9), [1.0, 2.0, 3.0]),
    "at the least": (quadratic(3, 10), np.zeros(3)),
    "no bottom": (lambda x: (-np.sum(x), -np.ones(len(x))), np.zeros(4)),
    "infinite": (lambda x: (np.inf, np.full(2, np.inf)), np.ones(2)),
    "beyond": (
        lambda x: (np.sum(x**2) if x[0] > -1 else np.inf, 2 * x + 9 * (x[0] > 0)),
        [3.0, 1.0],
    ),
}


@pytest.mark.parametrize("limits", [{}, {"max_iter": 3}, {"max_fun": 5}, {"tol": 0.3}], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_it_goes_as_scipys_goes(name, limits):
    function, x = FUNCTIONS[name]
    points, last, numbers = run(function, x, **limits)
    theirs, result = run_scipy(function, np.array(x, float), **limits)
    together = min(len(points), len(theirs), 25)  # beyond that, differences in rounding have grown
    assert together >= min(len(theirs), 20)
    np.testing.assert_allclose(points[:together], theirs[:together], rtol=1e-5, atol=1e-6)
    end = describe_end(numbers)
    assert end.status == result.status
    if len(theirs) < 25:
        assert (end.message[:4], end.nit) == (result.message[:4], result.nit)
        np.testing.assert_allclose(last, result.x, rtol=1e-5, atol=1e-6)
    elif end.status == 0:
        assert numbers[lbfgs.OBJECTIVE] == pytest.approx(result.fun, abs=1e-5)


LINES = {
    "falls for long": lambda s: (-s / (s**2 + 2), (s**2 - 2) / (s**2 + 2) ** 2),
    "quartic": lambda s: ((s + 0.004) ** 5 - 2 * (s + 0.004) ** 4,
                          5 * (s + 0.004) ** 4 - 8 * (s + 0.004) ** 3),
    "waves": lambda s: (np.sin(9 * s) - s / 3, 9 * np.cos(9 * s) - 1 / 3 - 18),
    "cubic": lambda s: (s**3 - 2 * s, 3 * s**2 - 2),
    "wrong slope": lambda s: (s**2 - s, -1.0),
    "rises": lambda s: (s, -1.0),
    "no bottom": lambda s: (-s, -1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("step", [1e-4, 0.1, 1.0, 10.0, 1e3])
def test_the_steps_of_a_line_search(name, step):
    # scipy has the same search, from the same paper, in Python for its other solvers.
    their = pytest.importorskip("scipy.optimize._dcsrch")
    line = LINES[name]
    begun = line(0.0)
    theirs = their.DCSRCH(None, None, 1e-3, 0.9, 0.1, 0.0, 1e10)
    theirs._iterate(step, *begun, b"START")
    search = np.zeros(line_search.OF_SEARCH)
    begin_search(search, step, *begun)
    expected, task = step, b"FG"
    for _ in range(20):
        assert search[line_search.STEP] == pytest.approx(expected, rel=1e-9)
        value = line(expected)
        expected, *_, task = theirs._iterate(expected, *value, task)
        assert ends_search(search, *value) == (task != b"FG")
        if task != b"FG":
            break


@pytest.mark.parametrize("n_updates", [0, 1, 9, 10, 11, 19])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_numbers_make_it_write_beside_its_arrays(n_updates):
    rng, n_changed = np.random.default_rng(n_updates), 0
    for stage in (lbfgs.SEARCHING, lbfgs.BEGINNING):
        for _ in range(25):
            network, workspace, _, _ = start(np.ones(7))
            sizes = {"vectors": 7 * lbfgs.N_VECTORS, "numbers": lbfgs.N_NUMBERS}
            fenced = {name: np.full(size + 200, 7.25) for name, size in sizes.items()}
            inner = {name: array[100:-100] for name, array in fenced.items()}
            for array in inner.values():
                array[:] = np.frombuffer(rng.bytes(array.nbytes))
            numbers = inner["numbers"]
            numbers[[lbfgs.STAGE, lbfgs.N_UPDATES]] = stage, n_updates
            numbers[[lbfgs.N_ITER, lbfgs.N_EVALUATIONS, lbfgs.N_TRIALS, lbfgs.HALTS]] = 0
            numbers[[lbfgs.MAX_ITER, lbfgs.MAX_FUN, lbfgs.TOLERANCE]] = 99, 99, 0
            vectors = inner["vectors"].reshape(lbfgs.N_VECTORS, 7)
            before = vectors.copy()
            for _ in range(60):
                workspace.gradient[:] = network.parameters
                take_in(network, workspace, vectors, numbers)
            n_changed += not np.array_equal(vectors, before, equal_nan=True)
            for array in fenced.values():
                assert (array[:100] == 7.25).all()
                assert (array[-100:] == 7.25).all()
    assert n_changed > 25
