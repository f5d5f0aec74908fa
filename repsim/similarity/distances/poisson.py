"""Symmetrised Kullback-Leibler divergence of Poisson rates."""

from __future__ import annotations

import numpy as np

from repsim.similarity.distances.distance import About, Distance, Patterns
from repsim.similarity.distances.tiles import condensed_index
from repsim.similarity.precision import FloatArray

DIVERGENCE = (
    "Schutt et al. (2023), Statistical inference on representational geometries: "
    "Kullback-Leibler divergence of Poisson rates with a prior"
)


def rates(counts: FloatArray, patterns: Patterns) -> FloatArray:
    """Return counts mixed with the prior, so that all rates are positive."""
    if (counts < 0).any():
        raise ValueError(
            f"{patterns.name} has {(counts < 0).sum()} negative values; the Poisson distance needs rates. "
            "Use another distance, or nonnegative activations."
        )
    rate, weight = patterns.prior
    return (counts + rate * weight) / (1 + weight)


def _write_poisson(patterns: Patterns) -> None:
    X = rates(np.asarray(patterns.X, dtype=np.float64), patterns)
    logs, n = np.log(X), len(X)
    rows = max(1, patterns.memory // (32 * n))
    own = np.vecdot(X, logs)
    for start in range(0, n - 1, rows):
        block = slice(start, start + rows)
        products = X[block] @ logs[start:].T + logs[block] @ X[start:].T  # (rows, n - start)
        for i, row in enumerate(products, start):
            place = condensed_index(i, i + 1, n) if i + 1 < n else len(patterns.out)
            distances = own[i] + own[i + 1 :] - row[i - start + 1 :]
            patterns.out[place : place + len(distances)] = np.maximum(distances, 0.0)


FAMILY = (
    Distance(
        name="poisson",
        compute=_write_poisson,
        range=(0.0, np.inf),
        about=About(formula="(x − y)ᵀ (log x − log y), of rates", reference=DIVERGENCE),
    ),
)
