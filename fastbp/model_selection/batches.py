"""Batches of fits for workers of another backend, in processes or on a cluster."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sklearn import config_context

from fastbp.cancellation import Cancelled, raise_if_cancelled
from fastbp.model_selection.evaluation import Evaluator
from fastbp.model_selection.families import do_in_families
from fastbp.model_selection.fits import Fit, add_training_state, group_by_data, receive
from fastbp.model_selection.standing import Kept

__all__ = ["BatchError", "Results", "cut", "evaluate_batch", "raise_failed"]

# For each fit: its number, its result or the error to raise, and the state that its next round
# continues from. Then how many fits were left to scikit-learn, by reason.
Results = tuple[list[tuple[int, dict[str, Any] | Exception, Kept | None]], Counter[str]]


def cut(fits: Sequence[Fit], n_batches: int) -> list[list[int]]:
    """Divide fits into batches of about equal work, each on the same data.

    Returns
    -------
    list of list of int
        The numbers of the fits in each batch, the largest batch first.
    """
    groups = group_by_data(fits)
    each = max(1, round(n_batches / len(groups)))
    batches = []
    for group in groups:
        bins: list[tuple[float, list[int]]] = [(0.0, []) for _ in range(min(each, len(group)))]
        for i in group:
            at = min(range(len(bins)), key=lambda b: bins[b][0])
            bins[at] = (bins[at][0] + fits[i].cost(), [*bins[at][1], i])
        batches += bins
    return [batch for _, batch in sorted(batches, key=lambda batch: -batch[0])]


def evaluate_batch(
    shared: Sequence[Any],
    sent: list[tuple[int, Fit]],
    config: dict[str, Any],
    filters: list[Any],
) -> Results:
    """Run some fits in a worker of another backend, until all are done or they are cancelled.

    `config` is scikit-learn's configuration in the user's process, `filters` its warning filters.
    """
    evaluator = Evaluator()
    shared = receive(shared)
    numbers, fits = [i for i, _ in sent], [fit.put_together(shared) for _, fit in sent]
    evaluator.expect(fits)
    results: list[tuple[int, dict[str, Any] | Exception, Kept | None]] = []

    def done(k: int, result: dict[str, Any]) -> None:
        results.append((numbers[k], add_training_state(result), fits[k].kept))

    with config_context(**config), warnings.catch_warnings(), suppress(Cancelled):
        warnings.filters[:] = filters  # type: ignore[index]
        others, is_interrupted = do_in_families(evaluator, fits, 1, done)
        if is_interrupted:
            raise KeyboardInterrupt
        for k in others:
            raise_if_cancelled()
            try:
                done(k, evaluator.evaluate(fits[k]))
            except Exception as error:  # returned: if raised, it might look like a lost worker
                error.add_note(traceback.format_exc())  # pickling drops the traceback itself
                results.append((numbers[k], error, None))
                break
    return results, evaluator.left


class BatchError(Exception):
    """A batch whose last fit raised an error.

    Raised in the worker, it makes joblib stop handing out batches. If joblib were instead stopped
    from this process while it hands out a batch, a thread of loky's would fail to find that batch
    and print an error of its own.
    """

    def __init__(self, results: Results) -> None:
        super().__init__(results)
        self.results = results


def raise_failed(function: Callable[..., Results], *arguments: Any) -> Results:
    """Run a batch in a joblib worker; raise `BatchError` if one of its fits raised an error."""
    results = function(*arguments)
    fits, _ = results
    if fits and isinstance(fits[-1][1], Exception):
        raise BatchError(results)
    return results
