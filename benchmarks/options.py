"""The user's choices, and how sections apply them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.children import count_processors
from benchmarks.contenders import ENTRIES, is_installed
from benchmarks.problems import Problem
from benchmarks.race import QUICK, Turns

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Options:
    """Choices on the command line; None means the section's default.

    Parameters
    ----------
    rows : sequence of str, default=None
    dtypes : sequence of str, default=None
    threads : sequence of int, default=None
    contenders : sequence of str, default=None
        By default, those that are installed.
    budget : float, default=None
        Seconds for the turns of each row, dtype and number of threads.
    quick : bool, default=False
        Whether to run a tenth of the epochs and two turns, only to check that everything runs.
    """

    rows: Sequence[str] | None = None
    dtypes: Sequence[str] | None = None
    threads: Sequence[int] | None = None
    contenders: Sequence[str] | None = None
    budget: float | None = None
    quick: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The choices in a form that JSON can express."""
        return asdict(self)

    def choose_rows(self, names: Iterable[str]) -> list[str]:
        """Return the chosen names among these, in their order."""
        return [name for name in names if self.rows is None or name in self.rows]

    def choose_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return the chosen problems among these, shortened for a quick run."""
        chosen = [p for p in problems if self.rows is None or p.name in self.rows]
        return [problem.shortened() for problem in chosen] if self.quick else chosen

    def choose_contenders(self, names: Iterable[str] = ENTRIES) -> list[str]:
        """Return the chosen contenders among these, or those installed if none were chosen."""
        return [
            name
            for name in names
            if (is_installed(name) if self.contenders is None else name in self.contenders)
        ]

    def choose_dtypes(self, usual: Sequence[str] = ("float32",)) -> Sequence[str]:
        """Return the chosen dtypes, or the usual ones."""
        return self.dtypes or usual

    def choose_threads(self) -> Sequence[int]:
        """Return the chosen numbers of threads, or one and the number of processors."""
        return self.threads or sorted({1, count_processors()})

    def turns(self, budget: float) -> Turns:
        """Return how many turns to take, given a section's usual budget in seconds."""
        return QUICK if self.quick else Turns(budget if self.budget is None else self.budget)
