"""A grid search over the size, the penalty and the learning rate of a network.

The best hidden layers, L2 penalty and learning rate are not known in advance, and they depend on
each other; so try all combinations, by cross-validation on the training data alone. The grid has
dozens of combinations, each fitted once per fold. Short fits make this practical, as does a search
that trains them side by side, on one copy of the data, with the scaler fitted once for each fold.
The data are letters, described by 16 numbers each.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BPClassifier
from fastbp.datasets import load_letter
from fastbp.model_selection import GridSearchCV  # instead of sklearn.model_selection's

HIDDEN_LAYER_SIZES = [(25,), (100,), (50, 50)]
ALPHAS = [1e-4, 1e-1, 1]
LEARNING_RATES = [1e-3, 5e-3, 2e-2]


def draw_heat_maps(figure, scores):
    """Draw a heat map for each alpha; scores have the shape (alphas, sizes, learning rates)."""
    all_axes = figure.subplots(1, len(ALPHAS), sharey=True)
    for axes, alpha, values in zip(all_axes, ALPHAS, scores, strict=True):
        colours = axes.imshow(values, vmin=scores.min(), vmax=scores.max(), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            dark = value < (scores.min() + scores.max()) / 2
            axes.text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        axes.set(title=f"alpha = {alpha:g}", xlabel="learning_rate_init")
        axes.set_xticks(range(len(LEARNING_RATES)), [f"{rate:g}" for rate in LEARNING_RATES])
        axes.set_yticks(range(len(HIDDEN_LAYER_SIZES)), map(str, HIDDEN_LAYER_SIZES))
    all_axes[0].set_ylabel("hidden_layer_sizes")
    figure.colorbar(colours, ax=all_axes, label="accuracy in cross-validation")


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    X, y = load_letter(return_X_y=True)
    X_train, y_train = X[:16000], y[:16000]  # by custom the last 4,000 are for testing
    if quick:
        X_train, y_train = X_train[:3000], y_train[:3000]

    pipeline = make_pipeline(
        StandardScaler(), BPClassifier(max_iter=5 if quick else 20, random_state=0)
    )
    grid = {
        "bpclassifier__hidden_layer_sizes": HIDDEN_LAYER_SIZES,
        "bpclassifier__alpha": ALPHAS,
        "bpclassifier__learning_rate_init": LEARNING_RATES,
    }
    search = GridSearchCV(pipeline, grid, cv=2 if quick else 3).fit(X_train, y_train)

    results = search.cv_results_
    print(f"{len(results['params'])} combinations on {len(X_train)} letters. The best five:")
    print("  accuracy   hidden layers     alpha   learning rate")
    for i in np.argsort(results["rank_test_score"])[:5]:
        sizes, alpha, rate = (results["params"][i][name] for name in grid)
        print(f"  {results['mean_test_score'][i]:8.4f}   {sizes!s:13} {alpha:9g} {rate:15g}")
    print(
        f"The best, refitted on them all: {search.score(X[16000:], y[16000:]):.4f} on the test set"
    )

    # GridSearchCV orders the keys of the grid alphabetically, and varies the last one fastest.
    scores = results["mean_test_score"].reshape(
        len(ALPHAS), len(HIDDEN_LAYER_SIZES), len(LEARNING_RATES)
    )
    save_figure(output / "grid_search.png", (9.5, 3.6), draw_heat_maps, scores)


if __name__ == "__main__":
    run(main, __doc__)
