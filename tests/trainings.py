"""The same training by an estimator, by the oracle and by PyTorch."""

from dataclasses import dataclass, replace

import naive
import numpy as np
import pytest
from networks import make_case

from fastbp import BPClassifier, BPRegressor
from fastbp.kernels.losses import OF_RESIDUALS

CASE = make_case((6, 8, 7, 3), ["tanh", "tanh", "softmax"], "log_loss", 45)
BATCH_SIZE, N_EPOCHS = 10, 4
STEPS_PER_EPOCH = 5  # the last batch is shorter
N_STEPS = N_EPOCHS * STEPS_PER_EPOCH
RATE, ALPHA, EPSILON = 0.02, 0.3, 1e-6
SETTINGS = {
    "hidden_layer_sizes": (8, 7),
    "activation": "tanh",
    "batch_size": BATCH_SIZE,
    "max_iter": N_EPOCHS,
    "learning_rate_init": RATE,
    "alpha": ALPHA,
    "epsilon": EPSILON,
    "momentum": 0.0,  # PyTorch's differs: it keeps past gradients without their learning rates
    "nesterovs_momentum": False,
    "shuffle": False,
    "random_state": 0,
    "tol": 0.0,
    "n_iter_no_change": np.inf,
}


@dataclass
class Trained:
    """The final parameters of a training, and its losses and norms in each epoch."""

    parameters: list  # the weights of all layers, then their biases
    losses: list
    norms: list | None = None  # of the gradient of each epoch's last batch


def estimator(case, **parameters):
    """Return an estimator with the network and loss of a case."""
    parameters = {**SETTINGS, "dropout": case.dropout or 0.0, **parameters}
    if case.names[-1] in ("softmax", "logistic"):
        return BPClassifier(loss=case.loss, label_smoothing=case.smoothing, **parameters)
    shape = naive.PARAMETERS
    return BPRegressor(case.loss, quantile=shape["quantile"], delta=shape["huber"], **parameters)


def labels(case):
    """Return y in the form that users pass."""
    if case.names[-1] == "softmax":
        return case.y.argmax(axis=1)
    return case.y[:, 0] if case.y.shape[1] == 1 else case.y


def fit(case, **parameters):
    """Return an estimator fitted from the initial weights of the case."""
    model = estimator(case, **parameters)
    return model.fit(case.X, labels(case), coef_init=case.coefs, intercept_init=case.intercepts)


def draw_seed(case):
    """Return the seed of dropout, which a fit draws after its initial weights."""
    generator = np.random.RandomState(SETTINGS["random_state"])
    fit(replace(case, dropout=()), max_iter=1, random_state=generator)
    return int(generator.randint(2**63 - 1, dtype=np.int64))


def make_masks(case):
    """Return the masks of dropout, as a function of a step and the places of its samples."""
    seed, units = draw_seed(case), [len(case.coefs[0]), *map(len, case.intercepts)]
    return lambda step, places: naive.dropout_masks(case.dropout, units, seed, step, places)


class Scheduled(naive.Solver):
    """A solver with a learning rate for each step."""

    def __init__(self, name, rates):
        super().__init__(name, None, ALPHA, SETTINGS["momentum"], nesterov=False, eps=EPSILON)
        self.rates = rates

    def step(self, *arguments):
        self.rate = self.rates[self.t]
        super().step(*arguments)


def fit_by_oracle(case, solver, rates):
    coefs, intercepts = [w.copy() for w in case.coefs], [b.copy() for b in case.intercepts]
    network = coefs, intercepts, case.names, case.loss, case.X, case.targets()
    solver = Scheduled(solver, rates)
    order = np.arange(len(case.X))
    epochs = range(len(rates) // STEPS_PER_EPOCH)
    losses = [naive.train_epoch(*network, order, BATCH_SIZE, solver) for _ in epochs]
    return Trained(coefs + intercepts, losses)


PYTORCH = {
    "sgd": lambda torch, p: torch.optim.SGD(p, lr=RATE),
    "adamw": lambda torch, p: torch.optim.AdamW(p, lr=RATE, weight_decay=ALPHA, eps=EPSILON),
    "adagrad": lambda torch, p: torch.optim.Adagrad(p, lr=RATE, eps=EPSILON),
    "rmsprop": lambda torch, p: torch.optim.RMSprop(p, lr=RATE, alpha=0.999, eps=EPSILON),
}


def fit_in_pytorch(
    case,
    solver,
    make_scheduler=None,
    masks=None,
    l1=0.0,
    clip_norm=np.inf,
    class_weight=None,
    **settings,
):
    """Train in PyTorch, if it has the same rule; `settings` are its optimizer's."""
    torch = pytest.importorskip("torch")
    X, y = torch.tensor(case.X), torch.tensor(case.y)
    coefs = [torch.tensor(w, requires_grad=True) for w in case.coefs]
    biases = [torch.tensor(b, requires_grad=True) for b in case.intercepts]
    groups = [{"params": coefs}, {"params": biases, "weight_decay": 0.0}]
    optimizer = PYTORCH[solver](torch, groups)
    for group in optimizer.param_groups:
        group.update(settings)
    scheduler = make_scheduler and make_scheduler(torch.optim.lr_scheduler, optimizer)
    alpha = 0.0 if solver == "adamw" else ALPHA
    losses, norms, step = [], [], 0
    for _ in range(N_EPOCHS):
        total = 0.0
        for places in torch.arange(len(X)).split(BATCH_SIZE):
            drawn = masks and masks(step, places.numpy())
            z = X[places]
            for i, (w, b) in enumerate(zip(coefs, biases, strict=True)):
                if i > 0:
                    z = torch.tanh(z) * (torch.tensor(drawn[i - 1]) if drawn else 1)
                z = z @ w + b
            objective, weight = of_samples(torch, case, z, y[places]).mean(), len(places)
            if class_weight is not None:
                labels, of_class = y[places].argmax(1), torch.tensor(np.array(class_weight))
                objective = torch.nn.functional.cross_entropy(z, labels, weight=of_class)
                weight = of_class[labels].sum().item()
            penalty = sum(alpha / 2 * (w**2).sum() + l1 * w.abs().sum() for w in coefs)
            shown = objective / (case.y.shape[1] if case.loss in OF_RESIDUALS else 1)
            total += (shown + penalty / weight).item() * len(places)
            optimizer.zero_grad()
            (objective + penalty / weight).backward()
            norm = torch.nn.utils.clip_grad_norm_(coefs + biases, clip_norm)
            optimizer.step()
            step += 1
            if scheduler:
                scheduler.step()
        losses.append(total / len(X))
        norms.append(float(norm))
    return Trained([p.detach().numpy() for p in coefs + biases], losses, norms)


def of_samples(torch, case, z, y):
    """Return the loss that training minimises for each sample, given the last layer's z."""
    functional = torch.nn.functional
    if case.names[-1] in ("softmax", "logistic") and case.loss == "squared_error":
        p = torch.softmax(z, 1) if case.names[-1] == "softmax" else torch.sigmoid(z)
        return functional.mse_loss(p, y, reduction="none").sum(1) / 2
    if case.names[-1] == "softmax":
        return functional.cross_entropy(z, y, reduction="none", label_smoothing=case.smoothing)
    if case.loss == "log_loss":
        y = (1 - case.smoothing) * y + case.smoothing / 2
        return functional.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)
    d, q, r = naive.PARAMETERS["huber"], naive.PARAMETERS["quantile"], z - y
    return {
        "squared_error": lambda: functional.mse_loss(z, y, reduction="none") / 2,
        "absolute_error": lambda: functional.l1_loss(z, y, reduction="none"),
        "huber": lambda: functional.huber_loss(z, y, reduction="none", delta=d),
        "quantile": lambda: torch.maximum(-q * r, (1 - q) * r),
        "log_cosh": lambda: torch.log(torch.cosh(r)),
        # half the deviance, which is 0 if z is log(y)
        "poisson": lambda: (
            functional.poisson_nll_loss(z, y, reduction="none") + torch.xlogy(y, y) - y
        ),
    }[case.loss]().sum(1)


def assert_same_training(model, trained, rtol=1e-9):
    for mine, theirs in zip(model.coefs_ + model.intercepts_, trained.parameters, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(model.loss_curve_, trained.losses, rtol=rtol)
    if trained.norms is not None:
        np.testing.assert_allclose(model.history_["gradient_norm"], trained.norms, rtol=rtol)


def assert_same_bits(a, b, n_epochs=0):
    """Compare weights, and learning rates of the last n_epochs epochs (of all if 0)."""
    for mine, theirs in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    rates = [model.history_["learning_rate"][-n_epochs:] for model in (a, b)]
    np.testing.assert_array_equal(*rates)
