"""House prices in California: regression on a table, with early stopping.

A network needs two things to work on a table like this: scaled features and a scaled target.
StandardScaler provides both, in a Pipeline for the features and in a TransformedTargetRegressor for
the target, which also scales predictions back. Early stopping holds out a tenth of the training
data and stops when the score on it no longer rises. Prices are positive and vary more where they
are high. A network with the Poisson loss, whose output is an exponential, suits such targets: it
needs no scaled target and cannot predict a price below zero.
"""

from pathlib import Path

from helper import OUTPUT, run, save_figure
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BPRegressor
from fastbp.datasets import load_california_housing


def draw_fit(figure, network, truth, predicted):
    curves, prices = figure.subplots(1, 2)
    epochs = range(1, network.n_iter_ + 1)
    curves.plot(epochs, network.loss_curve_, color="tab:blue")
    curves.set(title="Training", xlabel="epoch", ylim=(0, None))
    curves.set_ylabel("training loss", color="tab:blue")
    scores = curves.twinx()
    scores.plot(epochs, network.validation_scores_, color="tab:orange")
    scores.set_ylabel("R² on the data held back", color="tab:orange")
    prices.scatter(truth, predicted, s=4, alpha=0.3, linewidths=0)
    prices.axline((0, 0), slope=1, color="black", linewidth=1)
    prices.set(title="Test set, in $100,000", xlabel="true price", ylabel="predicted price")


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    X, y = load_california_housing(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    if quick:
        X_train, y_train = X_train[:5000], y_train[:5000]
    parameters = {
        "hidden_layer_sizes": (64, 64),
        "early_stopping": True,
        "n_iter_no_change": 5 if quick else 20,
        "max_iter": 500,
        "random_state": 0,
    }
    squared_error = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), BPRegressor(**parameters)), transformer=StandardScaler()
    )
    poisson = make_pipeline(StandardScaler(), BPRegressor(loss="poisson", **parameters))
    models = {
        "linear regression": LinearRegression(),
        "BPRegressor": squared_error,
        "BPRegressor, Poisson": poisson,
    }
    print(f"{len(X_train)} block groups to train on, {len(X_test)} to test")
    print("                             R²    mean error   lowest prediction")
    for name, model in models.items():
        predicted = model.fit(X_train, y_train).predict(X_test)
        r2, error = r2_score(y_test, predicted), mean_absolute_error(y_test, predicted)
        print(f"  {name:21} {r2:8.4f} {f'${1e5 * error:,.0f}':>13} {1e5 * predicted.min():19,.0f}")

    network = squared_error.regressor_[-1]
    best = max(network.validation_scores_)
    print(
        f"BPRegressor stopped after {network.n_iter_} epochs, best R² on held-out data {best:.4f}"
    )
    predicted = squared_error.predict(X_test)
    save_figure(output / "housing.png", (9.5, 4.2), draw_fit, network, y_test, predicted)


if __name__ == "__main__":
    run(main, __doc__)
