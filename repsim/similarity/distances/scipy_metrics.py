"""Metrics of scipy, under their names in scipy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from repsim.similarity.distances.distance import About, Distance, Patterns, write_pdist

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
BOOLEAN = ("dice", "jaccard", "rogerstanimoto", "russellrao", "sokalsneath", "yule")


def _write_boolean(patterns: Patterns, *, metric: str) -> str | None:
    X = np.asarray(patterns.X)
    if not np.isin(X, (0, 1)).all():
        raise ValueError(
            f"{patterns.name} has values other than 0 and 1; {metric} compares Boolean values. Pass X > 0, for example."
        )
    return write_pdist(replace(patterns, X=X.astype(bool)), name=metric, metric=metric)


FAMILY = tuple(
    Distance(
        name=metric,
        compute=partial(_write_boolean, metric=metric)
        if metric in BOOLEAN
        else partial(write_pdist, name=metric, metric=metric),
        range=(0.0, np.inf),
        about=About(formula="as in scipy.spatial.distance", reference="scipy.spatial.distance.pdist"),
    )
    for metric in METRICS
)
