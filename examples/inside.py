"""Inside a network: what hidden layers have learnt, what an answer depends on, and ONNX.

A network learns to distinguish the digits 0 to 4. `transform` returns the activations of its hidden
layers, as features for another model: a linear one that must learn the digits 5 to 9, which the
network has never seen, from a few images. The first layer's features are better for this than the
pixels themselves; the last layer's contain little beyond the old digits, and are worse.

`input_gradient` returns how each probability changes with each pixel. Where the derivative of the
answer times the ink is large, the answer depends on that pixel: with the 50 largest such pixels
erased from each image, the network is right far less often than with as many others erased, even
the darkest ones.

`to_onnx` exports the network as a graph that onnxruntime evaluates without scikit-learn.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier

from fastbp import BPClassifier, to_onnx
from fastbp.datasets import load_mnist


def learn_new_digits(network, X, y, X_test, y_test, n_draws):
    """Print how well a linear model learns from few images, with pixels and with each layer."""
    features = {
        "pixels": lambda X: X,
        "first layer": lambda X: network.transform(X, layer=0),
        "last layer": lambda X: network.transform(X),
    }
    print("Linear model, digits 5 to 9, accuracy on the test images:")
    print("  images " + "".join(f"{name:>18}" for name in features))
    for n in (20, 100, 500):
        draws = [np.random.default_rng(i).choice(len(y), n, False) for i in range(n_draws)]
        print(f"  {n:6} ", end="")
        for make in features.values():
            scores = [
                RidgeClassifier(10.0).fit(make(X[rows]), y[rows]).score(make(X_test), y_test)
                for rows in draws
            ]
            print(f"{np.mean(scores):10.3f} ± {np.std(scores):.3f}", end="")
        print()


def wipe_out(X, importance, n):
    """Return the images with the ink of their n most important pixels removed."""
    wiped = X.copy()
    np.put_along_axis(wiped, importance.argsort(axis=1)[:, -n:], 0, axis=1)
    return wiped


def run_graph(graph, X):
    """Return labels and probabilities of a graph, or None if onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(None, {"X": X})


def draw_importance(figure, X, importance):
    images = figure.subplots(2, 8)
    for i, (ink, weight) in enumerate(zip(X, importance, strict=True)):
        images[0, i].imshow(ink.reshape(28, 28), cmap="gray_r")
        images[1, i].imshow(weight.reshape(28, 28), cmap="magma")
    for axes in images.flat:
        axes.axis("off")
    figure.suptitle("Images, and what the network's answers hang on")


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    X, y = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    old, new = np.flatnonzero(y < 5), np.flatnonzero(y >= 5)
    if quick:
        old = old[:6000]
    network = BPClassifier((256, 64), max_iter=10, dropout=0.2, random_state=0)
    network.fit(X[old], y[old])
    X_old, y_old = X_test[y_test < 5], y_test[y_test < 5]
    print(f"Network, digits 0 to 4, {len(old)} images, accuracy: {network.score(X_old, y_old):.3f}")
    X_new, y_new = X_test[y_test >= 5], y_test[y_test >= 5]
    learn_new_digits(network, X[new], y[new], X_new, y_new, 5 if quick else 20)

    X_old, y_old = X_old[:2000], y_old[:2000]
    derivatives = network.input_gradient(X_old)  # of each class's probability by each pixel
    chosen = np.searchsorted(network.classes_, network.predict(X_old))
    importance = abs(derivatives[np.arange(len(X_old)), :, chosen]) * X_old
    by_chance = np.random.default_rng(0).random(X_old.shape) * (X_old > 0)
    print("Accuracy on 2000 images of the old digits, with 50 pixels wiped out:")
    for name, order in (("any", by_chance), ("darkest", X_old), ("important", importance)):
        print(f"  {name:10} {network.score(wipe_out(X_old, order, 50), y_old):.3f}")

    try:
        graph = to_onnx(network)
    except ImportError as error:
        print(f"No graph: {error}")
    else:
        answer = run_graph(graph, X_old)
        if answer is None:
            print("The graph was not run: onnxruntime is not installed.")
        else:
            same = (answer[0] == network.predict(X_old)).sum()
            difference = abs(answer[1] - network.predict_proba(X_old)).max()
            print(f"The ONNX graph gives the same digit for {same} of {len(X_old)} images,")
            print(f"probabilities differ by at most {difference:.1e}.")
    save_figure(output / "inside.png", (8, 2.6), draw_importance, X_old[:8], importance[:8])


if __name__ == "__main__":
    run(main, __doc__)
