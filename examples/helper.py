"""Shared by the examples: the command line, and saving a figure to a file."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent / "output"


def run(main: Callable[..., None], description: str | None) -> None:
    """Call `main` with the options from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a shorter run that takes a few seconds"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the folder for figures")
    main(**vars(parser.parse_args()))


def save_figure(
    path: Path, size: tuple[float, float], draw: Callable[..., None], *arguments: Any
) -> None:
    """Save what ``draw(figure, *arguments)`` draws; without matplotlib, print that and return."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"No {path.name}: matplotlib is not installed.")
        return
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    draw(figure, *arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"Figure: {path}")
