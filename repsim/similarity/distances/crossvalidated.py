r"""Distances between noisy patterns that are zero on average where the true patterns are equal.

With patterns :math:`x_i^m` of condition i in fold m, and a bilinear form between differences of different folds,

.. math:: d_{ij} = \frac{1}{M (M - 1)} \sum_{m \neq m'} (x_i^m - x_j^m)^T (x_i^{m'} - x_j^{m'})

noise that is independent between folds has no part in the mean, as it has where a difference is multiplied with
itself. So values may be negative, and that is information: they are not clipped.
"""

from __future__ import annotations

import numpy as np

from repsim.similarity.distances.distance import About, Distance, Patterns
from repsim.similarity.distances.poisson import DIVERGENCE, rates
from repsim.similarity.distances.products import WALTHER
from repsim.similarity.precision import FloatArray


def _write_crossnobis(patterns: Patterns) -> None:
    folds = _folds(patterns)
    if patterns.whiten is not None:
        folds = np.stack([patterns.whiten(fold) for fold in folds])
    folds = folds - folds.mean(axis=1, keepdims=True)
    patterns.out[:] = _between_folds(folds, folds)


def _write_poisson(patterns: Patterns) -> None:
    folds = rates(_folds(patterns), patterns)
    patterns.out[:] = _between_folds(folds, np.log(folds))


def _folds(patterns: Patterns) -> FloatArray:
    assert patterns.folds is not None  # rdm() sees to it
    return patterns.folds


def _between_folds(A: FloatArray, B: FloatArray) -> FloatArray:
    """Mean of (a_i - a_j)' (b_i - b_j) over ordered pairs of different folds (n_folds, n, d), condensed."""
    n_folds, n, _ = A.shape
    products = A.sum(axis=0) @ B.sum(axis=0).T - np.matmul(A, B.mT).sum(axis=0)  # (n, n), folds that differ
    own = np.diagonal(products)
    distances = own[:, None] + own - products - products.T
    return distances[np.triu_indices(n, 1)] / (n_folds * (n_folds - 1))


FAMILY = (
    Distance(
        name="crossnobis",
        compute=_write_crossnobis,
        range=(-np.inf, np.inf),
        needs=frozenset({"labels", "folds"}),
        takes_noise=True,
        about=About(formula="mean over folds m ≠ m' of (xᵐ − yᵐ)ᵀ Σ⁻¹ (xᵐ' − yᵐ')", reference=WALTHER),
    ),
    Distance(
        name="poisson_cv",
        compute=_write_poisson,
        range=(-np.inf, np.inf),
        needs=frozenset({"labels", "folds"}),
        about=About(formula="mean over folds m ≠ m' of (xᵐ − yᵐ)ᵀ (log xᵐ' − log yᵐ')", reference=DIVERGENCE),
    ),
)
