"""The command line: ``python -m benchmarks [section]``, the ladder by default."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import (
    children,
    features,
    ladder,
    memory,
    predict,
    report,
    scale,
    shapes,
    sparse,
    startup,
    sweeps,
    threads,
)
from benchmarks.contenders import ENTRIES
from benchmarks.options import DTYPES, Options

SECTIONS = {
    "ladder": ladder,
    "shapes": shapes,
    "sparse": sparse,
    "predict": predict,
    "threads": threads,
    "sweeps": sweeps,
    "features": features,
    "scale": scale,
    "startup": startup,
    "memory": memory,
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one section, or all; return the exit status, 1 if a result is wrong."""
    chosen, options, folder = _parse(arguments)
    complaints = []
    for name in chosen:
        complaints += _run(name, options, folder)
    for complaint in complaints:
        print(f"\n{complaint}")
    return 1 if complaints else 0


def _run(name: str, options: Options, folder: Path) -> list[str]:
    """Run a section: write, print and draw its results; return its complaints."""
    results = SECTIONS[name].run(options)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1))
    print(getattr(report, name)(results), flush=True)
    try:
        from benchmarks import figure
    except ImportError:
        print("No figure: matplotlib is not installed.", file=sys.stderr)
    else:
        if hasattr(figure, name):
            getattr(figure, name)(results, folder / f"{name}.png")
    complaints: list[str] = results.get("complaints", [])
    return complaints


def _parse(arguments: Sequence[str] | None) -> tuple[list[str], Options, Path]:
    """Return the sections to run, the user's choices, and the folder to write to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure; print tables as Markdown; draw figures."
    )
    parser.add_argument(
        "section",
        nargs="?",
        default="ladder",
        choices=[*SECTIONS, "all"],
        help="what to measure (default: ladder)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="only check that it runs; the figures mean little"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder for the samples and figures",
    )
    choices = parser.add_argument_group(
        "choices", "Lists are comma-separated; each section has its own defaults."
    )
    choices.add_argument(
        "--rows", type=_list, help="rows of one section, by their names in its table"
    )
    choices.add_argument("--dtypes", type=_list_of(DTYPES))
    choices.add_argument("--threads", type=_threads, help="numbers of threads, or all")
    choices.add_argument(
        "--contenders",
        type=_list_of(ENTRIES),
        help=f"from {', '.join(ENTRIES)}; default: those installed",
    )
    choices.add_argument(
        "--budget", type=float, metavar="SECONDS", help="time for each row of a table"
    )
    given = vars(parser.parse_args(arguments))
    section, folder = given.pop("section"), given.pop("output")
    rows = getattr(SECTIONS.get(section), "ROWS", ())
    unknown = set(given["rows"] or ()) - set(rows)
    if unknown:
        parser.error(f"--rows: {', '.join(sorted(unknown))} not in {', '.join(rows)}")
    return (list(SECTIONS) if section == "all" else [section]), Options(**given), folder


def _list(text: str) -> list[str]:
    return text.split(",")


def _list_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names that puts them in the order of the choices."""

    def parse(text: str) -> list[str]:
        given = _list(text)
        unknown = set(given) - set(choices)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not in {', '.join(choices)}")
        return [name for name in choices if name in given]

    return parse


def _threads(text: str) -> list[int]:
    most = children.count_processors()
    chosen = {most if word == "all" else int(word) for word in _list(text)}
    if min(chosen) < 1 or max(chosen) > most:
        raise argparse.ArgumentTypeError(f"must be from 1 to {most}, or all")
    return sorted(chosen)


if __name__ == "__main__":
    sys.exit(main())
