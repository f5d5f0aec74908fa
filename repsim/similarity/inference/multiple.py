"""P-values of permutation tests, and their adjustment for multiple tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from repsim.similarity import checks
from repsim.similarity.precision import FloatArray

# Statistics that differ by less than this, relative to their largest value, differ by rounding alone.
ROUNDING = 1e-10


def adjust(p: ArrayLike, method: str = "holm") -> FloatArray:
    """Adjust p-values for their number.

    Parameters
    ----------
    p : array-like (k,)
        P-values within [0, 1]. NaN stays NaN and is not counted.
    method : str, default "holm"
        A key of `ADJUSTMENTS`: ``"holm"`` and ``"bonferroni"`` bound the probability of at least one false positive,
        under any dependence of the tests; ``"fdr_bh"`` bounds the expected fraction of false positives under
        independence or positive dependence, ``"fdr_by"`` under any dependence; ``"none"`` adjusts nothing.

    Returns
    -------
    array (k,)
        Adjusted p-values.

    Raises
    ------
    ValueError
        If the method is unknown, or a value is outside [0, 1].

    References
    ----------
    Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.
    Benjamini & Hochberg (1995). Controlling the false discovery rate. JRSS B 57.
    Benjamini & Yekutieli (2001). The control of the false discovery rate in multiple testing under dependency. Annals
    of Statistics 29.

    Examples
    --------
    >>> adjust([0.01, 0.03, 0.04])
    array([0.03, 0.06, 0.06])
    """
    adjusted = checks.choice(method, ADJUSTMENTS, "adjustment")
    values = np.array(p, dtype=np.float64)
    known = ~np.isnan(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("A p-value is outside [0, 1]. Pass probabilities, not percentages or statistics.")
    if known.any():
        values[known] = adjusted(values[known])
    return values


def _holm(p: FloatArray) -> FloatArray:
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


ADJUSTMENTS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "holm": _holm,
    "bonferroni": lambda p: np.minimum(p * len(p), 1.0),
    "fdr_bh": lambda p: false_discovery_control(p, method="bh"),
    "fdr_by": lambda p: false_discovery_control(p, method="by"),
    "none": lambda p: p,
}


def p_value(n_as_extreme: ArrayLike, n_samples: int) -> FloatArray:
    """Return (b + 1) / (B + 1): the fraction of draws, including the data, that are as extreme as the data.

    It is never zero, since the data are one of the draws under the null hypothesis. Of B draws, b are as extreme.

    References
    ----------
    Phipson & Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics and
    Molecular Biology 9:39.
    """
    return (np.asarray(n_as_extreme, dtype=np.float64) + 1) / (n_samples + 1)


def permutation_p(null: FloatArray, observed: FloatArray, *, exact: bool) -> FloatArray:
    """Compute p-values of observed statistics from their values under permutations; larger is more extreme.

    Values are equal up to rounding if they differ by at most 1e-10 of the largest value of the same statistic. ``null``
    has shape (n_permutations, k) or (n_permutations, 1). If it is ``exact``, it contains every permutation once,
    including the identity, and p is the fraction that is as extreme; otherwise p is (b + 1) / (B + 1).
    """
    scale = np.maximum(np.abs(null).max(axis=0, initial=0.0), np.abs(observed))
    hits = (null >= observed - ROUNDING * scale).sum(axis=0)
    return hits / len(null) if exact else p_value(hits, len(null))
