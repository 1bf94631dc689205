"""The oracle: a multilayer perceptron in NumPy, slow and obvious, the reference for all tests.

It shares no code with fastbp. What scikit-learn has too is also tested against scikit-learn
itself.
"""

import numpy as np
from scipy.special import erf, expit, softmax, xlogy

LEAKY = 0.01
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

FUNCTIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "logistic": expit,
    "tanh": np.tanh,
    "leaky_relu": lambda z: np.where(z > 0, z, LEAKY * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(0, z),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    "silu": lambda z: z * expit(z),
    "exp": np.exp,
    "softmax": lambda z: softmax(z, axis=1),
}

SLOPES = {
    "identity": lambda z: np.ones_like(z),
    "relu": lambda z: (z > 0) * 1.0,
    "logistic": lambda z: expit(z) * expit(-z),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "leaky_relu": lambda z: np.where(z > 0, 1, LEAKY),
    "elu": lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, 1, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    "softplus": expit,
    "gelu": lambda z: (1 + erf(z / np.sqrt(2))) / 2 + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    "silu": lambda z: expit(z) * (1 + z * expit(-z)),
    "exp": np.exp,
}


def forward(coefs, intercepts, names, X, masks=None):
    """Return z and a of each layer; a of the hidden layers times their masks, if any."""
    zs, activations = [], [X]
    for i, (w, b, name) in enumerate(zip(coefs, intercepts, names, strict=True)):
        zs.append(activations[-1] @ w + b)
        activations.append(FUNCTIONS[name](zs[-1]))
        if masks is not None and i < len(masks):
            activations[-1] = activations[-1] * masks[i]
    return zs, activations


def philox(counter, key):
    """The four words of Philox4x32-10 for counters (4, n) and keys (2,) of numbers below 2**32."""
    c, k, low = [np.uint64(x) for x in counter], [int(x) for x in key], np.uint64(2**32 - 1)
    for _ in range(10):
        products = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        high = [p >> np.uint64(32) for p in products]
        words = high[1] ^ c[1] ^ np.uint64(k[0]), products[1] & low
        c = [*words, high[0] ^ c[3] ^ np.uint64(k[1]), products[0] & low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def dropout_masks(rates, units, seed, step, places):
    """The factors of each hidden layer's activations, for samples at these places."""
    masks = []
    for i, (rate, n) in enumerate(zip(rates, units[1:-1], strict=True)):
        q = n // 4
        counters = np.meshgrid(np.arange(q + 1), places)
        full = [np.full(counters[0].shape, x) for x in (i, step)]
        words = philox([*counters, *full], (seed % 2**32, seed >> 32))
        drawn = np.concatenate([w[:, :q] for w in words] + [w[:, q:] for w in words], axis=1)[:, :n]
        masks.append((drawn >= np.uint64(round(rate * 2**32))) / (1 - rate))
    return masks


# The parameters of the losses that have one, in all tests with this oracle.
PARAMETERS = {"quantile": 0.3, "huber": 0.7}

# For each loss of residuals, its value and its derivative.
RESIDUALS = {
    "squared_error": (lambda r: r**2 / 2, lambda r: r),
    "absolute_error": (np.abs, np.sign),
    "huber": (
        lambda r: np.where(np.abs(r) <= 0.7, r**2 / 2, 0.7 * (np.abs(r) - 0.35)),
        lambda r: np.clip(r, -0.7, 0.7),
    ),
    "quantile": (lambda r: np.maximum(-0.3 * r, 0.7 * r), lambda r: np.where(r > 0, 0.7, -0.3)),
    "log_cosh": (lambda r: np.log(np.cosh(r)), np.tanh),
}


def sample_losses(loss, y, a, epsilon):
    """The loss of each sample; y is one-hot for classes, probabilities are clipped at epsilon."""
    if loss in RESIDUALS:
        return RESIDUALS[loss][0](a - y).mean(axis=1)
    if loss == "poisson":
        return (xlogy(y, y / a) - y + a).sum(axis=1)
    if loss == "gamma":
        return (np.log(a / y) + y / a - 1).sum(axis=1)
    p = np.clip(a, epsilon, 1 - epsilon)
    if loss == "categorical":
        return -xlogy(y, p).sum(axis=1)
    return -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum(axis=1)


EPSILON = np.finfo(np.float64).eps


def loss_and_gradients(
    coefs, intercepts, names, loss, X, y, weight=None, alpha=0.0, epsilon=EPSILON, l1=0.0,
    masks=None,
):  # fmt: skip
    """The mean loss with its penalty, and its gradients by each W and each b.

    With several outputs the loss is the mean of the squared errors, but the gradients are those of
    their sum, as in scikit-learn.
    """
    weight = np.ones(len(X)) if weight is None else weight
    zs, activations = forward(coefs, intercepts, names, X, masks)
    a = activations[-1]
    total = weight.sum()
    kind = "categorical" if loss == "log_loss" and names[-1] == "softmax" else loss
    penalty = sum(alpha / 2 * (w**2).sum() + l1 * np.abs(w).sum() for w in coefs)
    value = ((weight * sample_losses(kind, y, a, epsilon)).sum() + penalty) / total

    # dJ/da, then through the output activation.
    if loss in RESIDUALS:
        by_a = RESIDUALS[loss][1](a - y)
    elif loss == "poisson":
        by_a = 1 - y / a
    elif loss == "gamma":
        by_a = 1 / a - y / a**2
    elif kind == "categorical":
        by_a = -y / a
    else:
        by_a = (a - y) / (a * (1 - a))
    if names[-1] == "softmax":
        delta = a * (by_a - (by_a * a).sum(axis=1, keepdims=True))
    else:
        delta = by_a * SLOPES[names[-1]](zs[-1])
    delta = delta * weight[:, None]
    by_w, by_b = [], []
    for i in range(len(coefs) - 1, -1, -1):
        penalty = alpha * coefs[i] + l1 * np.sign(coefs[i])
        by_w.insert(0, (activations[i].T @ delta + penalty) / total)
        by_b.insert(0, delta.sum(axis=0) / total)
        if i > 0:
            delta = (delta @ coefs[i].T) * SLOPES[names[i - 1]](zs[i - 1])
            delta = delta if masks is None else delta * masks[i - 1]
    return value, by_w, by_b


class Solver:
    """The update rule of each solver, on a list of arrays."""

    def __init__(self, name, rate, alpha=0.0, momentum=0.9, nesterov=True, eps=1e-8):
        self.name, self.rate, self.alpha = name, rate, alpha
        self.momentum, self.nesterov, self.eps = momentum, nesterov, eps
        self.t, self.state = 0, {}

    def step(self, parameters, gradients, is_weight):
        self.t += 1
        b1, b2 = 0.9, 0.999
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            m, v = self.state.get(i, (np.zeros_like(p), np.zeros_like(p)))
            if self.name == "sgd":
                m = self.momentum * m - self.rate * g
                p += self.momentum * m - self.rate * g if self.nesterov else m
            elif self.name in ("adam", "adamw"):
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
                m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
                if self.name == "adamw":
                    p *= 1 - self.rate * self.alpha * is_weight[i]
                    p -= self.rate * m_hat / (np.sqrt(v_hat) + self.eps)
                else:
                    rate = self.rate * np.sqrt(1 - b2**self.t) / (1 - b1**self.t)
                    p -= rate * m / (np.sqrt(v) + self.eps)
            elif self.name == "adagrad":
                v = v + g**2
                p -= self.rate * g / (np.sqrt(v) + self.eps)
            elif self.name == "rmsprop":
                v = b2 * v + (1 - b2) * g**2
                p -= self.rate * g / (np.sqrt(v) + self.eps)
            self.state[i] = m, v


def clip(gradients, most):
    """Scale gradients so that their joint norm is at most `most`."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, most / (norm + 1e-6)) for g in gradients]


def train_epoch(
    coefs, intercepts, names, loss, X, y, order, batch_size, solver, weight=None, epsilon=EPSILON,
    l1=0.0, clip_norm=None, masks=None,
):  # fmt: skip
    """Train one epoch in place; return the mean over samples of their batch's loss before its step.

    `masks` is a function of the step, counted from 0, and of its samples' places in the epoch.
    """
    penalty = 0.0 if solver.name == "adamw" else solver.alpha
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        w = None if weight is None else weight[rows]
        if w is not None and w.sum() == 0:
            continue
        drawn = masks and masks(solver.t, np.arange(start, start + len(rows)))
        value, by_w, by_b = loss_and_gradients(
            coefs, intercepts, names, loss, X[rows], y[rows], w, penalty, epsilon, l1, drawn
        )
        total += value * len(rows)
        is_weight = [1] * len(coefs) + [0] * len(intercepts)
        gradients = by_w + by_b if clip_norm is None else clip(by_w + by_b, clip_norm)
        solver.step(coefs + intercepts, gradients, is_weight)
    return total / len(order)
