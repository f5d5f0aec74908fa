"""Tasks on the workers of a Dask cluster: one of this machine, one whose scheduler runs somewhere, one in a queue."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from analysis.execution.cluster import cluster_of, read_cluster_file
from analysis.execution.interruption import Incomplete
from analysis.execution.task import NotBegun, Outcome, Task, pack, perform
from analysis.execution.threads import use_one_thread
from analysis.execution.worker import end_with

try:
    import distributed
except ImportError:
    raise ValueError(
        "The executor dask needs the package distributed, which is not installed: pip install 'repsim-sg[cluster]'."
    ) from None

__all__ = ["DaskExecutor"]

_CONNECT_SECONDS = 20
_SECONDS_BETWEEN_WORDS = 60


class DaskExecutor:
    """Runs tasks on a Dask cluster; what a lost worker was doing is done again by another.

    Only paths and settings travel: the workers read and write the files, and need to see them under the same paths, and
    to have repsim installed. A worker has one thread; the scheduler needs to see nothing.

    Parameters
    ----------
    jobs : int, >= 1
        Workers of a cluster of this machine, which is started if no scheduler is given.
    scheduler : str, optional
        The address of a scheduler, such as ``tcp://10.0.0.1:8786``, or the path of a TOML file that describes a cluster
        to start (see ``cluster_of``).
    say : callable, optional
        Hears what there is to wait for.

    Raises
    ------
    ValueError
        If there is no scheduler at the address, or the file does not describe a cluster.
    """

    def __init__(
        self, jobs: int = 1, scheduler: str | None = None, say: Callable[[str], None] = lambda message: None
    ) -> None:
        self.jobs, self.scheduler, self.say = jobs, scheduler, say
        self._client: distributed.Client | None = None
        self._open = ExitStack()
        if scheduler is not None and Path(scheduler).is_file():
            read_cluster_file(Path(scheduler))
        elif scheduler is not None:
            with _quiet(), _connected(scheduler):
                pass  # there is one

    def __enter__(self) -> DaskExecutor:
        """Connect to the cluster, or start it."""
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            self._client = stack.enter_context(self._connected())
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the cluster, and end it if it was started here."""
        self._open.close()
        self._client = None

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, and yield each as it is done, with the error that it raised if it did.

        The error of a task that killed one worker after another is ``Incomplete``.

        Raises
        ------
        ValueError
            If a worker has several threads, which tasks cannot share.
        Incomplete
            If the scheduler is lost.
        """
        if not tasks:
            return
        if self._client is None:
            with self:
                yield from self.completed(tasks)
            return
        self._await_workers(self._client)
        try:
            yield from _outcomes(self._client, tasks)
        except (CancelledError, distributed.client.FutureCancelledError) as error:
            raise _lost(self.scheduler) from error

    def _await_workers(self, client: distributed.Client) -> None:
        """Wait for a first worker, which may take as long as a queue, and say so every minute."""
        while not (threads := client.nthreads()):
            where = "the cluster" if self.scheduler is None else self.scheduler
            self.say(f"No worker of {where} has started yet; waiting for the first.")
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=_SECONDS_BETWEEN_WORDS)
        if max(threads.values()) > 1:
            raise ValueError(
                f"A worker has {max(threads.values())} threads; tasks need one each. Start workers with --nthreads 1, "
                "as many as there are cores."
            )

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
    """A worker of this machine leaves Ctrl-C to the process that started it, and ends with it."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def setup(self, worker: distributed.Worker) -> None:
        """Prepare a worker that has started."""
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


def _outcomes(client: distributed.Client, tasks: Sequence[Task]) -> Iterator[Outcome]:
    token = uuid.uuid4().hex[:8]  # results of others, on a scheduler that many use, are not taken for ours
    futures: dict[str, distributed.Future] = {}
    for task in tasks:
        needed = [futures[key] for key in task.after if key in futures]
        # as bytes, which the scheduler, that may see no files, does not look into
        futures[task.key] = client.submit(_perform, pack(task), needed, key=f"{task.key}-{token}", pure=False)
    by_key = {futures[task.key].key: task for task in tasks}
    for future in distributed.as_completed(list(futures.values())):
        task = by_key[future.key]
        yield task, _error_of(future, [futures[key] for key in task.after if key in futures], task)


def _perform(call: bytes, needed: list[Any]) -> None:
    use_one_thread()
    perform(call)


def _error_of(future: distributed.Future, needed: Sequence[distributed.Future], task: Task) -> Exception | None:
    """Return the error of a task that has ended; that of one which it needs is not its own."""
    if future.status == "finished":
        return None
    if future.status != "error":
        raise CancelledError(future.key)
    error = future.exception()
    if any(each.status == "error" for each in needed):
        return NotBegun(f"it needs a task which failed: {error}")
    if isinstance(error, distributed.scheduler.KilledWorker):
        return Incomplete(
            f"{task.key} killed one worker after another, perhaps for lack of memory. What else is done is kept: give "
            "the same command again, with workers that have more."
        )
    return error if isinstance(error, Exception) else Incomplete(str(error))


def _lost(scheduler: str | None) -> Incomplete:
    where = "of the cluster" if scheduler is None else f"at {scheduler}"
    return Incomplete(
        f"The scheduler {where} was lost. What is done is kept: start it again, and give the same command."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of the cluster, which speaks of every lost connection, off the terminal."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
