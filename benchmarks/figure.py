"""Draws the sections' results: a function for each section with a figure, of the same name."""

import textwrap
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.cells import count_threads
from benchmarks.contenders import ENTRIES
from benchmarks.problems import PROBLEMS

# Okabe and Ito's colours, which colour-blind readers can distinguish; markers differ for print in
# black and white. Each contender has its own height in a row, so that equal times do not overlap.
STYLES = {
    "fastbp": ("#D55E00", "o", -0.21),
    "jax": ("#CC79A7", "D", -0.07),
    "pytorch": ("#009E73", "^", 0.07),
    "scikit-learn": ("#0072B2", "s", 0.21),
}
FIRST_LINE_INCHES, ROW_INCHES, PANEL_INCHES = 0.6, 0.45, 5.2
SMALL_PANEL_INCHES, PANELS_ACROSS = 3.2, 4
SIZES = {
    "samples": "samples, networks of 20-50-1",
    "features": "features",
    "width": "units of the hidden layer",
    "layers": "hidden layers of 64 units",
    "batch": "samples in a mini-batch",
}

Result = dict[str, Any]


def ladder(results: Result, path: Path) -> None:
    """Draw times over the floor, with a row of panels per dtype, a column per thread count."""
    cells = results["cells"]
    dtypes, threads, rows = (_different(cells, key) for key in ("dtype", "threads", "row"))
    width = 1.2 + PANEL_INCHES * len(threads)
    height = 1.9 + (FIRST_LINE_INCHES + ROW_INCHES * len(rows)) * len(dtypes)
    figure, axes = plt.subplots(
        len(dtypes), len(threads), figsize=(width, height), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    names = [name for name in STYLES if name in results["given"]]
    for i, dtype in enumerate(dtypes):
        for j, n_threads in enumerate(threads):
            chosen = [c for c in cells if (c["dtype"], c["threads"]) == (dtype, n_threads)]
            _draw_rows(axes[i, j], chosen, rows, names)
            axes[i, j].set_title(f"{dtype}, {count_threads(n_threads)}", loc="left", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("time of a mini-batch over its arithmetic floor", fontsize=10)
    _finish(figure, axes[0, 0], results, path)


def threads(results: Result, path: Path) -> None:
    """Draw the speed-up by threads, with a panel for each dtype and row."""
    cells = results["cells"]
    dtypes, rows = (_different(cells, key) for key in ("dtype", "row"))
    panels = list(product(dtypes, rows))
    across = min(len(panels), PANELS_ACROSS)
    figure, axes = _small_panels(-(-len(panels) // across), across)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (dtype, row) in zip(axes.flat, panels, strict=False):
        chosen = [c for c in cells if (c["dtype"], c["row"]) == (dtype, row)]
        for cell in chosen:
            _draw_scaling(axis, cell)
        counts = [int(n) for n in chosen[0]["summary"]]
        axis.plot(counts, [n / counts[0] for n in counts], ":", color="black", label="ideal")
        axis.set_xticks(counts, [str(n) for n in counts])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"{row}, {dtype}", loc="left", fontsize=11)
        axis.set_xlabel("threads", fontsize=10)
    for axis in axes[:, 0]:
        axis.set_ylabel("times faster than on the fewest", fontsize=10)
    _finish(figure, axes[0, 0], results, path)


def scale(results: Result, path: Path) -> None:
    """Draw the cost of a sample against data, width, depth and batch, with a panel for each."""
    cells = results["cells"]
    dtypes, groups = (_different(cells, key) for key in ("dtype", "group"))
    names = [name for name in STYLES if name in results["given"]]
    figure, axes = _small_panels(len(dtypes), len(groups))
    for i, dtype in enumerate(dtypes):
        for j, group in enumerate(groups):
            chosen = [c for c in cells if (c["dtype"], c["group"]) == (dtype, group)]
            for name in (*names, "floor"):
                _draw_costs(axes[i, j], chosen, name)
            axes[i, j].set_title(f"{group}, {dtype}, 1 thread", loc="left", fontsize=11)
            axes[i, j].set_xlabel(SIZES[group], fontsize=10)
        axes[i, 0].set_ylabel("microseconds per sample", fontsize=10)
    _finish(figure, axes[0, 0], results, path)


def _draw_rows(axis: Any, cells: list[Any], rows: list[str], names: list[str]) -> None:
    """Draw a line of markers for each contender, with the rows from top to bottom."""
    places = [rows.index(cell["row"]) for cell in cells]
    for name in names:
        colour, marker, height = STYLES[name]
        axis.plot(
            [cell["summary"][name]["over_floor"] for cell in cells],
            [place + height for place in places],
            marker, color=colour, label=ENTRIES[name].label, markersize=6.5,
        )  # fmt: skip
    for place in places[1:]:
        axis.axhline(place - 0.5, color="0.9", linewidth=0.8, zorder=0)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axis.grid(axis="x", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_scaling(axis: Any, cell: Result) -> None:
    colour, marker, _ = STYLES[cell["contender"]]
    label, summary = ENTRIES[cell["contender"]].label, cell["summary"]
    speedups = [of["speedup"] for of in summary.values()]
    axis.plot([int(n) for n in summary], speedups, marker + "-", color=colour, label=label)
    axis.set_xscale("log", base=2)
    _tidy(axis)


def _draw_costs(axis: Any, cells: list[Result], name: str) -> None:
    """Draw a contender's time per sample, or the floor's, against the size."""
    there = [cell for cell in cells if name in cell["summary"]]
    sizes = [cell["size"] for cell in there]
    costs = [c["summary"][name]["seconds"] * 1e6 / c["problem"]["batch_size"] for c in there]
    if name == "floor":
        axis.plot(sizes, costs, "--", color="black", label="arithmetic floor", linewidth=1)
    else:
        colour, marker, _ = STYLES[name]
        axis.plot(sizes, costs, marker + "-", color=colour, label=ENTRIES[name].label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    _tidy(axis)


def _tidy(axis: Any) -> None:
    axis.grid(color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _small_panels(down: int, across: int) -> tuple[Any, Any]:
    size = 0.8 + SMALL_PANEL_INCHES * across, 1.6 + SMALL_PANEL_INCHES * down
    return plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")


def _finish(figure: Any, axis: Any, results: Result, path: Path) -> None:
    """Add an axis's legend and a description of the machine; write the file."""
    handles, labels = axis.get_legend_handles_labels()
    columns = min(len(labels), max(2, round(figure.get_figwidth() / 1.5)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    about = _describe(results["machine"], round(15 * figure.get_figwidth()))
    figure.supxlabel(about, fontsize=8, color="0.35")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _different(cells: list[Result], key: str) -> list[Any]:
    return list(dict.fromkeys(cell[key] for cell in cells))


def _label(row: str) -> str:
    problem = PROBLEMS[row]
    return f"{row}\n{'-'.join(map(str, problem.units))}, batch {problem.batch_size}"


def _describe(machine: dict[str, str], columns: int) -> str:
    about = (
        f"{machine['processor']}, {machine['processors']} processors, {machine['date']}. "
        f"{machine['versions']}."
    )
    return "\n".join(textwrap.wrap(about, columns))
