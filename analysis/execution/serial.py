"""One task after the other, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from analysis.execution.task import Graph, Outcome, Task
from analysis.execution.threads import one_thread

__all__ = ["SerialExecutor"]


class SerialExecutor:
    """Runs everything here; what the others do is compared with this one."""

    def __enter__(self) -> SerialExecutor:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, and yield each as it is done, with the error that it raised if it did."""
        graph = Graph(tasks)
        ready = deque(graph.first())
        with one_thread():
            while ready:
                task = ready.popleft()
                error = _error_of(task)
                yield task, error
                freed, lost = graph.settle(task, error)
                ready.extend(freed)
                yield from lost


def _error_of(task: Task) -> Exception | None:
    try:
        task.function(task.argument)
    except Exception as error:
        return error
    return None
