"""Rank correlations over rules, whose errors count families of rules instead of rules."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd

from repsim.similarity.precision import FloatArray

__all__ = ["FEWEST_FAMILIES", "MOST_FAMILIES", "correlate_over_families"]

FEWEST_FAMILIES, MOST_FAMILIES = 4, 9  # of fewer there is no distribution; of more there are too many samples to list
_LEVEL = 0.95


def correlate_over_families(table: pd.DataFrame, x: str, y: str, *, family: str = "family") -> dict[str, Any]:
    """Return Spearman's correlation over rules, with an interval and a range in which families are the unit.

    Rules of one family are variations of one idea and not independent. So whole families are drawn in the bootstrap,
    with all their rules; every possible sample is listed with its probability, so nothing is random. With so few
    families such an interval is rough, and often too short. A direction is therefore only stated if the interval
    leaves out zero and the correlation keeps its sign whichever family is left out.

    Parameters
    ----------
    table : DataFrame
        One row per rule, with the columns x, y and ``family``; no missing values.

    Returns
    -------
    dict
        ``spearman``; ``low`` and ``high``, the 95 % percentile interval; ``least`` and ``most`` with one family left
        out; ``n_rules``, ``n_families``; and ``direction``: "falls", "rises" or "undecided". Numbers are NaN where a
        correlation is not defined, and intervals and ranges also with fewer than four families.

    Raises
    ------
    ValueError
        If there are more than nine families.

    Examples
    --------
    >>> rules = pd.DataFrame({"angle": [0, 20, 50, 60, 90], "accuracy": [5, 4, 3, 2, 1], "family": list("abccd")})
    >>> found = correlate_over_families(rules, "angle", "accuracy")
    >>> round(found["spearman"], 2), found["n_families"], found["direction"]
    (-1.0, 4, 'falls')
    """
    names = list(dict.fromkeys(table[family]))
    if len(names) > MOST_FAMILIES:
        raise ValueError(f"There are {len(names)} families; expected {MOST_FAMILIES} or fewer.")
    member = np.array([table[family] == name for name in names], dtype=np.float64)  # (n_families, n_rules)
    values = table[[x, y]].to_numpy(dtype=np.float64).T
    spearman = float(_weighted_spearman(values, np.ones((1, len(table))))[0])
    found = {"spearman": spearman, **dict.fromkeys(("low", "high", "least", "most"), math.nan)}
    if len(names) >= FEWEST_FAMILIES:
        counts, probabilities = _samples(len(names))
        found["low"], found["high"] = _interval(_weighted_spearman(values, counts @ member), probabilities)
        without = _weighted_spearman(values, 1 - member)
        found["least"], found["most"] = float(without.min()), float(without.max())
    falls, rises = found["high"] < 0 and found["most"] < 0, found["low"] > 0 and found["least"] > 0
    direction = "falls" if falls else "rises" if rises else "undecided"
    return {**found, "n_rules": len(table), "n_families": len(names), "direction": direction}


def _samples(n: int) -> tuple[FloatArray, FloatArray]:
    """Return every bootstrap sample of n units as counts, (n_samples, n), and its probability."""
    drawn = np.array(list(combinations_with_replacement(range(n), n)))
    counts = (drawn[:, :, None] == np.arange(n)).sum(axis=1)
    ways = [math.factorial(n) / math.prod(map(math.factorial, row)) for row in counts.tolist()]
    return counts.astype(np.float64), np.array(ways) / float(n) ** n


def _weighted_spearman(columns: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the rank correlation of two columns in samples that hold rule i ``weights`` (n_samples, n_rules) times."""
    total = weights.sum(axis=1, keepdims=True)
    centred = []
    for values in columns:
        below = (values[:, None] < values) + 0.5 * (values[:, None] == values)  # [j, i]: j ranks below i
        ranks = weights @ below
        centred.append(ranks - (weights * ranks).sum(axis=1, keepdims=True) / total)
    a, b = centred
    covariance, spread = (
        (weights * a * b).sum(axis=1),
        np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1)),
    )
    is_defined = spread > 1e-9  # there are different ranks
    return np.where(is_defined, covariance / np.where(is_defined, spread, 1.0), np.nan)


def _interval(correlations: FloatArray, probabilities: FloatArray) -> tuple[float, float]:
    """Return the percentiles of the samples whose correlation is defined."""
    defined = np.isfinite(correlations)
    if not defined.any():
        return math.nan, math.nan
    order = np.argsort(correlations[defined])
    cumulated = np.cumsum(probabilities[defined][order]) / probabilities[defined].sum()
    tail = (1 - _LEVEL) / 2
    places = np.minimum(np.searchsorted(cumulated, [tail, 1 - tail]), len(order) - 1)
    low, high = correlations[defined][order][places]
    return float(low), float(high)
