"""One table of a comparison: what a row is, its columns, the tasks that fill it, and how it is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.execution.task import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LAYER", "METHOD", "STATUS", "VIEW", "Column", "ComparisonTable"]


class Column(NamedTuple):
    """The meaning of a column, and whether it is text, which stays text where values look like numbers.

    A column of a probe without a meaning has that of ``probes.table.columns.COLUMNS``.
    """

    meaning: str = ""
    is_text: bool = False


@dataclass(frozen=True, kw_only=True)
class ComparisonTable:
    """A table of a comparison, and the result behind it.

    Attributes
    ----------
    row : str
        What one row is.
    columns : mapping of str to Column
    build : callable (tasks, tables) -> DataFrame
        Builds the table from the results of all tasks, or from the tables before it in ``TABLES``.
    plan : callable (tasks) -> iterable of Task, optional
        Returns the tasks that compute the result; ``tasks.by_table`` has those of the RDMs and of the tables before.
    rest : str, optional
        Further columns, whose names depend on the settings.
    """

    row: str
    columns: Mapping[str, Column]
    build: Callable[[AnalysisTasks, Mapping[str, pd.DataFrame]], pd.DataFrame]
    plan: Callable[[AnalysisTasks], Iterable[Task]] | None = None
    rest: str = ""


# Columns of several tables
VIEW = {
    "view": Column("name of the network; with its step where one network is shown at several", is_text=True),
    "run": Column("absolute path of the run", is_text=True),
    "step": Column("recorded step"),
}
LAYER = {
    "layer": Column("name of the layer", is_text=True),
    "depth": Column("position among the recorded layers, from 1"),
}
METHOD = {"method": Column("networks that differ in nothing but their seed share one method", is_text=True)}
STATUS = {
    "status": Column("ok, or why there is no value", is_text=True),
    "message": Column("the reason in a sentence; empty if the status is ok", is_text=True),
}
