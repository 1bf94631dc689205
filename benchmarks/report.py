"""Prints what the ladder measured, as Markdown."""

from itertools import groupby
from typing import Any

from benchmarks.contenders import BASELINE, ENTRIES

Result = dict[str, Any]

_OTHERS = [name for name in ENTRIES if name not in (BASELINE, "fastbp")]


def ladder(results: Result) -> str:
    """Return a heading, one table for each dtype and number of threads, and what was given."""
    machine = results["machine"]
    lines = [
        "## Microseconds per mini-batch",
        "",
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, "
        f"{machine['date']}. {machine['versions']}.",
        "",
    ]
    for (dtype, threads), cells in groupby(results["cells"], key=_group):
        others = [name for name in _OTHERS if name in results["given"]]
        lines += _table(dtype, threads, list(cells), others)
    return "\n".join([*lines, *_notes(results)])


def count_threads(threads: int) -> str:
    """Return "1 thread", "2 threads" and so on."""
    return f"{threads} thread{'s' * (threads != 1)}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table, the first column to the left."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]


def _group(cell: Result) -> tuple[str, int]:
    return cell["dtype"], cell["threads"]


def _table(dtype: str, threads: int, cells: list[Result], others: list[str]) -> list[str]:
    """Return one table: the losing rows like the others."""
    rates = [rate for cell in cells for rate in cell["product_rates"]]
    head = ["row", "scikit-learn", "fastbp", "ratio", "fastbp over floor"]
    rows = [_row(cell["row"], cell["summary"], others) for cell in cells]
    return [
        f"### {dtype}, {count_threads(threads)}; a large product at {max(rates) / 1e9:.0f} GFLOP/s",
        "",
        *table([*head, *(ENTRIES[name].label for name in others)], rows),
        "",
    ]


def _row(name: str, summary: Result, others: list[str]) -> list[str]:
    ours = summary.get("fastbp", {})
    return [
        name,
        _microseconds(summary.get(BASELINE)),
        _microseconds(ours),
        f"{ours['speedup']:.1f}" if "speedup" in ours else "-",
        f"{ours['over_floor']:.1f}" if ours else "-",
        *(_microseconds(summary[other]) for other in others),
    ]


def _microseconds(entry: Result | None) -> str:
    if not entry:
        return "-"
    value = entry["seconds"] * 1e6
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _notes(results: Result) -> list[str]:
    confined = "a process confined to as many processors before it imports anything"
    notes = [f"All contenders of a table run in {confined}. What each was given:", ""]
    for name, given in results["given"].items():
        notes.append(f"- {ENTRIES[name].label}: {given}")
    return [
        *notes,
        "",
        "A time is a fit of 1 + k epochs less a fit of 1 epoch, over the mini-batches between them "
        "(medians); a ratio is scikit-learn's time over fastbp's (median of pairs taken in turn); "
        "the floor is the mini-batch's multiply-adds at the rate of a large product in the same "
        "turn.",
    ]
