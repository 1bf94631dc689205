"""Progress of a search if `verbose` is set: a bar in a terminal, occasional lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

from fastbp.training.reporting import is_terminal, make_bar

__all__ = ["Progress"]

SECONDS = 10.0  # least time between two lines


class Progress:
    """Counts fits as they are done.

    Parameters
    ----------
    total : int
    verbose : int
        0 for silence.
    """

    def __init__(self, total: int, verbose: int) -> None:
        self.total, self.verbose = total, verbose
        self.done = 0
        self._bar: Any = None
        self._task: Any = None
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self.verbose and is_terminal():
            self._bar = make_bar("fits", transient=True)
            try:
                self._bar.start()
                self._task = self._bar.add_task("fits", total=self.total)
            except BaseException:
                self._bar.stop()
                raise
        return self

    def advance(self) -> None:
        """Count one more fit."""
        self.done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self.verbose and time.monotonic() - self._printed > SECONDS:
            self._printed = time.monotonic()
            print(f"{self.done} of {self.total} fits, {self._printed - self._began:.0f} s")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.verbose:
            seconds = time.monotonic() - self._began
            print(f"{self.done} of {self.total} fits in {seconds:.1f} s")
