"""Batches of fits on a cluster of Dask's or Ray's, without joblib in between.

joblib's own way of waiting for Dask does not hear of a task that is given up or cancelled, as those
are whose data are lost with a worker; and what runs on the workers goes on there after Ctrl-C.
Ray's backend sends the data with each task, and a worker that dies ends it.
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

NOBODYS = "fastbp: no worker has this"  # a resource of Dask's


def find_cluster(backend: Any, n_jobs: int | None) -> "Cluster | None":
    """Return the cluster that a backend of joblib's stands for, if it is one."""
    name = type(backend).__name__  # its import takes Dask's or Ray's time
    if name == "DaskDistributedBackend":
        return DaskCluster(backend, n_jobs)
    return RayCluster(backend, n_jobs) if name == "RayBackend" else None


class Cluster(ABC):
    """The cluster of a backend of joblib's, and what has been sent there.

    Parameters
    ----------
    backend : joblib.parallel.ParallelBackendBase
    n_jobs : int or None
        As joblib's. None is all workers.
    """

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        self._backend = backend
        self._n_jobs = -1 if n_jobs is None else n_jobs
        self._there: dict[int, tuple[Any, Any]] = {}  # what is there, by its id, with its future

    def count_workers(self) -> int:
        """Return how many batches it does at a time."""
        return int(self._backend.effective_n_jobs(self._n_jobs))

    @abstractmethod
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

    @abstractmethod
    def _put(self, values: list[Any]) -> list[Any]:
        """Send objects, and return their futures."""

    def _send(self, shared: Sequence[Any]) -> list[Any]:
        """Return the futures of objects, which each worker gets a copy of."""
        new = {id(value): value for value in shared if id(value) not in self._there}
        for (key, value), future in zip(new.items(), self._put(list(new.values())), strict=True):
            self._there[key] = value, future
        return [self._there[id(value)][1] for value in shared]


class DaskCluster(Cluster):
    """Dask's."""

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        super().__init__(backend, n_jobs)
        self._keepers: list[Any] = []

    def call(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[Any, None, None]:
        """Submit all; what is given up is heard of by the client."""
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
        """Have each worker fetch them, and keep them until nothing waits for them any more.

        Copies that no task waits for are dropped by Dask's memory manager, every two seconds
        (https://distributed.dask.org/en/stable/active_memory_manager.html). So tasks wait, as many
        as there are workers, for one that never runs.
        """
        from distributed import CancelledError, wait

        client = self._backend.client
        data: list[Any] = client.scatter(values, hash=False)  # which waits for a worker
        workers = list(client.nthreads())
        never = client.submit(keep, pure=False, resources={NOBODYS: 1})
        self._keepers += [client.submit(keep, never, *data, pure=False) for _ in workers]
        fetched = [
            client.submit(len, data, pure=False, workers=[worker], allow_other_workers=True)
            for worker in workers
        ]
        with suppress(CancelledError):  # what is lost is heard of by those who need it
            wait(fetched)
        return data


def keep(*values: Any) -> None:
    """Do nothing, in a task that has values kept as long as it waits."""


class RayCluster(Cluster):
    """Ray's, which is started where none is."""

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
        """Keep so many tasks under way, for whose data workers look in Ray's store."""
        import ray
        from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

        if self._is_lost:  # in a call that failed
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
    """An actor of Ray's that tasks hear from once nobody waits for them any more.

    ``ray.cancel`` is no way: where the task is just about to start, it may end the process that
    calls it (https://github.com/ray-project/ray/pull/54785), and the Ctrl-C it sends may get lost.
    """

    def __init__(self) -> None:
        self._lost = asyncio.Event()

    async def lose(self) -> None:
        """Let `last` return."""
        self._lost.set()

    async def last(self) -> None:
        """Return once it is lost."""
        await self._lost.wait()


def call_with_stored(
    function: Callable[..., Any], interest: Any, stored: list[Any], *arguments: Any
) -> Any:
    """Call a function in a task of Ray's, with what the store has in place of references."""
    import ray

    with suppress(Cancelled), cancelled_by(Lost(interest)):
        return function(ray.get(stored), *arguments)


class Lost(threading.Event):
    """Set once an `Interest` is lost."""

    EVERY = 0.1  # seconds

    def __init__(self, interest: Any) -> None:
        super().__init__()
        self._lasting = interest.last.remote()
        self._next = 0.0

    def is_set(self) -> bool:
        """Tell whether it is lost, from a look at it every now and then."""
        import ray

        if not super().is_set() and time.monotonic() >= self._next:
            if ray.wait([self._lasting], timeout=0)[0]:
                self.set()
            self._next = time.monotonic() + self.EVERY
        return super().is_set()


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
        """Tell whether that is so."""
        task = self._tasks.get(self._key)
        return task is None or task.state == "cancelled"
