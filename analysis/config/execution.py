"""Settings of the place where tasks run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from repsim.settings import Settings, setting

if TYPE_CHECKING:
    from analysis.execution.progress import Shown

__all__ = ["EXECUTORS", "ExecutionConfig"]


def _executors() -> Iterable[str]:
    return EXECUTORS


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig(Settings):
    """Where tasks run and who is told about their progress. No number of a result depends on it.

    Attributes
    ----------
    executor : str or None
        ``"serial"``, ``"processes"``, ``"dask"``, or another key of ``analysis.execution.EXECUTORS``. None: Dask if
        a scheduler is given, processes if the work takes long enough, this process otherwise.
    jobs : int or None
        Number of processes, one thread each. None: the number of processors.
    scheduler : str or None
        Address of a Dask scheduler, or path of a TOML file that describes a cluster.
    progress : bool, Reporter or None
        Whether progress and messages are shown, or what shows them. None: on a terminal and in a notebook.

    Raises
    ------
    ValueError
        If the executor is unknown, or ``jobs`` is not a whole number of 1 or more.
    """

    executor: str | None = setting(
        None,
        help="Where tasks run: serial, processes or dask.",
        choices=_executors,
        shown="processes if the work takes long enough",
    )
    jobs: int | None = setting(
        None, help="Number of processes, one thread each.", lowest=1, shown="the number of processors"
    )
    scheduler: str | None = setting(
        None, help="Address of a Dask scheduler, e.g. tcp://10.0.0.1:8786, or a TOML file that describes a cluster."
    )
    progress: "Shown" = None

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        self.check_choices()


# Classes of executors, or ``module:class`` of those that are imported when they are chosen; each is called with the
# settings of execution, and has the methods of ``analysis.execution.Executor``.
EXECUTORS: dict[str, str | Callable[[ExecutionConfig], Any]] = {
    "serial": "analysis.execution.serial:SerialExecutor",
    "processes": "analysis.execution.processes:ProcessExecutor",
    "dask": "analysis.execution.dask:DaskExecutor",
    **{point.name: point.value for point in entry_points(group="repsim.executors")},  # of other packages
}


def own_executor(name: str, given: Any) -> Callable[[ExecutionConfig], Any]:
    """Return the executor that a user registers: a class, or a function of the settings of execution."""
    if not callable(given):
        raise TypeError(f"The executor '{name}' is {given!r}; expected a class that takes an ExecutionConfig.")
    executor: Callable[[ExecutionConfig], Any] = given
    return executor
