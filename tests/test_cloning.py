"""Fast clones of estimators, against scikit-learn's own."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone

from fastbp import BPClassifier, BPRegressor
from fastbp.callbacks import EarlyStopping
from fastbp.estimators.cloning import clone_parameters


def fitted():
    X = np.arange(20.0).reshape(10, 2)
    return BPClassifier().partial_fit(X, X[:, 0] > 8, classes=[False, True])


def asking_for_weights():
    with config_context(enable_metadata_routing=True):
        return BPRegressor().set_fit_request(sample_weight=True)


ESTIMATORS = {
    "plain": lambda: BPClassifier(hidden_layer_sizes=(3, 4), alpha=0.1, random_state=3),
    "NumPy's numbers": lambda: BPClassifier(alpha=np.float64(0.1), batch_size=np.int64(7)),
    "an array": lambda: BPClassifier(hidden_layer_sizes=np.array([3, 4])),
    "a dict": lambda: BPClassifier(class_weight={0: 1.0, 1: 2.0}),
    "a generator": lambda: BPRegressor(random_state=np.random.RandomState(0)),
    "a tuple with an array": lambda: BPClassifier(hidden_layer_sizes=(np.array(3), 4)),
    "fitted": fitted,
    "a request": asking_for_weights,
    "an output": lambda: BPRegressor().set_output(transform="pandas"),
    "callbacks": lambda: BPRegressor().set_callbacks(EarlyStopping("loss")),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_clone_is_scikit_learns(name):
    estimator = ESTIMATORS[name]()
    copied, expected = clone(estimator), BaseEstimator.__sklearn_clone__(estimator)
    assert type(copied) is type(expected)
    assert copied is not estimator
    assert vars(copied).keys() == vars(expected).keys()
    for attribute, value in vars(expected).items():
        mine = getattr(copied, attribute)
        assert repr(mine) == repr(value) or attribute in ("random_state", "_metadata_request")
        is_shared = value is getattr(estimator, attribute)
        assert (mine is getattr(estimator, attribute)) == is_shared or type(mine) is tuple


def test_what_can_change_is_copied():
    model = BPClassifier(alpha=np.float64(0.1), class_weight={0: 1.0, 1: 2.0})
    assert clone(model).class_weight is not model.class_weight
    array = np.array(3)
    assert clone_parameters({"sizes": (array, 4)})["sizes"][0] is not array


def test_a_constructor_that_changes_a_parameter_is_refused():
    class Doubling(BPClassifier):
        def __init__(self, alpha=0.1):
            super().__init__(alpha=2 * alpha)

    class Renaming(BPClassifier):
        def __init__(self, penalty=0.1):
            self.penalty = penalty
            super().__init__(alpha=penalty)

    with pytest.raises(RuntimeError, match="Cannot clone object"):
        clone(Doubling())
    assert clone(Renaming(penalty=0.3)).alpha == 0.3


def test_parameters_that_may_change_are_copied():
    array = np.array([3, 4])
    parameters = {"hidden_layer_sizes": array, "alpha": 0.1, "activation": ["relu", "tanh"]}
    copied = clone_parameters(parameters)
    array[0] = 5
    parameters["activation"][0] = "elu"
    assert copied["hidden_layer_sizes"].tolist() == [3, 4]
    assert copied["activation"] == ["relu", "tanh"]
    assert copied["alpha"] is parameters["alpha"]
