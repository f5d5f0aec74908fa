"""Tasks in processes of this machine, one thread each."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

from loky import ProcessPoolExecutor

from analysis.executors.tasks import Graph, Outcome, Task
from analysis.executors.threads import use_one_thread
from analysis.interruption import Incomplete

__all__ = ["ProcessExecutor", "end_with"]

_WATCH_SECONDS = 0.2


class ProcessExecutor:
    """Runs tasks in ``jobs`` processes.

    If one dies, what all were doing is done again, one task after the other, so that the one that kills its process is
    found, fails alone, and the rest goes on.

    Parameters
    ----------
    jobs : int, >= 1
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __enter__(self) -> ProcessExecutor:
        """Begin; processes start with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """End; processes have ended with the last tasks."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, and yield each as it is done, with the error that it raised if it did.

        The error of a task that killed its process, as happens when memory is short, is ``Incomplete``.
        """
        graph = Graph(tasks)
        ready = deque(graph.first())
        if not tasks:
            return
        pool = _Pool(min(self.jobs, len(tasks)))
        try:
            while ready or pool.running:
                while ready and len(pool.running) < pool.jobs:
                    pool.submit(ready.popleft())
                for task, error in pool.wait():
                    yield task, error
                    freed, lost = graph.settle(task, error)
                    ready.extend(freed)
                    yield from lost
        finally:
            pool.close()


class _Pool:
    """Processes, no more tasks at a time than there are of them."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        # loky replaces a process that holds on to memory, and says so; the task is done all the same
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        self._executor = self._start()
        self.running: dict[Future[Any], Task] = {}

    def submit(self, task: Task) -> None:
        """Give a task to a process that is free."""
        try:
            self.running[self._executor.submit(task.function, task.argument)] = task
        except BrokenExecutor:  # one died while it was idle
            self._restart()
            self.submit(task)

    def wait(self) -> list[Outcome]:
        """Return the tasks that have ended, one at least."""
        ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenExecutor) for future in ended):
            return self._one_by_one()
        return [(self.running.pop(future), _plain(future.exception())) for future in ended]

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=True, kill_workers=True)

    def _one_by_one(self) -> list[Outcome]:
        """Do again what was being done when a process died, and find out which task killed it."""
        self.running, suspects = {}, list(self.running.values())
        outcomes: list[Outcome] = []
        self._restart()
        for task in suspects:
            error = self._executor.submit(task.function, task.argument).exception()
            if isinstance(error, BrokenExecutor):
                self._restart()
                error = Incomplete(
                    f"{task.key} killed its process twice, perhaps for lack of memory. What else is done is kept: give "
                    "the same command again, with a smaller --jobs."
                )
            outcomes.append((task, _plain(error)))
        return outcomes

    def _restart(self) -> None:
        self.close()
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(max_workers=self.jobs, initializer=_start_worker, initargs=(os.getpid(),))


def _plain(error: BaseException | None) -> Exception | None:
    """Return an error of a task; raise what is none, such as a request to stop."""
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


def _start_worker(parent: int) -> None:
    """Use one thread, leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_thread()
    end_with(parent)


def end_with(parent: int) -> None:
    """End this process when another, that started it, has died."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
