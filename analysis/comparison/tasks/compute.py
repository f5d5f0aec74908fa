"""Functions of the tasks of an analysis: RDMs, class structure, similarities, probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.analysis_cache import AnalysisCache
from analysis.comparison.tasks.analysis_tasks import warnings_about
from analysis.comparison.tasks.similarity_batches import compare_batches
from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import attempt, finite
from analysis.config.analysis import AnalysisConfig
from analysis.config.target_table import TargetTable
from analysis.execution.cache import TaskResult, Undefined
from checkpoints import Stimuli
from probes import probe_layers
from repsim.similarity import class_structure, compare_rdms, rdm

__all__ = ["compute_rdms", "compute_similarity", "correlate_rdms", "fit_probes"]


def compute_rdms(folder: Path, *, sources: Sequence[Source], distance: str) -> TaskResult:
    """Return the RDM of the held-out stimuli in each layer, and its class structure: differences between its classes.

    The array of the RDM has the position of the layer as its name; it has single precision, and is NaN everywhere if
    it is undefined. The value ``class_structure`` is a list of the mean distance between classes minus that within
    classes, which is computed from the stored RDM.
    """
    (source,) = sources
    layers, stimuli = source.read()
    rows = _test_rows(stimuli)
    found = [_describe_rdm(name, layer[rows], stimuli.labels[rows], distance) for name, layer in layers.items()]
    return TaskResult(
        arrays={str(k): each.rdm for k, each in enumerate(found)},
        values={
            "class_structure": [each.class_structure for each in found],
            **warnings_about([0], (message for each in found for message in each.warnings)),
        },
        undefined=[undefined for each in found for undefined in each.undefined],
    )


@dataclass(frozen=True)
class _DescribedRdm:
    """RDM of one layer, its class structure if it is defined, and warnings if it is."""

    rdm: NDArray[np.float32]
    class_structure: float | None
    warnings: list[str]
    undefined: list[Undefined]


def _describe_rdm(name: str, X: NDArray[Any], labels: NDArray[np.int64], distance: str) -> _DescribedRdm:
    matrix = attempt(lambda: rdm(X, method=distance, name=name))
    if matrix.value is None or np.isnan(matrix.value).all():
        empty = np.full(len(X) * (len(X) - 1) // 2, np.nan, dtype=np.float32)
        return _DescribedRdm(empty, None, [], [Undefined(0, name, each, matrix.reason) for each in _OF_AN_RDM])
    stored = matrix.value.astype(np.float32)
    structure = attempt(lambda: class_structure(stored, labels))
    value = finite(structure.value)
    if value is None:
        undefined = [Undefined(0, name, "class_structure", structure.reason)]
        return _DescribedRdm(stored, None, matrix.warnings, undefined)
    return _DescribedRdm(stored, value, [*matrix.warnings, *structure.warnings], [])


_OF_AN_RDM = ("rdm", "class_structure")


def correlate_rdms(
    folder: Path,
    *,
    sources: Sequence[Source],
    rdms: Sequence[Sequence[tuple[str, int]]],
    comparators: Sequence[str],
) -> TaskResult:
    """Return correlations of pairs of RDMs over the pairs of stimuli whose distance is defined in both.

    ``rdms`` are the places of both RDMs of each layer: the key of a task in the cache of the folder, and the position
    of the array in its result. There is one list per comparator, with one number or None per layer.
    """
    results = {key: AnalysisCache(folder).read(key) for key in dict.fromkeys(key for pair in rdms for key, _ in pair)}
    lists: dict[str, list[float | None]] = {name: [] for name in comparators}
    undefined, messages = [], []
    for layer, pair in zip(sources[-1].layers, rdms, strict=True):
        values, lacking, warned = _correlate(layer, [(results[key], position) for key, position in pair], comparators)
        undefined += lacking
        messages += warned
        for name, value in values.items():
            lists[name].append(value)
    return TaskResult(values={**lists, **warnings_about([0, 1], messages)}, undefined=undefined)


def _correlate(
    layer: str, places: Sequence[tuple[TaskResult, int]], comparators: Sequence[str]
) -> tuple[dict[str, float | None], list[Undefined], list[str]]:
    """Return the correlations of the RDMs of a layer, why they are undefined if they are, and warnings if not."""
    empty: dict[str, float | None] = dict.fromkeys(comparators)
    for position, (result, _) in enumerate(places):
        if reason := next((u.reason for u in result.undefined if (u.layer, u.result) == (layer, "rdm")), None):
            return empty, [Undefined(position, layer, "rdm_similarity", reason)], []
    pair = np.stack([result.arrays[str(position)] for result, position in places])
    pair[:, np.isnan(pair).any(axis=0)] = np.nan
    attempts = {name: attempt(partial(compare_rdms, pair[0], pair[1], method=name)) for name in comparators}
    values = {name: finite(each.value) for name, each in attempts.items()}
    missing = [each for name, each in attempts.items() if values[name] is None]
    if missing:
        return values, [Undefined(1, layer, "rdm_similarity", missing[0].reason)], []
    return values, [], [message for each in attempts.values() for message in each.warnings]


def compute_similarity(folder: Path, *, sources: Sequence[Source], sides: Sequence[int], measure: str) -> TaskResult:
    """Return the similarity of the layers of a batch with those of another, or with one another, in both directions.

    The first ``sides[0]`` sources are the first batch, and the others, if there are any, the second.
    """
    batches = [list(range(sides[0])), list(range(sides[0], len(sources)))][: len(sides)]
    arrays = [_arrays(source) for source in sources]
    found = compare_batches(arrays, batches, measure)
    return TaskResult(found.arrays, values=found.messages, undefined=found.undefined)


def fit_probes(
    folder: Path, *, sources: Sequence[Source], Cs: Sequence[float], targets: TargetTable | None
) -> TaskResult:
    """Return the table ``probes``: one row per layer and target, as ``probe_layers`` returns it.

    Targets are the labels, those that the run has stored, and those of the table, if one is given.
    """
    (source,) = sources
    layers, stimuli = source.read()
    if targets is not None:
        stimuli = targets.added_to(stimuli)
    table = probe_layers(layers, stimuli, config=AnalysisConfig(Cs=tuple(Cs)).probes)
    failed = table[table["status"] != "ok"]
    undefined = {
        layer: Undefined(0, layer, "probes", message.removeprefix("ValueError: "))
        for layer, message in zip(failed["layer"][::-1], failed["message"][::-1], strict=True)
    }
    return TaskResult(tables={"probes": table}, undefined=list(undefined.values())[::-1])


def _arrays(source: Source) -> dict[str, NDArray[Any]]:
    layers, stimuli = source.read()
    return {name: layer[_test_rows(stimuli)] for name, layer in layers.items()}


def _test_rows(stimuli: Stimuli) -> NDArray[np.int64]:
    return np.flatnonzero(stimuli.split == "test")
