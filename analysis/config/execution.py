"""Settings of where and how work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.execution.progress import Reporter

__all__ = ["ExecutionConfig"]


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Where tasks run and who is told about their progress. No number of a result depends on it.

    Attributes
    ----------
    executor : str or None
        A key of ``analysis.execution.EXECUTORS``: ``"serial"``, ``"processes"`` or ``"dask"``. None: Dask if a
        scheduler is given, processes if the work takes long enough, this process otherwise.
    jobs : int or None
        Number of processes, one thread each. None: the number of processors.
    scheduler : str or None
        Address of a Dask scheduler, or path of a TOML file that describes a cluster.
    progress : Reporter or None
        Shows progress and messages. None: nothing is shown.
    """

    executor: str | None = None
    jobs: int | None = None
    scheduler: str | None = None
    progress: Reporter | None = None
