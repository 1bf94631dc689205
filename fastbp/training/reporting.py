"""Progress reports of a fit: a bar in a terminal, or a line for each epoch."""

import sys
from typing import Any

__all__ = ["is_terminal", "make_bar", "make_reporter"]


def make_reporter(verbose: bool | int, n_epochs: int) -> "Lines | None":
    """Return the reporter for a fit of at most `n_epochs` epochs; None if it is not verbose.

    1 is a bar if the output is a terminal, else lines; 2 and more are lines.
    """
    if not verbose:
        return None
    return Bar(n_epochs) if verbose < 2 and is_terminal() else Lines()


def is_terminal() -> bool:
    """Return whether the output is a terminal; sys.stdout may be None, or not a file."""
    return bool(getattr(sys.stdout, "isatty", bool)())


def make_bar(words: str, *columns: str, **options: Any) -> Any:
    """Return rich's bar that counts `words` and shows the time left, before further columns."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*shown, *columns, **options)


class Lines:
    """A line for each epoch, worded as in scikit-learn."""

    def epochs(self, n_before: int, losses: list[float]) -> None:
        """Report epochs that have ended."""
        for n_iter, loss in enumerate(losses, n_before + 1):
            print(f"Iteration {n_iter}, loss = {loss:.8f}")

    def score(self, score: float) -> None:
        """Report the validation score of the epoch that has ended."""
        print(f"Validation score: {score:f}")

    def halt(self, message: str) -> None:
        """Report that training has halted, and what happens next."""
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
        """Advance the bar."""
        completed = n_before + len(losses)
        self._bar.update(self._task, completed=completed, loss=f"loss {losses[-1]:.5g}")

    def score(self, score: float) -> None:
        """Show the score."""
        self._bar.update(self._task, score=f"validation score {score:.5g}")

    def halt(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(message, highlight=False)

    def close(self) -> None:
        """Stop updating the bar."""
        self._bar.stop()
