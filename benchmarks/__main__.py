"""The command line: ``python -m benchmarks [ladder | startup | memory]``."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import children, ladder, memory, report, startup
from benchmarks.contenders import ENTRIES, is_installed
from benchmarks.problems import PROBLEMS

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run one section and print it as Markdown; return the exit status."""
    options = _parse()
    if options.section == "startup":
        print(startup.run(options.quick))
        return 0
    if options.section == "memory":
        print(memory.run(options.quick))
        return 0
    return _climb(options)


def _climb(options: argparse.Namespace) -> int:
    """Run the ladder; the exit status is 1 where fastbp trained another network."""
    results = ladder.run(
        options.rows,
        options.dtypes,
        options.threads,
        options.contenders,
        options.budget,
        options.quick,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1))
    print(report.ladder(results))
    try:
        from benchmarks import figure
    except ImportError:
        print("No figure: matplotlib is not installed.", file=sys.stderr)
    else:
        figure.draw(results, options.output / "ladder.png")
    different = ladder.disagreements(results)
    if different:
        print(f"\nThe losses of fastbp and scikit-learn differ: {'; '.join(different)}.")
    return 1 if different else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "section", nargs="?", default="ladder", choices=["ladder", "startup", "memory"]
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs; figures mean little"
    )
    options = parser.add_argument_group("options of the ladder; lists are separated by commas")
    options.add_argument("--rows", type=_list_of(PROBLEMS), default=list(PROBLEMS))
    options.add_argument("--dtypes", type=_list_of(ladder.DTYPES), default=list(ladder.DTYPES))
    options.add_argument(
        "--threads", type=_threads, default=_threads("1,all"), help="numbers, or all"
    )
    options.add_argument(
        "--contenders",
        type=_list_of(ENTRIES),
        default=[name for name in ENTRIES if is_installed(name)],
        help=f"among {', '.join(ENTRIES)}; those installed by default",
    )
    options.add_argument(
        "--budget", type=float, default=8.0, metavar="SECONDS", help="for each row of a table"
    )
    options.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    return parser.parse_args()


def _list_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names, which keeps the order of the choices."""

    def parse(text: str) -> list[str]:
        given = text.split(",")
        unknown = set(given) - set(choices)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not among {', '.join(choices)}")
        return [name for name in choices if name in given]

    return parse


def _threads(text: str) -> list[int]:
    most = children.count_processors()
    chosen = {most if word == "all" else int(word) for word in text.split(",")}
    if min(chosen) < 1 or max(chosen) > most:
        raise argparse.ArgumentTypeError(f"from 1 to {most} threads")
    return sorted(chosen)


if __name__ == "__main__":
    sys.exit(main())
