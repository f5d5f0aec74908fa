"""What experiments say of several seeds: a mean, and an interval for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

__all__ = ["listed", "seed_intervals"]


def seed_intervals(table: pd.DataFrame, by: Sequence[str], value: str, *, level: float = 0.95) -> pd.DataFrame:
    """Return one row a group: ``mean``, ``low`` and ``high`` of its interval, ``least``, ``most`` and ``n_seeds``.

    The interval is that of Student's t for the mean of independent, normal values; one seed has none (NaN). Values that
    are missing are left out.

    Parameters
    ----------
    table : DataFrame
        One row a seed in each group.
    by : sequence of str
        Columns that name a group; groups keep their order.
    value : str
        The column to average.
    level : float, default 0.95

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
        half = summary.pop("spread") / np.sqrt(n) * student.ppf(0.5 + level / 2, n - 1)
    return summary.assign(low=summary["mean"] - half, high=summary["mean"] + half)


def listed(numbers: Sequence[int]) -> str:
    """Return numbers for a sentence.

    Examples
    --------
    >>> listed([0, 1, 2])
    '0, 1, 2'
    """
    return ", ".join(map(str, numbers))
