"""Batches of fits on a Dask cluster, without joblib in between.

joblib's own way of waiting for Dask does not hear of a task that is given up or cancelled, as those
are whose data are lost with a worker; and what runs on the workers goes on there after Ctrl-C.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from fastbp.threads import cancelled_by

__all__ = ["Cluster"]


class Cluster:
    """The cluster of a backend of joblib's, and what has been sent there.

    Parameters
    ----------
    backend : joblib._dask.DaskDistributedBackend
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._there: dict[int, tuple[Any, Any]] = {}  # what is there, by its id, with its future

    @staticmethod
    def is_meant_by(backend: Any) -> bool:
        """Tell whether a backend of joblib's is that of a Dask cluster."""
        return type(backend).__name__ == "DaskDistributedBackend"  # its import takes Dask's time

    def call(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[Any, None, None]:
        """Yield what ``function(shared, *call)`` returns on a worker, but not where that is lost.

        Parameters
        ----------
        function : callable
        shared : sequence
            Sent to each worker once, for this call and later ones.
        calls : sequence of tuple
            In their order.
        """
        from distributed import CancelledError, KilledWorker, as_completed

        client = self._backend.client
        data = self._send(shared)
        tasks = [
            client.submit(
                run_while_wanted, function, data, *call, pure=False, **self._backend.submit_kwargs
            )
            for call in calls
        ]
        try:
            with self._backend.retrieval_context():
                for task in as_completed(tasks):
                    try:
                        result = task.result()
                    except (CancelledError, KilledWorker):
                        self._there.clear()  # the data may be lost, too
                    else:
                        yield result
                        task.release()
        finally:
            client.cancel(tasks)

    def _send(self, shared: Sequence[Any]) -> list[Any]:
        """Return the futures of objects, which each worker gets a copy of."""
        new = {id(value): value for value in shared if id(value) not in self._there}
        futures = self._backend.client.scatter(list(new.values()), broadcast=True, hash=False)
        for (key, value), future in zip(new.items(), futures, strict=True):
            self._there[key] = value, future
        return [self._there[id(value)][1] for value in shared]


def run_while_wanted(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a task of Dask's; what it trains is given up once the task is."""
    with cancelled_by(Released()):
        return function(*arguments)


class Released(threading.Event):
    """Set once nobody waits any more for the task that made it."""

    def __init__(self) -> None:
        from distributed import get_worker

        super().__init__()
        worker = get_worker()
        self._tasks, self._key = worker.state.tasks, worker.get_current_task()

    def is_set(self) -> bool:
        """Tell so."""
        task = self._tasks.get(self._key)
        return task is None or task.state == "cancelled"
