"""One step of gradient descent, worked out number by number.

The network has 2 inputs, 3 hidden units and 1 output, all units logistic, and learns from a single
sample. Every quantity of the forward and backward passes is computed here in a line of NumPy, and
the weights after the step are compared with those of `BPRegressor`. Use it to see what
backpropagation computes, or to check a calculation by hand against one that is known to be right.

(Copies of this example in circulation have z2 = 1.4475 and a2 = 0.8078, from an error in a sum.)
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPRegressor

RATE = 0.1
x = np.array([[0.5, 0.8]])
y = np.array([1.0])
W1 = np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]])  # from each input (row) to each hidden unit
b1 = np.array([0.1, 0.2, 0.3])
W2 = np.array([[0.7], [0.8], [0.9]])
b2 = np.array([0.1])


def logistic(z):
    return 1 / (1 + np.exp(-z))


def show(name, values, digits=6):
    numbers = ", ".join(f"{value:.{digits}f}" for value in np.ravel(values))
    print(f"  {name:15} {numbers}")


def main(quick: bool = False, output: Path = OUTPUT) -> None:  # neither option changes anything
    print("Forward, layer by layer: z = a W + b, a = f(z)")
    z1 = x @ W1 + b1
    a1 = logistic(z1)
    z2 = a1 @ W2 + b2
    a2 = logistic(z2)
    loss = 0.5 * np.sum((a2 - y) ** 2)
    show("z1", z1)
    show("a1", a1)
    show("z2", z2, 7)
    show("a2", a2, 7)
    show("J = (a2-y)²/2", loss, 7)

    print("Backward: delta = dJ/dz, for each z; for a logistic unit, f' = a (1 - a)")
    delta2 = (a2 - y) * a2 * (1 - a2)
    delta1 = (delta2 @ W2.T) * a1 * (1 - a1)
    show("delta2", delta2, 7)
    show("delta1", delta1)

    # The same step by fastbp. `max_iter=1` is one epoch, which with a full batch is one step.
    model = BPRegressor(
        hidden_layer_sizes=3,
        activation="logistic",
        out_activation="logistic",
        loss="squared_error",
        solver="sgd",
        momentum=0,
        learning_rate_init=RATE,
        alpha=0,
        batch_size="full",
        max_iter=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # one step is intended
        model.fit(x, y, coef_init=[W1, W2], intercept_init=[b1, b2])

    print(f"Step: subtract {RATE} times its derivative from each weight")
    steps = [
        ("W1", W1 - RATE * x.T @ delta1, model.coefs_[0]),
        ("b1", b1 - RATE * delta1.sum(axis=0), model.intercepts_[0]),
        ("W2", W2 - RATE * a1.T @ delta2, model.coefs_[1]),
        ("b2", b2 - RATE * delta2.sum(axis=0), model.intercepts_[1]),
    ]
    for name, by_hand, by_fastbp in steps:
        show(f"{name}, NumPy", by_hand.T, 7)
        show(f"{name}, fastbp", by_fastbp.T, 7)
    furthest = max(abs(by_hand - by_fastbp).max() for _, by_hand, by_fastbp in steps)
    print(f"The loss that fastbp reports is {model.loss_:.7f}; after the step it is", end=" ")
    print(f"{0.5 * (model.predict(x)[0] - y[0]) ** 2:.7f}.")
    print(f"The weights of NumPy and fastbp differ by at most {furthest:.1e}.")


if __name__ == "__main__":
    run(main, __doc__)
