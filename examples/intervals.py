"""Intervals of house prices: three networks, each trained for one quantile.

A predicted price alone does not show how far off it may be. A network trained with the pinball loss
predicts a quantile instead of a mean: with 0.05 a price that 5 % of such houses are below, with
0.95 one that 5 % are above. Between the two lie nine tenths. Each network stops by its own pinball
loss on held-out data (`scoring="loss"`); R² would judge all three by their distance from the mean.
"""

from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastbp import BPRegressor
from fastbp.datasets import load_california_housing

QUANTILES = (0.05, 0.5, 0.95)


def draw_intervals(figure, truth, low, median, high):
    axes = figure.subplots()
    order = np.argsort(median)
    position = np.linspace(0, 1, len(order))
    axes.fill_between(position, low[order], high[order], color="tab:blue", alpha=0.3, linewidth=0)
    axes.scatter(position, truth[order], s=3, color="black", alpha=0.3, linewidths=0)
    axes.plot(position, median[order], color="tab:blue")
    axes.set(xlabel="houses of the test set, by the predicted median", ylabel="price in $100,000")


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    X, y = load_california_housing(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    if quick:
        X_train, y_train = X_train[:5000], y_train[:5000]
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

    predictions = []
    for quantile in QUANTILES:
        model = BPRegressor(
            loss="quantile",
            quantile=quantile,
            hidden_layer_sizes=(64, 64),
            early_stopping=True,
            scoring="loss",
            n_iter_no_change=5 if quick else 20,
            max_iter=500,
            random_state=0,
        ).fit(X_train, y_train)
        predicted = model.predict(X_test)
        predictions.append(predicted)
        below = np.mean(y_test < predicted)
        print(f"quantile {quantile:4}: {model.n_iter_:3} epochs, {below:.3f} of the prices below")
    low, median, high = predictions
    inside = np.mean((low <= y_test) & (y_test <= high))
    print(f"{inside:.3f} of the prices lie in the interval from {QUANTILES[0]} to {QUANTILES[-1]}")
    width = high - low
    for part, houses in (("cheapest", median < np.quantile(median, 0.1)),
                         ("dearest", median > np.quantile(median, 0.9))):  # fmt: skip
        print(f"For the {part} tenth it is ${1e5 * np.median(width[houses]):,.0f} wide")
    save_figure(output / "intervals.png", (7, 4.2), draw_intervals, y_test, low, median, high)


if __name__ == "__main__":
    run(main, __doc__)
