"""Comparisons of RDMs under resampled stimuli.

Comparators with a weighted form see how often each stimulus was drawn (`comparators.resampled`). For the others, copies
of a stimulus have no meaning: a pair of copied pairs is neither concordant nor discordant, and a covariance or Gram
matrix with repeated rows is that of fewer stimuli. They are compared over the distinct stimuli that were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from repsim.similarity.comparators.comparator import Comparator
from repsim.similarity.comparators.resampled import Counts, Resampled
from repsim.similarity.distances.tiles import condensed_index
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm_pairs import compare_prepared

# Fewer distinct stimuli have at most a single distance, over which no comparison has a meaning.
LEAST_STIMULI = 3


def resampled_values(
    models: FloatArray, data: FloatArray, counts: Counts, comparator: Comparator, *, ceilings: bool = True
) -> Resampled:
    """Compare every model RDM (p, m) with every data RDM (q, m) under samples of stimuli, drawn ``counts`` times each.

    With a weighted form of the comparator, pairs are weighted by how often they were drawn; without, RDMs are compared
    over the distinct stimuli that were drawn. Ceilings may be NaN if they are not needed.
    """
    rdms, p = np.concatenate([models, data]), len(models)
    shape = len(counts), p, len(data)
    result = Resampled(*(np.full(each, np.nan) for each in (shape, shape[::2], shape[::2])))
    enough = np.flatnonzero((counts > 0).sum(axis=1) >= LEAST_STIMULI)
    if comparator.weighted is None:
        drawn, place = np.unique(counts[enough] > 0, axis=0, return_inverse=True)  # each set of stimuli once
        sets = by_resampling(comparator, rdms, drawn.astype(np.int64), p, ceilings=ceilings)
        result.put(enough, sets.take(place.ravel()))
        return result
    weighted, is_accurate = comparator.weighted(rdms, counts[enough], p, ceilings=ceilings)
    result.put(enough, weighted)
    again = enough[~is_accurate]
    result.put(again, by_resampling(comparator, rdms, counts[again], p, ceilings=ceilings))
    return result


def by_resampling(
    comparator: Comparator, rdms: FloatArray, counts: Counts, p: int, *, ceilings: bool = True
) -> Resampled:
    """Compare RDMs whose pairs are copied as often as they were drawn; copies of one stimulus form no pair.

    The definition of a resampled comparison, without weights.
    """
    samples = []
    for drawn in counts:
        stimuli = np.repeat(np.arange(len(drawn)), drawn)
        one, other = np.triu_indices(len(stimuli), 1)
        a, b = stimuli[one], stimuli[other]  # in ascending order
        resampled = rdms[:, condensed_index(a, b, len(drawn))[a != b]]
        samples.append(compare_with_ceilings(comparator, resampled[:p], resampled[p:], ceilings=ceilings))
    return Resampled.stacked(samples, p, len(rdms) - p)


def compare_with_ceilings(
    comparator: Comparator, models: FloatArray, data: FloatArray, *, ceilings: bool = True
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return values of models (p, q), and of the pool of all other data RDMs (q,) and of all data RDMs (q,).

    The second is NaN for a single data RDM, and both are NaN if the comparator is not defined for one of the data RDMs.
    """
    prepared = [comparator.prepare(rdm) for rdm in data]

    def all_with(rdms: Sequence[FloatArray], targets: Sequence[Any]) -> FloatArray:
        return compare_prepared(comparator, [comparator.prepare(rdm) for rdm in rdms], targets)

    q = len(data)
    values = all_with(list(models), prepared)
    if not ceilings or any(each is None for each in prepared):
        return values, np.full(q, np.nan), np.full(q, np.nan)
    upper = all_with([comparator.pool(data)], prepared)[0]
    if q == 1:
        return values, np.full(1, np.nan), upper
    lower = [all_with([comparator.pool(np.delete(data, k, axis=0))], prepared[k : k + 1])[0, 0] for k in range(q)]
    return values, np.array(lower), upper
