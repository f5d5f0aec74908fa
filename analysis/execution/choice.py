"""The executors by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from analysis.execution.task import Outcome, Task
from analysis.execution.threads import count_processors

__all__ = ["EXECUTORS", "Executor", "make_executor"]

_WORTH_PROCESSES = 15.0  # seconds of work; to start processes takes a few


class Executor(Protocol):
    """Does tasks somewhere. Inside its ``with`` block, several sets of tasks use one cluster."""

    def __enter__(self) -> Executor:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks, each after those that it needs, and yield each as it is done, with the error if it raised one."""


def make_executor(
    name: str | None = None,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    cost: float = float("inf"),
    say: Callable[[str], None] = lambda message: None,
) -> Executor:
    """Return the executor that is asked for.

    Parameters
    ----------
    name : str, optional
        A key of ``EXECUTORS``. By default "dask" where a scheduler is given, else "processes" where there is work for
        them, else "serial".
    jobs : int, optional
        Processes; as many as there are processors by default.
    scheduler : str, optional
        Address of a Dask scheduler, or path of a TOML file that describes a cluster.
    cost : float
        About how many seconds the work takes on one core.
    say : callable, optional
        Hears what there is to wait for.

    Raises
    ------
    ValueError
        If there is no such executor, the number of processes is none, or they do not go together.
    """
    if name is not None and name not in EXECUTORS:
        raise ValueError(f"Unknown executor '{name}'. Choose one of: {', '.join(EXECUTORS)}.")
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise ValueError(f"jobs is {jobs!r}; expected 1 or more processes.")
    if scheduler is not None and name not in (None, "dask"):
        raise ValueError(f"A scheduler belongs to the executor dask, not to {name}; leave one of the two out.")
    if scheduler is not None and jobs is not None:
        raise ValueError(f"The cluster of {scheduler} decides how many workers there are; leave jobs out.")
    count = count_processors() if jobs is None else jobs
    if name is None and scheduler is None:
        name = "processes" if count > 1 and cost >= _WORTH_PROCESSES else "serial"
    return EXECUTORS[name or "dask"](count, scheduler, say)


def _serial(jobs: int, scheduler: str | None, say: Callable[[str], None]) -> Executor:
    from analysis.execution.serial import SerialExecutor

    return SerialExecutor()


def _processes(jobs: int, scheduler: str | None, say: Callable[[str], None]) -> Executor:
    from analysis.execution.processes import ProcessExecutor

    return ProcessExecutor(jobs)


def _dask(jobs: int, scheduler: str | None, say: Callable[[str], None]) -> Executor:
    from analysis.execution.dask import DaskExecutor

    return DaskExecutor(jobs, scheduler, say)


# Each is imported when it is asked for.
EXECUTORS: dict[str, Callable[[int, str | None, Callable[[str], None]], Executor]] = {
    "serial": _serial,
    "processes": _processes,
    "dask": _dask,
}
