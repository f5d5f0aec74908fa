"""Many tests at once: p-values that keep their promise together."""

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
        Within [0, 1]. NaN stays NaN and is not counted.
    method : str, default "holm"
        A key of `ADJUSTMENTS`: ``"holm"`` and ``"bonferroni"`` bound the probability of one false finding or more,
        whatever the dependence; ``"fdr_bh"`` bounds the expected share of false findings under independence or
        positive dependence, ``"fdr_by"`` under any; ``"none"`` leaves them.

    Returns
    -------
    array (k,)
        Compare with the level that is wanted.

    Raises
    ------
    ValueError
        If there is no such method, or a value is no probability.

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
        raise ValueError("A p-value is outside [0, 1].")
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
    """Return (b + 1) / (B + 1): the share of draws, the data among them, that are as extreme as the data.

    Never zero, since the data are one of the draws under the null hypothesis.

    Parameters
    ----------
    n_as_extreme : array-like of int
        b.
    n_samples : int
        B.

    Returns
    -------
    array

    References
    ----------
    Phipson & Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics and
    Molecular Biology 9:39.

    Examples
    --------
    >>> float(p_value(0, 999))
    0.001
    """
    return (np.asarray(n_as_extreme, dtype=np.float64) + 1) / (n_samples + 1)


def permutation_p(null: FloatArray, observed: FloatArray, *, exact: bool) -> FloatArray:
    """P-values of observed statistics from their values under permutations; larger is more extreme.

    Values that differ by rounding alone count as equal: within 1e-10 of the largest value of the same statistic.

    Parameters
    ----------
    null : array (n_permutations, k) or (n_permutations, 1)
    observed : array (k,)
    exact : bool
        Whether ``null`` contains every permutation once, the identity among them. Then p is the share of permutations
        that are as extreme; otherwise (b + 1) / (B + 1).

    Returns
    -------
    array (k,)

    Examples
    --------
    >>> null = np.array([[0.3], [0.1], [0.1 + 0.2]])
    >>> permutation_p(null, null[0], exact=True).round(3), permutation_p(null, null[0], exact=False)
    (array([0.667]), array([0.75]))
    """
    scale = np.maximum(np.abs(null).max(axis=0, initial=0.0), np.abs(observed))
    hits = (null >= observed - ROUNDING * scale).sum(axis=0)
    return hits / len(null) if exact else p_value(hits, len(null))
