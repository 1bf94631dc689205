"""Tables from files, and how their columns are converted."""

import csv

import joblib
import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastbp import BPClassifier, BPRegressor
from fastbp.table import TableError, TableModel, fit_table, read_table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def read(tmp_path):
    """Return a function that writes rows to a file and reads it as a table."""

    def write_and_read(names, rows):
        path = tmp_path / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
        return read_table(path)

    return write_and_read


@pytest.mark.parametrize("word", ["", "?", "NA", "n/a", "NaN", "null", "None"])
def test_words_for_a_gap(word, read):
    table = read(["a", "b"], [[f" {word} ", 1], [2, 3]])
    np.testing.assert_array_equal(table.numbers("a"), [np.nan, 2])


def test_spaces_around_cells(read):
    words = [f"w{i % 2}" + " " * (i % 3) for i in range(100)]
    classes = [("no", "yes")[i % 2] + " " * (i % 5 == 0) for i in range(100)]
    table = read([" a ", "y "], zip(words, classes, strict=True))
    assert table.names == ["a", "y"]
    model = fit_table(table, "y", max_iter=2)
    assert list(model.pipeline.classes_) == ["no", "yes"]
    assert len(model.pipeline[0].named_transformers_["words"].categories_[0]) == 2


def test_a_byte_order_mark(tmp_path):
    """Spreadsheets write one."""
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbfa,y\n1,2\n")
    assert read_table(tmp_path / "table.csv").names == ["a", "y"]


@pytest.mark.parametrize("delimiter", ";\t|")
def test_other_delimiters(delimiter, tmp_path):
    (tmp_path / "table.csv").write_text(f"a{delimiter}y\n1{delimiter}2\n", encoding="utf-8")
    with pytest.raises(TableError, match="separated by commas"):
        read_table(tmp_path / "table.csv")


def test_the_largest_number(read):
    table = read(["a", "b"], [[1e151, 1e149], [1, 2]])
    np.testing.assert_array_equal(table.numbers("b"), [1e149, 2])
    with pytest.raises(TableError, match="too large"):
        table.numbers("a")


@pytest.mark.parametrize(("n", "kind"), [(20, BPClassifier), (21, BPRegressor)])
def test_many_values_are_a_quantity(n, kind, read):
    table = read(["a", "y"], [[i, i % n] for i in range(210)])
    assert type(fit_table(table, "y", max_iter=1).network) is kind


def test_ten_rows_are_enough(read):
    table = read(["a", "y"], [[i, i % 2] for i in range(10)])
    assert 0 <= fit_table(table, "y", max_iter=1).test_score <= 1


def test_what_is_made_of_numbers_and_how_the_model_is_scored(read):
    table = read(["a", "y"], [["" if i % 4 == 0 else 1000 + i**2, i % 2] for i in range(100)])
    model, twin = (fit_table(table, "y", max_iter=2) for _ in range(2))
    train, test = train_test_split(np.arange(100), test_size=0.2, random_state=0)
    imputer, scaler = model.pipeline[0].named_transformers_["numbers"].named_steps.values()
    assert imputer.statistics_[0] == np.nanmedian(table.numbers("a")[train])
    assert isinstance(scaler, StandardScaler)
    np.testing.assert_array_equal(model.network.coefs_[0], twin.network.coefs_[0])
    is_right = np.array(model.predict(table)) == np.array(table.column("y"))
    assert model.test_score == np.mean(is_right[test])


def test_a_regression_is_the_same_again(read):
    table = read(["a", "y"], [[i, i * 1.5] for i in range(50)])
    one, other = (fit_table(table, "y", max_iter=2).predict(table) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_rare_words_share_a_column(read):
    table = read(["a", "y"], [[f"w{i % 150}", i % 2] for i in range(600)])
    assert fit_table(table, "y", max_iter=1).network.n_features_in_ == 100


def test_a_column_of_gaps_only(read):
    table = read(["a", "gap", "y"], [[i, "", i % 2] for i in range(30)])
    assert fit_table(table, "y", max_iter=1).numeric == [True, False]


def test_parameters_of_the_user_come_first(read):
    table = read(["a", "y"], [[i % 7, i % 2] for i in range(2000)])
    assert fit_table(table, "y", max_iter=1).network.early_stopping
    assert not fit_table(table, "y", max_iter=1, early_stopping=False).network.early_stopping


def test_a_pickle_of_something_else(tmp_path):
    joblib.dump([1], tmp_path / "model")
    with pytest.raises(TableError, match=r"is not a saved model of a table$"):
        TableModel.load(tmp_path / "model")
