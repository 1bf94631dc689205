"""Batches of fits on a Dask or Ray cluster, without joblib in between.

joblib's Dask backend does not notice when a task is abandoned or cancelled, as happens to tasks
whose data are lost with a worker, and tasks already on the workers continue after Ctrl-C. Ray's
backend sends the data with each task, and fails when a worker dies.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

from fastbp.cancellation import Cancelled, cancelled_by

__all__ = ["find_cluster"]

NOBODYS = "fastbp: no worker has this"  # name of a Dask resource


def find_cluster(backend: Any, n_jobs: int | None) -> "Cluster | None":
    """Return the cluster that a joblib backend represents, or None if it represents none."""
    name = type(backend).__name__  # by name: importing the class would import Dask or Ray
    if name == "DaskDistributedBackend":
        return DaskCluster(backend, n_jobs)
    return RayCluster(backend, n_jobs) if name == "RayBackend" else None


class Cluster(ABC):
    """The cluster of a joblib backend, and the data already sent there.

    Parameters
    ----------
    backend : joblib.parallel.ParallelBackendBase
    n_jobs : int or None
        As in joblib, but None means all workers.
    """

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        self._backend = backend
        self._n_jobs = -1 if n_jobs is None else n_jobs
        self._there: dict[int, tuple[Any, Any]] = {}  # objects sent, by id, each with its future

    def count_workers(self) -> int:
        """Return how many batches the cluster runs at a time."""
        return int(self._backend.effective_n_jobs(self._n_jobs))

    @abstractmethod
    def call(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[Any, None, None]:
        """Yield the results of ``function(shared, *call)`` on workers, except those that are lost.

        Parameters
        ----------
        function : callable
        shared : sequence
            Sent to each worker once, for this call and later ones.
        calls : sequence of tuple
            In the order in which they are submitted.
        """

    @abstractmethod
    def _put(self, values: list[Any]) -> list[Any]:
        """Send objects to the workers, and return their futures."""

    def _send(self, shared: Sequence[Any]) -> list[Any]:
        """Return the futures of objects, after sending those that are not there yet."""
        new = {id(value): value for value in shared if id(value) not in self._there}
        for (key, value), future in zip(new.items(), self._put(list(new.values())), strict=True):
            self._there[key] = value, future
        return [self._there[id(value)][1] for value in shared]


class DaskCluster(Cluster):
    """A Dask cluster."""

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        super().__init__(backend, n_jobs)
        self._keepers: list[Any] = []

    def call(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[Any, None, None]:
        """Submit all calls at once; the client reports the tasks that are given up."""
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
                        self._keepers.clear()
                    else:
                        yield result
                        task.release()
        finally:
            client.cancel(tasks)

    def _put(self, values: list[Any]) -> list[Any]:
        """Have each worker fetch a copy of the objects, and keep it until the tasks are gone.

        Dask's memory manager drops copies that no task waits for, every two seconds
        (https://distributed.dask.org/en/stable/active_memory_manager.html). So as many tasks as
        there are workers depend on the objects and on a task that never runs.
        """
        from distributed import CancelledError, wait

        client = self._backend.client
        data: list[Any] = client.scatter(values, hash=False)  # waits until there is a worker
        workers = list(client.nthreads())
        never = client.submit(keep, pure=False, resources={NOBODYS: 1})
        self._keepers += [client.submit(keep, never, *data, pure=False) for _ in workers]
        fetched = [
            client.submit(len, data, pure=False, workers=[worker], allow_other_workers=True)
            for worker in workers
        ]
        with suppress(CancelledError):  # the tasks that need lost data report the loss
            wait(fetched)
        return data


def keep(*values: Any) -> None:
    """Do nothing: a task of this function keeps its arguments in memory as long as it waits."""


class RayCluster(Cluster):
    """A Ray cluster, which is started if none is running."""

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        import ray

        super().__init__(backend, n_jobs)
        if not ray.is_initialized():
            ray.init()
        self._interests = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Interest)
        self._interest = self._interests.remote()
        self._is_lost = False

    def call(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[Any, None, None]:
        """Keep `count_workers()` tasks under way; workers read the data from Ray's store."""
        import ray
        from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

        if self._is_lost:  # an earlier call has been stopped
            self._interest, self._is_lost = self._interests.remote(), False
        data = self._send(shared)
        options = {"max_retries": 0} | (self._backend.ray_remote_args or {})
        submit = ray.remote(call_with_stored).options(**options).remote
        left = deque(calls)
        tasks: list[Any] = []
        try:
            while left or tasks:
                while left and len(tasks) < self.count_workers():
                    tasks.append(submit(function, self._interest, data, *left.popleft()))
                done, tasks = ray.wait(tasks)
                try:
                    result = ray.get(done[0])
                except (NodeDiedError, OutOfMemoryError, WorkerCrashedError):
                    continue
                yield result
        finally:
            if tasks:
                self._interest.lose.remote()
                self._is_lost = True

    def _put(self, values: list[Any]) -> list[Any]:
        import ray

        return [ray.put(value) for value in values]


class Interest:
    """A Ray actor that tells tasks when nobody waits for their results any more.

    ``ray.cancel`` does not serve: if the task is just about to start, it may end the process that
    calls it (https://github.com/ray-project/ray/pull/54785), and the Ctrl-C it sends may get lost.
    """

    def __init__(self) -> None:
        self._lost = asyncio.Event()

    async def lose(self) -> None:
        """Let `last` return."""
        self._lost.set()

    async def last(self) -> None:
        """Return once `lose` has been called."""
        await self._lost.wait()


def call_with_stored(
    function: Callable[..., Any], interest: Any, stored: list[Any], *arguments: Any
) -> Any:
    """Call a function in a Ray task, with the stored objects in place of their references."""
    import ray

    with suppress(Cancelled), cancelled_by(Lost(interest)):
        return function(ray.get(stored), *arguments)


class Lost(threading.Event):
    """An event that is set once an `Interest` is lost."""

    EVERY = 0.1  # seconds between two looks at it

    def __init__(self, interest: Any) -> None:
        super().__init__()
        self._lasting = interest.last.remote()
        self._next = 0.0

    def is_set(self) -> bool:
        """Return whether the interest is lost, asking Ray at most once in `EVERY` seconds."""
        import ray

        if not super().is_set() and time.monotonic() >= self._next:
            if ray.wait([self._lasting], timeout=0)[0]:
                self.set()
            self._next = time.monotonic() + self.EVERY
        return super().is_set()


def run_while_wanted(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a Dask task; its training is given up once the task is released."""
    with cancelled_by(Released()):
        return function(*arguments)


class Released(threading.Event):
    """An event that is set once nobody waits any more for the task that created it."""

    def __init__(self) -> None:
        from distributed import get_worker

        super().__init__()
        worker = get_worker()
        self._tasks, self._key = worker.state.tasks, worker.get_current_task()

    def is_set(self) -> bool:
        """Return whether the worker has dropped the task, or it was cancelled."""
        task = self._tasks.get(self._key)
        return task is None or task.state == "cancelled"
