"""Trends of the correlation between implied and true loss: over boundaries, and over training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.comparison.attribution.effect_bands import simultaneous_bands
from analysis.reproduction.kit.numbers import rows_of

__all__ = ["SMALLEST", "correlation_trends"]

SMALLEST = 0.05  # smallest difference of correlation that is of interest


def correlation_trends(beliefs: pd.DataFrame) -> pd.DataFrame:
    """Return differences of the correlation at held-out points, with bands over seeds that cover all of them at once.

    ``beliefs`` has one row per module, seed, epoch, boundary and set of points. A row of the result is a ``module``, a
    ``trend`` and its place: "depth", the last boundary minus the first, at an ``epoch``; or "training", the last epoch
    minus an earlier ``epoch``, at a ``boundary`` (0 for "depth"). ``verdict`` is "different" if the band lies beyond
    ``SMALLEST``, "equivalent" if it lies within, and "undecided" otherwise. Differences that are undefined for a seed,
    because a loss is flat, are left out.
    """
    differences = _differences(beliefs).dropna(axis=1)
    n = len(differences)
    means = differences.mean()
    places = differences.columns.to_frame(index=False)
    bands = simultaneous_bands(
        (differences - means) / np.sqrt(n * (n - 1)),
        np.full(len(means), n - 1),
        (places["module"] + "/" + places["trend"]).tolist(),
    )
    difference = means.to_numpy()
    low, high = difference - bands.half_bands, difference + bands.half_bands
    conditions = [(low > SMALLEST) | (high < -SMALLEST), (low > -SMALLEST) & (high < SMALLEST)]
    verdict = np.select(conditions, ["different", "equivalent"], "undecided")
    return places.assign(difference=difference, band_low=low, band_high=high, n_seeds=n, verdict=verdict)


def _differences(beliefs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per seed and one column per trend."""
    wide = rows_of(beliefs, where="own").pivot(
        index="seed", columns=["module", "epoch", "boundary"], values="correlation"
    )
    *earlier, last = sorted(beliefs["epoch"].unique())
    boundaries = sorted(beliefs["boundary"].unique())
    found = {}
    for module in beliefs["module"].unique():
        for epoch in (*earlier, last):
            ends = wide[module, epoch, boundaries[-1]] - wide[module, epoch, boundaries[0]]
            found[module, "depth", epoch, 0] = ends
        for epoch in earlier:
            for k in boundaries:
                found[module, "training", epoch, k] = wide[module, last, k] - wide[module, epoch, k]
    return pd.DataFrame(found).rename_axis(columns=["module", "trend", "epoch", "boundary"])
