r"""Neighbourhood measures: agreement of two representations on the nearest neighbours of each stimulus.

The neighbours of a stimulus are the k others whose patterns have the largest cosine with its own. Nothing is centred,
so that these measures depend on the origin. Neighbours whose cosines differ only by rounding error are tied, and of
tied stimuli the one with the smaller index is nearer. A stimulus is never its own neighbour, but its duplicates may be.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.measure import About, Measure, evaluate
from repsim.similarity.pair_distances import PAIRS_AT_ONCE, squared_distances
from repsim.similarity.precision import SINGLE, FloatArray, centred, epsilon_of, rounding_of_directions, unit

# Squared distances between directions are tied if they differ by less than this fraction of the directions' spread.
TIED = 1e-12
# Distances between directions of single precision are tied if they differ by less than this, their rounding error.
TIED_SINGLE = 8 * SINGLE
# Squared norms below this, of numbers that are at most one, are rounding error.
NOTHING = 1e-24


@complete_docstring("n >= 3.")
def knn_jaccard(X: ArrayLike, Y: ArrayLike, *, k: int | None = None) -> float:
    r"""Compute the fraction of the nearest neighbours that two representations have in common.

    .. math:: \frac{1}{n} \sum_i \frac{|N_i(X) \cap N_i(Y)|}{|N_i(X) \cup N_i(Y)|}

    with the k nearest neighbours :math:`N_i` of each stimulus by cosine, in any order. For unrelated representations
    the value is about k / (2 n), not zero.

    Parameters
    ----------
    k : int, optional
        Number of neighbours, 1 <= k < n - 1; by default the smaller of 10 and (n - 1) // 2.

    Returns
    -------
    float
        Within [0, 1]; 1 if every stimulus has the same neighbours in both. NaN, with a warning, if all patterns of X
        or of Y point in one direction, or if one of them is all zeros.

    References
    ----------
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> knn_jaccard(X, 2 * X[:, ::-1]), round(knn_jaccard(X, X[:, :2]), 2)
    (1.0, 0.54)
    """
    return evaluate(replace(JACCARD, prepare=partial(_prepare, k=k)), X, Y)


@complete_docstring("n >= 3.")
def second_order_cosine(X: ArrayLike, Y: ArrayLike, *, k: int | None = None) -> float:
    r"""Compute the agreement of the cosines of each stimulus with its neighbours.

    .. math:: \frac{1}{n} \sum_i \cos(s_i(X), s_i(Y)), \quad
              s_i(X) = (\cos(x_i, x_j))_{j \in N_i(X) \cup N_i(Y)}

    with the k nearest neighbours :math:`N_i` of each stimulus by cosine. The cosines are not centred: if all of them
    are large the value is near 1 for any order.

    Parameters
    ----------
    k : int, optional
        Number of neighbours, 1 <= k < n - 1; by default the smaller of 10 and (n - 1) // 2.

    Returns
    -------
    float
        Within [-1, 1]; 1 if the cosines are proportional. NaN, with a warning, if all patterns of X or of Y point
        in one direction, or if one of them is all zeros or orthogonal to all its neighbours.

    References
    ----------
    Hamilton, Leskovec & Jurafsky (2016). Cultural shift or linguistic drift? Comparing two computational measures of
    semantic change. EMNLP, section 3 (the local neighbourhood measure; theirs is one minus this, of one word).

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(second_order_cosine(X, 2 * X[:, ::-1]), 6), round(second_order_cosine(X, X[:, :2]), 2)
    (1.0, 0.84)
    """
    return evaluate(replace(SECOND_ORDER, prepare=partial(_prepare, k=k)), X, Y)


@complete_docstring("n >= 3.")
def rank_similarity(X: ArrayLike, Y: ArrayLike, *, k: int | None = None) -> float:
    r"""Compute the agreement on the order of the common nearest neighbours, with most weight on the nearest.

    .. math:: \frac{1}{n} \sum_i \frac{1}{v_i} \sum_{j \in N_i(X) \cap N_i(Y)}
              \frac{2}{(1 + |r_{ij} - r'_{ij}|) (r_{ij} + r'_{ij})}, \quad
              v_i = \sum_{m=1}^{|N_i(X) \cap N_i(Y)|} \frac{1}{m}

    where stimulus j is the r-th nearest neighbour of i in X and the r'-th in Y. A stimulus without common neighbours
    contributes 0, and one whose only common neighbour is the nearest in both contributes 1. `knn_jaccard` measures how
    many neighbours are common.

    Parameters
    ----------
    k : int, optional
        Number of neighbours, 1 <= k < n - 1; by default the smaller of 10 and (n - 1) // 2.

    Returns
    -------
    float
        Within [0, 1]; 1 if every stimulus has the same neighbours in the same order. NaN, with a warning, if all
        patterns of X or of Y point in one direction, or if one of them is all zeros.

    References
    ----------
    Wang, Rao, Guo, Wang, Liu & Guan (2022). Towards understanding the instability of network embedding. IEEE
    Transactions on Knowledge and Data Engineering 34; in the form given by
    Klabunde, Schumacher, Strohmaier & Lemmerich (2023). Similarity of neural network models: a survey of functional and
    representational measures. arXiv:2305.06329, section 3.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(rank_similarity(X, 2 * X[:, ::-1]), 6), round(rank_similarity(X, X[:, :2]), 2)
    (1.0, 0.35)
    """
    return evaluate(replace(RANK, prepare=partial(_prepare, k=k)), X, Y)


UNDEFINED = "have patterns of one direction only (they are constant), or a pattern that is all zeros"


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbourhoods:
    """Patterns scaled to unit length, and the indices of the neighbours of each pattern, nearest first."""

    directions: FloatArray
    nearest: NDArray[np.intp]

    def pairs(self) -> NDArray[np.intp]:
        """Return i * n + j for each stimulus i and neighbour j of it, the nearest first; (n * k,)."""
        n = len(self.nearest)
        return (n * np.arange(n)[:, None] + self.nearest).ravel()


def _prepare(X: FloatArray, name: str, *, k: int | None) -> Neighbourhoods | None:
    k = _number_of_neighbours(k, len(X), name)
    if not X.any(axis=1).all():
        return None
    Z = unit(X, axis=1)
    # Distances between directions have the order of cosines; centring keeps their digits if directions are similar.
    C = centred(Z, axis=0)
    if np.vecdot(C, C).max() <= rounding_of_directions(X) ** 2:
        return None
    return Neighbourhoods(directions=Z, nearest=_nearest(C, k, is_single=epsilon_of(X) == SINGLE))


def _number_of_neighbours(k: int | None, n: int, name: str) -> int:
    k = max(1, min(10, (n - 1) // 2)) if k is None else k
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1 neighbour. Omit k for the default.")
    if k >= n - 1:
        raise ValueError(
            f"{name} has {n} stimuli; at least {k + 2} are needed to tell {k} nearest neighbours from the rest. "
            "Record more stimuli, or lower k."
        )
    return k


def _nearest(C: FloatArray, k: int, *, is_single: bool) -> NDArray[np.intp]:
    """Return the k rows nearest to each row, nearest first; (n, k)."""
    step = TIED * np.vecdot(C, C).max()
    nearest = np.empty((len(C), k), dtype=np.intp)
    for start, distances in squared_distances(C):
        if is_single:
            np.sqrt(np.maximum(distances, 0.0, out=distances), out=distances)
        else:
            distances /= step
            np.rint(distances, out=distances)
        nearest[start : start + len(distances)] = _smallest(distances, k, TIED_SINGLE if is_single else 0.0)
    return nearest


def _smallest(distances: FloatArray, k: int, tolerance: float) -> NDArray[np.intp]:
    """Return the columns of the k smallest entries of each row, smallest first, ties by column; (rows, k)."""
    chosen = np.argpartition(distances, k - 1, axis=1)[:, :k]
    largest = np.take_along_axis(distances, chosen[:, -1:], axis=1)  # argpartition leaves the k-th smallest there
    chosen.sort(axis=1)
    levels = _levels(np.take_along_axis(distances, chosen, axis=1), tolerance)
    order = np.argsort(levels, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    tied = np.count_nonzero(distances <= largest + tolerance, axis=1) > k  # with one that was not chosen
    chosen[tied] = np.argsort(_levels(distances[tied], tolerance), axis=1, kind="stable")[:, :k]
    return chosen


def _levels(distances: FloatArray, tolerance: float) -> NDArray[np.intp]:
    """Return the position of each entry among the distinct entries of its row, equal up to a tolerance."""
    order = np.argsort(distances, axis=1)
    differ = np.diff(np.take_along_axis(distances, order, axis=1), axis=1) > tolerance
    levels = np.zeros(distances.shape, dtype=np.intp)
    np.put_along_axis(levels, order[:, 1:], np.cumsum(differ, axis=1), axis=1)
    return levels


def _jaccard(x: Neighbourhoods, y: Neighbourhoods) -> float:
    n, k = x.nearest.shape
    common = np.intersect1d(x.pairs(), y.pairs(), assume_unique=True)
    counts = np.bincount(common // n, minlength=n)
    return float(np.mean(counts / (2 * k - counts)))


def _second_order(x: Neighbourhoods, y: Neighbourhoods) -> float:
    n = len(x.nearest)
    i, j = np.divmod(np.union1d(x.pairs(), y.pairs()), n)
    a, b = _cosines(x.directions, i, j), _cosines(y.directions, i, j)
    cross, own_x, own_y = (np.bincount(i, weights=products, minlength=n) for products in (a * b, a * a, b * b))
    if min(own_x.min(), own_y.min()) < NOTHING:
        return np.nan
    return float(np.clip(np.mean(cross / np.sqrt(own_x * own_y)), -1.0, 1.0))


def _cosines(Z: FloatArray, i: NDArray[np.intp], j: NDArray[np.intp]) -> FloatArray:
    """Return the products of rows i with rows j, one by one, computed in blocks."""
    cosines = np.empty(len(i))
    pairs = max(1, PAIRS_AT_ONCE // Z.shape[1])
    for start in range(0, len(i), pairs):
        block = slice(start, start + pairs)
        np.vecdot(Z[i[block]], Z[j[block]], out=cosines[block])
    return cosines


def _rank(x: Neighbourhoods, y: Neighbourhoods) -> float:
    n, k = x.nearest.shape
    common, at_x, at_y = np.intersect1d(x.pairs(), y.pairs(), assume_unique=True, return_indices=True)
    r, s = at_x % k + 1, at_y % k + 1
    scores = np.bincount(common // n, weights=2 / ((1 + np.abs(r - s)) * (r + s)), minlength=n)
    largest = np.cumsum(1 / np.arange(1, k + 1))[np.bincount(common // n, minlength=n) - 1]  # any, where the score is 0
    return float(np.clip(np.mean(scores / largest), 0.0, 1.0))


def _measure(name: str, label: str, compare: Callable[[Any, Any], float], **fields: Any) -> Measure:
    return Measure(
        name=name,
        label=label,
        prepare=partial(_prepare, k=None),
        compare=compare,
        invariances=frozenset({"permutation", "orthogonal", "isotropic scaling"}),
        **({"undefined": UNDEFINED} | fields),
    )


JACCARD = _measure(
    "knn_jaccard",
    "k-NN Jaccard similarity",
    _jaccard,
    range=(0.0, 1.0),
    about=About(
        formula="mean of |A ∩ B| / |A ∪ B|, the k nearest neighbours of a stimulus in X and in Y",
        cost="n² d for each representation, n k log(n k) for each pair",
        use="to ask whether the nearest stimuli are the same, however far the others are",
        reference="Klabunde et al. (2023), section 3",
    ),
)

SECOND_ORDER = _measure(
    "second_order_cosine",
    "second-order cosine similarity",
    _second_order,
    range=(-1.0, 1.0),
    undefined=f"{UNDEFINED} or orthogonal to all its neighbours",
    about=About(
        formula="mean of cos(sx, sy), the cosines of a stimulus with its neighbours in X or Y",
        cost="n² d for each representation, n k d for each pair",
        use="to compare how similar neighbours are, and not only which stimuli they are",
        reference="Hamilton, Leskovec & Jurafsky (2016), section 3",
    ),
)

RANK = _measure(
    "rank_similarity",
    "rank similarity",
    _rank,
    range=(0.0, 1.0),
    about=About(
        formula="mean of Σ 2 / ((1 + |r − s|) (r + s)) / Σ 1/m, ranks r and s of common neighbours",
        cost="n² d for each representation, n k log(n k) for each pair",
        use="to ask whether common neighbours come in the same order",
        reference="Wang et al. (2022); Klabunde et al. (2023), section 3",
    ),
)

FAMILY = (JACCARD, SECOND_ORDER, RANK)
