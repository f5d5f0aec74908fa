"""Forecast of the time that a set of tasks still takes."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence

from analysis.execution.progress.measured_pace import START_SECONDS, MeasuredPace
from analysis.execution.task import Task, TaskGraph

__all__ = ["TaskForecast", "measure_slowness"]

_ASSUMED_OVERRUN = 1.5  # a task that has run longer than expected takes this many times as long as it has run
_PROBE_STEPS, _PROBE_SECONDS = 300_000, 0.027  # of a loop, and how long it takes on the machine of the costs
_OVERHEAD_SECONDS = 0.03  # of any task, to send it and to store its result
_LEAST_REST = 0.2  # of what a task is expected to take, which is left as long as it has not ended

Id = tuple[str, str]


class TaskForecast:
    """Forecast of tasks of an executor: the duration of a simulated run of those that have not ended.

    The cost of a task is what it is expected to take; measured durations of tasks of the same name correct it. Tasks of
    a name of which none has ended yet take their cost times the speed of this machine, as measured by the others.

    Parameters
    ----------
    tasks : sequence of Task
    jobs : callable
        Returns how many tasks run together.
    clock : callable, optional
        Returns the time in seconds.
    slowness : float, default 1.0
        How many times longer than their costs tasks are expected to take before any has ended.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        jobs: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        slowness: float = 1.0,
    ) -> None:
        self.total, self.done = len(tasks), 0
        self._jobs, self._clock, self._lock = jobs, clock, threading.RLock()
        self._ahead = {task.id: task for task in tasks}  # not ended
        self._started: dict[Id, float] = {}
        self._fresh: set[Id] = set()  # tasks that run as the first of their process
        self._n_started = 0
        self._last = clock()
        self._pace = MeasuredPace(n_first=jobs(), slowness=slowness)
        self._start_seconds = START_SECONDS * slowness

    @property
    def running(self) -> list[Task]:
        """The tasks that are running, as far as the executor reports that, those that started first first."""
        with self._lock:
            return [self._ahead[each] for each in self._started]

    def start(self, task: Task, seconds: float = 0.0) -> None:
        """Note that a task starts, again if its process died, or that it has been running for some seconds."""
        with self._lock:
            if task.id in self._ahead:
                self._started[task.id] = self._clock() - seconds
                self._n_started += 1
                if self._n_started <= self._jobs():
                    self._fresh.add(task.id)

    def end(self, task: Task, *, is_run: bool = True) -> None:
        """Note that a task has ended, or that it will not run.

        Of tasks whose starts are not reported, as many are assumed to run as run together.
        """
        with self._lock:
            now = self._clock()
            self._ahead.pop(task.id, None)
            began = self._started.pop(task.id, now - (now - self._last) * self._jobs())
            if is_run:
                self._pace.add(task.name, task.cost + _OVERHEAD_SECONDS, now - began, is_start=task.id in self._fresh)
            self._fresh.discard(task.id)
            self._last = now

    def advance(self, amount: int, now: float) -> None:
        """Count more tasks as done."""
        self.done += amount

    def left(self, now: float) -> float:
        """Return about how many seconds it takes until all tasks have ended."""
        with self._lock:
            jobs, tasks = max(1, self._jobs()), list(self._ahead.values())
            expected = self._expected(now)
            together = [task for task in tasks if not task.alone]
            running = {each: self._rest(each, now - began) for each, began in self._started.items()}
            alone = sum(running.get(task.id, expected(task)) for task in tasks if task.alone)
            if not self._n_started and not self.done:
                alone += self._start_seconds
        return alone + _makespan(together, expected, running, jobs)

    def _rest(self, running: Id, so_far: float) -> float:
        """Return how many seconds a task still takes that has been running for some."""
        task = self._ahead[running]
        expected = self._pace.seconds(task.name, task.cost + _OVERHEAD_SECONDS) + self._start_seconds * (
            running in self._fresh
        )
        overrun = min(so_far - expected, (_ASSUMED_OVERRUN - 1) * so_far)
        return max(expected - so_far, overrun, _LEAST_REST * expected)

    def _expected(self, now: float) -> Callable[[Task], float]:
        """Return the function that gives the seconds of a task."""
        so_far: dict[str, tuple[float, float]] = {}  # by name: how often it has exceeded its cost, and for how long
        for each, began in self._started.items():
            task = self._ahead[each]
            worked = now - began - self._start_seconds * (each in self._fresh)
            exceeded = max(0.0, worked) * _ASSUMED_OVERRUN / (task.cost + _OVERHEAD_SECONDS)
            so_far[task.name] = max(so_far.get(task.name, (0.0, 0.0)), (exceeded, task.cost + _OVERHEAD_SECONDS))
        ratio: dict[str, float] = {}

        def expected(task: Task) -> float:
            if task.name not in ratio:
                exceeded, cost = so_far.get(task.name, (0.0, 1.0))
                ratio[task.name] = self._pace.seconds(task.name, cost, so_far=exceeded * cost) / max(cost, 1e-9)
            return ratio[task.name] * (task.cost + _OVERHEAD_SECONDS)

        return expected


def _makespan(tasks: Sequence[Task], seconds: Callable[[Task], float], running: dict[Id, float], jobs: int) -> float:
    """Return how long tasks take together, of which some are running and have the given rests."""
    graph, count = TaskGraph(tasks), itertools.count()
    ends = [(running[task.id], next(count), task) for task in tasks if task.id in running]
    heapq.heapify(ends)
    now = 0.0
    while True:
        while graph and len(ends) < jobs:
            if (task := graph.pop()).id not in running:
                heapq.heappush(ends, (now + seconds(task), next(count), task))
        if not ends:
            return now
        now, _, task = heapq.heappop(ends)
        graph.settle(task, None)


def measure_slowness() -> float:
    """Return how many times longer than on the machine of the costs work takes here and now, by a short loop.

    A machine that is busy with other work is slow.
    """
    started, total = time.monotonic(), 0
    for number in range(_PROBE_STEPS):
        total += number * number
    return min(20.0, max(0.25, (time.monotonic() - started) / _PROBE_SECONDS))
