"""Tasks of claims with a cache, and their tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import repsim
from analysis.execution.cache import Cache, TaskResult
from analysis.execution.task import Task
from analysis.reproduction.claim import ClaimTask, Frames, Plan, Results
from repsim.learning import keep_freed_memory

__all__ = ["cached_tasks", "read_results"]


def cached_tasks(claim_tasks: Sequence[ClaimTask], cache: Cache) -> list[Task]:
    """Return the tasks of a claim as tasks whose results are cached under their settings and the version of repsim.

    Raises
    ------
    ValueError
        If two tasks differ in their function alone, or a task needs one that does not come before it.
    """
    tasks: dict[str, Task] = {}
    for each in claim_tasks:
        if missing := [key for key in each.after if key not in tasks]:
            raise ValueError(f"Task '{each.key}' needs '{missing[0]}', which is not among the tasks before it.")
        task = Task(
            f"{each.group}-{each.name}",
            _compute,
            {"function": each.function, "settings": dict(each.settings)},
            after=tuple(tasks[key].key for key in each.after),
            cost=each.cost,
            version=repsim.__version__,
            cache=cache,
            alone=each.alone,
        )
        if tasks.setdefault(each.key, task).key != task.key:
            raise ValueError(f"Two tasks are called '{each.key}' and differ in their function; give them other names.")
    return list(tasks.values())


def read_results(tasks: Sequence[Task], plan: Plan, folder: Path) -> Results:
    """Return the tables of finished tasks, and repeat the warnings that were raised while they ran.

    Tables of equal name are concatenated, in the order of the tasks.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for task in tasks:
        result = task.result()
        for message in result.warnings:
            warnings.warn(f"{task.name}: {message}", RuntimeWarning, stacklevel=2)
        for name, table in result.tables.items():
            found.setdefault(name, []).append(table)
    tables: Frames = {name: pd.concat(each, ignore_index=True) for name, each in found.items()}
    return Results(plan=plan, folder=folder, tables=tables)


def _compute(folder: Path, *, function: Callable[..., Frames], settings: Mapping[str, Any]) -> TaskResult:
    """Return the tables of a task, without those that have no columns."""
    keep_freed_memory()
    tables = function(folder, **settings)
    return TaskResult(tables={name: _with_numbers(table) for name, table in tables.items() if not table.columns.empty})


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns of numbers and None have the dtype float64."""
    return table.astype({name: "float64" for name in table if table[name].dtype == object and _is_numeric(table[name])})


def _is_numeric(column: pd.Series) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in column.dropna())
