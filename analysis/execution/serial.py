"""Executor of this process: one task after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.config.execution import ExecutionConfig
from analysis.execution.task import OnStart, Outcome, Task, TaskGraph, ignore_start
from analysis.execution.threads import one_thread

__all__ = ["SerialExecutor"]


class SerialExecutor:
    """Runs tasks in this process; the reference for the other executors."""

    jobs = 1

    def __init__(self, execution: ExecutionConfig) -> None:
        """Take the settings, none of which concern it."""
        self.on_start: OnStart = ignore_start

    def __enter__(self) -> SerialExecutor:
        """Return the executor; there is nothing to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave; there is nothing to stop."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run tasks and yield each as it ends, with its error or None."""
        graph = TaskGraph(tasks)
        with one_thread():
            while graph:
                task = graph.pop()
                self.on_start(task)
                error = _error_of(task)
                yield task, error
                yield from graph.settle(task, error)


def _error_of(task: Task) -> Exception | None:
    try:
        task.run()
    except Exception as error:
        return error
    return None
