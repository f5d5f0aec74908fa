"""Tasks: one call each, identified by its content, and their order."""

from __future__ import annotations

import hashlib
import heapq
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import cloudpickle

from analysis.execution.cache import Cache, TaskResult
from analysis.execution.shipping import Shipment, own_digests

__all__ = [
    "FunctionByName",
    "NotStarted",
    "OnStart",
    "Outcome",
    "Task",
    "TaskGraph",
    "ignore_start",
    "messages_of",
    "pack",
    "perform",
]

_FIRST_OF_NAME, _MANY_OF_NAME = 3, 10  # tasks that show how long those of their name take, if there are many


@dataclass(frozen=True)
class FunctionByName:
    """A function of a module as ``module:name``. It is imported when it is called, and not to plan its tasks.

    Examples
    --------
    >>> FunctionByName("math:sqrt")(4.0)
    2.0
    """

    place: str

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """Call the function."""
        return resolve_name(self.place)(*args, **inputs)


@dataclass(frozen=True, eq=False)
class Task:
    """One call whose result lies on disk afterwards.

    Attributes
    ----------
    name : str
        Shown to people; the first part of the key. Letters, digits, dots, underscores and hyphens.
    function : callable
        A function of a module, so that other processes can import it, or a ``FunctionByName``, which has the same key.
        With a cache it is called as
        ``function(folder, **inputs)``, where ``folder`` is that of the cache, and returns a ``TaskResult`` or tables by
        name; if it returns None, it keeps its results itself and runs every time. Without a cache it is called as
        ``function(**inputs)``.
    inputs : mapping of str to object
        Small: paths travel, arrays do not. For the key each value must be JSON-ready, a path, a function of a module,
        have an attribute ``identity`` or a method ``to_dict`` that is JSON-ready, or be a dataclass of such values.
    after : tuple of str
        Keys of tasks with the same cache that must finish first. Keys of no task in the set count as finished.
    cost : float
        About how many seconds it takes on one core.
    version : int or str
        Raised when the function computes something else, so that earlier results become stale.
    cache : Cache, optional
        Keeps the result under the key.
    alone : bool, default False
        Run it after all other tasks of the set, when no other task runs, because it measures time. Only tasks that
        run alone too can need it.
    """

    name: str
    function: Callable[..., TaskResult | Mapping[str, Any] | None]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    cost: float = 1.0
    version: int | str = 1
    cache: Cache | None = None
    alone: bool = False

    @cached_property
    def key(self) -> str:
        """Name and hash of the function, its version and its inputs, and of the user's own parts that these name."""
        text = json.dumps([self.function, self.version, self.inputs], sort_keys=True, default=_identity)
        if own := own_digests(text):
            text = json.dumps([text, own])
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    @property
    def id(self) -> tuple[str, str]:
        """Folder of the cache and key: unique among tasks that run together."""
        return _folder(self), self.key

    def is_done(self) -> bool:
        """Return whether the cache holds the result."""
        return self.cache is not None and self.key in self.cache

    def result(self) -> TaskResult:
        """Return the result from the cache."""
        if self.cache is None:
            raise ValueError(f"Task '{self.name}' has no cache that keeps its result.")
        return self.cache.read(self.key)

    def run(self) -> None:
        """Call the function and store its result with the warnings that were raised, unless it is stored already."""
        if self.cache is None:
            self.function(**self.inputs)
            return
        if self.key in self.cache:
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = self.function(self.cache.folder, **self.inputs)
        if found is not None:
            result = found if isinstance(found, TaskResult) else TaskResult(tables=found)
            messages = tuple(dict.fromkeys([*result.warnings, *messages_of(caught)]))
            self.cache.write(self.key, replace(result, warnings=messages))


def messages_of(caught: Iterable[warnings.WarningMessage]) -> list[str]:
    """Return the messages of recorded warnings that are about results, each once."""
    about = (each for each in caught if issubclass(each.category, RuntimeWarning | UserWarning))
    return list(dict.fromkeys(str(each.message) for each in about))


Outcome = tuple[Task, Exception | None]
OnStart = Callable[..., None]  # called as ``ignore_start`` is


class NotStarted(Exception):
    """Error of a task that could not start because a task before it failed."""


def ignore_start(task: Task, seconds: float = 0.0) -> None:
    """Do nothing when a task starts, or has been running for some seconds."""


def pack(task: Task) -> bytes:
    """Return a task in the form in which it is sent to another process, for ``perform``, with the user's own parts."""
    call = bytes(cloudpickle.dumps(replace(task, after=())))
    return bytes(cloudpickle.dumps((Shipment.of_this_process(), call)))


def perform(packed: bytes) -> None:
    """Run a task that ``pack`` packed."""
    shipment, call = cloudpickle.loads(packed)
    shipment.unpack()  # first, because the task may be made of what it registers
    cloudpickle.loads(call).run()


class TaskGraph:
    """Tasks with their dependencies. The next task is the one that starts the longest chain of remaining work.

    Of each name that many tasks have, a few come before others, those of low cost first, so that the duration of their
    kind is known early. Tasks are given after those that they need.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)
        self._number = {task.id: number for number, task in enumerate(tasks)}
        if len(self._number) < len(tasks):
            raise ValueError(
                f"{len(tasks) - len(self._number)} tasks have the same key as another task; expected unique keys."
            )
        self._awaited = [self.needed(number) for number in range(len(tasks))]
        self._dependents: list[list[int]] = [[] for _ in tasks]
        for number, needed in enumerate(self._awaited):
            for each in needed:
                self._dependents[each].append(number)
        self.seconds = self._longest_paths()
        self._lost: set[int] = set()
        self._ready: list[tuple[bool, float, int]] = []
        names = Counter(task.name for task in tasks)
        self._n_first = Counter({name: _FIRST_OF_NAME for name, n in names.items() if n >= _MANY_OF_NAME})
        ready = [number for number, needed in enumerate(self._awaited) if not needed]
        for number in sorted(ready, key=lambda number: -self.seconds[number]):
            self._add_ready(number)

    def __bool__(self) -> bool:
        """Return whether a task is ready to start."""
        return bool(self._ready)

    def pop(self) -> Task:
        """Return the next task that is ready to start."""
        return self._tasks[heapq.heappop(self._ready)[-1]]

    def settle(self, task: Task, error: Exception | None) -> list[Outcome]:
        """Record the end of a task; return the outcomes of tasks that can no longer start."""
        number = self._number[task.id]
        if error is not None:
            return list(self._give_up(number, error))
        for dependent in self._dependents[number]:
            self._awaited[dependent].discard(number)
            if not self._awaited[dependent] and dependent not in self._lost:
                self._add_ready(dependent)
        return []

    def needed(self, number: int) -> set[int]:
        """Return the positions of the tasks of the set that the task at a position waits for."""
        task = self._tasks[number]
        needed = {self._number[_folder(task), key] for key in task.after if (_folder(task), key) in self._number}
        if early := next((each for each in needed if each >= number), None):
            raise ValueError(f"Task '{task.key}' comes before '{self._tasks[early].key}', which it needs.")
        return needed

    def _add_ready(self, number: int) -> None:
        task = self._tasks[number]
        is_first = self._n_first[task.name] > 0
        self._n_first[task.name] -= 1
        heapq.heappush(self._ready, (not is_first, task.cost if is_first else -self.seconds[number], number))

    def _longest_paths(self) -> list[float]:
        """Return, for each task, the seconds of the longest chain of tasks that starts with it."""
        seconds = [task.cost for task in self._tasks]
        for number in reversed(range(len(seconds))):
            seconds[number] += max((seconds[each] for each in self._dependents[number]), default=0.0)
        return seconds

    def _give_up(self, number: int, error: Exception) -> Iterator[Outcome]:
        for dependent in self._dependents[number]:
            if dependent not in self._lost:
                self._lost.add(dependent)
                reason = NotStarted(f"it needs {self._tasks[number].key}, which failed: {error}")
                yield self._tasks[dependent], reason
                yield from self._give_up(dependent, error)


def _folder(task: Task) -> str:
    return "" if task.cache is None else str(task.cache.folder)


def _identity(value: Any) -> Any:
    """Return the value that represents an object in the hash of a key; ValueError if there is none."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, FunctionByName):
        return value.place.replace(":", ".")
    if callable(value):
        name = getattr(value, "__qualname__", "<")
        if "<" not in name:  # two functions inside another one may have the same name, as two lambdas have
            return f"{value.__module__}.{name}"
    elif hasattr(value, "identity"):
        return value.identity
    elif hasattr(value, "to_dict"):
        return value.to_dict()
    elif is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    raise ValueError(
        f"{value!r} cannot be part of a task's key. Use JSON-ready values, paths, functions of a module, dataclasses, "
        "or objects with an identity or to_dict."
    )
