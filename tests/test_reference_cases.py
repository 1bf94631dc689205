"""Small networks whose numbers can be checked by hand; every release must reproduce them."""

import naive
import numpy as np
import pytest

from fastbp import BPClassifier, BPRegressor

X_XOR = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
Y_XOR = np.array([0, 1, 1, 0])

# 1. The worked example: 2-3-1, all logistic, one step of gradient descent at rate 0.1.
W1 = np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]])
B1 = np.array([0.1, 0.2, 0.3])
W2 = np.array([[0.7], [0.8], [0.9]])
B2 = np.array([0.1])


@pytest.mark.parametrize("batch_size", [1, "full"])
def test_worked_example(batch_size):
    model = BPRegressor(
        hidden_layer_sizes=(3,),
        activation="logistic",
        out_activation="logistic",
        solver="sgd",
        momentum=0,
        learning_rate_init=0.1,
        alpha=0,
        batch_size=batch_size,
        max_iter=1,
    )
    with pytest.warns(match="Maximum iterations"):
        model.fit([[0.5, 0.8]], [1.0], coef_init=[W1, W2], intercept_init=[B1, B2])
    assert model.loss_ == pytest.approx(0.0120057, abs=5e-8)
    expected = [
        (model.coefs_[1].T, [[0.701171, 0.801342, 0.901495]]),
        (model.coefs_[0].T, [[0.100173, 0.200277], [0.300182, 0.400291], [0.500177, 0.600283]]),
        (model.intercepts_[0], [0.100347, 0.200363, 0.300354]),
    ]
    for actual, digits in expected:
        np.testing.assert_allclose(actual, digits, atol=5.1e-7)
    np.testing.assert_allclose(model.intercepts_[1], [0.1020291], atol=5.1e-8)


def test_worked_example_forward():
    zs, activations = naive.forward([W1, W2], [B1, B2], ["logistic"] * 2, np.array([[0.5, 0.8]]))
    np.testing.assert_allclose(zs[0], [[0.31, 0.67, 1.03]], atol=1e-12)
    np.testing.assert_allclose(activations[1], [[0.576885, 0.661503, 0.736916]], atol=5e-7)
    assert zs[1][0, 0] == pytest.approx(1.6962465, abs=5e-8)
    assert activations[2][0, 0] == pytest.approx(0.8450439, abs=5e-8)
    model = BPRegressor(
        hidden_layer_sizes=(),
        out_activation="logistic",
        solver="sgd",
        learning_rate_init=1e-300,
        max_iter=1,
    )
    with pytest.warns(match="Maximum iterations"):
        model.fit(activations[1], [1.0], coef_init=[W2], intercept_init=[B2])
    assert model.predict(activations[1])[0] == pytest.approx(0.8450439, abs=5e-8)


# 2. XOR, and with a constant third column: two hidden units.
SOLVERS = {
    "sgd": {"learning_rate_init": 0.5, "momentum": 0.9},
    "adam": {"learning_rate_init": 0.05},
    "adamw": {"learning_rate_init": 0.05},
    "adagrad": {"learning_rate_init": 0.3},
    "rmsprop": {"learning_rate_init": 0.02, "beta_2": 0.99},
    "lbfgs": {},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_xor_by_every_solver(solver, loss, columns):
    """Two hidden units can get stuck, but from at least three of ten seeds they do not."""
    X = np.hstack([X_XOR, np.ones((4, 1))])[:, :columns]
    solved = 0
    for seed in range(10):
        model = BPClassifier(
            (2,), "tanh", solver=solver, loss=loss, alpha=0, batch_size="full", max_iter=2000,
            n_iter_no_change=2000, tol=0, random_state=seed, **SOLVERS[solver],
        )  # fmt: skip
        solved += np.array_equal(model.fit(X, Y_XOR).predict(X), Y_XOR)
    assert solved >= 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("activation", ["logistic", "tanh"])
@pytest.mark.parametrize("batch_size", ["full", 1])
def test_xor_is_solved_from_most_seeds(activation, batch_size):
    solved = 0
    for seed in range(20):
        model = BPClassifier(
            (2,), activation, solver="sgd", learning_rate_init=0.2, alpha=0, max_iter=5000,
            batch_size=batch_size, n_iter_no_change=5000, tol=0, random_state=seed,
        )  # fmt: skip
        solved += np.array_equal(model.fit(X_XOR, Y_XOR).predict(X_XOR), Y_XOR)
    assert solved > 10


# 3. A 1-4-4-1 ReLU regressor: PyTorch's step; its MSELoss lacks our factor 1/2.
def regressor_case():
    rng = np.random.default_rng(0)
    coefs = [rng.normal(size=shape) for shape in [(1, 4), (4, 4), (4, 1)]]
    intercepts = [rng.normal(size=n) for n in (4, 4, 1)]
    return coefs, intercepts, rng.normal(size=(20, 1)), rng.normal(size=20)


def one_step(coefs, intercepts, X, y):
    model = BPRegressor(
        hidden_layer_sizes=(4, 4), solver="sgd", momentum=0, learning_rate_init=0.02, alpha=0,
        batch_size="full", shuffle=False, max_iter=1,
    )  # fmt: skip
    with pytest.warns(match="Maximum iterations"):
        return model.fit(X, y, coef_init=coefs, intercept_init=intercepts)


def test_relu_regressor_step():
    """Gradient descent on the mean squared error at rate 0.01 is ours, with 1/2, at rate 0.02."""
    coefs, intercepts, X, y = regressor_case()
    model = one_step(coefs, intercepts, X, y)
    value, by_w, by_b = naive.loss_and_gradients(
        coefs, intercepts, ["relu", "relu", "identity"], "squared_error", X, y[:, None]
    )
    assert 2 * model.loss_ == pytest.approx(2 * value, rel=1e-13)
    for w, before, gradient in zip(model.coefs_, coefs, by_w, strict=True):
        np.testing.assert_allclose(w, before - 0.01 * 2 * gradient, rtol=1e-13)
    for b, before, gradient in zip(model.intercepts_, intercepts, by_b, strict=True):
        np.testing.assert_allclose(b, before - 0.01 * 2 * gradient, rtol=1e-13)


def test_relu_regressor_step_is_pytorchs():
    torch = pytest.importorskip("torch")
    coefs, intercepts, X, y = regressor_case()
    model = one_step(coefs, intercepts, X, y)
    layers = []
    for w, b in zip(coefs, intercepts, strict=True):
        linear = torch.nn.Linear(*w.shape, dtype=torch.float64)
        linear.weight.data = torch.tensor(w.T.copy())
        linear.bias.data = torch.tensor(b)
        layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loss = torch.nn.MSELoss()(network(torch.tensor(X)).ravel(), torch.tensor(y))
    loss.backward()
    optimizer.step()
    assert 2 * model.loss_ == pytest.approx(loss.item(), rel=1e-13)
    for i, layer in enumerate(layers[:-1:2]):
        np.testing.assert_allclose(model.coefs_[i], layer.weight.detach().numpy().T, rtol=1e-12)
        np.testing.assert_allclose(model.intercepts_[i], layer.bias.detach().numpy(), rtol=1e-12)


# 4. A 3-2-1 logistic network for 1,000 epochs, with its loss every 100 epochs.
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_loss_of_a_small_logistic_network(loss):
    X = np.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    y = np.array([0, 0, 1, 1])
    rng = np.random.default_rng(1)
    coefs = [rng.uniform(-1, 1, (3, 2)), rng.uniform(-1, 1, (2, 1))]
    intercepts = [np.zeros(2), np.zeros(1)]
    model = BPClassifier(
        (2,), "logistic", solver="sgd", loss=loss, momentum=0, learning_rate_init=0.5, alpha=0,
        batch_size="full", shuffle=False, max_iter=1000, n_iter_no_change=1000,
    )  # fmt: skip
    with pytest.warns(match="Maximum iterations"):
        model.fit(X, y, coef_init=coefs, intercept_init=intercepts)
    solver = naive.Solver("sgd", 0.5, momentum=0)
    expected = [
        naive.train_epoch(
            coefs, intercepts, ["logistic"] * 2, loss, X, y[:, None], np.arange(4), 4, solver
        )
        for _ in range(1000)
    ]
    np.testing.assert_allclose(model.loss_curve_[::100], expected[::100], rtol=1e-10)
    assert (np.diff(model.loss_curve_[::100]) < 0).all()
    np.testing.assert_array_equal(model.predict(X), y)
