"""Tasks that fill each table of an analysis. Their functions are imported when tasks are planned, which is slow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.comparison.tasks.source import Source
from analysis.comparison.tasks.version import VERSION
from analysis.comparison.view import View
from analysis.execution.shipping import digests_of_kind
from analysis.execution.task import Task

__all__ = [
    "COMPARATORS_SHOWN",
    "plan_class_structure",
    "plan_probes",
    "plan_probes_of",
    "plan_rdm_similarity",
    "plan_rdms",
    "plan_similarity",
]

COMPARATORS_SHOWN = ("pearson", "spearman")  # entries of `COMPARATORS`; each is a column of rdm_similarity

_GROUP_BYTES = 128 * 2**20  # of layers that are in memory together, in double precision
_MOST_TOGETHER = 32  # layers whose probes are fitted together, which is faster than one by one


def plan_rdms(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per layer: its RDM."""
    from analysis.comparison.tasks.compute import compute_rdm

    n_cells = len(tasks.views[0].rows("test")) ** 2
    for index, view in enumerate(tasks.views):
        for name, layer in view.listed.items():
            inputs = {"sources": (tasks.source(index, name),), "distance": tasks.config.distance}
            yield tasks.make("rdm", compute_rdm, inputs, cost=0.05 + 1e-10 * n_cells * layer.shape[1])


def plan_class_structure(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per RDM."""
    from analysis.comparison.tasks.compute import compute_class_structure

    for task in tasks.by_table["rdm"]:
        inputs = {"sources": task.inputs["sources"], "rdm": task.key}
        yield tasks.make("class_structure", compute_class_structure, inputs, after=(task.key,), cost=0.1)


def plan_rdm_similarity(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per RDM of a later view: its correlation with the first view's RDM of the same layer."""
    from analysis.comparison.tasks.compute import correlate_rdms

    rdms = tasks.by_layer("rdm")
    for (index, layer), second in rdms.items():
        if index and (0, layer) in rdms:
            pair = (rdms[0, layer], second)
            keys = tuple(task.key for task in pair)
            sources = tuple(source for task in pair for source in task.inputs["sources"])
            inputs = {"sources": sources, "rdms": keys, "comparators": COMPARATORS_SHOWN}
            yield tasks.make("rdm_similarity", correlate_rdms, inputs, after=keys, cost=0.2)


def plan_similarity(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per measure and pair of groups of layers: one block of the matrix of similarities."""
    from analysis.comparison.tasks.compute import compute_similarity

    n_test = len(tasks.views[0].rows("test"))
    groups = [
        tasks.source(index, *layers)
        for index, view in enumerate(tasks.views)
        for layers in _groups(view, n_test, len(view.listed))
    ]
    for measure in tasks.config.measures:
        for position, first in enumerate(groups):
            for second in groups[position:]:
                sources = (first,) if first == second else (first, second)
                cost = 0.2 + 1e-3 * len(first.layers) * len(second.layers)
                inputs = {"sources": sources, "measure": measure}
                yield tasks.make("similarity", compute_similarity, inputs, cost=cost)


def plan_probes(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per group of layers of a view."""
    for view, source in zip(tasks.views, tasks.sources, strict=True):
        yield from plan_probes_of(tasks, view, source)


def plan_probes_of(tasks: AnalysisTasks, view: View, source: Source) -> Iterator[Task]:
    """Yield one task per group of layers of one view, whose source is given without layers."""
    from analysis.comparison.tasks.compute import fit_probes
    from probes.table.columns import schema_version

    version = "-".join([str(VERSION), schema_version(), *digests_of_kind("columns")])
    n_stimuli = len(view.stimuli)
    for layers in _groups(view, n_stimuli, _MOST_TOGETHER):
        cost = 0.2 + 4e-7 * n_stimuli * sum(view.listed[layer].shape[1] for layer in layers)
        inputs = {"sources": (replace(source, layers=layers),), "Cs": list(tasks.config.Cs), "targets": tasks.targets}
        yield tasks.make("probes", fit_probes, inputs, cost=cost, version=version)


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
