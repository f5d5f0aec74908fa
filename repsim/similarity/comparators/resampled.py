r"""Weighted forms of comparators: RDMs of resampled stimuli, from how often each stimulus was drawn.

A pair of stimuli that were drawn :math:`c_i` and :math:`c_j` times occurs :math:`c_i c_j` times in the resampled RDM,
and copies of one stimulus form no pair. So a resampled comparison is the weighted comparison of the original RDMs, with
weights :math:`w_{ij} = c_i c_j`. Nothing is copied, and the sums of all samples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.comparators.ties import TiedOrder
from repsim.similarity.precision import FloatArray

Counts = NDArray[np.int64]
Weighted = tuple["Resampled", NDArray[np.bool_]]

# Bytes of weights held at a time.
MEMORY = 256 * 2**20
# Bytes of weights that are used while they are in the cache of a processor.
CACHE = 4 * 2**20
# Weighted variances below this fraction of the mean square have lost half of their digits.
CANCELLED = 1e-8


@dataclass(frozen=True, eq=False)
class Resampled:
    """Comparisons under every bootstrap sample.

    Attributes
    ----------
    values : array (n_samples, n_models, n_data)
        NaN where the comparator is not defined for the stimuli that were drawn.
    lower, upper : array (n_samples, n_data)
        Noise ceilings: the value of the best possible model with each data RDM, where that model is the best for all
        other data RDMs (lower) or for all of them (upper).
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray

    def put(self, places: NDArray[np.intp], other: Resampled) -> None:
        """Overwrite some samples."""
        self.values[places], self.lower[places], self.upper[places] = other.values, other.lower, other.upper

    def take(self, places: NDArray[np.intp]) -> Resampled:
        """Return the samples at some positions, which may repeat."""
        return Resampled(self.values[places], self.lower[places], self.upper[places])

    @classmethod
    def stacked(cls, samples: Sequence[tuple[FloatArray, FloatArray, FloatArray]], p: int, q: int) -> Resampled:
        """Stack values (p, q) and ceilings (q,) of zero or more samples."""
        shapes = (p, q), (q,), (q,)
        columns = ([sample[k] for sample in samples] for k in range(3))
        stacks = (np.reshape(column, (len(samples), *shape)) for column, shape in zip(columns, shapes, strict=True))
        return cls(*stacks)


def weighted_cosines(rdms: FloatArray, counts: Counts, p: int, *, ceilings: bool, centre: bool) -> Weighted:
    """Compute cosines of weighted RDMs, or correlations, from weighted sums of products.

    Parameters
    ----------
    rdms : array (p + q, m)
        Models, then data.
    counts : array (n_samples, n)
        How often each stimulus was drawn.
    p : int
        Number of models.
    ceilings : bool
        Whether the ceilings are needed; they are computed in any case.
    centre : bool
        Whether the weighted mean is subtracted (pearson).

    Returns
    -------
    Resampled
    array of bool (n_samples,)
        Which samples have lost no more than half of their digits to the subtraction of the mean.
    """
    grams, is_accurate = _weighted_products(rdms, counts, p, centre=centre)
    return _from_grams(grams, p), is_accurate


def _from_grams(grams: FloatArray, p: int) -> Resampled:
    """Return values and ceilings from inner products of RDMs (n_samples, p + q, p + q)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.diagonal(grams, axis1=1, axis2=2)
        lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
        cosines = np.clip(grams / (lengths[:, :, None] * lengths[:, None, :]), -1.0, 1.0)
        among = cosines[:, p:, p:]  # of the data, whose mean direction is the best model
        sums = among.sum(axis=2)  # (n_samples, q)
        total = sums.sum(axis=1, keepdims=True)
        upper = sums / np.sqrt(total)
        # Without data RDM k: its product with the sum of all others, and the squared length of that sum.
        lower = (sums - 1) / np.sqrt(total - 2 * sums + 1)
    lower = lower if among.shape[1] > 1 else np.full_like(lower, np.nan)
    return Resampled(cosines[:, :p, p:], np.clip(lower, -1.0, 1.0), np.clip(upper, -1.0, 1.0))


def _weighted_products(
    rdms: FloatArray, counts: Counts, p: int, *, centre: bool
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return weighted inner products (n_samples, k, k) of RDMs or their deviations, and which samples are accurate."""
    scaled = rdms / np.abs(rdms).max(axis=1, keepdims=True)  # the inner products of directions do not depend on it
    if centre:
        scaled = scaled - scaled.mean(axis=1, keepdims=True)
    k = len(rdms)
    first, second = _needed(k, p)
    products, sums = np.zeros((len(first), len(counts))), np.zeros((k + 1, len(counts)))
    for samples, span, weights in _weights(counts):
        distances = scaled[:, span]
        products[:, samples] += (distances[first] * distances[second]) @ weights
        if centre:
            sums[:k, samples] += distances @ weights
            sums[k, samples] += weights.sum(axis=0)
    is_accurate = np.ones(len(counts), dtype=bool)
    if centre:
        own = first == second
        before = products[own]
        products -= sums[first] * sums[second] / sums[k]
        is_accurate = (products[own] > CANCELLED * before).all(axis=0)
    grams = np.full((len(counts), k, k), np.nan)
    grams[:, first, second] = grams[:, second, first] = products.T
    return grams, is_accurate


def _needed(k: int, p: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the required pairs of k RDMs, p models and then the data: each with itself, and all with the data."""
    first, second = np.triu_indices(k)
    required = (second >= p) | (first == second)
    return first[required], second[required]


def _weights(counts: Counts) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Yield a slice of samples, a slice of pairs of stimuli, and the weights (n_pairs, n_samples) of these pairs."""
    # The pairs of one or a few stimuli with all later ones: as many as fit in the cache of a processor.
    n = counts.shape[1]
    at_a_time = max(1, MEMORY // (8 * 4 * n))  # of four such arrays
    for start in range(0, len(counts), at_a_time):
        samples = slice(start, start + at_a_time)
        drawn = np.ascontiguousarray(counts[samples].T, dtype=np.float64)  # (n, n_samples)
        most = max(n - 1, min(CACHE, MEMORY // 4) // drawn[0].nbytes)
        room = np.empty((most, drawn.shape[1]))
        begin = end = 0
        for i in range(n - 1):
            np.multiply(drawn[i], drawn[i + 1 :], out=room[end - begin : end - begin + n - 1 - i])
            end += n - 1 - i
            if i == n - 2 or end - begin + n - 2 - i > most:
                yield samples, slice(begin, end), room[: end - begin]
                begin = end


def weighted_rank_correlations(rdms: FloatArray, counts: Counts, p: int, *, ceilings: bool, exact: bool) -> Weighted:
    """Compute correlations of the ranks of weighted RDMs.

    Ranks are multiplied and divided by the lengths of these ranks (spearman, ``exact``), or by the length of ranks
    without ties (rho-a). The ceilings are NaN if they are not needed.
    """
    i, j = np.triu_indices(counts.shape[1], 1)
    ascending = [TiedOrder.of(rdm) for rdm in rdms]
    samples = []
    for drawn in counts:
        weights = (drawn[i] * drawn[j]).astype(np.float64)
        kept = weights > 0
        weights, place = weights[kept], np.cumsum(kept) - 1
        ranks = np.stack([each.among(kept, place).ranks(weights) for each in ascending])  # (p + q, n_kept)
        best = _best_ranks(ranks[p:]) if ceilings else np.empty((0, len(weights)))
        pooled = [TiedOrder.of(each).ranks(weights) for each in best]  # 1 + q of (n_kept,)
        samples.append(_rank_correlations(ranks, pooled, weights, p, exact=exact))
    return Resampled.stacked(samples, p, len(rdms) - p), np.ones(len(counts), dtype=bool)


def _best_ranks(ranks: FloatArray) -> FloatArray:
    """Return the mean ranks of all data RDMs, and those without each of them."""
    total, q = ranks.sum(axis=0), len(ranks)
    return np.concatenate([total[None] / q, (total - ranks) / max(q - 1, 1)])


def _rank_correlations(
    ranks: FloatArray, pooled: Sequence[FloatArray], weights: FloatArray, p: int, *, exact: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return values (p, q) and the two ceilings (q,) of one sample."""
    total, q = weights.sum(), len(ranks) - p
    deviations = np.stack([*ranks, *pooled]) - (total + 1) / 2
    products = (deviations * weights) @ deviations[p : p + q].T  # (p + q + 1 + q, q), or without ceilings (p + q, q)
    squares = np.square(deviations) @ weights
    squares[squares == 0] = np.nan  # all distances are tied
    if not exact:
        squares[squares > 0] = (total**3 - total) / 12
    lengths = np.sqrt(squares)
    values = np.clip(products / (lengths[:, None] * lengths[p : p + q]), -1.0, 1.0)
    undefined = np.full(q, np.nan)
    lower = np.diagonal(values[p + q + 1 :]) if q > 1 and len(pooled) else undefined
    return values[:p], lower, values[p + q] if len(pooled) else undefined
