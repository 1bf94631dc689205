"""The examples: each runs quickly and without a warning, and prints what it promises."""

import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "helper")


@pytest.fixture
def helper():
    spec = importlib.util.spec_from_file_location("examples_helper", EXAMPLES / "helper.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_quickly(script, folder, figure=True):
    """Run an example with its figures in this folder; it must leave no other files there."""
    python = [sys.executable, "-X", "utf8", "-W", "error"]
    done = subprocess.run(
        [*python, EXAMPLES / f"{script}.py", "--quick", "--output", folder / "figures"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    left = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    with_matplotlib = importlib.util.find_spec("matplotlib") is not None
    assert left == ([f"figures/{script}.png"] if figure and with_matplotlib else [])
    return done.stdout


def numbers_after(text, output):
    """Return the numbers in the line that begins with this text."""
    (line,) = (line for line in output.splitlines() if line.strip().startswith(text))
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", line.replace(text, "", 1))]


def test_worked_example(tmp_path):
    output = run_quickly("worked_example", tmp_path, figure=False)
    assert numbers_after("z1", output) == [0.31, 0.67, 1.03]
    assert numbers_after("a1", output) == [0.576885, 0.661503, 0.736916]
    assert numbers_after("z2", output) == [1.6962465]
    assert numbers_after("a2", output) == [0.8450439]
    assert numbers_after("J = (a2-y)²/2", output) == [0.0120057]
    assert numbers_after("delta2", output) == [-0.0202907]
    assert numbers_after("delta1", output) == [-0.003467, -0.003635, -0.003540]
    for by in ("NumPy", "fastbp"):
        W1 = numbers_after(f"W1, {by}", output)
        b1 = numbers_after(f"b1, {by}", output)
        W2 = numbers_after(f"W2, {by}", output)
        assert [round(w, 6) for w in W1] == [
            0.100173, 0.200277, 0.300182, 0.400291, 0.500177, 0.600283,
        ]  # fmt: skip
        assert [round(b, 6) for b in b1] == [0.100347, 0.200363, 0.300354]
        assert [round(w, 6) for w in W2] == [0.701171, 0.801342, 0.901495]
        assert numbers_after(f"b2, {by}", output) == [0.1020291]
    assert numbers_after("The loss that fastbp reports is", output)[0] == 0.0120057
    assert numbers_after("The weights of NumPy and fastbp differ by at most", output)[0] < 1e-15


def test_xor(tmp_path):
    output = run_quickly("xor", tmp_path)
    for solver in ("sgd", "adam", "adamw", "adagrad", "rmsprop", "lbfgs"):
        rows = [line for line in output.splitlines() if re.match(rf" +{solver} ", line)]
        assert len(rows) == (1 if solver == "lbfgs" else 2)
        assert all(sum(map(int, row.split()[2:])) > 0 for row in rows)
    solved, tried = numbers_after("Two hidden units:", output)
    assert tried == 88
    assert solved > tried / 2
    assert "Eight hidden units, adam: 2 of 2." in output


def test_digits_pipeline(tmp_path):
    output = run_quickly("digits_pipeline", tmp_path)
    for scaler in ("StandardScaler", "MinMaxScaler"):
        assert numbers_after(scaler, output)[0] > 0.93
    same, of = numbers_after("MLPClassifier with the same seed:", output)
    assert same == of == 599
    assert numbers_after("probabilities differ by at most", output)[0] < 1e-9


def test_grid_search(tmp_path):
    output = run_quickly("grid_search", tmp_path)
    assert "27 combinations on 3000 letters" in output
    accuracies = [float(n) for n in re.findall(r"^ +(0\.\d{4}) +\(", output, re.MULTILINE)]
    assert len(accuracies) == 5
    assert accuracies == sorted(accuracies, reverse=True)
    (on_test_set,) = numbers_after("The best, refitted on them all:", output)
    assert on_test_set > 0.7


def test_review_sentiment(tmp_path):
    output = run_quickly("review_sentiment", tmp_path)
    baseline, _ = numbers_after("majority", output)
    accuracy, auc = numbers_after("BPClassifier", output)
    assert accuracy > baseline + 0.03
    assert auc > 0.88
    words = dict(re.findall(r"^Most (\w+) words: (.*)$", output, re.MULTILINE))
    assert "love" in words["positive"].split(", ")
    assert "disappointed" in words["negative"].split(", ")
    good, bad, _ = map(int, re.findall(r"(\d+)% recommended:", output))
    assert good > 90
    assert bad < 50


def test_mnist(tmp_path):
    output = run_quickly("mnist", tmp_path)
    assert "6000 images of 28 x 28 pixels, float32" in output
    assert numbers_after("Accuracy on the 10000 test images after 4 epochs:", output)[0] > 85


def test_housing(tmp_path):
    output = run_quickly("housing", tmp_path)
    linear, *_ = numbers_after("linear regression", output)
    squared_error, *_ = numbers_after("BPRegressor  ", output)
    poisson, *_ = numbers_after("BPRegressor, Poisson", output)
    assert linear < 0.62
    assert squared_error > 0.7
    assert poisson > 0.7
    lowest = [line.split()[-1] for line in output.splitlines() if "$" in line]
    assert lowest[0].startswith("-")
    assert not lowest[2].startswith("-")


def test_intervals(tmp_path):
    output = run_quickly("intervals", tmp_path)
    below = [numbers_after(f"quantile {q:4}:", output)[-1] for q in (0.05, 0.5, 0.95)]
    assert below[0] < 0.15
    assert 0.35 < below[1] < 0.65
    assert below[2] > 0.85
    widths = re.findall(r"tenth it is \$([\d,]+) wide", output)
    cheapest, dearest = (int(width.replace(",", "")) for width in widths)
    assert cheapest < dearest


def test_unbalanced(tmp_path):
    output = run_quickly("unbalanced", tmp_path)
    *_, n_positive = numbers_after("6400 reviews to train on,", output)
    names = (
        "by accuracy",
        "by balanced accuracy",
        "class weights",
        "by loss",
        "by loss, threshold",
    )
    rows = [numbers_after(f"{name}  ", output) for name in names]
    epochs, balanced, recall, precision, _, average, expected = zip(*rows, strict=True)
    assert epochs[0] == epochs[1] == 1
    assert max(balanced[:2]) < 0.55
    assert max(recall[:2]) < 0.1
    assert recall[3] < 0.3
    assert min(recall[2], recall[4]) > 0.5
    assert min(balanced[2], balanced[4]) > balanced[3] + 0.1
    # The price of class weights, compared with stopping by the loss.
    assert precision[2] < precision[3]
    assert average[2] < average[3] == average[4]
    assert expected[2] > 3 * n_positive
    assert n_positive / 2 < expected[3] < 2 * n_positive


def test_checkpointed_run(tmp_path):
    output = run_quickly("checkpointed_run", tmp_path, figure=False)
    n_done, exit_code = numbers_after("Killed after", output)
    assert n_done < 40
    assert exit_code == -getattr(signal, "SIGKILL", signal.SIGTERM)
    kept, n_more, _ = numbers_after("Resumed after epoch", output)
    assert kept % 4 == 0 < kept
    assert n_done - 4 < kept <= n_done + 1  # it may be killed before it reports an epoch
    assert kept + n_more == 40
    assert len(numbers_after("Without a break:", output)) == 2
    resumed, whole = numbers_after("Accuracy on the test set:", output)
    assert resumed == whole > 90
    assert numbers_after("Weights equal to those without a break:", output) == [109386, 109386]
    assert numbers_after("Losses equal to those without a break:", output) == [40, 40]
    same, of = numbers_after("Weights equal if only the weights are read from the file:", output)
    assert same < of / 10


def test_schedules(tmp_path):
    output = run_quickly("schedules", tmp_path)
    names = ("constant", "cosine", "one_cycle", "step", "function")
    rows = {name: numbers_after(f"{name}  ", output) for name in names}
    assert all(rate in (0.001, 0.005) for rate, *_ in rows.values())
    assert all(90 < held_out < 97 for _, held_out, _, _ in rows.values())
    accuracy = {name: mean for name, (_, _, mean, _) in rows.items()}
    assert max(accuracy.values()) > accuracy["constant"] + 0.2
    _, hindsight, spread = numbers_after("The best constant rate on the test set itself,", output)
    assert hindsight >= accuracy["constant"]
    better = re.search("^Better by more than the spread: (.*)$", output, re.MULTILINE).group(1)
    assert "constant" not in better
    for name in set(better.split(", ")) - {"none"}:
        assert accuracy[name] > hindsight + spread - 0.02  # 0.02 allows for rounding


def test_regularisation(tmp_path):
    output = run_quickly("regularisation", tmp_path)
    names = "neither", "dropout", "smoothing", "both"
    digits = [numbers_after(name, output.split("Reviews")[0]) for name in names]
    (_, plain, _, loss), *others = digits
    assert all(accuracy > plain for _, accuracy, _, _ in others)
    assert others[0][3] < loss < others[1][3]
    clipped = {rate: numbers_after(f"rate {rate:4}", output)[-1] for rate in (0.01, 0.03, 0.1, 0.3)}
    assert min(clipped.values()) > 0.6
    assert numbers_after("rate 0.01", output)[0] > clipped[0.01]  # the cost of clipping
    for rate in (0.1, 0.3):
        *others, score = numbers_after(f"rate {rate:4}", output)  # no clipped score is infinite
        assert max(others, default=0) < score - 0.3
    rows = [numbers_after(name, output.split("Reviews")[1]) for name in ("neither", "alpha", "l1")]
    assert rows[2][0] > rows[0][0]
    assert 2 * rows[2][1] < rows[1][1] < rows[0][1]
    assert "disappointed" in output.split("weigh most: ")[1]


def test_inside(tmp_path):
    output = run_quickly("inside", tmp_path)
    for n in (100, 500):
        pixels, _, first, _, last, _ = numbers_after(f"{n} ", output)
        assert first > pixels + 0.01
        assert last < pixels
    wiped = [numbers_after(name, output)[0] for name in ("any", "darkest", "important")]
    assert wiped[0] > 0.9 > wiped[1] > wiped[2] + 0.2
    same, of = numbers_after("The ONNX graph gives the same digit for", output)
    assert same == of == 2000
    assert numbers_after("probabilities differ by at most", output)[0] < 1e-5


def test_every_example_has_a_test():
    assert {f"test_{script}" for script in SCRIPTS} <= set(globals())


def test_readme_lists_every_example():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)\.py`\]\((\w+)\.py\) \|", readme, re.MULTILINE)
    assert sorted(listed) == [(script, script) for script in SCRIPTS]
    assert "[`helper.py`](helper.py)" in readme


def test_without_matplotlib_one_line_says_so(helper, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    helper.save_figure(tmp_path / "xor.png", (4, 3), pytest.fail)
    assert capsys.readouterr().out == "No xor.png: matplotlib is not installed.\n"
    assert not list(tmp_path.iterdir())
