"""Where pieces of work run: here, or in processes of their own; on one thread each, so that no number depends on it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits

__all__ = ["completed", "count_processors"]

Task = TypeVar("Task")

_WATCH_SECONDS = 0.2


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def completed(
    function: Callable[[Task], Any], tasks: Sequence[Task], *, jobs: int
) -> Iterator[tuple[Task, Exception | None]]:
    """Call a function on each task, and yield each as it is done, with the error that it raised if it did.

    What tasks find out they leave on disk. The order is that of the tasks, as far as one waits for another.

    Parameters
    ----------
    function : callable
        Of one task; of a module, so that other processes can import it.
    tasks : sequence
    jobs : int
        Processes; 1 runs everything here.

    Raises
    ------
    RuntimeError
        If a process dies, as it does when memory is short.
    """
    if jobs == 1:
        with _one_thread():
            for task in tasks:
                yield task, _error_of(function, task)
    elif tasks:
        yield from _completed_elsewhere(function, tasks, min(jobs, len(tasks)))


def _completed_elsewhere(
    function: Callable[[Task], Any], tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[Task, Exception | None]]:
    executor = ProcessPoolExecutor(max_workers=jobs, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        futures: dict[Future[Any], Task] = {executor.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                raise RuntimeError(
                    "A process died in the middle of its work, perhaps for lack of memory. What is done is kept: give "
                    "the same command again, with a smaller --jobs."
                ) from error
            if error is not None and not isinstance(error, Exception):
                raise error
            yield futures[future], error
    finally:
        executor.shutdown(wait=True, kill_workers=True)


def _error_of(function: Callable[[Task], Any], task: Task) -> Exception | None:
    try:
        function(task)
    except Exception as error:
        return error
    return None


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _start_worker(parent: int) -> None:
    """Use one thread, leave Ctrl-C to the parent, and end when it does."""
    from repsim.learning import keep_freed_memory

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threadpool_limits(1)
    keep_freed_memory()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
