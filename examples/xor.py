"""XOR with two hidden units: the smallest problem that needs a hidden layer.

No straight line separates (0, 1) and (1, 0) from (0, 0) and (1, 1); two hidden units draw two
lines, and the output combines them. Two units are the minimum, so training can get stuck, and
whether it does depends on the initial weights. The tables show from how many of N seeds each way
of training ends with all four points right: both losses, every solver, all samples in a step
("full") or a step for each sample ("1"), and the same with a third, constant column in the data.

Run this before blaming a solver: a network this small fails from some seeds with each of them.
"""

import warnings
from pathlib import Path

import numpy as np
from helper import OUTPUT, run, save_figure
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPClassifier

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = np.array([0, 1, 1, 0])
DATA = {"4 x 2": X, "4 x 3": np.column_stack([X, np.ones(4)])}

LEARNING_RATES = {  # by batch size and solver
    "full": {"sgd": 1, "adam": 0.03, "adamw": 0.03, "adagrad": 0.2, "rmsprop": 0.01, "lbfgs": 1},
    1: {"sgd": 0.2, "adam": 0.03, "adamw": 0.03, "adagrad": 0.7, "rmsprop": 0.01},
}


def train(X, seed, solver, batch_size, n_hidden=2, max_iter=800, **parameters):
    return BPClassifier(
        n_hidden,
        solver=solver,
        batch_size=batch_size,
        learning_rate_init=LEARNING_RATES[batch_size][solver],
        random_state=seed,
        max_iter=max_iter,
        n_iter_no_change=np.inf,  # do not stop on a plateau
        tol=1e-7,
        **parameters,
    ).fit(X, y)


def count_solved(X, n_seeds, *how, **parameters):
    return sum(train(X, seed, *how, **parameters).score(X, y) == 1 for seed in range(n_seeds))


def draw_surface(figure, model):
    """Shade the probability of 1, and draw the line on which each hidden unit's z is 0."""
    axes = figure.subplots()
    ticks = np.linspace(-0.5, 1.5, 201)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    probability = model.predict_proba(grid.reshape(-1, 2))[:, 1].reshape(grid.shape[:2])
    levels = np.linspace(0, 1, 21)
    shades = axes.contourf(ticks, ticks, probability, levels, cmap="RdBu_r")
    figure.colorbar(shades, ax=axes, label="probability of 1", ticks=np.linspace(0, 1, 6))
    for unit in range(2):
        z = grid @ model.coefs_[0][:, unit] + model.intercepts_[0][unit]
        axes.contour(ticks, ticks, z, [0], colors="black", linestyles="dashed")
    axes.scatter(*X.T, s=250, c="white", edgecolors="black", zorder=3)
    for point, label in zip(X, y, strict=True):
        axes.text(*point, str(label), ha="center", va="center", size=12, zorder=4)
    axes.set(title="XOR; dashed, the line of each hidden unit", xlabel="$x_1$", ylabel="$x_2$")
    axes.set(aspect="equal", xticks=[0, 1], yticks=[0, 1])


def main(quick: bool = False, output: Path = OUTPUT) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    n_seeds = 2 if quick else 8
    columns = [(data, loss) for loss in ("log_loss", "squared_error") for data in DATA]
    solved = tried = 0
    for activation in ("tanh",) if quick else ("tanh", "logistic"):
        parameters = {"activation": activation, "max_iter": 500 if quick else 800}
        print(f"How many of {n_seeds} seeds solve XOR, with two hidden units, {activation}:")
        print("  solver   batch" + "".join(f"{loss:>16} {data}" for data, loss in columns))
        for batch_size, rates in LEARNING_RATES.items():
            for solver in rates:
                counts = [
                    count_solved(DATA[data], n_seeds, solver, batch_size, loss=loss, **parameters)
                    for data, loss in columns
                ]
                print(f"  {solver:8} {batch_size:>5}" + "".join(f"{n:22}" for n in counts))
                solved, tried = solved + sum(counts), tried + n_seeds * len(counts)
    print(f"Two hidden units: {solved} of {tried} networks solved XOR.")
    with_eight = count_solved(X, n_seeds, "adam", "full", n_hidden=8, activation="tanh")
    print(f"Eight hidden units, adam: {with_eight} of {n_seeds}. More units are the usual remedy.")

    models = (train(X, seed, "adam", "full", activation="tanh") for seed in range(10))
    model = next(model for model in models if model.score(X, y) == 1)
    save_figure(output / "xor.png", (5.5, 4.5), draw_surface, model)


if __name__ == "__main__":
    run(main, __doc__)
