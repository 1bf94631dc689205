"""The benchmarks run and count correctly; how fast anything is, no test can say."""

import contextlib
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numba
import pytest

ROOT = Path(__file__).parents[1]

needs_compiled = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="kernels in plain Python take minutes"
)


@pytest.fixture(autouse=True, scope="module")
def benchmarks_on_the_path():
    """Make the benchmarks, which are not installed, importable for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


def run_section(section, folder, **options):
    """Run a section quickly; return what it prints, and the results it writes."""
    from benchmarks.__main__ import main

    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main([section, "--quick", "--output", str(folder), *words])
    assert status == 0, printed.getvalue()
    return printed.getvalue(), json.loads((folder / f"{section}.json").read_text())


def table_rows(printed, head):
    """Return the first cells of the rows of the tables with this head."""
    lines = printed.splitlines()
    found = []
    for start in (i for i, line in enumerate(lines) if line == head):
        assert set(lines[start + 1]) <= set("|-: ")
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            assert line.count("|") == head.count("|")
            found.append(line.split("|")[1].strip())
    return found


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def quick_ladder(tmp_path_factory):
    """Return the output of a quick run of one row, its results, and the folder it writes to."""
    folder = tmp_path_factory.mktemp("ladder")
    options = {
        "rows": "small",
        "contenders": "fastbp,scikit-learn",
        "dtypes": "float32",
        "threads": "1",
    }
    return *run_section("ladder", folder, **options), folder


def test_the_ladder_prints_a_table_with_the_row(quick_ladder):
    printed, _, _ = quick_ladder
    head = "| row | scikit-learn | fastbp | ratio | fastbp over floor |"
    assert table_rows(printed, head) == ["small"]


def test_the_ladder_writes_samples_losses_and_a_figure(quick_ladder):
    _, results, folder = quick_ladder
    (cell,) = results["cells"]
    assert (cell["row"], cell["dtype"], cell["threads"]) == ("small", "float32", 1)
    assert set(cell["samples"]) == set(results["given"]) == {"fastbp", "scikit-learn"}
    n_turns = len(cell["product_rates"])
    assert n_turns > 1
    assert all(len(samples) == n_turns for samples in cell["samples"].values())
    assert cell["barriers"] == []  # none on one thread
    epochs = cell["problem"]["epochs"]
    assert all(len(curve) == 1 + epochs for curve in cell["losses"].values())
    assert cell["agreement"]["fastbp"]["agrees"]
    assert is_png(folder / "ladder.png")


@needs_compiled
def test_shapes(tmp_path):
    rows = ["gelu", "lbfgs", "regression-5"]
    printed, results = run_section("shapes", tmp_path, rows=",".join(rows))
    head = (
        "| row | scikit-learn | fastbp | ratio | fastbp over `medium` | ns per 1000 multiply-adds |"
    )
    assert table_rows(printed, head) == ["gelu", "lbfgs", "lbfgs", "regression-5"]
    assert [cell["dtype"] for cell in results["cells"]] == ["float32"] * 2 + ["float64", "float32"]
    for cell in results["cells"]:
        # scikit-learn has no GELU; fastbp trains `medium` beside each row.
        alone = cell["row"] == "gelu"
        expected = {"fastbp", "reference"} if alone else {"fastbp", "reference", "scikit-learn"}
        assert set(cell["samples"]) == expected
        assert alone or cell["agreement"]["fastbp"]["agrees"]


@needs_compiled
def test_sparse(tmp_path):
    printed, results = run_section("sparse", tmp_path, rows="drawn-0.001")
    head = "| row | dtype | stored | scikit-learn | fastbp | ratio |"
    assert table_rows(printed, head) == ["drawn-0.001"]
    assert results["cells"][0]["agreement"]["fastbp"]["agrees"]


@needs_compiled
def test_predict(tmp_path):
    rows = ["predict-1", "predict_proba-100"]
    printed, results = run_section("predict", tmp_path, rows=",".join(rows), threads="1")
    head = (
        "| method and rows | scikit-learn | fastbp | ratio "
        "| fastbp, samples a second | fastbp over floor |"
    )
    assert table_rows(printed, head) == rows
    assert [cell["rows"] for cell in results["cells"]] == [1, 100]


@needs_compiled
def test_threads(tmp_path):
    printed, results = run_section("threads", tmp_path, rows="digits", contenders="fastbp")
    assert "are bitwise identical on every number of threads" in printed
    (cell,) = results["cells"]
    assert len(cell["barriers"]) == (len(cell["product_rates"]) if cell["threads"] > 1 else 0)
    assert all(0 < seconds < 1 for seconds in cell["barriers"])
    (cell,) = results["cells"]
    assert set(cell["samples"]) == set(cell["digests"])
    assert len(set(cell["digests"].values())) == 1
    assert is_png(tmp_path / "threads.png")


@needs_compiled
def test_scale(tmp_path):
    """A quick run of a row mapped from a file, and of one that scikit-learn trains on too."""
    rows = "samples-10000000,layers-1"
    printed, results = run_section("scale", tmp_path, rows=rows)
    head = "| size | scikit-learn | fastbp | ratio | fastbp over floor |"
    assert table_rows(printed, head) == ["10,000,000", "1"]
    mapped, drawn = results["cells"]
    assert mapped["problem"]["source"].endswith(".npy")
    assert not Path(mapped["problem"]["source"]).exists()
    assert set(mapped["samples"]) == {"fastbp"}
    assert drawn["agreement"]["fastbp"]["agrees"]
    assert is_png(tmp_path / "scale.png")


@needs_compiled
def test_features(tmp_path):
    printed, results = run_section("features", tmp_path, rows="dropout,checkpoint")
    head = "| with | dtype | fastbp | over `medium` without |"
    assert table_rows(printed, head) == ["dropout", "checkpoint"]
    for cell in results["cells"]:  # each is a difference of two short fits, so it may be negative
        samples = cell["samples"]
        assert (len(samples["with"]), len(samples["without"])) == (2, 2)
        assert math.isfinite(cell["over_without"])


@needs_compiled
def test_sweeps(tmp_path):
    printed, results = run_section("sweeps", tmp_path, rows="iris")
    assert "| iris, 60 x 5 |" in printed
    assert "are bitwise identical to those of the stock search" in printed
    (cell,) = results["cells"]
    assert cell["same_scores"]
    assert set(cell["samples"]) > {"MLP", "BP", "fastbp"}


@needs_compiled
def test_memory(tmp_path):
    printed, results = run_section("memory", tmp_path, dtypes="float32", contenders="fastbp")
    assert table_rows(printed, "| X, in C order | fastbp |") == ["float32"]
    assert results["fractions"]["float32"]["fastbp"] < 1


def test_startup_is_printed():
    """Check the printing only: the section itself compiles all kernels afresh, twice."""
    from benchmarks import machine, report

    results = {
        "machine": machine.describe(["fastbp"]),
        "settings": {"quick": False},
        "seconds": {"`import fastbp`": [3.0, 0.5, 0.75]},
    }
    printed = report.startup(results)
    assert "| `import fastbp` | 0.75 | 3 |" in printed


def test_a_child_answers_until_it_is_left():
    from benchmarks.children import Child, run

    with Child("collections:Counter", threads=1, a=2) as child:
        assert child.call("total") == 2
        child.call("update", b=3)
        assert child.call("total") == 5
        assert child.made() == {"a": 2, "b": 3}
    assert run("pprint:pprint", object="not a reply") is None


def test_a_child_that_fails_is_an_error(capfd):
    from benchmarks.children import Child

    child = Child("collections:Counter")
    with pytest.raises(RuntimeError, match=r"collections:Counter ended with exit status 1"), child:
        child.call("nonsense")
    assert "AttributeError" in capfd.readouterr().err


def test_unknown_rows_are_refused(capsys):
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit, match="2"):
        main(["sparse", "--rows", "iris"])
    assert "--rows: iris not in reviews, " in capsys.readouterr().err


def test_the_floor_counts_each_multiply_add_as_two():
    from benchmarks.floor import operations_per_batch
    from benchmarks.problems import PROBLEMS

    # 64 inputs, 100 units, 10 classes. First layer: forward and gradient; second: its delta too.
    per_sample = 2 * (2 * 64 * 100) + 3 * (2 * 100 * 10)
    # 8 mini-batches of 200 samples and one of 197.
    assert operations_per_batch(PROBLEMS["digits"]) == pytest.approx(per_sample * 1797 / 9)
    # Two classes share one output.
    assert operations_per_batch(PROBLEMS["small"]) == 200 * (4 * 20 * 50 + 6 * 50)


def test_the_floor_of_sparse_inputs_counts_what_is_stored():
    from benchmarks.floor import operations_per_sample

    assert operations_per_sample((1000, 10, 3), density=0.1) == 4 * 100 * 10 + 6 * 10 * 3


def test_a_contender_that_trains_another_network_is_named():
    from benchmarks import cells
    from benchmarks.options import DTYPES, Options

    losses = {"scikit-learn": [1.0, 0.5], "fastbp": [1.0, 0.51], "jax": [1.0, 0.6]}
    measured = [
        {"row": "iris", "dtype": dtype, "threads": 1, "agreement": cells.compare(losses, dtype)}
        for dtype in DTYPES
    ]
    assert measured[0]["agreement"]["jax"] == {
        "largest_relative_difference": pytest.approx(0.2),
        "final_loss": 0.6,
    }
    assert len(cells.gather(Options(), measured, {})["complaints"]) == 2
    losses["fastbp"] = [1.0, 0.501]
    measured[0]["agreement"] = cells.compare(losses, "float32")
    assert cells.gather(Options(), measured, {})["complaints"] == [
        "The losses of fastbp and scikit-learn differ: iris in float64 on 1 thread."
    ]


@pytest.mark.parametrize("row", ["iris", "reviews", "regression-5", "multilabel-5", "classes-3"])
def test_a_problem_survives_json_and_has_its_shapes(row):
    from benchmarks import shapes, sparse
    from benchmarks.problems import PROBLEMS, Problem

    outputs = {problem.name: problem for problem in shapes.GROUPS["outputs"]}
    problem = {**PROBLEMS, **sparse.ROWS, **outputs}[row]
    assert Problem.of(json.loads(json.dumps(problem.fields))) == problem
    X, y = problem.data("float32")
    assert X.shape == (problem.n_samples, problem.n_inputs)
    assert X.dtype == "float32"
    several = problem.task != "classification" and problem.n_classes > 1
    assert y.shape == ((len(y), problem.n_classes) if several else (len(y),))


@needs_compiled
def test_the_bench_files_run():
    options = [
        "-o",
        "python_files=bench_*.py",
        "--benchmark-disable",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout
