"""What dropout, label smoothing, clipping and an L1 penalty are for, and what they cost.

Each is compared with the same training without it, on data where it may matter. The results are
printed for a test set that no choice was based on.

- `dropout` and `label_smoothing` on the first 2,000 images of MNIST, few enough for a network to
  memorise. Both raise the accuracy. Dropout also improves the probabilities (a lower log loss);
  smoothing does not: it keeps them away from 0 and 1 on purpose.
- `clip_norm` on house prices, by SGD with increasing learning rates. A few mini-batches have
  gradients many times as long as the rest, which throw the weights off: above some rate the weights
  diverge, or end no better than a constant. With clipping, each of the rates works. Where the rate
  was small enough anyway, clipping only slows training down.
- `l1` on the words of reviews, compared with `alpha`. Both compensate for too many words; `l1` also
  leaves most of them with almost no weight, so that those which matter can be listed.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastbp import BPClassifier, BPRegressor
from fastbp.datasets import load_california_housing, load_clothing_reviews, load_mnist

FIXED = {"tol": 0.0, "n_iter_no_change": np.inf}  # train for exactly max_iter epochs


def compare_on_digits(quick):
    """Print accuracy and log loss; return the loss curve of each setting."""
    X, y = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    settings = {
        "neither": {},
        "dropout": {"dropout": 0.5},
        "smoothing": {"label_smoothing": 0.1},
        "both": {"dropout": 0.5, "label_smoothing": 0.1},
    }
    n_epochs, n_seeds = (20, 1) if quick else (60, 5)
    print(f"2000 images of digits, {n_epochs} epochs, {n_seeds} seeds: train, test, log loss")
    curves = {}
    for name, parameters in settings.items():
        rows = []
        for seed in range(n_seeds):
            model = BPClassifier(
                256, batch_size=64, max_iter=n_epochs, random_state=seed, **FIXED, **parameters
            ).fit(X[:2000], y[:2000])
            loss = log_loss(y_test, model.predict_proba(X_test))
            rows.append([model.score(X[:2000], y[:2000]), model.score(X_test, y_test), loss])
        train, test, loss = np.mean(rows, axis=0)
        spread = np.std(rows, axis=0)[1]
        print(f"  {name:10} {train:7.3f} {test:8.4f} ± {spread:.4f} {loss:8.3f}")
        curves[name] = model.loss_curve_
    return curves


def compare_on_prices(quick):
    """Print R² for each learning rate, without and with clipping."""
    X, y = load_california_housing(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    n_epochs = 10 if quick else 30
    print(f"House prices, SGD, {n_epochs} epochs: R² without and with clipping")
    for rate in (0.01, 0.03, 0.1, 0.3):
        print(f"  rate {rate:4}", end="")
        for clip_norm in (None, 1.0):
            model = BPRegressor(
                hidden_layer_sizes=(64, 64), solver="sgd", learning_rate_init=rate, batch_size=64,
                max_iter=n_epochs, clip_norm=clip_norm, random_state=0, **FIXED,
            )  # fmt: skip
            try:
                score = f"{r2_score(y_test, model.fit(X, y).predict(X_test)):.3f}"
            except ValueError:
                score = "infinite"
            print(f"{score:>10}", end="")
        print()


def compare_on_words(quick):
    """Print AUC and how many words keep weight; and the heaviest words with the L1 penalty."""
    texts, recommended = load_clothing_reviews(return_X_y=True)
    if quick:
        texts, recommended = texts[:8000], recommended[:8000]
    texts, texts_test, y, y_test = train_test_split(
        texts, recommended, test_size=0.2, random_state=0
    )
    vectorizer = TfidfVectorizer(max_features=3000, sublinear_tf=True, dtype=np.float32)
    X, X_test = vectorizer.fit_transform(texts), vectorizer.transform(texts_test)
    settings = {
        "neither": {"alpha": 0.0},
        "alpha": {"alpha": 0.1},
        "l1": {"alpha": 0.0, "l1": 0.01},
    }
    print("Reviews of clothes: ROC AUC; words with more than a twentieth of the largest weight")
    for name, parameters in settings.items():
        model = BPClassifier(32, max_iter=15, random_state=0, **FIXED, **parameters).fit(X, y)
        weights = np.linalg.norm(model.coefs_[0], axis=1)
        auc = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
        left = (weights > 0.05 * weights.max()).sum()
        print(f"  {name:10} {auc:7.3f} {left:6} of {len(weights)}")
    words = vectorizer.get_feature_names_out()[weights.argsort()[::-1][:10]]
    print(f"The words that weigh most: {', '.join(words)}")


def draw_curves(figure, curves):
    axes = figure.subplots()
    for name, losses in curves.items():
        axes.plot(range(1, len(losses) + 1), losses, label=name)
    axes.set(title="What training lowers, on 2,000 digits", xlabel="epoch", yscale="log")
    axes.legend()


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    warnings.simplefilter("ignore", RuntimeWarning)  # and some weights are meant to diverge
    curves = compare_on_digits(quick)
    compare_on_prices(quick)
    compare_on_words(quick)
    save_figure(output / "regularisation.png", (6, 4), draw_curves, curves)


if __name__ == "__main__":
    run(main, __doc__)
