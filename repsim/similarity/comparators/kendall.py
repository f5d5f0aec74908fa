r"""Kendall's tau of RDMs: the difference of the numbers of concordant and discordant pairs of distances.

With c concordant and d discordant among the :math:`N = m (m - 1) / 2` pairs of distances, of which :math:`N_a` are tied
in a and :math:`N_b` in b,

.. math:: \tau_a = \frac{c - d}{N}, \qquad \tau_b = \frac{c - d}{\sqrt{(N - N_a)(N - N_b)}}

Tau-b is biased upwards for models that tie distances; tau-a treats ties as neither concordant nor discordant. Both take
O(m log m). If all distances are tied, tau-a is not defined, like all other comparators.

References
----------
Knight (1966). A computer method for calculating Kendall's tau with ungrouped data. JASA 61(314).
Nili et al. (2014). A toolbox for representational similarity analysis. PLoS Computational Biology 10(4).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.comparators.comparator import TRANSFORMATIONS, About, Comparator
from repsim.similarity.comparators.correlations import mean_rank
from repsim.similarity.comparators.ties import TiedOrder, is_constant
from repsim.similarity.precision import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Order and ranks of the distances of an RDM.

    Parameters
    ----------
    order : array (m,)
        Positions of the distances from the smallest to the largest.
    below : array (m,)
        Number of smaller distances for each distance.
    start : array (m + 1,)
        ``start[r]`` is the number of entries of ``below`` that are smaller than r.
    n_tied : int
        Number of pairs of tied distances.
    """

    order: IntArray
    below: IntArray
    start: IntArray
    n_tied: int


def ranked(distances: FloatArray) -> Ranked | None:
    """Sort the distances of an RDM; return None if it is constant."""
    if is_constant(distances):
        return None
    m, ascending = len(distances), TiedOrder.of(distances)
    first = np.flatnonzero(ascending.begins)
    counts = np.diff(first, append=m)
    below = np.empty(m, dtype=np.int64)
    below[ascending.order] = np.repeat(first, counts)
    start = np.concatenate([[0], np.cumsum(np.bincount(below, minlength=m))])
    return Ranked(order=ascending.order, below=below, start=start, n_tied=n_pairs(counts))


def n_pairs(counts: IntArray) -> int:
    """Count the pairs within groups."""
    return int(counts @ (counts - 1)) // 2


def concordance(x: Ranked, y: Ranked) -> int:
    """Return the number of concordant minus that of discordant pairs of distances."""
    sequence, n_tied_in_both = _y_along_x(x, y)
    total = n_pairs(np.array([len(sequence)]))
    return total - x.n_tied - y.n_tied + n_tied_in_both - 2 * n_inversions(sequence, y.start)


def n_inversions(sequence: IntArray, start: IntArray) -> int:
    """Count the pairs of a sequence of integers within [0, m) whose earlier entry is larger.

    The sequence is sorted bit by bit from the highest: among entries that agree in all higher bits, every entry with
    the bit before an entry without it is such a pair. This is Knight's merge sort in the reverse direction, where each
    step is a few operations on whole arrays. ``start[r]`` is the number of entries smaller than r.
    """
    m, total = len(sequence), 0
    places = np.arange(m)
    for bit in reversed(range((m - 1).bit_length())):
        has_bit = (sequence >> bit) & 1
        group = start[(sequence >> (bit + 1)) << (bit + 1)]  # where the entries of the same higher bits begin
        with_before = np.cumsum(has_bit) - has_bit
        with_before -= with_before[group]
        without = has_bit == 0
        total += int(with_before[without].sum())
        after = np.where(without, places - with_before, start[(sequence >> bit) << bit] + with_before)
        moved = np.empty_like(sequence)
        moved[after] = sequence
        sequence = moved
    return total


def _y_along_x(x: Ranked, y: Ranked) -> tuple[IntArray, int]:
    """Return the ranks of y in ascending order of x, and the number of pairs that are tied in both."""
    if not x.n_tied:
        return y.below[x.order], 0
    m = len(x.order)
    both = np.sort(x.below * m + y.below)
    runs = np.flatnonzero(np.diff(both, prepend=-1))
    return both % m, n_pairs(np.diff(runs, append=m))


def _tau_a(x: Ranked, y: Ranked) -> float:
    m = len(x.order)
    return concordance(x, y) / (m * (m - 1) // 2)


def _tau_b(x: Ranked, y: Ranked) -> float:
    m = len(x.order)
    total = m * (m - 1) // 2
    untied = math.sqrt(total - x.n_tied) * math.sqrt(total - y.n_tied)
    return float(np.clip(concordance(x, y) / untied, -1.0, 1.0))


TAU_A = Comparator(
    name="tau-a",
    prepare=ranked,
    compare=_tau_a,
    pool=mean_rank,  # an approximation: the best order (Kemeny's) is NP-hard to find
    range=(-1.0, 1.0),
    ignores=TRANSFORMATIONS,
    about=About(
        formula="(concordant - discordant) / (m (m - 1) / 2)",
        cost="m log m; m log m",
        use="as rho-a, where published values are tau-a; rho-a is faster and nearly proportional",
        reference="Nili et al. (2014)",
    ),
)

TAU_B = Comparator(
    name="tau-b",
    prepare=ranked,
    compare=_tau_b,
    pool=mean_rank,  # an approximation: the best order (Kemeny's) is NP-hard to find
    range=(-1.0, 1.0),
    ignores=TRANSFORMATIONS,
    about=About(
        formula="(concordant - discordant) / √(pairs untied in a · pairs untied in b)",
        cost="m log m; m log m",
        use="as spearman, where published values are tau-b; not for models with ties",
        reference="Knight (1966)",
    ),
)

FAMILY = (TAU_A, TAU_B)
