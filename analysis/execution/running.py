"""One way to run tasks: skip cached ones, show progress, stop at Ctrl-C, collect errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from analysis.config.execution import ExecutionConfig
from analysis.execution.executors import Executor, make_executor
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Progress, Reporter, reporter_of
from analysis.execution.remaining_tasks import TaskForecast, measure_slowness
from analysis.execution.task import NotStarted, Outcome, Task

__all__ = ["describe_error", "pending", "run_tasks", "total_cost"]

_MOST_SHOWN = 10  # errors
_MOST_NAMED = 3  # running tasks


def run_tasks(
    tasks: Sequence[Task],
    execution: ExecutionConfig,
    *,
    label: str = "tasks",
    executor: Executor | None = None,
    on_end: Callable[[Task, Exception | None], None] | None = None,
) -> dict[str, Exception]:
    """Run the tasks whose results are not cached, each after those that it needs, the longest chains first.

    A task that fails does not stop the others, except those that need it.

    Parameters
    ----------
    tasks : sequence of Task
        Each after the tasks that it needs. Of tasks with the same cache and key, the first is run.
    execution : ExecutionConfig
        Where the tasks run and who is told about their progress.
    label : str, default "tasks"
        Title of the progress bar, which counts tasks.
    executor : Executor, optional
        Runs the tasks, so that several sets share a cluster. By default one is made for this set.
    on_end : callable, optional
        Called with each task that ended, and its error or None; not for tasks that could not start.

    Returns
    -------
    dict of str to Exception
        The error of each task that failed, by key. A single one is left to the caller to report; of several, the first
        are reported when they occur.

    Raises
    ------
    Interrupted
        After Ctrl-C. Finished tasks are kept.
    Incomplete
        If the scheduler is lost.
    """
    todo = pending(tasks)
    reporter = reporter_of(execution.progress)
    errors = _Errors(reporter)
    if not todo:
        return errors.found
    executor, n_done = executor or make_executor(execution, cost=total_cost(todo)), 0
    try:
        slowness = 1.0 if reporter.quiet else measure_slowness()
        forecast = TaskForecast(todo, lambda: getattr(executor, "jobs", 1), reporter.clock, slowness)
        with reporter.task(label, forecast) as bar:
            progress = _TaskProgress(bar, forecast)
            executor.on_start = progress.start
            for task, error in _outcomes(executor, todo):
                if isinstance(error, Interrupted):
                    raise KeyboardInterrupt
                n_done += error is None
                progress.end(task, error)
                if error is not None and not isinstance(error, NotStarted):
                    errors.add(task, error)
                if on_end is not None and not isinstance(error, NotStarted):
                    on_end(task, error)
    except KeyboardInterrupt:
        message = f"Stopped; {n_done} of {len(todo)} tasks are done and kept. Continue with the same command."
        raise Interrupted(message) from None
    errors.finish()
    return errors.found


def pending(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks whose results are not cached, each once."""
    unique: dict[tuple[str, str], Task] = {}
    for task in tasks:
        unique.setdefault(task.id, task)
    return [task for task in unique.values() if not task.is_done()]


def describe_error(error: Exception) -> str:
    """Return the message of an error on one line, after its type if the message may not explain itself.

    Examples
    --------
    >>> describe_error(ValueError("x is 3; expected 4.")), describe_error(KeyError("x"))
    ('x is 3; expected 4.', "KeyError: 'x'")
    """
    is_explained = isinstance(error, ValueError | OSError) or type(error).__module__ != "builtins"
    return " ".join((str(error) if is_explained else f"{type(error).__name__}: {error}").split())


def total_cost(tasks: Sequence[Task]) -> float:
    """Return about how many seconds tasks take together on one core."""
    return sum(task.cost for task in tasks)


def _outcomes(executor: Executor, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Run tasks that may run together, then each of those that run alone."""
    together, alone = ([task for task in tasks if task.alone is each] for each in (False, True))
    _check_order(together, alone)
    failed: set[str] = set()
    for batch in (together, *([task] for task in alone)):
        if batch and batch[0].alone and failed & set(batch[0].after):
            outcomes: Iterable[Outcome] = [(batch[0], NotStarted("it needs a task that failed"))]
        else:
            outcomes = executor.completed(batch) if batch else ()
        for task, error in outcomes:
            if error is not None:
                failed.add(task.key)
            yield task, error


def _check_order(together: Sequence[Task], alone: Sequence[Task]) -> None:
    """Raise ValueError if a task needs one that runs alone, after it."""
    later = {task.key for task in alone}
    for task in together:
        if needed := later.intersection(task.after):
            raise ValueError(f"Task '{task.key}' needs '{needed.pop()}', which runs alone after all others.")


class _TaskProgress:
    """Progress in tasks; the note says what is running."""

    def __init__(self, bar: Progress, forecast: TaskForecast) -> None:
        self._bar, self._forecast = bar, forecast

    def start(self, task: Task, seconds: float = 0.0) -> None:
        self._forecast.start(task, seconds)
        self._bar.advance(0, self._note(task))

    def end(self, task: Task, error: Exception | None) -> None:
        self._forecast.end(task, is_run=not isinstance(error, NotStarted))
        self._bar.advance(1, self._note(task))

    def _note(self, last: Task) -> str:
        """Return the names of the tasks that are running or, if that is not known, that of the last."""
        names = dict.fromkeys(task.name for task in self._forecast.running or [last])
        shown = [name.replace("_", " ") for name in names]
        return ", ".join(shown[:_MOST_NAMED]) + (", ..." if len(shown) > _MOST_NAMED else "")


class _Errors:
    """Errors of tasks; the first few of several are reported, the rest counted."""

    def __init__(self, reporter: Reporter) -> None:
        self.found: dict[str, Exception] = {}
        self._reporter = reporter
        self._first: tuple[Task, Exception] | None = None
        self._count = 0  # tasks of two caches may have the same key

    def add(self, task: Task, error: Exception) -> None:
        self.found[task.key] = error
        self._count += 1
        if self._first is None:
            self._first = task, error
            return
        if self._count == 2:
            self._report(*self._first)
        if self._count <= _MOST_SHOWN:
            self._report(task, error)

    def finish(self) -> None:
        if self._count > 1:
            self._reporter.say(f"{self._count} tasks failed; the results of all others are kept.")

    def _report(self, task: Task, error: Exception) -> None:
        where = "" if task.cache is None else f"{task.cache.folder}, "
        self._reporter.say(f"{where}{task.name}: {describe_error(error)}")
