"""Similarity of many layers at once: of all layers of a batch of sources, or of those of two batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.tasks.analysis_tasks import warnings_about
from analysis.comparison.tasks.pairs import Similarities, compare_layers
from analysis.comparison.undefined import attempt
from analysis.execution.cache import Undefined
from repsim.similarity import MEASURES, pairwise

__all__ = ["BatchSimilarities", "compare_batches"]

_MEMORY = 32 * 2**20  # of products, so that a process stays below 700 MB

Layers = Mapping[str, NDArray[Any]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class BatchSimilarities:
    """Values of a measure for the layers of one batch with those of another: ``forth``, and ``back`` if there are two.

    Rows and columns are the layers of the sources of a batch, one source after the other. ``messages`` are the warnings
    with the positions of the sources that they are about.
    """

    arrays: dict[str, Values]
    undefined: list[Undefined]
    messages: dict[str, Any]


def compare_batches(sources: Sequence[Layers], batches: Sequence[Sequence[int]], measure: str) -> BatchSimilarities:
    """Compare the layers of the sources at some positions with those at others, or with one another.

    All are compared at once, which prepares each layer once. If the measure rejects a layer, is undefined for one or
    warns, each pair of sources is compared by itself, so that reasons name sources and layers.
    """
    arrays = _at_once(sources, batches, measure)
    if arrays is not None:
        return BatchSimilarities(arrays, [], {})
    return _by_source(sources, batches, measure)


def _at_once(sources: Sequence[Layers], batches: Sequence[Sequence[int]], measure: str) -> dict[str, Values] | None:
    sides = [
        {f"{position}/{name}": X for position in batch for name, X in sources[position].items()} for batch in batches
    ]
    both = [("forth", sides)]
    if len(sides) == 2 and not MEASURES[measure].is_symmetric:
        both.append(("back", sides[::-1]))
    found = {}
    for name, ordered in both:
        attempted = attempt(lambda: pairwise(*ordered, measure=measure, memory=_MEMORY).values)  # noqa: B023, called here
        if attempted.value is None or attempted.warnings or np.isnan(attempted.value).any():
            return None
        found[name] = attempted.value
    if len(sides) == 2:
        found.setdefault("back", found["forth"].T)
    return found


def _by_source(sources: Sequence[Layers], batches: Sequence[Sequence[int]], measure: str) -> BatchSimilarities:
    rows, columns = (_places(sources, batches[side]) for side in (0, -1))
    shape = (sum(map(len, rows.values())), sum(map(len, columns.values())))
    forth, back = np.full(shape, np.nan), np.full(shape[::-1], np.nan)
    undefined: list[Undefined] = []
    messages: dict[str, Any] = {}
    for i in rows:
        for j in columns:
            if len(batches) == 1 and j < i:
                continue
            there = compare_layers([sources[i]] if i == j else [sources[i], sources[j]], measure)
            forth[np.ix_(rows[i], columns[j])] = there.values
            back[np.ix_(columns[j], rows[i])] = _backward(there, sources[i], sources[j], measure)
            undefined += [_at_source(each, [i, j]) for each in there.undefined]
            messages = warnings_about(list(dict.fromkeys([i, j])), there.warnings, messages)
    if len(batches) == 1:
        missing = np.isnan(forth)
        forth[missing] = back[missing]
        return BatchSimilarities({"forth": forth}, undefined, messages)
    return BatchSimilarities({"forth": forth, "back": back}, undefined, messages)


def _backward(there: Similarities, first: Layers, second: Layers, measure: str) -> Values:
    """Return the similarity of the layers of the second source with those of the first."""
    if first is second:
        return there.values
    if MEASURES[measure].is_symmetric:
        return there.values.T
    return compare_layers([second, first], measure).values


def _places(sources: Sequence[Layers], batch: Sequence[int]) -> dict[int, range]:
    """Return the places of the layers of each source of a batch in the rows or columns of the matrix."""
    places, start = {}, 0
    for position in batch:
        places[position] = range(start, start + len(sources[position]))
        start += len(sources[position])
    return places


def _at_source(undefined: Undefined, positions: Sequence[int]) -> Undefined:
    """Return why a value is undefined with the position of its source among all, given those of a pair."""
    return undefined._replace(source=positions[undefined.source])
