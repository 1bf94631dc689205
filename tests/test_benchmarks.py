"""The benchmarks run, and count right; how fast anything is, no test can say."""

import json
import subprocess
import sys
from pathlib import Path

import numba
import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments):
    """Run Python in the repository's root; return what it prints."""
    finished = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def quick_ladder(tmp_path_factory):
    """Return what a quick run of one row prints, and the folder it writes to."""
    folder = tmp_path_factory.mktemp("ladder")
    options = {
        "--rows": "small",
        "--contenders": "fastbp,scikit-learn",
        "--dtypes": "float32",
        "--threads": "1",
        "--output": str(folder),
    }
    printed = run(
        "-m", "benchmarks", "--quick", *(word for pair in options.items() for word in pair)
    )
    return printed, folder


def test_the_ladder_prints_a_table_with_the_row(quick_ladder):
    printed, _ = quick_ladder
    lines = printed.splitlines()
    head = lines.index("| row | scikit-learn | fastbp | ratio | fastbp over floor |")
    assert set(lines[head + 1]) <= set("|-: ")
    assert lines[head + 2].startswith("| small | ")
    assert len(lines[head + 2].split("|")) == len(lines[head].split("|"))


def test_the_ladder_writes_samples_losses_and_a_figure(quick_ladder):
    _, folder = quick_ladder
    results = json.loads((folder / "results.json").read_text())
    (cell,) = results["cells"]
    assert (cell["row"], cell["dtype"], cell["threads"]) == ("small", "float32", 1)
    assert set(cell["samples"]) == {"fastbp", "scikit-learn"}
    n_turns = len(cell["product_rates"])
    assert n_turns > 1
    assert all(len(samples) == n_turns for samples in cell["samples"].values())
    assert all(len(curve) == 1 + cell["epochs"] for curve in cell["losses"].values())
    assert cell["agreement"]["fastbp"]["agrees"]
    assert (folder / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_floor_counts_each_multiply_add_as_two(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.floor import operations_per_batch
    from benchmarks.problems import PROBLEMS

    # 64 inputs, 100 units, 10 classes. First layer: forward and gradient; second: its delta too.
    per_sample = 2 * (2 * 64 * 100) + 3 * (2 * 100 * 10)
    # 8 mini-batches of 200 samples and one of 197.
    assert operations_per_batch(PROBLEMS["digits"]) == pytest.approx(per_sample * 1797 / 9)
    # Two classes share one output.
    assert operations_per_batch(PROBLEMS["small"]) == 200 * (4 * 20 * 50 + 6 * 50)


def test_a_contender_that_trains_another_network_is_named(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import ladder

    losses = {"scikit-learn": [1.0, 0.5], "fastbp": [1.0, 0.51], "jax": [1.0, 0.6]}
    cells = [
        {"row": "iris", "dtype": dtype, "threads": 1, "agreement": ladder._compare(losses, dtype)}
        for dtype in ladder.DTYPES
    ]
    assert cells[0]["agreement"]["jax"] == {
        "largest_relative_difference": pytest.approx(0.2),
        "final_loss": 0.6,
    }
    assert len(ladder.disagreements({"cells": cells})) == 2
    losses["fastbp"] = [1.0, 0.501]
    cells[0]["agreement"] = ladder._compare(losses, "float32")
    assert ladder.disagreements({"cells": cells}) == ["iris in float64 on 1 thread"]


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="kernels in plain Python take minutes")
def test_the_bench_files_run():
    options = [
        "-o",
        "python_files=bench_*.py",
        "--benchmark-disable",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    assert " passed" in run("-m", "pytest", "benchmarks", *options)
