"""A rare class: which reviews of clothes give a single star?

Four in a hundred do. Predicting that none do is right 96 times in 100, and at first a network does
just that: early stopping by accuracy gives up before it has found one, and so does balanced
accuracy. With `class_weight="balanced"` the class has half of the total weight, and most of it is
found within a few epochs. All stop by a validation set (`X_val`), with different scorers.

The weights have a price. Most of the reviews that are found give more stars, and the probabilities
are those of a world in which every other review gives one star: their sum is many times the true
number. Nor is the order of the reviews better (average precision). Stopping by the loss, without
weights, keeps the probabilities calibrated; at a threshold of 4 in 100, the share of the class,
instead of 1/2, that network finds about as many, after more epochs.
"""

from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split

from fastbp import BPClassifier
from fastbp.datasets import load_clothing_reviews

SETTINGS = {
    "by accuracy": {},
    "by balanced accuracy": {"scoring": "balanced_accuracy"},
    "class weights": {"scoring": "balanced_accuracy", "class_weight": "balanced"},
    "by loss": {"scoring": "loss"},
}


def draw_price(figure, y, probabilities, found):
    """Draw precision over recall, with the decisions, and the calibration of probabilities."""
    curves, truth = figure.subplots(1, 2)
    for name, probability in probabilities.items():
        precision, recall, _ = metrics.precision_recall_curve(y, probability)
        (line,) = curves.plot(recall[:-1], precision[:-1], linewidth=1, label=name)
        share, mean = calibration_curve(y, probability, n_bins=8, strategy="quantile")
        truth.plot(mean, share, "o-", color=line.get_color())
    for (name, is_found), marker in zip(found.items(), "osD", strict=True):
        recall, precision = metrics.recall_score(y, is_found), metrics.precision_score(y, is_found)
        curves.plot(recall, precision, marker, color="black", label=f"what it finds, {name}")
    curves.set(title="The order of the reviews", xlabel="recall", ylabel="precision")
    curves.legend()
    truth.axline((0, 0), slope=1, color="black", linewidth=1)
    truth.set(title="The probabilities", xlabel="predicted", ylabel="share of one star")
    truth.set(aspect="equal", xlim=(-0.02, 0.82), ylim=(-0.02, 0.82))


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    texts, stars = load_clothing_reviews(target="rating", return_X_y=True)
    if quick:
        texts, stars = texts[:10000], stars[:10000]
    split = {"test_size": 0.2, "random_state": 0}
    texts, texts_test, y, y_test = train_test_split(texts, stars == 1, stratify=stars == 1, **split)
    texts, texts_val, y, y_val = train_test_split(texts, y, stratify=y, **split)
    vectorizer = TfidfVectorizer(max_features=3000, sublinear_tf=True, dtype=np.float32)
    X = vectorizer.fit_transform(texts)
    X_val, X_test = vectorizer.transform(texts_val), vectorizer.transform(texts_test)
    print(f"{len(y)} reviews to train on, {y.sum()} of them with one star;", end=" ")
    print(f"{len(y_test)} to test on, {y_test.sum()} of them with one star")
    print("                         best  balanced                             average     sum of")
    print("  stopped               epoch  accuracy  recall  precision     F1  precision  probabil.")

    def tell(name, epoch, is_found, probability):
        balanced = metrics.balanced_accuracy_score(y_test, is_found)
        recall, f1 = metrics.recall_score(y_test, is_found), metrics.f1_score(y_test, is_found)
        precision = metrics.precision_score(y_test, is_found, zero_division=0)
        average = metrics.average_precision_score(y_test, probability)
        print(
            f"  {name:20} {epoch:6} {balanced:9.3f} {recall:7.3f} {precision:10.3f} {f1:6.3f}"
            f" {average:10.3f} {probability.sum():10.0f}"
        )

    probabilities, found = {}, {}
    for name, parameters in SETTINGS.items():
        model = BPClassifier(
            32, alpha=0.1, early_stopping=True, n_iter_no_change=5, random_state=0, **parameters
        ).fit(X, y, X_val=X_val, y_val=y_val)
        epoch = 1 + np.argmax(model.validation_scores_)
        found[name] = model.predict(X_test)
        probabilities[name] = probability = model.predict_proba(X_test)[:, 1]
        tell(name, epoch, found[name], probability)
    found["by loss, threshold"] = probability > y.mean()
    tell("by loss, threshold", epoch, found["by loss, threshold"], probability)

    drawn = ("class weights", "by loss")
    save_figure(
        output / "unbalanced.png",
        (9.5, 4.2),
        draw_price,
        y_test,
        {name: probabilities[name] for name in drawn},
        {name: found[name] for name in (*drawn, "by loss, threshold")},
    )


if __name__ == "__main__":
    run(main, __doc__)
