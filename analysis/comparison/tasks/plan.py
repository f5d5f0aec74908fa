"""Tasks of an analysis, and where their results belong in its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.comparison.tables.schema import COMPARATORS_SHOWN
from analysis.comparison.tasks.analysis_cache import AnalysisCache
from analysis.comparison.tasks.compute import (
    compute_class_structure,
    compute_rdm,
    compute_similarity,
    correlate_rdms,
    fit_probes,
)
from analysis.comparison.tasks.source import Source
from analysis.comparison.tasks.version import VERSION
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.execution.task import Task
from probes.table.columns import schema_version

__all__ = ["AnalysisTasks", "Place", "SimilarityBlock", "plan_tasks"]

_GROUP_BYTES = 128 * 2**20  # of layers that are in memory together, in double precision
_MOST_TOGETHER = 32  # layers whose probes are fitted together, which is faster than one by one

Place = tuple[int, str]  # position of a view, and a layer


@dataclass(frozen=True)
class SimilarityBlock:
    """A block of the matrix of similarities of all layers of all views, and the task that computes it."""

    measure: str
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    task: Task


@dataclass(frozen=True)
class AnalysisTasks:
    """Tasks of an analysis by the cells of the tables that they fill.

    Attributes
    ----------
    rdms, class_structure, rdm_similarity : dict of (position of the view, layer) to Task
        ``rdm_similarity`` has the layers of later views that the first view has too.
    probes : list of (position of the view, Task)
        Several tasks for a view whose layers are fitted in groups, in the order of its layers.
    similarity : list of SimilarityBlock
    """

    rdms: dict[Place, Task]
    class_structure: dict[Place, Task]
    rdm_similarity: dict[Place, Task]
    probes: list[tuple[int, Task]]
    similarity: list[SimilarityBlock]

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all tasks, each after those that it needs."""
        yield from self.rdms.values()
        yield from (task for _, task in self.probes)
        yield from self.class_structure.values()
        yield from self.rdm_similarity.values()
        yield from (block.task for block in self.similarity)


def plan_tasks(views: Sequence[View], config: AnalysisConfig, cache: AnalysisCache) -> AnalysisTasks:
    """Return the tasks of an analysis of views on the same stimuli, of which the first is the reference."""
    places = [(index, layer) for index, view in enumerate(views) for layer in view.listed]
    whole = [Source.of(view) for view in views]
    n_test, n_all = len(views[0].rows("test")), len(views[0].run.stimuli)
    rdms = {}
    for index, layer in places:
        inputs = {"sources": (replace(whole[index], layers=(layer,)),), "distance": config.distance}
        cost = 0.05 + 1e-10 * n_test**2 * views[index].listed[layer].shape[1]
        rdms[index, layer] = Task("rdm", compute_rdm, inputs, cost=cost, version=VERSION, cache=cache)
    structure = {
        place: Task(
            "class_structure",
            compute_class_structure,
            {"sources": task.inputs["sources"], "rdm": task.key},
            after=(task.key,),
            cost=0.1,
            version=VERSION,
            cache=cache,
        )
        for place, task in rdms.items()
    }
    return AnalysisTasks(
        rdms=rdms,
        class_structure=structure,
        rdm_similarity=_rdm_similarity(rdms, cache),
        probes=list(_probes(views, whole, config, n_all, cache)),
        similarity=[block for name in config.measures for block in _blocks(views, whole, name, n_test, cache)],
    )


def _probes(
    views: Sequence[View], whole: Sequence[Source], config: AnalysisConfig, n_stimuli: int, cache: AnalysisCache
) -> Iterator[tuple[int, Task]]:
    version = f"{VERSION}-{schema_version()}"
    for index, view in enumerate(views):
        for layers in _groups(view, n_stimuli, _MOST_TOGETHER):
            cost = 0.2 + 4e-7 * n_stimuli * sum(view.listed[layer].shape[1] for layer in layers)
            inputs = {"sources": (replace(whole[index], layers=layers),), "Cs": list(config.Cs)}
            yield index, Task("probes", fit_probes, inputs, cost=cost, version=version, cache=cache)


def _rdm_similarity(rdms: dict[Place, Task], cache: AnalysisCache) -> dict[Place, Task]:
    """Compare each later view's RDMs with the first view's of the same layers."""
    tasks = {}
    for (index, layer), second in rdms.items():
        if index and (0, layer) in rdms:
            first = rdms[0, layer]
            keys = (first.key, second.key)
            inputs = {
                "sources": (*first.inputs["sources"], *second.inputs["sources"]),
                "rdms": keys,
                "comparators": COMPARATORS_SHOWN,
            }
            tasks[index, layer] = Task(
                "rdm_similarity", correlate_rdms, inputs, after=keys, cost=0.2, version=VERSION, cache=cache
            )
    return tasks


def _blocks(
    views: Sequence[View], whole: Sequence[Source], measure: str, n_test: int, cache: AnalysisCache
) -> Iterator[SimilarityBlock]:
    groups = [(index, layers) for index, view in enumerate(views) for layers in _groups(view, n_test, len(view.listed))]
    for position, first in enumerate(groups):
        for second in groups[position:]:
            pair = (first,) if first == second else (first, second)
            rows, columns = (tuple((index, layer) for layer in layers) for index, layers in (first, second))
            inputs = {"sources": tuple(replace(whole[i], layers=layers) for i, layers in pair), "measure": measure}
            cost = 0.2 + 1e-3 * len(rows) * len(columns)
            task = Task("similarity", compute_similarity, inputs, cost=cost, version=VERSION, cache=cache)
            yield SimilarityBlock(measure, rows, columns, task)


def _groups(view: View, n_rows: int, most: int) -> list[tuple[str, ...]]:
    """Divide a view's layers, in order, into groups that fit in memory together."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, layer in view.listed.items():
        size = 8 * n_rows * layer.shape[1]
        if groups[-1] and (held + size > _GROUP_BYTES or len(groups[-1]) == most):
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return [tuple(group) for group in groups]
