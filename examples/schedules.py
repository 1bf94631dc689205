"""Schedules of the learning rate on MNIST, against the best constant rate.

With a large rate training is fast, but its steps never settle; with a small one they settle, but
have not come far by then. A schedule goes from one to the other. This compares a constant rate,
half a cosine after an epoch of warm-up, one cycle, a step to a tenth halfway, and a user's
function: constant, then straight down to 0 in the second half. Each trains the same network by
Adam, for the same number of epochs, with three rates and three seeds, and keeps the weights of the
epoch that is best on 10,000 images held out of the training set; that helps the constant rate most.
The same images decide on each schedule's rate; the test set then decides between schedules. The
constant rate gets one more advantage: the others must beat the rate that is best on the test set.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPClassifier
from fastbp.datasets import load_mnist


def straight_down(step, n_steps):
    return min(1, 2 * (1 - step / n_steps))


def draw_histories(figure, chosen):
    """Draw learning rates and mean scores, with a curve for each group of models."""
    rates, scores = figure.subplots(1, 2)
    for name, models in chosen.items():
        epochs = models[0].history_["epoch"]
        rates.plot(epochs, models[0].history_["learning_rate"], ".-")
        score = np.mean([model.history_["validation_score"] for model in models], axis=0)
        scores.plot(epochs, score, ".-", label=name)
    rates.set(title="Learning rate", xlabel="epoch", ylabel="at the end of the epoch")
    scores.set(title="Accuracy on the images held out", xlabel="epoch")
    scores.legend(loc="lower right")
    scores.set_ylim(score.max() - 0.02, score.max() + 0.003)


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    X, y = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    held_out = {"X_val": X[50000:], "y_val": y[50000:]}
    n_samples, n_epochs, n_seeds = (6000, 4, 2) if quick else (50000, 10, 3)
    X, y = X[:n_samples], y[:n_samples]
    rates = [1e-3, 5e-3] if quick else [3e-4, 1e-3, 3e-3]
    schedules = {
        "constant": {},
        "cosine": {"learning_rate": "cosine", "warmup_epochs": 1},
        "one_cycle": {"learning_rate": "one_cycle"},
        "step": {"learning_rate": "step", "decay_rate": 0.1, "decay_epochs": n_epochs / 2},
        "function": {"learning_rate": straight_down},
    }

    def train(rate, seed, **schedule):
        return BPClassifier(
            hidden_layer_sizes=128,
            batch_size=64,
            learning_rate_init=rate,
            max_iter=n_epochs,
            early_stopping=True,  # keeps the best epoch's weights, but ...
            n_iter_no_change=np.inf,  # ... runs all epochs
            random_state=seed,
            **schedule,
        ).fit(X, y, **held_out)

    print(f"{len(X)} images, {X.dtype}; {n_epochs} epochs, {n_seeds} seeds, rates {rates}")
    print("                  rate   held out     test accuracy")
    chosen, on_test = {}, {}
    for name, schedule in schedules.items():
        models = [[train(rate, seed, **schedule) for seed in range(n_seeds)] for rate in rates]
        validation = [np.mean([model.best_validation_score_ for model in row]) for row in models]
        best = np.argmax(validation)
        scores = np.array([[model.score(X_test, y_test) for model in row] for row in models])
        means, spreads = 100 * scores.mean(axis=1), 100 * scores.std(axis=1, ddof=1)
        chosen[f"{name}, {rates[best]:g}"] = models[best]
        on_test[name] = means[best], spreads[best]
        print(f"  {name:12} {rates[best]:7g} {validation[best]:10.2%}", end="")
        print(f" {means[best]:9.2f} ± {spreads[best]:.2f} %")
        if name == "constant":
            top = means.argmax()
            bar, spread, bar_rate = means[top], spreads[top], rates[top]
    print(
        f"The best constant rate on the test set itself, {bar_rate:g}: {bar:.2f} ± {spread:.2f} %"
    )
    better = [name for name, (mean, own) in on_test.items() if mean - bar > max(spread, own)]
    print(f"Better by more than the spread: {', '.join(better) or 'none'}")
    save_figure(output / "schedules.png", (9.5, 4.2), draw_histories, chosen)


if __name__ == "__main__":
    run(main, __doc__)
