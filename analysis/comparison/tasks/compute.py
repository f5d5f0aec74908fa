"""Functions of the tasks of an analysis: RDMs, class structure, similarities, probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.analysis_cache import AnalysisCache
from analysis.comparison.tasks.pairs import compare_layers
from analysis.comparison.tasks.source import Source
from analysis.comparison.undefined import attempt, finite
from analysis.config.analysis import AnalysisConfig
from analysis.config.target_table import TargetTable
from analysis.execution.cache import TaskResult, Undefined
from checkpoints import Stimuli
from probes import probe_layers
from repsim.similarity import MEASURES, class_structure, compare_rdms, rdm

__all__ = ["compute_class_structure", "compute_rdm", "compute_similarity", "correlate_rdms", "fit_probes"]


def compute_rdm(folder: Path, *, sources: Sequence[Source], distance: str) -> TaskResult:
    """Return the RDM of the held-out stimuli in one layer, in single precision; NaN everywhere if it is undefined."""
    (source,) = sources
    layers, stimuli = source.read()
    ((name, layer),) = layers.items()
    rows = _test_rows(stimuli)
    attempted = attempt(lambda: rdm(layer[rows], method=distance, name=name))
    if attempted.value is None or np.isnan(attempted.value).all():
        empty = np.full(len(rows) * (len(rows) - 1) // 2, np.nan, dtype=np.float32)
        return TaskResult({"rdm": empty}, undefined=[Undefined(0, name, "rdm", attempted.reason)])
    return TaskResult({"rdm": attempted.value.astype(np.float32)}, warnings=attempted.warnings)


def compute_class_structure(folder: Path, *, sources: Sequence[Source], rdm: str) -> TaskResult:
    """Return the mean distance between classes minus that within classes, and the warnings of the RDM.

    ``rdm`` is the key of the RDM in the cache of the folder.
    """
    (source,) = sources
    _, stimuli = source.read()
    matrix = AnalysisCache(folder).read(rdm)
    undefined = list(matrix.undefined)
    if undefined:
        value, messages, reason = math.nan, [], undefined[0].reason
    else:
        attempted = attempt(lambda: class_structure(matrix.arrays["rdm"], stimuli.labels[_test_rows(stimuli)]))
        value = math.nan if attempted.value is None else float(attempted.value)
        messages, reason = attempted.warnings, attempted.reason
    if finite(value) is None:
        undefined.append(Undefined(0, source.layers[0], "class_structure", reason))
        messages = []
    values = {"class_structure": finite(value)}
    return TaskResult(values=values, warnings=[*matrix.warnings, *messages], undefined=undefined)


def correlate_rdms(
    folder: Path, *, sources: Sequence[Source], rdms: Sequence[str], comparators: Sequence[str]
) -> TaskResult:
    """Return correlations of two RDMs over the pairs of stimuli whose distance is defined in both.

    ``rdms`` are the keys of the RDMs in the cache of the folder.
    """
    matrices = [AnalysisCache(folder).read(key) for key in rdms]
    for position, matrix in enumerate(matrices):
        if matrix.undefined:
            empty = dict.fromkeys(comparators)
            return _undefined_correlation(sources, position, empty, matrix.undefined[0].reason)
    pair = np.stack([matrix.arrays["rdm"] for matrix in matrices])
    pair[:, np.isnan(pair).any(axis=0)] = np.nan
    attempts = {name: attempt(partial(compare_rdms, pair[0], pair[1], method=name)) for name in comparators}
    values = {name: finite(each.value) for name, each in attempts.items()}
    missing = [each for name, each in attempts.items() if values[name] is None]
    if missing:
        return _undefined_correlation(sources, 1, values, missing[0].reason)
    return TaskResult(values=values, warnings=[message for each in attempts.values() for message in each.warnings])


def _undefined_correlation(
    sources: Sequence[Source], position: int, values: Mapping[str, float | None], reason: str
) -> TaskResult:
    """Return correlations of which some are undefined because of the layer of one source."""
    layer = sources[position].layers[0]
    return TaskResult(values=values, undefined=[Undefined(position, layer, "rdm_similarity", reason)])


def compute_similarity(folder: Path, *, sources: Sequence[Source], measure: str) -> TaskResult:
    """Return the similarity of every layer of the first source with every layer of the last, in both directions."""
    sides = [_arrays(source) for source in sources]
    forth = compare_layers(sides, measure)
    arrays = {"forth": forth.values}
    if len(sides) == 2:
        symmetric = MEASURES[measure].is_symmetric
        arrays["back"] = forth.values.T if symmetric else compare_layers(sides[::-1], measure).values
    return TaskResult(arrays, warnings=forth.warnings, undefined=forth.undefined)


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
