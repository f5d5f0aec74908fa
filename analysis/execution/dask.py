"""Executor of a Dask cluster: on this machine, at the address of a scheduler, or in the queue of a computing centre."""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from analysis.config.execution import ExecutionConfig
from analysis.execution.cluster import cluster_of, read_cluster_file
from analysis.execution.interruption import Incomplete
from analysis.execution.progress import reporter_of
from analysis.execution.task import NotStarted, OnStart, Outcome, Task, TaskGraph, ignore_start, pack, perform
from analysis.execution.threads import count_processors, use_one_thread
from analysis.execution.worker import end_with

try:
    import distributed
except ImportError:
    raise ValueError(
        "The executor dask needs the package distributed, which is not installed: pip install 'repsim-sg[cluster]'."
    ) from None

__all__ = ["DaskExecutor"]

_CONNECT_SECONDS = 20
_SECONDS_BETWEEN_MESSAGES = 60


class DaskExecutor:
    """Runs tasks on a Dask cluster; the task of a lost worker is run again by another.

    Only paths and settings travel. The workers read and write the files: they must see them under the same paths and
    have repsim installed. A worker has one thread. The scheduler needs no access to files.

    Without a scheduler, a cluster is started on this machine, by default with one worker for each processor. The
    scheduler may be the path of a TOML file that describes a cluster to start (see ``cluster_of``).
    """

    def __init__(self, execution: ExecutionConfig) -> None:
        self.jobs = execution.jobs or count_processors()
        self.scheduler, self.say = execution.scheduler, reporter_of(execution.progress).say
        self.on_start: OnStart = ignore_start
        self._client: distributed.Client | None = None
        self._open = ExitStack()
        if self.scheduler is not None and Path(self.scheduler).is_file():
            read_cluster_file(Path(self.scheduler))
        elif self.scheduler is not None:
            with _quiet(), _connected(self.scheduler):
                pass  # it answers

    def __enter__(self) -> DaskExecutor:
        """Connect to the cluster or start it."""
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            self._client = stack.enter_context(self._connected())
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect, and stop the cluster if it was started here."""
        self._open.close()
        self._client = None

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks and yield each as it ends, with its error or None; ``Incomplete`` if the scheduler is lost."""
        if not tasks:
            return
        if self._client is None:
            with self:
                yield from self.completed(tasks)
            return
        self._await_workers(self._client)
        try:
            for task, error, seconds in _outcomes(self._client, tasks):
                if seconds is not None:
                    self.on_start(task, seconds)
                yield task, error
        except (CancelledError, distributed.client.FutureCancelledError) as error:
            raise _lost(self.scheduler) from error

    def _await_workers(self, client: distributed.Client) -> None:
        """Wait for the first worker, which may take as long as the queue, and report it every minute."""
        while not (threads := client.nthreads()):
            where = "the cluster" if self.scheduler is None else self.scheduler
            self.say(f"No worker of {where} has started yet; waiting for the first.")
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=_SECONDS_BETWEEN_MESSAGES)
        if max(threads.values()) > 1:
            raise ValueError(
                f"A worker has {max(threads.values())} threads; tasks need one each. Start workers with --nthreads 1, "
                "as many as there are cores."
            )
        if self.scheduler is not None:
            self.jobs = len(threads)

    @contextmanager
    def _connected(self) -> Iterator[distributed.Client]:
        if self.scheduler is not None and not Path(self.scheduler).is_file():
            with _connected(self.scheduler) as client:
                yield client
            return
        with self._cluster() as cluster, distributed.Client(cluster, timeout=_CONNECT_SECONDS) as client:
            yield client

    def _cluster(self) -> Any:
        if self.scheduler is not None:
            return cluster_of(Path(self.scheduler), self.say)
        return distributed.LocalCluster(
            n_workers=self.jobs,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            plugins=(_LocalWorker(os.getpid()),),
            host="127.0.0.1",
        )


class _LocalWorker(distributed.WorkerPlugin):
    """Lets a worker of this machine ignore Ctrl-C and end with the process that started it."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def setup(self, worker: distributed.Worker) -> None:
        """Set up a worker that has started."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with(self.parent)


@contextmanager
def _connected(address: str) -> Iterator[distributed.Client]:
    try:
        client = distributed.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no scheduler at '{address}', nor a file of that name. Give the address that dask scheduler "
            "printed, such as tcp://10.0.0.1:8786, or a TOML file that describes a cluster."
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=_CONNECT_SECONDS)


def _outcomes(
    client: distributed.Client, tasks: Sequence[Task]
) -> Iterator[tuple[Task, Exception | None, float | None]]:
    """Run tasks and yield each as it ends, with its error or None, and the seconds that it took on its worker."""
    graph = TaskGraph(tasks)
    token = uuid.uuid4().hex[:8]  # a scheduler with several users must not take their results for these
    futures: list[distributed.Future] = []
    for number, task in enumerate(tasks):
        needed = [futures[each] for each in sorted(graph.needed(number))]
        # packed as bytes, because the scheduler cannot import what tasks are made of
        options = {"key": f"{task.key}-{number}-{token}", "pure": False, "priority": graph.seconds[number]}
        futures.append(client.submit(_perform, pack(task), needed, **options))
    by_key = {future.key: number for number, future in enumerate(futures)}
    for future, seconds in distributed.as_completed(futures, with_results=True, raise_errors=False):
        number = by_key[future.key]
        error = _error_of(future, [futures[each] for each in graph.needed(number)], tasks[number])
        yield tasks[number], error, seconds if error is None else None


def _perform(packed: bytes, needed: list[Any]) -> float:
    """Run a task, and return how many seconds it took."""
    use_one_thread()
    started = time.monotonic()
    perform(packed)
    return time.monotonic() - started


def _error_of(future: distributed.Future, needed: Sequence[distributed.Future], task: Task) -> Exception | None:
    """Return the error of a task that has ended; ``NotStarted`` if a task that it needs failed."""
    if future.status == "finished":
        return None
    if future.status != "error":
        raise CancelledError(future.key)
    error = future.exception()
    if any(each.status == "error" for each in needed):
        return NotStarted(f"it needs a task that failed: {error}")
    if isinstance(error, distributed.scheduler.KilledWorker):
        return Incomplete(
            f"Several workers died while they ran {task.key}, perhaps for lack of memory. All other results are kept: "
            "give the same command again, with workers that have more memory."
        )
    return error if isinstance(error, Exception) else Incomplete(str(error))


def _lost(scheduler: str | None) -> Incomplete:
    where = "of the cluster" if scheduler is None else f"at {scheduler}"
    return Incomplete(
        f"The scheduler {where} was lost. Finished tasks are kept: start it again, and give the same command."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the log of the cluster, which reports every lost connection."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
