"""A recipe for tables: from the lines of a CSV file to a fitted Pipeline, and predictions.

Numeric columns are scaled, and their missing values filled with the median; columns of words are
one-hot encoded, and all but the most frequent words share one column. The target of a regression is
scaled too.
"""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor

__all__ = ["Table", "TableError", "TableModel", "fit_table", "read_table"]

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
MISSING_CLASSES = MISSING - {"none"}  # among words "none" is a class, among numbers it is missing
LARGEST = 1e150  # the square of a number must not overflow
MANY_ROWS = 2000  # from this many rows on, some are held out for early stopping
MOST_CLASSES = 20  # a numeric target with more distinct values is a regression
MOST_WORDS = 100  # the maximum number of columns into which a column of words is encoded
OTHER_DELIMITERS = ";\t|"


class TableError(ValueError):
    """An error that the user can correct; the message is one line."""


@dataclass
class Table:
    """The cells of a table as they are in the file, by column."""

    names: list[str]
    cells: list[list[str]]  # one list for each column

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        if name not in self.names:
            raise TableError(f"column {name!r} is not in the table, which has: {self.listed()}")
        return self.cells[self.names.index(name)]

    def listed(self) -> str:
        """Return the names, comma separated."""
        return ", ".join(self.names)

    def numbers(self, name: str) -> NDArray[Any] | None:
        """Return a column as float64, NaN for missing cells; None if a cell is not a number."""
        values = _numbers(self.column(name))
        if values is not None and (np.abs(values) > LARGEST).any():
            cell = self.column(name)[int(np.nanargmax(np.abs(values)))]
            raise TableError(f"column {name!r} has {cell!r}, which is too large for a number")
        return values


def read_table(path: str | Path) -> Table:
    """Read a CSV file with a header, gzipped if its name ends in ``.gz``.

    Raises
    ------
    TableError
        If the file cannot be read, or is not a table.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            all_rows = ((reader.line_num, row) for row in reader)
            rows = [(line, row) for line, row in all_rows if not _is_blank(row)]
    except FileNotFoundError:
        raise TableError(f"there is no file {path}") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read as CSV: {error}") from None
    if len(rows) < 2:
        raise TableError(f"{path} has no rows below the header")
    names = [name.strip() for name in rows[0][1]]
    if len(names) == 1 and any(character in OTHER_DELIMITERS for character in names[0]):
        raise TableError(f"{path} has one column, {names[0]!r}: cells must be separated by commas")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise TableError(
                f"{path}: line {line} has {len(row)} cells where the header has {len(names)}"
            )
    if len(set(names)) != len(names):
        raise TableError(f"{path}: two columns have the same name: {', '.join(names)}")
    columns = zip(*(row for _, row in rows[1:]), strict=True)
    return Table(names, [list(column) for column in columns])


def _is_blank(row: list[str]) -> bool:
    """Return whether a line has no cells; a single cell that is missing is written ``""``."""
    return not row or (len(row) == 1 and row[0] != "" and not row[0].strip())


def _numbers(cells: Sequence[str]) -> NDArray[Any] | None:
    """Return the cells as float64, NaN for missing ones; None if one is not a number."""
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        text = cell.strip()
        if "_" in text:  # Python would take it for a separator of digits
            return None
        try:
            values[i] = np.nan if text.lower() in MISSING else float(text)
        except ValueError:
            return None
    return values


def _features(table: Table, names: Sequence[str], numeric: Sequence[bool]) -> NDArray[Any]:
    """Return the columns as an object array of shape (n_rows, n_columns)."""
    X = np.empty((len(table.cells[0]), len(names)), dtype=object)
    for j, (name, is_number) in enumerate(zip(names, numeric, strict=True)):
        cells = table.column(name)
        values: Any = table.numbers(name) if is_number else [cell.strip() for cell in cells]
        if values is None:
            raise TableError(f"column {name!r} has words, but the model was fitted on numbers")
        X[:, j] = values
    return X


@dataclass
class TableModel:
    """A fitted pipeline, and the columns it was fitted on."""

    target: str
    names: list[str]
    numeric: list[bool]
    pipeline: Pipeline
    test_score: float
    score_name: str
    n_left_out: int  # rows without a target

    def predict(self, table: Table) -> NDArray[Any]:
        """Return the predicted target of each row."""
        predicted: NDArray[Any] = self.pipeline.predict(_features(table, self.names, self.numeric))
        return predicted

    @property
    def network(self) -> BPClassifier | BPRegressor:
        """The fitted network, at the end of the pipeline."""
        last = self.pipeline[-1]
        network: BPClassifier | BPRegressor = getattr(last, "regressor_", last)
        return network

    def save(self, path: str | Path) -> None:
        """Write the model to a file, which is a pickle: load only files that you trust."""
        try:
            joblib.dump(self, path)
        except OSError as error:
            raise TableError(f"the model cannot be written: {error}") from None

    @staticmethod
    def load(path: str | Path) -> "TableModel":
        """Read a model from a file written by `save`."""
        try:
            model = joblib.load(path)
        except FileNotFoundError:
            raise TableError(f"there is no file {path}") from None
        except Exception as error:
            raise TableError(f"{path} is not a saved model of a table: {error}") from None
        if not isinstance(model, TableModel):
            raise TableError(f"{path} is not a saved model of a table")
        return model


def fit_table(
    table: Table, target: str, task: str = "auto", *, verbose: bool = False, **parameters: Any
) -> TableModel:
    """Fit a network to predict one column from the others.

    Parameters
    ----------
    table : Table
    target : str
        The column to predict. Rows in which it is missing are left out.
    task : {'auto', 'classification', 'regression'}, default='auto'
        'auto' is regression for a numeric target with more than 20 distinct values.
    verbose : bool, default=False
        Show each epoch.
    **parameters
        Parameters of the estimator.

    Returns
    -------
    TableModel
        Scored on a fifth of the rows, which are held out from training.

    Raises
    ------
    TableError
        If there is no such column, its values do not suit the task, or there is too little to learn
        from or to predict.
    """
    target_cells = [cell.strip() for cell in table.column(target)]
    numbers = table.numbers(target)
    if numbers is None:
        present = np.array([cell.lower() not in MISSING_CLASSES for cell in target_cells])
    else:
        present = ~np.isnan(numbers)
    y: NDArray[Any] = np.array(target_cells)[present]
    if task == "auto":
        many = numbers is not None and len(np.unique(numbers[present])) > MOST_CLASSES
        task = "regression" if many else "classification"
    if task == "regression":
        if numbers is None:
            raise TableError(f"column {target!r} has words, but regression needs numbers")
        y = numbers[present]
    elif numbers is not None:  # equal numbers are one class, however spelled
        _, first, which = np.unique(numbers[present], return_index=True, return_inverse=True)
        y = y[first][which]
    if len(y) < 10:
        raise TableError(f"{len(y)} rows have a value of {target!r}; at least 10 are needed")
    if len(np.unique(y)) < 2:
        raise TableError(f"column {target!r} has only one value: there is nothing to predict")
    names = [name for name in table.names if name != target]
    if not names:
        raise TableError(f"the table has no column besides {target!r}")
    columns = [table.numbers(name) for name in names]
    numeric = [column is not None and not np.isnan(column).all() for column in columns]
    X = _features(table, names, numeric)[present]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    is_rare = task == "classification" and min(Counter(y_train).values()) < 2
    early_stopping = len(y) >= MANY_ROWS and not is_rare  # a class of one row cannot be split
    parameters = {"early_stopping": early_stopping, "verbose": verbose, **parameters}
    pipeline = _make_pipeline(numeric, task, parameters)
    pipeline.fit(X_train, y_train)
    score_name = "accuracy" if task == "classification" else "R²"
    score = float(pipeline.score(X_test, y_test))
    n_left_out = len(present) - len(y)
    return TableModel(target, names, numeric, pipeline, score, score_name, n_left_out)


def _make_pipeline(numeric: Sequence[bool], task: str, parameters: dict[str, Any]) -> Pipeline:
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore", max_categories=MOST_WORDS)
    columns = ColumnTransformer(
        [
            ("numbers", numbers, [j for j, is_number in enumerate(numeric) if is_number]),
            ("words", words, [j for j, is_number in enumerate(numeric) if not is_number]),
        ]
    )
    if task == "classification":
        return make_pipeline(columns, BPClassifier(random_state=0, **parameters))
    network = BPRegressor(random_state=0, **parameters)
    return make_pipeline(columns, TransformedTargetRegressor(network, transformer=StandardScaler()))
