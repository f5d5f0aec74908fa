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
    """Compare every model RDM with every data RDM under bootstrap samples of stimuli.

    Parameters
    ----------
    models : array (p, m)
        Condensed, without NaN.
    data : array (q, m)
    counts : array (n_samples, n)
        How often each stimulus was drawn; all ones is the data without resampling.
    comparator : Comparator
        With a weighted form, pairs are weighted by how often they were drawn; without, RDMs are compared over the
        distinct stimuli that were drawn.
    ceilings : bool, default True
        Whether the ceilings are needed; they may be NaN otherwise.

    Examples
    --------
    >>> from repsim.similarity import COMPARATORS
    >>> D = np.array([[1.0, 2.0, 4.0]])
    >>> resampled_values(D, D, np.array([[1, 1, 1]]), COMPARATORS["pearson"]).values
    array([[[1.]]])
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
    """Compare every model with every data RDM, and the best possible models with the data.

    Returns
    -------
    values : array (p, q)
    lower, upper : array (q,)
        Values of the pool of all other data RDMs, and of the pool of all; ``lower`` is NaN for a single data RDM. All
        are NaN if the comparator is not defined for one of the data RDMs.

    Examples
    --------
    >>> from repsim.similarity import COMPARATORS
    >>> D = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 3.0]])
    >>> compare_with_ceilings(COMPARATORS["pearson"], D[:1], D)[0].round(3)
    array([[1.   , 0.982]])
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
