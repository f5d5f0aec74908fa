"""Tied distances: distances that differ only by rounding error at their own magnitude.

Without ties, ranks would order rounding errors. Whether two distances are tied depends on these two only, not on the
largest distance of the RDM: one stimulus far away from all others does not change the ranks of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.comparators.ascending import sort_stably
from repsim.similarity.precision import SINGLE, FloatArray, epsilon_of

# Rounding error of a distance, relative to the distance, in double and in single precision, including that of the
# activations.
DOUBLE_ROUNDING = 1e-12
SINGLE_ROUNDING = 12 * SINGLE
# Distances that are handled at a time, so that all that is computed of them remains in the cache of a processor.
BLOCK = 2**15


def levels(distances: FloatArray) -> NDArray[np.int64]:
    """Return the position of every distance among the distinct ones; tied distances have the same position."""
    ascending, order = sort_stably(distances)
    numbers = np.empty(len(distances), dtype=np.int64)
    numbers[order] = np.cumsum(starts_of_ties(ascending)) - 1
    return numbers


def ranks(distances: FloatArray) -> FloatArray:
    """Return the rank of every distance, starting with 1; tied distances have the same mean rank."""
    ascending, order = sort_stably(distances)
    ranks = np.empty(len(distances))
    for bounds in _blocks_of_groups(starts_of_ties(ascending)):
        middles = (bounds[:-1] + bounds[1:] + 1) / 2
        ranks[order[bounds[0] : bounds[-1]]] = np.repeat(middles, np.diff(bounds))
    return ranks


@dataclass(frozen=True, eq=False)
class TiedOrder:
    """Ascending order of the distances of an RDM, and where runs of tied distances begin.

    Parameters
    ----------
    order : array (m,)
        Positions of the distances from the smallest to the largest; tied distances are in the order of the RDM.
    begins : array of bool (m,)
        Whether a distance, in this order, is the first of its run.
    """

    order: NDArray[np.intp]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, rdm: FloatArray) -> TiedOrder:
        """Sort the distances of an RDM (m,)."""
        numbers = levels(rdm)
        order = np.argsort(numbers, kind="stable")
        return cls(order, np.diff(numbers[order], prepend=-1) > 0)

    def among(self, kept: NDArray[np.bool_], place: NDArray[np.intp]) -> TiedOrder:
        """Return the order of the remaining pairs, by their new places."""
        stays = kept[self.order]
        if self.begins.all():
            begins = np.ones(int(stays.sum()), dtype=bool)
        else:
            run = np.cumsum(self.begins)[stays]
            begins = np.concatenate([[True], run[1:] > run[:-1]])
        return TiedOrder(place[self.order[stays]], begins)

    def ranks(self, weights: FloatArray) -> FloatArray:
        """Return the mean rank of every pair if each occurs as often as its weight."""
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


def starts_of_ties(ascending: FloatArray) -> NDArray[np.bool_]:
    """Return the start of each group of tied distances.

    A distance is tied with its predecessor if they differ by no more than rounding error, and if their group spans no
    more than that. The second condition matters for RDMs of many stimuli, whose neighbouring distances may all differ
    by less than rounding error: such a chain is cut into groups as wide as the rounding error.
    """
    rounding = relative_rounding(ascending)
    starts = np.ones(len(ascending), dtype=bool)
    for begin in range(1, len(ascending), BLOCK):
        values = ascending[begin - 1 : begin + BLOCK].astype(np.float64)
        with np.errstate(over="ignore"):  # the difference of two huge distances of opposite signs is infinite
            np.greater(np.diff(values), rounding * _larger(values[:-1], values[1:]), out=starts[begin : begin + BLOCK])
    for bounds in _blocks_of_groups(starts):
        values = ascending[bounds[0] : bounds[-1]].astype(np.float64)
        starts[bounds[0] : bounds[-1]] |= _cuts(values, bounds - bounds[0], rounding)
    return starts


def _cuts(ascending: FloatArray, bounds: NDArray[np.intp], rounding: float) -> NDArray[np.bool_]:
    """Return where groups of distances, whose bounds are given, are cut because they are too wide."""
    counts = np.diff(bounds)
    low, high = ascending[bounds[:-1]], ascending[bounds[1:] - 1]
    with np.errstate(over="ignore"):
        is_wide = high - low > rounding * _larger(low, high)
    # Groups are cut on a logarithmic scale: none contains zero or a change of sign, where neighbours are never tied.
    members = np.flatnonzero(np.repeat(is_wide, counts))
    places = ascending[members] / np.repeat(low[is_wide], counts[is_wide])
    for step in (np.log, np.abs):
        step(places, out=places)
    places /= rounding
    np.floor(places, out=places)
    cuts = np.zeros(len(ascending), dtype=bool)
    cuts[members[1:]] = places[1:] != places[:-1]
    return cuts


def _blocks_of_groups(starts: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """Yield the bounds of successive groups, from the start of the first to the end of the last of each block."""
    bounds = np.append(np.flatnonzero(starts), len(starts))
    places = np.searchsorted(bounds, np.arange(0, len(starts), BLOCK))
    for first, last in pairwise(np.unique(np.append(places, len(bounds) - 1))):
        yield bounds[first : last + 1]


def relative_rounding(distances: FloatArray) -> float:
    """Return the rounding error of distances relative to their own magnitude."""
    return SINGLE_ROUNDING if epsilon_of(distances) == SINGLE else DOUBLE_ROUNDING


def is_constant(distances: FloatArray) -> bool:
    """Return whether all distances are equal up to rounding error."""
    if distances.size < 2:
        return True
    low, high = distances.min(), distances.max()
    with np.errstate(over="ignore"):
        if high - low > SINGLE_ROUNDING * _larger(low, high):
            return False
        return bool(high - low <= relative_rounding(distances) * _larger(low, high))


def _larger(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.maximum(np.abs(a), np.abs(b))
