"""scikit-learn's own tests with fastbp's estimators: the common checks, and the MLP's tests."""

import importlib.util
from unittest import mock

import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import BPClassifier, BPRegressor

NOT_CONVERGED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# -------------------------------------------------------------- the checks for all estimators

# Left out, since scikit-learn's own estimators do not pass either: early_stopping=True (the checks
# call partial_fit, and fit on samples too few to hold some out) and batch_size=1 (a sample of
# weight 2 is one step, but two samples are two). With dtype="float32" the models of the checks on
# weights agree to its own precision only, while the checks ask for 1e-7.
ESTIMATORS = [
    BPClassifier(),
    BPClassifier(solver="sgd", hidden_layer_sizes=(10, 5), activation="tanh"),
    BPClassifier(solver="lbfgs", hidden_layer_sizes=20, alpha=1),
    BPClassifier(solver="adamw", loss="squared_error", early_stopping=False, n_jobs=1),
    BPClassifier(solver="adagrad", hidden_layer_sizes=(), learning_rate_init=0.1),
    BPRegressor(),
    BPRegressor(solver="sgd", hidden_layer_sizes=(10, 5), activation="tanh"),
    BPRegressor(solver="lbfgs", hidden_layer_sizes=20, alpha=1),
    BPRegressor(solver="rmsprop", hidden_layer_sizes=(20, 10), activation=("gelu", "elu")),
    BPRegressor(loss="poisson", learning_rate_init=0.01),
]


@NOT_CONVERGED
@parametrize_with_checks(ESTIMATORS)
def test_estimator_checks(estimator, check):
    check(estimator)


# ------------------------------------------------------------ scikit-learn's tests of the MLP

LEFT_OUT = {
    "test_gradient",  # calls the private method _loss_grad_lbfgs
}

# L-BFGS stops where its line search fails, as scikit-learn's does from other seeds.
MAY_NOT_CONVERGE = {"test_warm_start"}

# A pickle lacks the solver's state, of which partial_fit warns; what the test asserts still holds.
WITHOUT_SOLVER = {"test_mlp_loading_from_joblib_partial_fit"}
FRESH_SOLVER = pytest.mark.filterwarnings("ignore:The solver's state was not kept:UserWarning")


def load_upstream():
    """Return a copy of scikit-learn's test module that tests fastbp's estimators.

    It is executed with our classes in place of scikit-learn's, which also replaces those in the
    parameters of its `pytest.mark.parametrize`.
    """
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(
        "sklearn.neural_network", MLPClassifier=BPClassifier, MLPRegressor=BPRegressor
    ):
        spec.loader.exec_module(module)
    return module


upstream = load_upstream()
UPSTREAM_TESTS = {name: test for name, test in vars(upstream).items() if name.startswith("test_")}
for name, upstream_test in UPSTREAM_TESTS.items():
    if name in MAY_NOT_CONVERGE:
        upstream_test = NOT_CONVERGED(upstream_test)
    if name in WITHOUT_SOLVER:
        upstream_test = FRESH_SOLVER(upstream_test)
    if name not in LEFT_OUT:
        globals()[name] = upstream_test


@pytest.fixture(params=[0, 42])
def global_random_seed(request):
    """The seed that scikit-learn's conftest.py provides."""
    return request.param


def test_all_upstream_tests_are_here_but_those_left_out():
    assert UPSTREAM_TESTS.keys() - globals().keys() == LEFT_OUT
    assert UPSTREAM_TESTS.keys() >= {"test_fit", "test_warm_start", "test_mlp_diverging_loss"}


def test_upstream_tests_are_of_our_estimators():
    assert (upstream.MLPClassifier, upstream.MLPRegressor) == (BPClassifier, BPRegressor)
    marks = [mark for test in UPSTREAM_TESTS.values() for mark in getattr(test, "pytestmark", [])]
    values = [value for mark in marks if mark.name == "parametrize" for value in mark.args[1]]
    classes = {value for value in values if isinstance(value, type)}
    assert classes >= {BPClassifier, BPRegressor}
    assert classes.isdisjoint({MLPClassifier, MLPRegressor})
