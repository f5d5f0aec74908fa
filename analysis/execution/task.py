"""Tasks, and which of them may begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle

__all__ = ["Graph", "NotBegun", "Outcome", "Task", "pack", "perform"]


@dataclass(frozen=True)
class Task:
    """One call, whose result lies on disk afterwards.

    Attributes
    ----------
    key : str
        Unique among the tasks that are done together.
    function : callable
        Of one argument; of a module, so that other processes can import it.
    argument : object
        Small: paths travel, arrays do not.
    after : tuple of str
        Keys of the tasks that must be done before. Keys that are not among those done together count as done.
    cost : float
        About how many seconds it takes on one core.
    """

    key: str
    function: Callable[[Any], Any]
    argument: Any
    after: tuple[str, ...] = ()
    cost: float = 1.0


Outcome = tuple[Task, Exception | None]


class NotBegun(Exception):
    """A task that could not begin, because one that it needs failed."""


def pack(task: Task) -> bytes:
    """Return the call of a task in the form in which it is sent to another process, for ``perform``."""
    return bytes(cloudpickle.dumps((task.function, task.argument)))


def perform(call: bytes) -> None:
    """Carry out a call that ``pack`` packed, in a process that does nothing but tasks."""
    function, argument = cloudpickle.loads(call)
    function(argument)


class Graph:
    """Tasks in an order in which each comes after those that it needs, and what has become of them.

    Raises
    ------
    ValueError
        If two tasks have one key, or one comes before a task that it needs.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = {task.key: task for task in tasks}
        if len(self.tasks) < len(tasks):
            raise ValueError(f"{len(tasks) - len(self.tasks)} tasks have the key of another; expected unique keys.")
        self._awaited: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {key: [] for key in self.tasks}
        self._lost: set[str] = set()
        for task in tasks:
            needed = {key for key in task.after if key in self.tasks}
            if early := next((key for key in needed if key not in self._awaited), None):
                raise ValueError(f"Task '{task.key}' comes before '{early}', which it needs.")
            self._awaited[task.key] = needed
            for key in needed:
                self._dependents[key].append(task.key)

    def first(self) -> list[Task]:
        """Return the tasks that need no other."""
        return [self.tasks[key] for key, needed in self._awaited.items() if not needed]

    def settle(self, task: Task, error: Exception | None) -> tuple[list[Task], list[Outcome]]:
        """Take note of how a task ended; return the tasks that may begin now, and those that never can."""
        if error is None:
            return [self.tasks[key] for key in self._dependents[task.key] if self._is_freed(key, task.key)], []
        return [], list(self._give_up(task.key, error))

    def _is_freed(self, key: str, by: str) -> bool:
        self._awaited[key].discard(by)
        return not self._awaited[key] and key not in self._lost

    def _give_up(self, key: str, error: Exception) -> Iterator[Outcome]:
        for dependent in self._dependents[key]:
            if dependent not in self._lost:
                self._lost.add(dependent)
                yield self.tasks[dependent], NotBegun(f"it needs {key}, which failed: {error}")
                yield from self._give_up(dependent, error)
