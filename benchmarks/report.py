"""Formats the sections' results as Markdown: a function for each section, of the same name."""

from collections.abc import Callable, Iterable
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.cells import count_threads
from benchmarks.contenders import BASELINE, ENTRIES

Result = dict[str, Any]
Column = tuple[str, Callable[[Result], str]]  # its heading, and its text for a cell

_OTHERS = [name for name in ENTRIES if name not in (BASELINE, "fastbp")]
_FITS = (
    "A time is that of a fit of 1 + k epochs minus that of a fit of 1 epoch, divided by the "
    "mini-batches of k epochs (medians); a ratio is scikit-learn's time over fastbp's (median of "
    "pairs from the same turn); the floor is the time of the multiply-adds at the rate of a large "
    "product in the same turn."
)


def ladder(results: Result) -> str:
    """Return one table for each dtype and number of threads, including rows that fastbp loses."""
    others = [name for name in _OTHERS if name in results["given"]]
    columns: list[Column] = [
        ("row", lambda cell: cell["row"]),
        *_rivals(1e6),
        ("fastbp over floor", lambda cell: _number(_of(cell, "fastbp", "over_floor"))),
        *((ENTRIES[name].label, _time(name, 1e6)) for name in others),
    ]
    tables = []
    for (dtype, threads), group in groupby(results["cells"], key=_dtype_and_threads):
        cells = list(group)
        rate = max(rate for cell in cells for rate in cell["product_rates"]) / 1e9
        title = f"{dtype}, {count_threads(threads)}; a large product at {rate:.0f} GFLOP/s"
        title += _barriers(cells)
        tables += _titled(title, _tabulate(columns, cells))
    return _page("Microseconds per mini-batch", results, tables, _FITS)


def _barriers(cells: Iterable[Result]) -> str:
    barriers = sorted(1e9 * seconds for cell in cells for seconds in cell["barriers"])
    if not barriers:
        return ""
    return (
        f"; a barrier of two threads takes {median(barriers):.0f} ns "
        f"({barriers[0]:.0f} to {barriers[-1]:.0f})"
    )


def shapes(results: Result) -> str:
    """Return one table for each setting that is changed, and dtype."""
    columns: list[Column] = [
        ("row", lambda cell: cell["row"]),
        *_rivals(1e6),
        ("fastbp over `medium`", lambda cell: _number(cell.get("over_medium"), 2)),
        ("ns per 1000 multiply-adds", _nanoseconds_per_thousand),
    ]
    tables = _one_for_each_group(results, columns)
    note = (
        "Each row is `medium` (20,000 samples, 50-100-1, mini-batches of 200, ReLU, Adam) with one "
        'thing changed. In each turn fastbp also trains `medium` itself: "over `medium`" is the '
        "ratio of the two times per mini-batch. scikit-learn is not timed with settings that it "
        "lacks. An iteration of L-BFGS counts as an epoch, and its mini-batch as 200 samples, or "
        "as all samples of the smaller data; L-BFGS computes in float64 whatever the dtype of X, "
        "as scikit-learn's does. "
    )
    return _page("Shapes: microseconds per mini-batch", results, tables, note + _FITS)


def sparse(results: Result) -> str:
    """Return one table."""
    columns: list[Column] = [
        ("row", lambda cell: cell["row"]),
        ("dtype", lambda cell: cell["dtype"]),
        ("stored", lambda cell: f"{cell['problem']['density']:.1%}"),
        *_rivals(1e6),
    ]
    table = [*_tabulate(columns, results["cells"]), ""]
    return _page("Sparse: microseconds per mini-batch, 1 thread", results, table, _FITS)


def predict(results: Result) -> str:
    """Return one table for each dtype and number of threads."""
    columns: list[Column] = [
        ("method and rows", lambda cell: cell["row"]),
        *_rivals(1e6),
        ("fastbp, samples a second", _samples_a_second),
        ("fastbp over floor", lambda cell: _number(_of(cell, "fastbp", "over_floor"))),
    ]
    tables = []
    for (dtype, threads), cells in groupby(results["cells"], key=_dtype_and_threads):
        tables += _titled(f"{dtype}, {count_threads(threads)}", _tabulate(columns, list(cells)))
    note = (
        "The network is that of `medium`, 50-100-1. The floor is the time of the forward "
        "multiply-adds at the rate of a large product in the same turn."
    )
    return _page("Prediction: microseconds per call", results, tables, note)


def threads(results: Result) -> str:
    """Return one table for each contender and dtype: times, with speed-ups in brackets."""
    tables = []
    for (name, dtype), group in groupby(results["cells"], lambda c: (c["contender"], c["dtype"])):
        cells = list(group)
        counts = list(cells[0]["summary"])
        columns: list[Column] = [
            ("row", lambda cell: cell["row"]),
            *((count_threads(int(n)), _time_and_speedup(n)) for n in counts),
        ]
        title = f"{ENTRIES[name].label}, {dtype}"
        tables += _titled(title, _tabulate(columns, cells))
    note = (
        "In brackets, the speed-up over the fewest threads (median of pairs from the same turn). "
        "Each number of threads has a process of its own, confined to as many processors."
    )
    same = all(len(set(cell["digests"].values())) <= 1 for cell in results["cells"])
    bits = "bitwise identical" if same else "NOT bitwise identical"
    note += f" fastbp's weights are {bits} on every number of threads."
    return _page("Threads: microseconds per mini-batch", results, tables, note)


def scale(results: Result) -> str:
    """Return one table for each size that grows, and dtype; times are per sample."""
    columns: list[Column] = [
        ("size", lambda cell: f"{cell['size']:,}"),
        *_rivals(1e6, of=lambda cell: cell["problem"]["batch_size"]),
        ("fastbp over floor", lambda cell: _number(_of(cell, "fastbp", "over_floor"))),
    ]
    tables = _one_for_each_group(results, columns)
    note = (
        "X of more than a million samples is mapped from a file, and only fastbp trains on it. A "
        "sample's time is that of a mini-batch divided by its size. "
    )
    return _page("Scale: microseconds per sample", results, tables, note + _FITS)


def sweeps(results: Result) -> str:
    """Return one table."""
    columns: list[Column] = [
        ("search", lambda cell: f"{cell['row']}, {cell['candidates']} x {cell['folds']}"),
        ("stock over MLP", lambda cell: _seconds(cell["seconds"]["MLP"])),
        ("stock over BP", lambda cell: _seconds(cell["seconds"]["BP"])),
        ("ratio", lambda cell: _number(cell["speedup"]["BP"])),
        ("fastbp's search", lambda cell: _seconds(cell["seconds"]["fastbp"])),
        ("ratio", lambda cell: _number(cell["speedup"]["fastbp"])),
        ("over its time on one processor", lambda cell: _number(_most_threads(cell)[1], 2)),
        ("as processes", lambda cell: _number(cell["processes"], 2)),
        ("of the stock search's time", lambda cell: _number(cell["of_stock"], 2)),
        ("copies of X, and at the peak", lambda cell: _copies_of_X(cell, max)),
        ("on one", lambda cell: _copies_of_X(cell, min)),
    ]
    table = [*_tabulate(columns, results["cells"]), ""]
    counts = list(results["cells"][0]["threads"])
    if len(counts) > 2:
        by_threads = [columns[0], *((count_threads(int(n)), _searching(n)) for n in counts)]
        table += _titled("By threads", _tabulate(by_threads, results["cells"]))
    same = all(cell["same_scores"] for cell in results["cells"])
    note = (
        "Candidates x folds. The stock searches are scikit-learn's own, over MLPClassifier and "
        "over BPClassifier; fastbp's search is over BPClassifier; for diabetes all are over the "
        "regressors. All use as many n_jobs as there are processors, warm pools, and no final "
        "refit; ratios are to the stock search over MLP. The copies are all the memory that Python "
        "and NumPy hold during fastbp's search beyond what they held before, in units of X, or of "
        "what a Pipeline makes of X: the median over time, and the peak, which occurs in a "
        "Pipeline's steps. They are not given for X of less than a megabyte. "
        '"over its time on one processor" is how many times as fast as on one processor fastbp\'s '
        'search is; "as processes" is how many one-thread searches, each in a process of its own, '
        "the machine completes in the time of one: the best that all processors can give. The "
        "times by threads, if shown, are those of fastbp's search on as many processors, and in "
        "brackets the speed-up over one. "
        f"fastbp's scores are {'bitwise' if same else 'NOT bitwise'} identical to those of the "
        "stock search over the same networks."
    )
    return _page("Sweeps: seconds per search, float32", results, table, note)


def _searching(n: str) -> Callable[[Result], str]:
    def text(cell: Result) -> str:
        seconds, speedup = cell["threads"][n]
        return f"{_seconds(seconds)} ({speedup:.2f})"

    return text


def _most_threads(cell: Result) -> list[float]:
    times: list[float] = cell["threads"][max(cell["threads"], key=int)]
    return times


def _copies_of_X(cell: Result, choose: Callable[..., str]) -> str:  # noqa: N802
    memory = cell["memory"][choose(cell["memory"], key=int)]
    return f"{memory['held']:.2f}, {memory['peak']:.2f}" if memory["bytes_of_X"] >= 1e6 else "-"


def features(results: Result) -> str:
    """Return one table."""
    columns: list[Column] = [
        ("with", lambda cell: cell["row"]),
        ("dtype", lambda cell: cell["dtype"]),
        ("fastbp", lambda cell: _significant(cell["seconds"] * 1e6)),
        ("over `medium` without", lambda cell: _number(cell["over_without"], 2)),
    ]
    table = [*_tabulate(columns, results["cells"]), ""]
    note = (
        "`medium` with one thing added, and without it, in turn in one process (median of pairs). "
        "The callback is called after each epoch and logs nothing; the checkpoint is written after "
        "each epoch; early stopping predicts 1,000 samples after each."
    )
    return _page("Features: microseconds per mini-batch, 1 thread", results, table, note)


def startup(results: Result) -> str:
    """Return one table."""
    rows = [
        [label, _seconds(median(values)), str(len(values))]
        for label, values in results["seconds"].items()
    ]
    lines = [*table(["once in a process", "seconds", "processes"], rows), ""]
    note = (
        "The time of a first fit is what it takes beyond later fits of the same process. With "
        "nothing cached, as many processes compile as there are processors, up to four; on one "
        "processor only the fit's own process compiles."
    )
    return _page("Start-up", results, lines, note)


def memory(results: Result) -> str:
    """Return one table."""
    fractions = results["fractions"]
    names = list(next(iter(fractions.values())))
    rows = [
        [dtype, *(f"{of[name]:.2f}" for name in names)] for dtype, of in fractions.items()
    ]  # fmt: skip
    n_samples, n_inputs = results["shape"]
    title = f"Peak memory of a fit beyond X, as a fraction of X ({n_samples} x {n_inputs})"
    return _page(title, results, [*table(["X, in C order", *names], rows), ""], "")


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a Markdown table, with the first column aligned left, others right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]


def _page(title: str, results: Result, lines: list[str], note: str) -> str:
    """Return heading, machine, tables, how each library is used, and a note."""
    machine = results["machine"]
    about = (
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, "
        f"{machine['date']}. {machine['versions']}."
    )
    if results["settings"]["quick"]:
        about += " **A quick run on smaller problems: these figures mean little.**"
    given = results.get("given", {})
    if given:
        lines = [
            *lines,
            "Each contender runs in a process of its own, confined to as many processors as it has "
            "threads before it imports anything; they are timed in turn. How each is used:",
            "",
            *(f"- {ENTRIES[name].label}: {text}" for name, text in given.items()),
            "",
        ]
    return "\n".join([f"## {title}", "", about, "", *lines, note]).rstrip()


def _one_for_each_group(results: Result, columns: list[Column]) -> list[str]:
    """Return the tables of cells on one thread, one for each group and dtype."""
    tables: list[str] = []
    for (group, dtype), cells in groupby(results["cells"], lambda c: (c["group"], c["dtype"])):
        tables += _titled(f"{group}, {dtype}, 1 thread", _tabulate(columns, list(cells)))
    return tables


def _titled(title: str, lines: list[str]) -> list[str]:
    return [f"### {title}", "", *lines, ""]


def _tabulate(columns: list[Column], cells: list[Result]) -> list[str]:
    rows = [[text(cell) for _, text in columns] for cell in cells]
    return table([head for head, _ in columns], rows)


def _rivals(unit: float, of: Callable[[Result], float] = lambda _: 1) -> list[Column]:
    """Return columns of scikit-learn's and fastbp's times and their ratio; `unit` is per second."""
    return [
        ("scikit-learn", _time(BASELINE, unit, of)),
        ("fastbp", _time("fastbp", unit, of)),
        ("ratio", lambda cell: _number(_of(cell, "fastbp", "speedup"))),
    ]


def _time(
    name: str, unit: float, of: Callable[[Result], float] = lambda _: 1
) -> Callable[[Result], str]:
    """Return a function that formats a contender's time, divided by `of(cell)`."""

    def text(cell: Result) -> str:
        seconds = _of(cell, name, "seconds")
        return "-" if seconds is None else _significant(seconds * unit / of(cell))

    return text


def _time_and_speedup(n: str) -> Callable[[Result], str]:
    def text(cell: Result) -> str:
        summary = cell["summary"][n]
        return f"{_significant(summary['seconds'] * 1e6)} ({summary['speedup']:.2f})"

    return text


def _nanoseconds_per_thousand(cell: Result) -> str:
    seconds = _of(cell, "fastbp", "seconds")
    thousands = cell["operations_per_batch"] / 2 / 1000
    return "-" if seconds is None else _significant(seconds * 1e9 / thousands)


def _samples_a_second(cell: Result) -> str:
    seconds = _of(cell, "fastbp", "seconds")
    return "-" if seconds is None else f"{cell['rows'] / seconds:,.0f}"


def _of(cell: Result, name: str, what: str) -> Any:
    """Return a figure from a contender's summary, or None if it is missing."""
    return cell["summary"].get(name, {}).get(what)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _significant(value: float) -> str:
    """Format a number with at least three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _dtype_and_threads(cell: Result) -> tuple[str, int]:
    return cell["dtype"], cell["threads"]
