"""What a fit says while it runs: a bar in a terminal, or a line for each epoch."""

import sys
from typing import Any

__all__ = ["is_terminal", "make_bar", "make_reporter"]


def make_reporter(verbose: bool | int, n_epochs: int) -> "Lines | None":
    """Return what reports on a fit of so many epochs at the most, None where nothing is said.

    1 is a bar if the output is a terminal, 2 and more are lines.
    """
    if not verbose:
        return None
    return Bar(n_epochs) if verbose < 2 and is_terminal() else Lines()


def is_terminal() -> bool:
    """Tell whether the output is one; there may be none, or not a file."""
    return bool(getattr(sys.stdout, "isatty", bool)())


def make_bar(words: str, *columns: str, **options: Any) -> Any:
    """Return rich's bar of so many of these, with the time that is left, before further columns."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*shown, *columns, **options)


class Lines:
    """A line for each epoch, with scikit-learn's words."""

    def epochs(self, n_before: int, losses: list[float]) -> None:
        """Tell of epochs that have ended."""
        for n_iter, loss in enumerate(losses, n_before + 1):
            print(f"Iteration {n_iter}, loss = {loss:.8f}")

    def score(self, score: float) -> None:
        """Tell of the validation score of the epoch that has ended."""
        print(f"Validation score: {score:f}")

    def halt(self, message: str) -> None:
        """Tell that training has come to a halt, and what is done about it."""
        print(message)

    def close(self) -> None:
        """End the report."""


class Bar(Lines):
    """A live bar with the loss and the time that is left."""

    def __init__(self, n_epochs: int) -> None:
        self._bar = make_bar("epochs", "{task.fields[loss]}", "{task.fields[score]}")
        self._task = self._bar.add_task("", total=n_epochs, loss="", score="")
        self._bar.start()

    def epochs(self, n_before: int, losses: list[float]) -> None:
        """Move the bar on."""
        completed = n_before + len(losses)
        self._bar.update(self._task, completed=completed, loss=f"loss {losses[-1]:.5g}")

    def score(self, score: float) -> None:
        """Show the score."""
        self._bar.update(self._task, score=f"validation score {score:.5g}")

    def halt(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(message, highlight=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()
