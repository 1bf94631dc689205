"""The sentiment of reviews: sparse text features straight into a network.

TF-IDF turns each review of a piece of clothing into a row of 20,000 columns, nearly all of them
zero. `BPClassifier` trains on the sparse matrix as it is; a dense one would be hundreds of times
larger. The target is whether the author recommends the item. Predictions for reviews of a single
word then show what the network has learnt.
"""

from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

from fastbp import BPClassifier
from fastbp.datasets import load_clothing_reviews

SENTENCES = [
    "I love it, so soft and it fits perfectly.",
    "The fabric is cheap and itchy, and it went straight back.",
    "Nice colour, but it runs far too small and I had to return it.",
]


def draw_words(figure, words, probabilities, average):
    axes = figure.subplots()
    colours = np.where(probabilities > average, "tab:blue", "tab:red")
    axes.barh(words, probabilities - average, left=average, color=colours)
    axes.axvline(average, color="black", linewidth=1)
    axes.annotate(
        "average review", (average, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom"
    )
    axes.invert_yaxis()
    axes.set(xscale="logit", title="Reviews of one word\n")
    axes.set_xlabel("predicted probability that the item is recommended")
    ticks = [0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97]
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.spines[["top", "right"]].set_visible(False)


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    texts, y = load_clothing_reviews(return_X_y=True)
    if quick:
        texts, y = texts[:6000], y[:6000]
    texts_train, texts_test, y_train, y_test = train_test_split(
        texts, y, test_size=0.25, stratify=y, random_state=0
    )
    # Columns are words and pairs of words; float32 takes half the memory and time of float64.
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2,
        max_features=20_000,
        sublinear_tf=True,
        dtype=np.float32,
        token_pattern=r"\w[\w']+",
    )
    X_train = vectorizer.fit_transform(texts_train)
    X_test = vectorizer.transform(texts_test)
    rows, columns = X_train.shape
    print(f"{rows} reviews, {columns} columns, one for each word or pair of words. On average")
    print(
        f"a review has {X_train.nnz / rows:.0f} of them. {X_train.format.upper()}, {X_train.dtype}."
    )

    model = BPClassifier((32,), early_stopping=True, n_iter_no_change=3, alpha=1e-2, random_state=0)
    baseline = DummyClassifier()  # the majority: every item is recommended
    print("                 accuracy   ROC AUC   on reviews not trained on")
    for name, estimator in (("majority", baseline), ("BPClassifier", model)):
        estimator.fit(X_train, y_train)
        probability = estimator.predict_proba(X_test)[:, 1]
        accuracy = accuracy_score(y_test, estimator.predict(X_test))
        print(f"  {name:14} {accuracy:8.4f}  {roc_auc_score(y_test, probability):8.4f}")

    # Reviews of a single word, for words that occur in more than 1 of 200 reviews.
    common = np.bincount(X_train.indices, minlength=columns) > rows / 200
    words = vectorizer.get_feature_names_out()
    words = np.array([word for word in words[common] if " " not in word])
    probability = model.predict_proba(vectorizer.transform(words))[:, 1]
    order = probability.argsort()
    print("Most negative words:", ", ".join(words[order[:12]]))
    print("Most positive words:", ", ".join(words[order[-12:][::-1]]))
    for sentence in SENTENCES:
        [[_, chance]] = model.predict_proba(vectorizer.transform([sentence]))
        print(f"  {chance:4.0%} recommended: {sentence}")

    ends = np.concatenate([order[-12:][::-1], order[:12][::-1]])
    average = model.predict_proba(X_test)[:, 1].mean()
    save_figure(
        output / "review_sentiment.png",
        (6.5, 6),
        draw_words,
        words[ends],
        probability[ends],
        average,
    )


if __name__ == "__main__":
    run(main, __doc__)
