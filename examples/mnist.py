"""MNIST, the 70,000 handwritten digits, with one hidden layer.

The classic of image recognition, in float32, epoch by epoch: each call of `partial_fit` passes over
the training set once, so that between calls you can look at the accuracy on the test set, save the
model, or stop. The figure shows what hidden units respond to: the weights of each, as an image.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
from helper import OUTPUT, run, save_figure

from fastbp import BPClassifier
from fastbp.datasets import load_mnist


def draw_weights(figure, weights):
    """Draw the weights of the 32 units with the largest norms, as images."""
    weights = weights[:, np.linalg.norm(weights, axis=0).argsort()[-32:]]
    largest = np.percentile(abs(weights), 99.5)
    for axes, unit in zip(figure.subplots(4, 8).flat, weights.T, strict=True):
        axes.imshow(unit.reshape(28, 28), cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.axis("off")
    figure.suptitle(
        "Weights of 32 hidden units: ink on red excites the unit, ink on blue inhibits it"
    )


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    X_train, y_train = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    if quick:
        X_train, y_train = X_train[:6000], y_train[:6000]
    n_epochs = 4 if quick else 12

    model = BPClassifier(
        hidden_layer_sizes=32 if quick else 256,
        alpha=0.1,  # the penalty keeps the weights, and so their images, smooth
        # A generator, not a seed: with a seed each call of partial_fit would shuffle the same way.
        random_state=np.random.RandomState(0),
    )
    print(f"{len(X_train)} images of 28 x 28 pixels, {X_train.dtype}")
    print("  epoch     loss   test accuracy   seconds")
    for epoch in range(1, n_epochs + 1):
        began = perf_counter()
        model.partial_fit(X_train, y_train, classes=np.arange(10))
        seconds = perf_counter() - began
        if epoch % 2 == 0 or epoch == 1:
            accuracy = model.score(X_test, y_test)
            print(f"  {epoch:5} {model.loss_:8.4f} {accuracy:15.4f} {seconds:9.2f}")
    print(f"Accuracy on the {len(X_test)} test images after {n_epochs} epochs: {accuracy:.2%}")

    save_figure(output / "mnist.png", (8, 4.4), draw_weights, model.coefs_[0])


if __name__ == "__main__":
    run(main, __doc__)
