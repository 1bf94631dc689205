"""The record of each epoch."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["History"]

MOST_KEPT = 10_000  # the most recent epochs

COLUMNS = (
    "loss", "validation_loss", "validation_score", "learning_rate", "gradient_norm", "seconds",
)  # fmt: skip


class History:
    """A few numbers for each of the last 10,000 epochs."""

    def __init__(self) -> None:
        self.n_epochs = 0  # in all
        self._columns: dict[str, list[float]] = {name: [] for name in COLUMNS}

    @classmethod
    def of(cls, n_epochs: int, columns: dict[str, list[float]]) -> Self:
        """Return the history of `n_epochs` epochs, for which `as_arrays` gave these columns."""
        history = cls()
        history.n_epochs = n_epochs
        history._columns = {name: columns[name] for name in COLUMNS}
        return history

    def add(self, n_epochs: int, columns: dict[str, list[float]]) -> None:
        """Append some epochs; columns that are not given are NaN."""
        self.n_epochs += n_epochs
        for name, kept in self._columns.items():
            kept += columns.get(name) or [np.nan] * n_epochs
            if len(kept) > 2 * MOST_KEPT:
                del kept[:-MOST_KEPT]

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return columns of one length, each an array; the first is the epoch's number from 1."""
        n = min(self.n_epochs, MOST_KEPT)
        columns = {name: np.array(kept[-n:] if n else []) for name, kept in self._columns.items()}
        return {"epoch": np.arange(n) + 1 + self.n_epochs - n, **columns}

    def last(self) -> dict[str, float]:
        """Return the numbers of the last epoch."""
        return {"epoch": self.n_epochs} | {name: kept[-1] for name, kept in self._columns.items()}
