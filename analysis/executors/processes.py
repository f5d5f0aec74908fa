"""Tasks in processes of this machine, one thread each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

from loky import ProcessPoolExecutor

from analysis.executors.tasks import Graph, Outcome, Task
from analysis.executors.threads import use_one_thread
from analysis.interruption import Incomplete

__all__ = ["ProcessExecutor", "end_with"]

_WATCH_SECONDS = 0.2
_MOST_LOSSES = 3


class ProcessExecutor:
    """Runs tasks in ``jobs`` processes; if one dies, what it was doing is done again in another.

    Parameters
    ----------
    jobs : int, >= 1
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, and yield each as it is done, with the error that it raised if it did.

        Raises
        ------
        Incomplete
            If processes die again and again, as they do when memory is short.
        """
        graph = Graph(tasks)
        if not tasks:
            return
        pool = _Pool(min(self.jobs, len(tasks)))
        try:
            for task in graph.first():
                pool.submit(task)
            while pool.running:
                for task, error in pool.wait():
                    yield task, error
                    freed, lost = graph.settle(task, error)
                    for each in freed:
                        pool.submit(each)
                    yield from lost
        finally:
            pool.close()


class _Pool:
    """Processes that are replaced when they die, a few times."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._losses = jobs, 0
        self._executor = self._start()
        self.running: dict[Future[Any], Task] = {}

    def submit(self, task: Task) -> None:
        """Give a task to whichever process is free first."""
        try:
            self.running[self._executor.submit(task.function, task.argument)] = task
        except BrokenExecutor as error:
            self._replace(error)
            self.submit(task)

    def wait(self) -> list[Outcome]:
        """Return the tasks that have ended; none if processes died and everything begins anew."""
        ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
        outcomes: list[Outcome] = []
        for future in ended:
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                self._replace(error)
                break
            if error is not None and not isinstance(error, Exception):
                raise error
            outcomes.append((self.running.pop(future), error))
        return outcomes

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=True, kill_workers=True)

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(max_workers=self._jobs, initializer=_start_worker, initargs=(os.getpid(),))

    def _replace(self, error: BrokenExecutor) -> None:
        self._losses += 1
        if self._losses > _MOST_LOSSES:
            raise Incomplete(
                "Processes died in the middle of their work, again and again, perhaps for lack of memory. What is done "
                "is kept: give the same command again, with a smaller --jobs."
            ) from error
        self.close()
        tasks, self.running = list(self.running.values()), {}
        self._executor = self._start()
        for task in tasks:
            self.submit(task)


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
