"""Batches of fits, which are done by workers of another backend, in processes or on a cluster."""

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

# Of each fit its number, its result or the error to raise, and what its next round goes on from;
# and how many were left to scikit-learn, by the reason.
Results = tuple[list[tuple[int, dict[str, Any] | Exception, Kept | None]], Counter[str]]


def cut(fits: Sequence[Fit], n_batches: int) -> list[list[int]]:
    """Cut fits, by their numbers, into batches of about the same work, the data of each the same.

    Returns
    -------
    list of list of int
        The largest first.
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
    """Do some fits in a worker of another backend, as far as nobody cancels them.

    The configuration is scikit-learn's, and the filters are those of warnings, of the user's
    process.
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
            except Exception as error:  # a result, lest it be taken for a worker's that is lost
                error.add_note(traceback.format_exc())  # which is not sent along
                results.append((numbers[k], error, None))
                break
    return results, evaluator.left


class BatchError(Exception):
    """A batch whose last fit raised an error.

    joblib hears of it from the worker, and hands out no more batches. Where it is stopped from here
    while it hands one out, a thread of loky's fails to find that one and prints its own error.
    """

    def __init__(self, results: Results) -> None:
        super().__init__(results)
        self.results = results


def raise_failed(function: Callable[..., Results], *arguments: Any) -> Results:
    """Do a batch in a worker of joblib's; raise `BatchError` where a fit has raised an error."""
    results = function(*arguments)
    fits, _ = results
    if fits and isinstance(fits[-1][1], Exception):
        raise BatchError(results)
    return results
