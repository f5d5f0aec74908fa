"""Tasks of an analysis by the table that they fill, and what they found by view and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.comparison.tasks.source import Source
from analysis.comparison.tasks.version import VERSION
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.target_table import TargetTable
from analysis.execution.cache import Cache, TaskResult, Undefined
from analysis.execution.task import Task

if TYPE_CHECKING:
    from analysis.comparison.attribution.design import Design

__all__ = ["AnalysisTasks", "Place", "require", "warnings_about"]

_ABOUT_SOURCES = "said"  # among the values of a result: pairs of the positions of sources and a warning about them

Place = tuple[int, str]  # position of a view, and a layer


@dataclass(frozen=True)
class AnalysisTasks:
    """Tasks of an analysis of views on the same stimuli, of which the first is the reference.

    Attributes
    ----------
    views : sequence of View
    config : AnalysisConfig
    cache : Cache
        Keeps the results.
    design : Design or None
        Arms of networks that are compared as groups.
    by_table : dict of str to list of Task
        Tasks by the name of the table that they fill; those of the RDMs and their class structure are in ``"rdm"``.
        Among the inputs of each task are ``sources``, the layers that it reads.
    """

    views: Sequence[View]
    config: AnalysisConfig
    cache: Cache
    design: Design | None = None
    by_table: dict[str, list[Task]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all tasks, each after those that it needs."""
        return (task for tasks in self.by_table.values() for task in tasks)

    @cached_property
    def sources(self) -> list[Source]:
        """One source per view, without layers."""
        return [Source.of(view) for view in self.views]

    @cached_property
    def targets(self) -> TargetTable | None:
        """The table of further targets of the probes, if there is one."""
        return self.config.target_table

    def source(self, view: int, *layers: str) -> Source:
        """Return layers of the view at a position as the input of a task."""
        return replace(self.sources[view], layers=layers)

    def make(
        self,
        name: str,
        function: Callable[..., TaskResult | None],
        inputs: Mapping[str, Any],
        *,
        after: tuple[str, ...] = (),
        cost: float,
        version: str | int = VERSION,
    ) -> Task:
        """Return a task whose result is kept in the cache of the analysis; see ``Task``."""
        return Task(name, function, inputs, after=after, cost=cost, version=version, cache=self.cache)

    def places(self, source: Source) -> list[Place]:
        """Return the places of the layers of a source."""
        position = self._positions[source.run, source.step]
        return [(position, layer) for layer in source.layers]

    def places_of(self, task: Task) -> list[Place]:
        """Return the places of the layers of a task's last source, which is the only one or is compared with others."""
        return self.places(task.inputs["sources"][-1])

    def values(self, table: str) -> dict[Place, Mapping[str, Any]]:
        """Return the values that tasks of one layer each found, by the layer of their last source."""
        return {self.places_of(task)[0]: task.result().values for task in self.by_table[table]}

    def columns(self, table: str) -> dict[Place, Mapping[str, Any]]:
        """Return the values of each layer that tasks of several layers found: lists in the order of the last source."""
        found: dict[Place, Mapping[str, Any]] = {}
        for task in self.by_table[table]:
            lists = {name: values for name, values in task.result().values.items() if name != _ABOUT_SOURCES}
            for k, place in enumerate(self.places_of(task)):
                found[place] = {name: values[k] for name, values in lists.items()}
        return found

    @cached_property
    def _positions(self) -> dict[tuple[str, int], int]:
        """The position of each view, by run and step; of equal views the first."""
        return {(each.run, each.step): k for k, each in reversed(list(enumerate(self.sources)))}

    def undefined(self) -> dict[Place, list[Undefined]]:
        """Return the undefined results by view and layer, those of probes last."""
        found: dict[Place, list[Undefined]] = {}
        for task in sorted(self._described(), key=lambda task: task.name == "probes"):
            for each in task.result().undefined:
                source = replace(task.inputs["sources"][each.source], layers=(each.layer,))
                found.setdefault(self.places(source)[0], []).append(each)
        return found

    def warnings(self) -> list[str]:
        """Return the warnings about results that are defined, each with the labels of its views or runs."""
        messages = []
        for task in self._described():
            labels = [self.views[self.places(source)[0][0]].label for source in task.inputs["sources"]]
            result = task.result()
            pairs = [*result.values.get(_ABOUT_SOURCES, []), *((range(len(labels)), each) for each in result.warnings)]
            messages += [f"{' and '.join(labels[k] for k in positions)}: {message}" for positions, message in pairs]
        of_arms = (task for task in self if task.name == "arms" and task.is_done())
        messages += [message for task in of_arms for message in task.result().warnings]
        return list(dict.fromkeys(messages))

    def _described(self) -> Iterator[Task]:
        """Yield the tasks about views that are done."""
        views = {(source.run, source.step) for source in self.sources}
        for task in self:
            of_views = all((source.run, source.step) in views for source in task.inputs["sources"])
            if of_views and task.name != "arms" and task.is_done():
                yield task


def warnings_about(
    positions: Sequence[int], messages: Iterable[str], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return values of a result that hold warnings about the sources at some positions.

    The warnings in the values ``before`` come first. Without any warning there are no values.
    """
    pairs = [*(before or {}).get(_ABOUT_SOURCES, []), *([list(positions), message] for message in messages)]
    return {_ABOUT_SOURCES: pairs} if pairs else {}


def require(found: Mapping[str, Any], name: str, task: Task) -> Any:
    """Return a table or an array of the result of a task."""
    if name not in found:
        raise ValueError(f"{task.key} in cache/ is damaged: it has no {name}. Remove it, and give the command again.")
    return found[name]
