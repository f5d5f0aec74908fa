"""Executors by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pkgutil import resolve_name
from typing import Protocol

from analysis.config.execution import EXECUTORS, ExecutionConfig
from analysis.execution.task import OnStart, Outcome, Task
from analysis.execution.threads import count_processors

__all__ = ["EXECUTORS", "Executor", "make_executor"]

_WORTH_PROCESSES = 15.0  # seconds of work; starting processes takes a few


class Executor(Protocol):
    """Runs tasks somewhere. Inside its ``with`` block, several sets of tasks share one cluster.

    Attributes
    ----------
    jobs : int
        How many tasks run together; 1 if an executor does not say so. The remaining time is estimated from it.
    on_start : callable
        Set by ``run_tasks``. Called with each task that starts, or later with the seconds that it has run too. An
        executor that does not call it gets coarser estimates of the remaining time.
    """

    jobs: int
    on_start: OnStart

    def __enter__(self) -> Executor:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """Stop."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks, each after those that it needs, and yield each as it ends, with its error or None."""


def make_executor(execution: ExecutionConfig | None = None, *, cost: float = float("inf")) -> Executor:
    """Return the executor that a configuration names.

    If it names none: Dask if it has a scheduler, processes if the work takes long enough, else this process. ``cost``
    is about how many seconds the work takes on one core.
    """
    execution = execution or ExecutionConfig()
    name, jobs, scheduler = execution.executor, execution.jobs, execution.scheduler
    if scheduler is not None and name not in (None, "dask"):
        raise ValueError(f"A scheduler belongs to the executor dask, not to {name}. Leave one of the two out.")
    if scheduler is not None and jobs is not None:
        raise ValueError(f"The cluster of {scheduler} decides how many workers there are. Leave jobs out.")
    if name is None and scheduler is not None:
        name = "dask"
    elif name is None:
        name = "processes" if (jobs or count_processors()) > 1 and cost >= _WORTH_PROCESSES else "serial"
    entry = EXECUTORS[name]
    executor: Executor = (resolve_name(entry) if isinstance(entry, str) else entry)(execution)
    return executor
