"""Means and intervals over seeds, selection of rows, and numbers in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from scipy.stats import t as student

__all__ = [
    "formatted",
    "listed",
    "proportion",
    "proportion_interval",
    "rows_of",
    "seed_intervals",
    "value_range",
    "with_interval",
]


def seed_intervals(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Return one row per group: ``mean``, ``low`` and ``high`` of its interval, ``least``, ``most`` and ``n_seeds``.

    The interval is Student's t interval at 95 % for the mean of independent normal values. With one seed it is NaN.
    Missing values are left out.

    Parameters
    ----------
    table : DataFrame
        One row per seed in each group.
    by : sequence of str
        Columns that name a group; groups keep their order.
    value : str
        The column to average.

    Examples
    --------
    >>> table = pd.DataFrame({"rule": ["a", "a"], "accuracy": [0.8, 1.0]})
    >>> float(seed_intervals(table, ["rule"], "accuracy")["mean"][0])
    0.9
    """
    groups = table.groupby(list(by), sort=False)[value]
    summary = groups.agg(mean="mean", least="min", most="max", spread="std", n_seeds="count").reset_index()
    n = summary["n_seeds"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        half = summary.pop("spread") / np.sqrt(n) * student.ppf(0.975, n - 1)
    return summary.assign(low=summary["mean"] - half, high=summary["mean"] + half)


def rows_of(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows whose columns have the given values.

    Examples
    --------
    >>> rows_of(pd.DataFrame({"loss": ["mse", "log_loss"], "seed": [0, 0]}), loss="mse", seed=0)["loss"].tolist()
    ['mse']
    """
    chosen = pd.Series(True, index=table.index)
    for column, value in values.items():
        chosen &= table[column] == value
    return table[chosen]


def formatted(table: pd.DataFrame, spec: str, columns: Iterable[str]) -> pd.DataFrame:
    """Return the table with the numbers of some columns as text, such as ".2g"."""
    return table.assign(**{name: table[name].map(f"{{:{spec}}}".format) for name in columns})


def with_interval(row: Any, spec: str) -> str:
    """Return the mean of a row (of ``itertuples``) of ``seed_intervals`` and its interval, for a sentence."""
    return f"{row.mean:{spec}} (95 % interval {row.low:{spec}} to {row.high:{spec}})"


def value_range(values: pd.Series) -> str:
    """Return the smallest and the largest value, for a sentence.

    Examples
    --------
    >>> value_range(pd.Series([1.0, 2.5]))
    '1 – 2.5'
    """
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} – {high}"


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the probability of an event that occurred in count of n independent trials.

    Examples
    --------
    >>> low, high = proportion_interval(18, 18)
    >>> round(low, 3), round(high, 3)
    (0.824, 1.0)
    """
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def proportion(count: int, n: int) -> str:
    """Return the interval of ``proportion_interval``, for a sentence.

    Examples
    --------
    >>> proportion(18, 18)
    '95 % interval 0.82 to 1.00'
    """
    low, high = proportion_interval(count, n)
    return f"95 % interval {low:.2f} to {high:.2f}"


def listed(values: Iterable[Any]) -> str:
    """Return values for a sentence.

    Examples
    --------
    >>> listed([0, 1, 2])
    '0, 1, 2'
    """
    return ", ".join(map(str, values))
