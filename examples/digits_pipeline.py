"""Handwritten digits through a scikit-learn Pipeline: scaling, cross-validation, mistakes.

`BPClassifier` is an estimator like any other, so it works wherever scikit-learn takes one: here in
a Pipeline after a scaler, which cross-validation refits on the training part of each fold, as it
should. At the end `MLPClassifier` replaces `BPClassifier`, with the same parameters and the same
seed: the predictions are the same.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fastbp import BPClassifier
from fastbp.datasets import load_digits


def draw_mistakes(figure, images, truth, predicted):
    for axes in figure.subplots(3, 6).flat:
        axes.axis("off")
    for axes, image, true, guess in zip(figure.axes, images, truth, predicted, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=16)
        axes.set_title(f"a {true}, taken for {guess}", size=9)
    figure.suptitle(f"Misclassified in cross-validation: {len(truth)} digits, the first of them")


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    digits = load_digits()
    X, y = digits.data, digits.target
    folds = StratifiedKFold(3 if quick else 10, shuffle=True, random_state=0)
    parameters = {"hidden_layer_sizes": (64,), "max_iter": 60 if quick else 200, "random_state": 0}

    print(f"Digits: {X.shape[0]} images of 8 x 8 pixels. Accuracy in {folds.n_splits} folds:")
    for scaler in (StandardScaler(), MinMaxScaler()):
        pipeline = make_pipeline(scaler, BPClassifier(**parameters))
        scores = cross_val_score(pipeline, X, y, cv=folds)
        print(f"  {type(scaler).__name__:15} {scores.mean():.4f} ± {scores.std():.4f}")

    predicted = cross_val_predict(pipeline, X, y, cv=folds)
    print("Confusion matrix: a row for each digit, a column for each prediction")
    print(confusion_matrix(y, predicted))

    # The other estimator, with nothing else changed.
    swapped = make_pipeline(MinMaxScaler(), MLPClassifier(**parameters))
    train, test = next(folds.split(X, y))
    same = pipeline.fit(X[train], y[train]).predict(X[test]) == (
        swapped.fit(X[train], y[train]).predict(X[test])
    )
    furthest = np.abs(pipeline.predict_proba(X[test]) - swapped.predict_proba(X[test])).max()
    print(
        f"MLPClassifier with the same seed: {same.sum()} of {len(same)} predictions are the same,"
    )
    print(f"probabilities differ by at most {furthest:.0e}.")

    wrong = predicted != y
    save_figure(
        output / "digits_pipeline.png",
        (8, 5),
        draw_mistakes,
        digits.images[wrong],
        y[wrong],
        predicted[wrong],
    )


if __name__ == "__main__":
    run(main, __doc__)
