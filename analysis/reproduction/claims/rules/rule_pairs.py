"""Accuracies of rules and their differences in all pairs of rules, with bands over all of them and verdicts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from analysis.comparison.attribution.effect_bands import simultaneous_bands

__all__ = ["NUMBERS", "SMALLEST", "VERDICTS", "differences_from", "pair_table", "rule_bands"]

SMALLEST = 0.02  # difference of test accuracies of interest, stated before the rules were compared
VERDICTS = ("different", "equivalent", "undecided")
NUMBERS = ["mean", "low", "high", "band_low", "band_high"]


def rule_bands(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each column with its interval, and a band that covers the means of all columns at once.

    Seeds are the unit of replication. The variances of all columns are moderated together, see ``simultaneous_bands``.

    Parameters
    ----------
    by_seed : DataFrame (n_seeds, n_columns)
        Two seeds or more. A column with a missing value has no numbers: the training of a seed diverged.

    Returns
    -------
    DataFrame
        One row per column of ``by_seed``: ``mean``, ``low``, ``high``, ``band_low`` and ``band_high``.
    """
    table = pd.DataFrame(np.nan, index=by_seed.columns, columns=NUMBERS)
    known = by_seed.columns[by_seed.notna().all()]
    values, n = by_seed[known].to_numpy(dtype=np.float64), len(by_seed)
    if len(known):
        mean = values.mean(axis=0)
        influences = (values - mean) / np.sqrt(n * (n - 1))
        bands = simultaneous_bands(influences, np.full(len(known), n - 1.0), [""] * len(known))
        ends = [sign * half for half in (bands.half_intervals, bands.half_bands) for sign in (-1, 1)]
        table.loc[known] = np.column_stack([mean, *(mean + end for end in ends)])
    return table


def pair_table(by_seed: pd.DataFrame, smallest: float = SMALLEST) -> pd.DataFrame:
    """Return the difference of every two rules in pairs of equal seeds, with a band over all pairs and a verdict.

    ``verdict`` is "different" if the band lies beyond the smallest difference of interest, "equivalent" if it lies
    within, "undecided" otherwise, and empty if the training of a network diverged.

    Parameters
    ----------
    by_seed : DataFrame (n_seeds, n_rules)
        The accuracy of each network.
    smallest : float, default 0.02
        The smallest difference of interest, above 0.

    Returns
    -------
    DataFrame
        One row per pair: ``method_a``, ``method_b``, the numbers of ``rule_bands`` for a minus b, ``smallest`` and
        ``verdict``.

    Raises
    ------
    ValueError
        If ``smallest`` is not above 0, or there are fewer than two seeds.

    Examples
    --------
    >>> by_seed = pd.DataFrame({"a": [0.90, 0.91, 0.92], "b": [0.80, 0.81, 0.82]})
    >>> pair_table(by_seed)[["method_a", "method_b", "mean", "verdict"]].round(3)
      method_a method_b  mean    verdict
    0        a        b   0.1  different
    """
    if not smallest > 0:
        raise ValueError(f"smallest is {smallest}; expected a difference of accuracies above 0, such as {SMALLEST}.")
    if len(by_seed) < 2:
        raise ValueError(f"There are {len(by_seed)} seeds; a difference between rules needs 2 or more.")
    names = list(combinations(by_seed.columns, 2))
    differences = pd.DataFrame({i: by_seed[a] - by_seed[b] for i, (a, b) in enumerate(names)})
    table = (
        pd.DataFrame(names, columns=["method_a", "method_b"]).join(rule_bands(differences)).assign(smallest=smallest)
    )
    low, high = table["band_low"], table["band_high"]
    conditions = [low.isna(), (low > smallest) | (high < -smallest), (low > -smallest) & (high < smallest)]
    return table.assign(verdict=np.select(conditions, ["", *VERDICTS[:2]], VERDICTS[2]))


def differences_from(pairs: pd.DataFrame, base: str) -> pd.DataFrame:
    """Return the pairs with one rule as differences of the other, ``method``, minus this one."""
    is_b, is_a = pairs["method_b"] == base, pairs["method_a"] == base
    after = pairs[is_b].rename(columns={"method_a": "method"})
    swap = {"low": "high", "high": "low", "band_low": "band_high", "band_high": "band_low"}
    before = pairs[is_a].rename(columns={"method_b": "method", **swap})
    before[NUMBERS] = -before[NUMBERS]
    columns = ["method", *NUMBERS, "smallest", "verdict"]
    return pd.concat([after[columns], before[columns]], ignore_index=True)
