"""Draws the ladder: how many times the arithmetic floor each contender takes."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from benchmarks.contenders import ENTRIES
from benchmarks.problems import PROBLEMS
from benchmarks.report import count_threads

# Okabe and Ito's colours, which the colour-blind can tell apart; shapes for print. Each contender
# has a height of its own within a row, so that equal times do not hide each other.
STYLES = {
    "fastbp": ("#D55E00", "o", -0.21),
    "jax": ("#CC79A7", "D", -0.07),
    "pytorch": ("#009E73", "^", 0.07),
    "scikit-learn": ("#0072B2", "s", 0.21),
}
FIRST_LINE_INCHES, ROW_INCHES, PANEL_INCHES = 0.6, 0.45, 5.2


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw one panel for each dtype (down) and number of threads (across)."""
    cells = results["cells"]
    dtypes, threads, rows = (
        list(dict.fromkeys(cell[key] for cell in cells)) for key in ("dtype", "threads", "row")
    )
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
            _draw_panel(axes[i, j], chosen, rows, names)
            axes[i, j].set_title(f"{dtype}, {count_threads(n_threads)}", loc="left", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("time of a mini-batch over its arithmetic floor", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(names), frameon=False)
    figure.supxlabel(_describe(results["machine"], round(16 * width)), fontsize=8, color="0.35")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_panel(axis: Any, cells: list[Any], rows: list[str], names: list[str]) -> None:
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


def _label(row: str) -> str:
    problem = PROBLEMS[row]
    return f"{row}\n{'-'.join(map(str, problem.units))}, batch {problem.batch_size}"


def _describe(machine: dict[str, str], columns: int) -> str:
    about = (
        f"{machine['processor']}, {machine['processors']} processors, {machine['date']}. "
        f"{machine['versions']}."
    )
    return "\n".join(textwrap.wrap(about, columns))
