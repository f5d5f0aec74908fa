"""Symmetrised Kullback-Leibler divergence of Poisson rates, plain and cross-validated."""

from __future__ import annotations

from functools import partial

import numpy as np

from repsim.similarity.distances.crossvalidated import between_folds
from repsim.similarity.distances.distance import About, Distance, Patterns
from repsim.similarity.distances.tiles import condensed_index
from repsim.similarity.precision import FloatArray

DIVERGENCE = (
    "Schutt et al. (2023), Statistical inference on representational geometries: "
    "Kullback-Leibler divergence of Poisson rates with a prior"
)

Prior = tuple[float, float]


def poisson_distance(*, prior: Prior = (1.0, 0.1), cross_validated: bool = False) -> Distance:
    r"""Return the symmetrised Kullback-Leibler divergence of Poisson rates as a distance for `rdm`.

    .. math:: (x - y)^T (\log x - \log y), \qquad x = \frac{c + w r}{1 + w}

    of nonnegative activations c and a prior that makes all rates positive.

    Parameters
    ----------
    prior : (float, float), default (1.0, 0.1)
        Rate r of the prior and its weight w.
    cross_validated : bool, default False
        Whether to multiply differences of rates and of logarithms from different folds, as `DISTANCES["poisson_cv"]`.

    Raises
    ------
    ValueError
        If the rate is not positive or the weight is negative.

    Examples
    --------
    >>> from repsim.similarity import rdm
    >>> rdm([[1.0, 2.0], [2.0, 1.0]], poisson_distance(prior=(1.0, 0.0))).round(3)
    array([1.386])
    """
    rate, weight = prior
    if not (0 < rate < np.inf and 0 <= weight < np.inf):
        raise ValueError(
            f"prior is {prior}; expected a positive rate and a weight of at least 0. Omit it for the default."
        )
    if cross_validated:
        return Distance(
            name="poisson_cv",
            compute=partial(_write_between_folds, prior=prior),
            range=(-np.inf, np.inf),
            needs=frozenset({"labels", "folds"}),
            about=About(formula="mean over folds m ≠ m' of (xᵐ − yᵐ)ᵀ (log xᵐ' − log yᵐ')", reference=DIVERGENCE),
        )
    return Distance(
        name="poisson",
        compute=partial(_write, prior=prior),
        range=(0.0, np.inf),
        about=About(formula="(x − y)ᵀ (log x − log y), of rates", reference=DIVERGENCE),
    )


def _rates(counts: FloatArray, name: str, prior: Prior) -> FloatArray:
    if (counts < 0).any():
        raise ValueError(
            f"{name} has {(counts < 0).sum()} negative values; the Poisson distance needs rates. "
            "Use another distance, or nonnegative activations."
        )
    rate, weight = prior
    return (counts + rate * weight) / (1 + weight)


def _write(patterns: Patterns, *, prior: Prior) -> None:
    X = _rates(np.asarray(patterns.X, dtype=np.float64), patterns.name, prior)
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


def _write_between_folds(patterns: Patterns, *, prior: Prior) -> None:
    assert patterns.folds is not None  # rdm() requires folds
    rates = _rates(patterns.folds, patterns.name, prior)
    patterns.out[:] = between_folds(rates, np.log(rates))


FAMILY = (poisson_distance(), poisson_distance(cross_validated=True))
