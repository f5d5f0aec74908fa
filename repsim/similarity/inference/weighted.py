r"""Comparisons of RDMs under resampled stimuli, from how often each stimulus was drawn.

A pair of stimuli that were drawn :math:`c_i` and :math:`c_j` times stands :math:`c_i c_j` times in the resampled RDM,
and copies of one stimulus form no pair. So a resampled comparison is the weighted comparison of the original RDMs, with
weights :math:`w_{ij} = c_i c_j`; nothing is copied, and the sums of all samples are one matrix product.

Pearson, cosine, spearman and rho-a have such a weighted form. For the other comparators copies have no meaning: a pair
of copied pairs is neither concordant nor discordant, and a covariance or Gram matrix of which rows repeat is that of
fewer stimuli. These are compared over the distinct stimuli that were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.comparators.ties import levels
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm_pairs import compare_prepared

Counts = NDArray[np.int64]

# Comparators that are defined for weighted pairs of stimuli; others see which stimuli were drawn, not how often.
WEIGHTED = ("pearson", "cosine", "spearman", "rho-a")
# Over fewer distinct stimuli than this, that is, over a single distance, no comparison means anything.
LEAST_STIMULI = 3
# Bytes of weights that are used while a processor still has them at hand.
CACHE = 4 * 2**20
# Weighted variances this small beside the mean square have lost half of their digits; they are computed in another way.
CANCELLED = 1e-8


@dataclass(frozen=True, eq=False)
class Resampled:
    """Comparisons under every bootstrap sample.

    Attributes
    ----------
    values : array (n_samples, n_models, n_data)
        NaN where the comparator is not defined for the stimuli that were drawn.
    lower, upper : array (n_samples, n_data)
        What the best possible model would reach with each data RDM: found without that RDM, and with it.
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray

    def put(self, places: NDArray[np.intp], other: Resampled) -> None:
        """Overwrite some samples."""
        self.values[places], self.lower[places], self.upper[places] = other.values, other.lower, other.upper

    def take(self, places: NDArray[np.intp]) -> Resampled:
        """Return some samples, repeated if their place is."""
        return Resampled(self.values[places], self.lower[places], self.upper[places])


def resampled_values(
    models: FloatArray,
    data: FloatArray,
    counts: Counts,
    method: str,
    *,
    memory: int = 256 * 2**20,
    ceilings: bool = True,
) -> Resampled:
    """Compare every model RDM with every data RDM under bootstrap samples of stimuli.

    Parameters
    ----------
    models : array (p, m)
        Condensed, without NaN.
    data : array (q, m)
    counts : array (n_samples, n)
        How often each stimulus was drawn; all ones is the data as they are.
    method : str
        A key of `COMPARATORS`. For those in `WEIGHTED`, pairs are weighted by how often they were drawn; others are
        compared over the distinct stimuli that were drawn.
    memory : int, default 256 MiB
        Bound in bytes on the weights that are held at a time.
    ceilings : bool, default True
        Whether the ceilings are wanted; they may be NaN otherwise.

    Returns
    -------
    Resampled

    Examples
    --------
    >>> D = np.array([[1.0, 2.0, 4.0]])
    >>> resampled_values(D, D, np.array([[1, 1, 1]]), "pearson").values
    array([[[1.]]])
    """
    rdms, p = np.concatenate([models, data]), len(models)
    shape = len(counts), p, len(data)
    result = Resampled(*(np.full(each, np.nan) for each in (shape, shape[::2], shape[::2])))
    enough = np.flatnonzero((counts > 0).sum(axis=1) >= LEAST_STIMULI)
    if method in ("pearson", "cosine"):
        grams, is_accurate = _weighted_products(rdms, counts[enough], p, memory, centre=method == "pearson")
        result.put(enough, _from_grams(grams, p))
        again = enough[~is_accurate]
        result.put(again, _by_resampling(COMPARATORS[method], rdms, counts[again], p, ceilings=ceilings))
    elif method in ("spearman", "rho-a"):
        result.put(enough, _by_ranks(rdms, counts[enough], p, exact=method == "spearman", ceilings=ceilings))
    else:
        drawn, place = np.unique(counts[enough] > 0, axis=0, return_inverse=True)  # each set of stimuli once
        sets = _by_resampling(COMPARATORS[method], rdms, drawn.astype(np.int64), p, ceilings=ceilings)
        result.put(enough, sets.take(place.ravel()))
    return result


def _from_grams(grams: FloatArray, p: int) -> Resampled:
    """Values and ceilings from inner products of RDMs (n_samples, p + q, p + q)."""
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


# Pearson and cosine: weighted sums of products.


def _weighted_products(
    rdms: FloatArray, counts: Counts, p: int, memory: int, *, centre: bool
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return weighted inner products (n_samples, k, k) of RDMs, or of their deviations from the weighted mean.

    And which samples have lost no more than half of their digits to the subtraction of the mean, (n_samples,).
    """
    scaled = rdms / np.abs(rdms).max(axis=1, keepdims=True)  # the inner products of directions do not depend on it
    if centre:
        scaled = scaled - scaled.mean(axis=1, keepdims=True)
    k = len(rdms)
    first, second = _needed(k, p)
    products, sums = np.zeros((len(first), len(counts))), np.zeros((k + 1, len(counts)))
    for samples, span, weights in _weights(counts, memory):
        part = scaled[:, span]
        products[:, samples] += (part[first] * part[second]) @ weights
        if centre:
            sums[:k, samples] += part @ weights
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
    """Which of k RDMs meet: each with itself, and all with the data, which come after p models."""
    first, second = np.triu_indices(k)
    asked = (second >= p) | (first == second)
    return first[asked], second[asked]


def _weights(counts: Counts, memory: int) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Give samples, consecutive pairs of stimuli, and the weights (n_pairs, n_samples) of these in those.

    The pairs are those of one stimulus, or of a few, with all that follow: as many as stay in the cache of a processor.
    """
    n = counts.shape[1]
    at_a_time = max(1, memory // (8 * 4 * n))  # of four such arrays
    for start in range(0, len(counts), at_a_time):
        samples = slice(start, start + at_a_time)
        drawn = np.ascontiguousarray(counts[samples].T, dtype=np.float64)  # (n, n_samples)
        most = max(n - 1, min(CACHE, memory // 4) // drawn[0].nbytes)
        room = np.empty((most, drawn.shape[1]))
        begin = end = 0
        for i in range(n - 1):
            np.multiply(drawn[i], drawn[i + 1 :], out=room[end - begin : end - begin + n - 1 - i])
            end += n - 1 - i
            if i == n - 2 or end - begin + n - 2 - i > most:
                yield samples, slice(begin, end), room[: end - begin]
                begin = end


# Spearman and rho-a: ranks among weighted pairs.


def _by_ranks(rdms: FloatArray, counts: Counts, p: int, *, exact: bool, ceilings: bool = True) -> Resampled:
    """Spearman, or rho-a if not exact: products of weighted ranks, divided by their lengths or by that without ties."""
    i, j = np.triu_indices(counts.shape[1], 1)
    ascending = [_Ascending.of(rdm) for rdm in rdms]
    samples = []
    for drawn in counts:
        weights = (drawn[i] * drawn[j]).astype(np.float64)
        kept = weights > 0
        weights, place = weights[kept], np.cumsum(kept) - 1
        ranks = np.stack([each.among(kept, place).ranks(weights) for each in ascending])  # (p + q, n_kept)
        best = _best_ranks(ranks[p:]) if ceilings else np.empty((0, len(weights)))
        pooled = [_Ascending.of(each).ranks(weights) for each in best]  # 1 + q of (n_kept,)
        samples.append(_rank_correlations(ranks, pooled, weights, p, exact=exact))
    return _stacked(samples, p, len(rdms) - p)


def _best_ranks(ranks: FloatArray) -> FloatArray:
    """Mean ranks of all data, and of all but each."""
    total, q = ranks.sum(axis=0), len(ranks)
    return np.concatenate([total[None] / q, (total - ranks) / max(q - 1, 1)])


def _rank_correlations(
    ranks: FloatArray, pooled: Sequence[FloatArray], weights: FloatArray, p: int, *, exact: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values (p, q) and the two ceilings (q,) of one sample."""
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


@dataclass(frozen=True, eq=False)
class _Ascending:
    """The order of an RDM's distances, found once, and where runs of equal ones begin."""

    order: NDArray[np.intp]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, rdm: FloatArray) -> _Ascending:
        numbers = levels(rdm)
        order = np.argsort(numbers, kind="stable")
        return cls(order, np.diff(numbers[order], prepend=-1) > 0)

    def among(self, kept: NDArray[np.bool_], place: NDArray[np.intp]) -> _Ascending:
        """Return the order of the pairs that are kept, by their new places."""
        stays = kept[self.order]
        if self.begins.all():
            begins = np.ones(int(stays.sum()), dtype=bool)
        else:
            run = np.cumsum(self.begins)[stays]
            begins = np.concatenate([[True], run[1:] > run[:-1]])
        return _Ascending(place[self.order[stays]], begins)

    def ranks(self, weights: FloatArray) -> FloatArray:
        """Return the mean rank of every pair where each stands as often as its weight says."""
        ordered = weights[self.order]
        if self.begins.all():
            middle = np.cumsum(ordered) - ordered / 2
        else:
            starts = np.flatnonzero(self.begins)
            inside = np.add.reduceat(ordered, starts)
            middle = np.repeat(np.cumsum(inside) - inside / 2, np.diff(starts, append=len(ordered)))
        ranks = np.empty_like(weights)
        ranks[self.order] = middle + 0.5
        return ranks


# All others: RDMs that are really resampled.


def _by_resampling(
    comparator: Comparator, rdms: FloatArray, counts: Counts, p: int, *, ceilings: bool = True
) -> Resampled:
    """Compare RDMs of which pairs are copied as often as they were drawn; copies of one stimulus form no pair."""
    samples = []
    for drawn in counts:
        stimuli = np.repeat(np.arange(len(drawn)), drawn)
        one, other = np.triu_indices(len(stimuli), 1)
        a, b = stimuli[one], stimuli[other]  # in ascending order
        place = a * len(drawn) - a * (a + 1) // 2 + b - a - 1
        resampled = rdms[:, place[a != b]]
        samples.append(compare_with_ceilings(comparator, resampled[:p], resampled[p:], ceilings=ceilings))
    return _stacked(samples, p, len(rdms) - p)


def _stacked(samples: Sequence[tuple[FloatArray, FloatArray, FloatArray]], p: int, q: int) -> Resampled:
    shapes = (p, q), (q,), (q,)
    each = ([sample[part] for sample in samples] for part in range(3))
    return Resampled(*(np.reshape(part, (len(samples), *shape)) for part, shape in zip(each, shapes, strict=True)))


def compare_with_ceilings(
    comparator: Comparator, models: FloatArray, data: FloatArray, *, ceilings: bool = True
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compare every model with every data RDM, and the best possible models with the data.

    Parameters
    ----------
    comparator : Comparator
    models : array (p, m)
    data : array (q, m)
    ceilings : bool, default True
        Whether the ceilings are wanted; they are NaN otherwise.

    Returns
    -------
    values : array (p, q)
    lower, upper : array (q,)
        Of the pool of all other data RDMs, and of all; ``lower`` is NaN for a single one. All are NaN if the comparator
        is not defined for one of the data RDMs.

    Examples
    --------
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
