"""Results of an analysis, read from its cache for the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.plan import AnalysisTasks, Place
from analysis.comparison.view import View
from analysis.execution.cache import Undefined
from analysis.execution.task import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["collect_probes", "collect_similarities", "collect_undefined", "collect_values", "collect_warnings"]


def collect_values(tasks: Mapping[Place, Task]) -> dict[Place, dict[str, Any]]:
    """Return the values of tasks by view and layer."""
    return {place: dict(task.result().values) for place, task in tasks.items()}


def collect_probes(tasks: AnalysisTasks) -> list[pd.DataFrame]:
    """Return one table of probes per view, with one row per layer in the order of its layers."""
    import pandas as pd

    tables: dict[int, list[pd.DataFrame]] = {}
    for index, task in tasks.probes:
        tables.setdefault(index, []).append(_get(task.result().tables, "probes", task))
    return [pd.concat(each, ignore_index=True) for each in tables.values()]


def collect_similarities(views: Sequence[View], tasks: AnalysisTasks) -> dict[str, NDArray[Any]]:
    """Return one matrix per measure: all layers of all views, by all."""
    places = [(index, layer) for index, view in enumerate(views) for layer in view.listed]
    position = {place: number for number, place in enumerate(places)}
    measures = dict.fromkeys(block.measure for block in tasks.similarity)
    whole = {measure: np.full((len(position), len(position)), np.nan) for measure in measures}
    for block in tasks.similarity:
        rows, columns = ([position[place] for place in side] for side in (block.rows, block.columns))
        arrays = block.task.result().arrays
        whole[block.measure][np.ix_(rows, columns)] = _get(arrays, "forth", block.task)
        if "back" in arrays:
            whole[block.measure][np.ix_(columns, rows)] = arrays["back"]
    return whole


def collect_undefined(views: Sequence[View], tasks: AnalysisTasks) -> dict[Place, list[Undefined]]:
    """Return the undefined results by view and layer, those of probes last."""
    positions = {(str(view.run.path.absolute()), view.step): index for index, view in enumerate(views)}
    undefined: dict[Place, list[Undefined]] = {}
    for task in sorted(_described(tasks), key=lambda task: task.name == "probes"):
        for each in task.result().undefined:
            source = task.inputs["sources"][each.source]
            undefined.setdefault((positions[source.run, source.step], each.layer), []).append(each)
    return undefined


def collect_warnings(views: Sequence[View], tasks: AnalysisTasks) -> list[str]:
    """Return the warnings about results that are defined, each with the labels of its views."""
    labels = {(str(view.run.path.absolute()), view.step): view.label for view in views}
    messages = []
    for task in _described(tasks):
        about = " and ".join(labels[source.run, source.step] for source in task.inputs["sources"])
        messages += [f"{about}: {message}" for message in task.result().warnings]
    return list(dict.fromkeys(messages))


def _described(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield the tasks that are done, except RDMs, whose warnings are repeated by their class structure."""
    return (task for task in tasks if task.name != "rdm" and task.is_done())


def _get(found: Mapping[str, Any], name: str, task: Task) -> Any:
    if name not in found:
        raise ValueError(f"{task.key} in cache/ is damaged: it has no {name}. Remove it, and give the command again.")
    return found[name]
