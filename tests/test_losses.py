"""The regressor's losses: what they estimate, and targets outside their domain."""

import numpy as np
import pytest
from sklearn.metrics import mean_gamma_deviance, mean_pinball_loss

from fastbp import BPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3))
SKEWED = RNG.gamma(1.5, size=600)
CONSTANT = {"hidden_layer_sizes": (), "alpha": 0, "random_state": 0, "max_iter": 3000, "tol": 0}


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_the_quantile_is_below_so_many(q):
    model = BPRegressor("quantile", quantile=q, learning_rate_init=0.01, **CONSTANT)
    model.fit(np.zeros((600, 1)), SKEWED)
    assert model.predict([[0.0]])[0] == pytest.approx(np.quantile(SKEWED, q), abs=0.05)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("absolute_error", np.median(SKEWED)), ("gamma", SKEWED.mean()), ("poisson", SKEWED.mean())],
)
def test_the_constant_that_is_best(loss, expected):
    model = BPRegressor(loss, learning_rate_init=0.01, **CONSTANT).fit(np.zeros((600, 1)), SKEWED)
    assert model.predict([[0.0]])[0] == pytest.approx(expected, rel=0.05)


def test_the_loss_is_scikit_learns_metric():
    settings = {"hidden_layer_sizes": (4,), "alpha": 0, "batch_size": "full", "max_iter": 1}
    for loss, metric in (
        ("gamma", lambda y, p: mean_gamma_deviance(y, p) / 2),
        ("quantile", lambda y, p: mean_pinball_loss(y, p, alpha=0.3)),
    ):
        model = BPRegressor(loss, quantile=0.3, random_state=0, **settings).fit(X, SKEWED)
        before = BPRegressor(
            loss, quantile=0.3, random_state=0, learning_rate_init=1e-300, **settings
        ).fit(X, SKEWED)
        assert model.loss_ == pytest.approx(metric(SKEWED, before.predict(X)), rel=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["absolute_error", "huber", "quantile", "log_cosh", "gamma"])
def test_every_loss_falls(loss, solver):
    settings = {"solver": solver, "learning_rate_init": 0.05, "max_iter": 100, "random_state": 0}
    model = BPRegressor(loss, (8,), quantile=0.2, **settings)
    model.fit(X, np.exp(X[:, 0] / 3))
    constant = BPRegressor(loss, (), max_iter=2000, random_state=0, quantile=0.2, tol=0)
    constant.fit(np.zeros((600, 1)), np.exp(X[:, 0] / 3))
    assert model.loss_ < 0.7 * constant.loss_


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        (
            {"loss": "gamma"},
            np.arange(4.0),
            r"requires y > 0, got zeros in y after conversion to float64",
        ),
        (
            {"loss": "gamma", "dtype": "float32"},
            np.full(4, 1e-50),
            r"got zeros in y after conversion to float32",
        ),
        ({"loss": "gamma"}, np.arange(4.0) - 1, r"requires y > 0, got negative values in y"),
        ({"loss": "gamma", "out_activation": "tanh"}, np.ones(4), "out_activation must be among"),
        ({"loss": "quantile", "quantile": 1.0}, np.ones(4), "The 'quantile' parameter"),
        ({"loss": "huber", "delta": 0.0}, np.ones(4), "The 'delta' parameter"),
    ],
)
def test_what_a_loss_is_not_defined_for(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        BPRegressor(**parameters).fit(X[:4], y)
