"""The metrics of scipy, by its names for them."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
from scipy.spatial.distance import pdist

from repsim.similarity.distances.distance import Distance, Patterns

METRICS = (
    "braycurtis",
    "canberra",
    "chebyshev",
    "cityblock",
    "dice",
    "hamming",
    "jaccard",
    "jensenshannon",
    "minkowski",
    "rogerstanimoto",
    "russellrao",
    "seuclidean",
    "sokalsneath",
    "yule",
)
OF_TRUTHS = ("dice", "jaccard", "rogerstanimoto", "russellrao", "sokalsneath", "yule")


def _write(patterns: Patterns, *, metric: str) -> str | None:
    X = np.asarray(patterns.X)
    if metric in OF_TRUTHS:
        if not np.isin(X, (0, 1)).all():
            raise ValueError(
                f"{patterns.name} has values other than 0 and 1; {metric} compares truths. Compare X > 0, for example."
            )
        X = X.astype(bool)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # what is undefined is counted here
        distances = pdist(X, metric)
    if np.isinf(distances).any():
        raise ValueError(
            f"{patterns.name} has values up to {np.abs(X).max():.1e}; their {metric} distances are too large for "
            "float64. Divide it by its largest value."
        )
    patterns.out[:] = distances
    undefined = int(np.isnan(distances).sum())
    if not undefined:
        return None
    return f"{patterns.name}: the {metric} distance of {undefined} of {len(distances)} pairs is not defined, and NaN."


FAMILY = tuple(
    Distance(
        name=metric,
        compute=partial(_write, metric=metric),
        formula="as in scipy.spatial.distance",
        range=(0.0, np.inf),
        reference="scipy.spatial.distance.pdist",
    )
    for metric in METRICS
)
