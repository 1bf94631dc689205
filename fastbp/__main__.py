"""The command line: ``python -m fastbp``, with ``fit`` and ``predict`` for a user's own tables."""

import argparse
import csv
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from fastbp import BPClassifier
from fastbp.datasets import load_letter
from fastbp.table import TableError, TableModel, fit_table, read_table

EPOCHS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 2 for an error that the user can correct."""
    parser = argparse.ArgumentParser(
        prog="python -m fastbp",
        description="Without a command: compare fastbp and scikit-learn on letter recognition.",
    )
    commands = parser.add_subparsers(title="commands", dest="command")
    fit = commands.add_parser("fit", help="train on a table")
    fit.add_argument("table", help="a CSV file with a header, gzipped if it ends in .gz")
    fit.add_argument("--target", required=True, help="the column to predict")
    fit.add_argument("--task", choices=["auto", "classification", "regression"], default="auto")
    fit.add_argument("--model", help="the file to write the model to")
    fit.add_argument(
        "--max-iter", type=int, default=200, help="maximum number of epochs (default: 200)"
    )
    predict = commands.add_parser("predict", help="predict the target of each row of a table")
    predict.add_argument("table", help="a CSV file with the columns of the table given to fit")
    predict.add_argument(
        "--model", required=True, help="a file written by fit, from a source you trust"
    )
    predict.add_argument("--output", help="the CSV file to write to instead of printing")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "fit":
            _fit(chosen)
        elif chosen.command == "predict":
            _predict(chosen)
        else:
            demonstrate(EPOCHS)
    except TableError as error:
        print(f"fastbp: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output closed the pipe, which is no error
    return 0


def _fit(chosen: argparse.Namespace) -> None:
    if chosen.max_iter < 1:
        raise TableError(f"--max-iter must be 1 or more, got {chosen.max_iter}")
    table = read_table(chosen.table)
    _refuse_to_overwrite("--model", chosen.model, chosen.table)
    if chosen.model and not Path(chosen.model).parent.is_dir():
        raise TableError(f"the model cannot be written: no folder {Path(chosen.model).parent}")
    if chosen.model and Path(chosen.model).is_dir():
        raise TableError(f"the model cannot be written: {chosen.model} is a folder")
    began = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = fit_table(table, chosen.target, chosen.task, verbose=True, max_iter=chosen.max_iter)
    seconds = perf_counter() - began
    if model.n_left_out:
        print(f"rows left out for lack of a value of {chosen.target!r}: {model.n_left_out}")
    print(
        f"{model.score_name} {model.test_score:.4f} on the fifth of the rows held out, "
        f"after {seconds:.1f} s"
    )
    if model.network.n_iter_ == chosen.max_iter:
        print(
            f"training stopped at its limit of {chosen.max_iter} epochs; raise it with --max-iter"
        )
    if chosen.model:
        model.save(chosen.model)
        print(f"model written to {chosen.model}")
    else:
        print("the model was not saved; save it with --model")


def _refuse_to_overwrite(option: str, output: str | None, *inputs: str) -> None:
    for path in inputs:
        if output and Path(output).exists() and Path(output).samefile(path):
            raise TableError(f"{option} would overwrite {path}: choose another file")


def _predict(chosen: argparse.Namespace) -> None:
    model = TableModel.load(chosen.model)
    predicted = model.predict(read_table(chosen.table))
    _refuse_to_overwrite("--output", chosen.output, chosen.table, chosen.model)
    if chosen.output:
        try:
            with open(chosen.output, "w", newline="", encoding="utf-8") as file:
                _write(file, model.target, predicted)
        except OSError as error:
            raise TableError(f"the predictions cannot be written: {error}") from None
        print(f"{len(predicted)} predictions written to {chosen.output}")
    else:
        _write(sys.stdout, model.target, predicted)


def _write(file: TextIO, target: str, predicted: Iterable[object]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([target])
    writer.writerows([value] for value in predicted)


def demonstrate(epochs: int) -> None:
    """Train on letter recognition from one seed by fastbp and by scikit-learn, and compare."""
    X, y = load_letter(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    parameters: dict[str, Any] = {"max_iter": epochs, "random_state": 0}
    print(
        f"Letter recognition: {len(X_train):,} images of 26 letters, {X.shape[1]} numbers each, "
        f"{len(X_test):,} held out.\nOne hidden layer of 100 units, Adam, {epochs} epochs."
    )
    seconds, predictions = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        BPClassifier(max_iter=1).fit(X_train[:200], y_train[:200])  # compile, or load the cache
        for name, estimator in (
            ("fastbp", BPClassifier(**parameters, verbose=True)),
            ("scikit-learn", MLPClassifier(**parameters)),
        ):
            began = perf_counter()
            estimator.fit(X_train, y_train)
            seconds[name] = perf_counter() - began
            predictions[name] = estimator.predict(X_test)
    print()
    for name, predicted in predictions.items():
        accuracy = np.mean(predicted == y_test)
        print(f"{name:12}  accuracy {accuracy:.4f}  {seconds[name]:6.2f} s")
    same = np.mean(predictions["fastbp"] == predictions["scikit-learn"])
    print(
        f"\nFrom the same seed, the two agree on {same:.2%} of the test set; "
        f"fastbp took 1/{seconds['scikit-learn'] / seconds['fastbp']:.1f} of the time."
    )


if __name__ == "__main__":
    sys.exit(main())
