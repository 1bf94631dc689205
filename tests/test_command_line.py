"""``python -m fastbp``: the demonstration, users' tables, and users' mistakes."""

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp import __main__ as command_line
from fastbp.table import TableError, TableModel, fit_table, read_table

COLOURS = ["red", "green", "blue"]


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


@pytest.fixture
def table(tmp_path):
    """Numbers, words and gaps, which determine `kind` and `amount`."""
    rng = np.random.default_rng(0)
    rows = [["size", "colour", "weight", "kind", "amount"]]
    for i in range(300):
        size, colour = rng.normal(), COLOURS[rng.integers(3)]
        kind = "big" if size + COLOURS.index(colour) > 1 else "small"
        amount = round(3 * size + COLOURS.index(colour), 3)
        rows.append([f"{size:.3f}", colour, "" if i % 7 == 0 else i % 5, kind, amount])
    return write(tmp_path / "table.csv", rows)


def run(capsys, *arguments):
    code = command_line.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_demonstration(capsys):
    command_line.demonstrate(epochs=2)
    out = capsys.readouterr().out
    assert "Iteration 2, loss = " in out
    assert "agree on 100.00% of the test set" in out
    accuracies = [line.split()[2] for line in out.splitlines() if " accuracy " in line]
    assert len(accuracies) == 2
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize(
    ("target", "task", "name"), [("kind", "auto", "accuracy"), ("amount", "auto", "R²")]
)
def test_fit_and_predict(table, tmp_path, capsys, target, task, name):
    model = str(tmp_path / "model")
    code, out, err = run(
        capsys, "fit", table, "--target", target, "--task", task, "--model", model,
        "--max-iter", "100",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "Iteration 1, loss" in out
    score = next(line for line in out.splitlines() if line.startswith(name))
    assert float(score.split()[1]) > 0.85
    output = str(tmp_path / "predicted.csv")
    assert run(capsys, "predict", table, "--model", model, "--output", output)[0] == 0
    predicted = read_table(output)
    assert predicted.names == [target]
    assert len(predicted.cells[0]) == 300
    code, out, _ = run(capsys, "predict", table, "--model", model)
    assert out.splitlines() == [target, *predicted.cells[0]]
    if target == "kind":
        right = np.mean(np.array(predicted.cells[0]) == read_table(table).column("kind"))
        assert right > 0.9


def test_columns_may_come_in_any_order_and_words_may_be_new(table, tmp_path, capsys):
    model = str(tmp_path / "model")
    run(capsys, "fit", table, "--target", "kind", "--model", model, "--max-iter", "5")
    first = write(tmp_path / "a.csv", [["size", "colour", "weight", "amount"], [1, "red", 2, 3]])
    names = ["amount", "weight", "x", "size", "colour"]
    other = write(tmp_path / "b.csv", [names, [3, 2, 9, 1, "red"]])
    unseen = write(tmp_path / "c.csv", [["size", "colour", "weight", "amount"], [1, "pink", "", 3]])
    outputs = [run(capsys, "predict", path, "--model", model) for path in (first, other, unseen)]
    assert outputs[0] == outputs[1]
    assert outputs[2][0] == 0


def broken(tmp_path, name):
    """Return arguments that cannot work, and what the one-line error must say."""
    good = [["a", "b", "y"], *([i, i % 3, i % 2] for i in range(30))]
    path = write(tmp_path / "good.csv", good)
    cases = {
        "no file": (["fit", str(tmp_path / "none.csv"), "--target", "y"], "none.csv"),
        "a folder": (["fit", str(tmp_path), "--target", "y"], "cannot be read"),
        "no column": (["fit", path, "--target", "z"], "'z' is not in the table, which has: a, b"),
        "no model": (["predict", path, "--model", str(tmp_path / "none")], "none"),
        "not a model": (["predict", path, "--model", path], "is not a saved model"),
        "no epochs": (["fit", path, "--target", "y", "--max-iter", "0"], "--max-iter"),
        "no folder": (["fit", path, "--target", "y", "--max-iter", "1", "--model",
                       str(tmp_path / "no" / "m")], "cannot be written"),
        "a folder for the model": (["fit", path, "--target", "y", "--model", str(tmp_path)],
                                   f"{tmp_path} is a folder"),
    }  # fmt: skip
    tables = {
        "no features": ([["y"], *([i % 2] for i in range(30))], "no column besides 'y'"),
        "semicolons": ([["a;y"], *([f"{i};1"] for i in range(30))], "separated by commas"),
        "a header only": ([["a", "y"]], "no rows"),
        "ragged": ([["a", "y"], [1, 2], [1]], "line 3 has 1 cells"),
        "ragged after a long cell": ([["a", "y"], ["1\n1", 2], [1]], "line 4 has 1 cells"),
        "infinity": ([["a", "y"], *([i, i % 2] for i in range(30)), ["inf", 1]], "'a' has 'inf'"),
        "an infinite target": (
            [["a", "y"], *([i, i / 7] for i in range(30)), [1, "1e400"]],
            "'y' has '1e400'",
        ),
        "a large number": (
            [["a", "y"], *([(-1) ** i * 1e308, i % 2] for i in range(30))],
            "'a' has '1e+308', which is too large",
        ),
        "one name twice": ([["a", "a", "y"], [1, 2, 3]], "two columns"),
        "one value": ([["a", "y"], *([i, 1] for i in range(30))], "'y' has only one value"),
        "few values": ([["a", "y"], *([i, i] for i in range(5))], "5 rows have a value of 'y'"),
    }
    if name in tables:
        rows, words = tables[name]
        return ["fit", write(tmp_path / "bad.csv", rows), "--target", "y"], words
    if name == "a quantity of words":
        rows = [["a", "y"], *([i, f"v{i}"] for i in range(30))]
        path = write(tmp_path / "bad.csv", rows)
        return ["fit", path, "--target", "y", "--task", "regression"], "needs numbers"
    if name == "bytes":
        (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00a,b\n\x9c1,2\n")
        return ["fit", str(tmp_path / "bad.csv"), "--target", "y"], "cannot be read"
    if name == "not gzip":
        (tmp_path / "bad.csv.gz").write_bytes(b"a,y\n1,2\n")
        return ["fit", str(tmp_path / "bad.csv.gz"), "--target", "y"], "cannot be read"
    if name in ("cut gzip", "bad gzip"):
        packed = bytearray(gzip.compress(Path(path).read_bytes()))
        packed[30] ^= 255
        (tmp_path / "bad.csv.gz").write_bytes(packed[: 30 if name == "cut gzip" else None])
        return ["fit", str(tmp_path / "bad.csv.gz"), "--target", "y"], "cannot be read"
    return cases[name]


@pytest.mark.parametrize(
    "name",
    [
        "no file", "a folder", "no column", "no model", "not a model", "no epochs", "no folder",
        "a folder for the model", "cut gzip", "bad gzip",
        "no features", "semicolons", "a header only", "ragged", "ragged after a long cell",
        "infinity", "an infinite target", "a large number", "one name twice", "one value",
        "few values", "a quantity of words", "bytes", "not gzip",
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_code_2(name, tmp_path, capsys):
    arguments, words = broken(tmp_path, name)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("fastbp: ")
    assert words in err


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_words_where_the_model_knows_numbers(table, tmp_path):
    model = fit_table(read_table(table), "kind", max_iter=2)
    changed = read_table(table)
    changed.cells[0] = ["tall"] * 300
    with pytest.raises(TableError, match="'size' has words"):
        model.predict(changed)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rows_without_a_target_are_left_out(tmp_path):
    rows = [["a", "y"], *([i, "?" if i % 10 == 0 else i % 2] for i in range(100))]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=2)
    assert isinstance(model, TableModel)
    assert set(model.pipeline.classes_) == {"0", "1"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_class_may_be_called_none(tmp_path, capsys):
    """Words other than "none" that stand for a gap are left out, and the output says so."""
    words = ["none", "mild", "", "NA"]
    path = write(tmp_path / "t.csv", [["a", "y"], *([i, words[i % 4]] for i in range(100))])
    assert set(fit_table(read_table(path), "y", max_iter=2).pipeline.classes_) == {"none", "mild"}
    out = run(capsys, "fit", path, "--target", "y", "--max-iter", "2")[1]
    assert "rows left out for lack of a value of 'y': 50\n" in out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_class_is_one_number_however_it_is_spelled(tmp_path):
    spellings = ["1", "1.0", "0", "0.0"]
    rows = [["a", "y"], *([i, spellings[i % 4]] for i in range(100))]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=2)
    assert set(model.pipeline.classes_) == {"0", "1"}


def test_no_table_or_model_is_overwritten(tmp_path, capsys):
    rows = [["a", "y"], *([i, i % 2] for i in range(100))]
    path, model = write(tmp_path / "t.csv", rows), str(tmp_path / "model")
    run(capsys, "fit", path, "--target", "y", "--max-iter", "2", "--model", model)
    before = Path(path).read_bytes(), Path(model).read_bytes()
    for command, option, output in (
        (["fit", path, "--target", "y"], "--model", path),
        (["predict", path, "--model", model], "--output", str(tmp_path / "." / "t.csv")),
        (["predict", path, "--model", model], "--output", model),
    ):
        code, _, err = run(capsys, *command, option, output)
        assert code == 2
        assert f"{option} would overwrite" in err
    assert (Path(path).read_bytes(), Path(model).read_bytes()) == before


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_codes_with_underscores_are_words(tmp_path):
    """Python would read 1_2 as 12."""
    kinds = {"1_2": "a", "12": "b", "1_20": "a", "120": "b"}
    rows = [["code", "y"], *([code, kinds[code]] for code in [*kinds] * 50)]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=100, tol=0)
    assert model.test_score == 1
    assert model.numeric == [False]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_no_number_is_a_gap_and_blank_lines_are_none(tmp_path):
    lines = ["a,y", *(f"{i},{i * 7 % 31}.5" for i in range(40)), "-nan,3.5", "4,-nan", " ", "5,nan"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = read_table(tmp_path / "t.csv")
    assert len(table.cells[0]) == 43
    model = fit_table(table, "y", max_iter=2)
    assert np.isfinite(model.predict(table)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_gap_in_the_only_column_is_a_row(tmp_path):
    rows = [["a", "y"], *([i, i % 3 > 0] for i in range(30))]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=2)
    (tmp_path / "gap.csv").write_text('a\n1\n""\n\n \n3\n')
    assert len(model.predict(read_table(tmp_path / "gap.csv"))) == 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("n_rare", "early_stopping"), [(1, False), (50, True)])
def test_a_class_of_one_is_not_validated(n_rare, early_stopping, tmp_path):
    rows = [["a", "y"], *([i % 7, "rare" if i < n_rare else "usual"] for i in range(2_500))]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=2)
    assert model.network.early_stopping == early_stopping


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_table_of_words(tmp_path):
    rows = [["a", "b", "y"], *([f"w{i % 150}", "x", i % 150 % 2] for i in range(600))]
    model = fit_table(read_table(write(tmp_path / "t.csv", rows)), "y", max_iter=100, tol=0)
    assert model.test_score > 0.7  # although a third of the words share a column


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_quantities_of_any_size(scale, tmp_path):
    rng = np.random.default_rng(0)
    rows = [["a", "b", "y"]]
    for a, b in rng.normal(size=(500, 2)):
        rows.append([a, b, scale * (30 + 3 * a - b)])
    path = write(tmp_path / "t.csv", rows)
    model = fit_table(read_table(path), "y")
    assert model.test_score > 0.99
    predicted = model.predict(read_table(path))
    assert np.abs(predicted - [row[2] for row in rows[1:]]).mean() < 0.3 * scale


def test_what_fit_says_in_the_end(table, capsys):
    out = run(capsys, "fit", table, "--target", "kind", "--max-iter", "3")[1]
    assert out.splitlines()[-2:] == [
        "training stopped at its limit of 3 epochs; raise it with --max-iter",
        "the model was not saved; save it with --model",
    ]


def test_wrong_usage_gets_code_2():
    finished = subprocess.run(
        [sys.executable, "-m", "fastbp", "fit"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert "usage: python -m fastbp fit" in finished.stderr


def test_a_closed_pipe_is_no_error(table, tmp_path):
    model = str(tmp_path / "model")
    command = [sys.executable, "-m", "fastbp"]
    fit = [*command, "fit", table, "--target", "kind", "--model", model, "--max-iter", "2"]
    subprocess.run(fit, check=True, capture_output=True)
    rows = [["size", "colour", "weight", "amount"], *([1, "red", 2, 3] for _ in range(50_000))]
    big = write(tmp_path / "big.csv", rows)
    with subprocess.Popen(
        [*command, "predict", big, "--model", model], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
