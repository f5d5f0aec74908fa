"""Comparing RDMs: whether two representations arrange the same stimuli alike."""

import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray
from repsim.similarity.rdm import condensed, n_stimuli

# Distances that agree to this much, relative to the largest, differ by nothing but rounding.
ROUNDING = 1e-12


def compare_rdms(A: ArrayLike, B: ArrayLike, method: str = "pearson") -> float:
    r"""Correlation of two RDMs over their pairs of stimuli.

    .. math:: r(a, b) = \frac{(a - \bar a)^T (b - \bar b)}{|a - \bar a| \, |b - \bar b|}

    where a and b are the upper triangles (pearson) or their ranks, ties sharing the mean rank (spearman). Pairs are not
    independent of one another, so this is not a correlation to read a p-value from.

    Parameters
    ----------
    A, B : array-like (n * (n - 1) / 2,) or (n, n)
        Condensed or square RDMs of the same stimuli in the same order. A pair that is NaN in both is left out.
    method : str, default "pearson"
        A key of `COMPARATORS`. Pearson takes distances to be linearly related, spearman monotonically.

    Returns
    -------
    float
        Within [-1, 1]; 1 for RDMs that are equal up to a positive factor and an offset. NaN if one is constant.

    Raises
    ------
    ValueError
        If A or B is no RDM, if they have different numbers of stimuli or NaN at different pairs, or if there is no such
        method.

    Warns
    -----
    RuntimeWarning
        If A or B is constant.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008). Representational similarity analysis - connecting the branches of systems
    neuroscience. Frontiers in Systems Neuroscience 2:4.

    Examples
    --------
    >>> compare_rdms([1, 2, 9], [1, 4, 81], method="spearman")
    1.0
    """
    correlation = checks.choice(method, COMPARATORS, "method")
    a, b = _pairs_of_both(condensed(A, "A"), condensed(B, "B"))
    constant = [name for name, distances in (("A", a), ("B", b)) if _is_constant(distances)]
    if constant:
        warnings.warn(
            f"{' and '.join(constant)} has no two distances that differ, over {len(a)} pairs; the comparison is NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
        return math.nan
    return correlation(a, b)


def _pairs_of_both(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leave out the pairs that are NaN; they must be the same in both."""
    checks.same_stimuli({"A": n_stimuli(a), "B": n_stimuli(b)})
    missing, missing_b = np.isnan(a), np.isnan(b)
    if (missing != missing_b).any():
        raise ValueError(
            f"{(missing & ~missing_b).sum()} pairs are NaN only in A and {(missing_b & ~missing).sum()} only in B; "
            "both must be NaN at the same pairs. Leave the same stimuli out of both."
        )
    return a[~missing], b[~missing]


def _is_constant(distances: FloatArray) -> bool:
    return distances.size < 2 or bool(np.ptp(distances) <= ROUNDING * np.abs(distances).max())


def _pearson(a: FloatArray, b: FloatArray) -> float:
    a, b = _deviations(a), _deviations(b)
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _spearman(a: FloatArray, b: FloatArray) -> float:
    return _pearson(rankdata(a), rankdata(b))


def _deviations(a: FloatArray) -> FloatArray:
    """Differences from the mean, the largest scaled to one so that no square overflows or vanishes."""
    a = a - a.mean()
    return a / np.abs(a).max()


COMPARATORS: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    "pearson": _pearson,
    "spearman": _spearman,
}
