"""Tasks that fill each table of an analysis. Their functions are named here and imported where they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.comparison.tasks.analysis_tasks import AnalysisTasks
from analysis.comparison.tasks.source import Source
from analysis.comparison.tasks.version import VERSION
from analysis.comparison.view import View
from analysis.execution.shipping import digests_of_kind
from analysis.execution.task import FunctionByName, Task

__all__ = [
    "COMPARATORS_SHOWN",
    "plan_probes",
    "plan_probes_of",
    "plan_rdm_similarity",
    "plan_rdms",
    "plan_similarity",
]

COMPARATORS_SHOWN = ("pearson", "spearman")  # entries of `COMPARATORS`; each is a column of rdm_similarity

_COMPUTE = "analysis.comparison.tasks.compute"
_GROUP_BYTES = 128 * 2**20  # of layers that are in memory together, in double precision
_MOST_TOGETHER = 32  # layers whose probes are fitted together, which is faster than one by one, or whose RDMs are
_RDM_BYTES = 64 * 2**20  # of the RDMs of one task
_BATCH_BYTES = 40 * 2**20  # of the layers on one side of a block of similarities
_MOST_PAIRS = 1024  # of layers in one block, as some measures take hundredths of a second for each
_MOST_QUICK_PAIRS = 2**15
_QUICK = "cka"  # the measure that takes a few multiplications for each pair of layers


def plan_rdms(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per group of layers of a view: their RDMs and class structure."""
    for index, view in enumerate(tasks.views):
        n_test = len(view.rows("test"))
        for layers in _rdm_groups(list(view.listed), n_test):
            inputs = {"sources": (tasks.source(index, *layers),), "distance": tasks.config.distance}
            width = sum(view.listed[layer].shape[1] for layer in layers)
            cost = len(layers) * (0.01 + 2.5e-8 * n_test**2) + 3e-11 * n_test**2 * width
            yield tasks.make("rdm", FunctionByName(f"{_COMPUTE}:compute_rdms"), inputs, cost=cost)


def _rdm_groups(layers: list[str], n_test: int) -> Iterator[tuple[str, ...]]:
    """Divide layers, in order, into groups whose RDMs fit in memory together."""
    most = max(1, min(_MOST_TOGETHER, _RDM_BYTES // (2 * n_test**2)))  # single precision, of half the pairs
    for start in range(0, len(layers), most):
        yield tuple(layers[start : start + most])


def plan_rdm_similarity(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per group of RDMs of a later view: correlations with the first view's RDMs of the same layers."""
    found = {place: (task.key, k) for task in tasks.by_table["rdm"] for k, place in enumerate(tasks.places_of(task))}
    for task in tasks.by_table["rdm"]:
        shared = [place for place in tasks.places_of(task) if place[0] and (0, place[1]) in found]
        if not shared:
            continue
        layers = [layer for _, layer in shared]
        pairs = [(found[0, layer], found[place]) for place, layer in zip(shared, layers, strict=True)]
        inputs = {
            "sources": (tasks.source(0, *layers), tasks.source(shared[0][0], *layers)),
            "rdms": pairs,
            "comparators": COMPARATORS_SHOWN,
        }
        after = tuple(dict.fromkeys(key for pair in pairs for key, _ in pair))
        function = FunctionByName(f"{_COMPUTE}:correlate_rdms")
        cost = len(layers) * (1e-3 + 1e-7 * len(tasks.views[0].rows("test")) ** 2)
        yield tasks.make("rdm_similarity", function, inputs, after=after, cost=cost)


def plan_similarity(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per measure and pair of batches of layers: one block of the matrix of similarities.

    A batch is made of neighbouring views, or of some of the layers of one, that are in memory together.
    """
    for measure in tasks.config.measures:
        batches = _batches(tasks, _MOST_QUICK_PAIRS if measure == _QUICK else _MOST_PAIRS)
        for position, first in enumerate(batches):
            for second in batches[position:]:
                sides = [first] if first is second else [first, second]
                inputs = {
                    "sources": tuple(source for side in sides for source in side),
                    "sides": [len(side) for side in sides],
                    "measure": measure,
                }
                n_pairs = _n_layers(first) * _n_layers(second)
                cost = 0.02 + (1e-4 if measure == _QUICK else 1e-3) * n_pairs
                yield tasks.make("similarity", FunctionByName(f"{_COMPUTE}:compute_similarity"), inputs, cost=cost)


def _batches(tasks: AnalysisTasks, most_pairs: int) -> list[list[Source]]:
    """Divide the groups of layers of all views, in order, into batches that are compared in one task."""
    batches: list[list[Source]] = [[]]
    held = 0
    for index, view in enumerate(tasks.views):
        n_test = len(view.rows("test"))
        for layers in _groups(view, n_test, len(view.listed)):
            size = 8 * n_test * sum(view.listed[layer].shape[1] for layer in layers)
            n_layers = _n_layers(batches[-1]) + len(layers)
            if batches[-1] and (held + size > _BATCH_BYTES or n_layers**2 > most_pairs):
                batches.append([])
                held = 0
            batches[-1].append(tasks.source(index, *layers))
            held += size
    return batches


def _n_layers(batch: list[Source]) -> int:
    return sum(len(source.layers) for source in batch)


def plan_probes(tasks: AnalysisTasks) -> Iterator[Task]:
    """Yield one task per group of layers of a view."""
    for view, source in zip(tasks.views, tasks.sources, strict=True):
        yield from plan_probes_of(tasks, view, source)


def plan_probes_of(tasks: AnalysisTasks, view: View, source: Source) -> Iterator[Task]:
    """Yield one task per group of layers of one view, whose source is given without layers."""
    from probes.table.columns import schema_version

    version = "-".join([str(VERSION), schema_version(), *digests_of_kind("columns")])
    n_stimuli = len(view.stimuli)
    for layers in _groups(view, n_stimuli, _MOST_TOGETHER):
        cost = 0.2 + 4e-7 * n_stimuli * sum(view.listed[layer].shape[1] for layer in layers)
        inputs = {"sources": (replace(source, layers=layers),), "Cs": list(tasks.config.Cs), "targets": tasks.targets}
        yield tasks.make("probes", FunctionByName(f"{_COMPUTE}:fit_probes"), inputs, cost=cost, version=version)


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
