"""What the user chose for the sections, and what each makes of it."""

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
    """Choices; None leaves them to the section.

    Parameters
    ----------
    rows : sequence of str, default=None
    dtypes : sequence of str, default=None
    threads : sequence of int, default=None
    contenders : sequence of str, default=None
        Those installed by default.
    budget : float, default=None
        Seconds for the turns of each row, dtype and number of threads.
    quick : bool, default=False
        A tenth of the epochs and two turns: to see that everything runs, not for its figures.
    """

    rows: Sequence[str] | None = None
    dtypes: Sequence[str] | None = None
    threads: Sequence[int] | None = None
    contenders: Sequence[str] | None = None
    budget: float | None = None
    quick: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What JSON can express."""
        return asdict(self)

    def choose_rows(self, names: Iterable[str]) -> list[str]:
        """Return the chosen ones among these, in their order."""
        return [name for name in names if self.rows is None or name in self.rows]

    def choose_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return the chosen ones among these, shortened for a quick run."""
        chosen = [p for p in problems if self.rows is None or p.name in self.rows]
        return [problem.shortened() for problem in chosen] if self.quick else chosen

    def choose_contenders(self, names: Iterable[str] = ENTRIES) -> list[str]:
        """Return the chosen ones, or those installed, among these."""
        return [
            name
            for name in names
            if (is_installed(name) if self.contenders is None else name in self.contenders)
        ]

    def choose_dtypes(self, usual: Sequence[str] = ("float32",)) -> Sequence[str]:
        """Return the chosen ones, or the usual."""
        return self.dtypes or usual

    def choose_threads(self) -> Sequence[int]:
        """Return the chosen numbers, or one and all."""
        return self.threads or sorted({1, count_processors()})

    def turns(self, budget: float) -> Turns:
        """Return how many turns to take, where a section's usual budget is so many seconds."""
        return QUICK if self.quick else Turns(budget if self.budget is None else self.budget)
