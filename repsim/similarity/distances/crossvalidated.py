r"""Cross-validated distances, which are zero on average if the true patterns are equal.

With patterns :math:`x_i^m` of condition i in fold m, and a bilinear form between differences of different folds,

.. math:: d_{ij} = \frac{1}{M (M - 1)} \sum_{m \neq m'} (x_i^m - x_j^m)^T (x_i^{m'} - x_j^{m'})

noise that is independent between folds does not contribute to the mean, unlike that in squares of differences. Values
may be negative and are not clipped.
"""

from __future__ import annotations

import numpy as np

from repsim.similarity.distances.distance import About, Distance, Patterns
from repsim.similarity.distances.products import WALTHER
from repsim.similarity.precision import FloatArray


def _write_crossnobis(patterns: Patterns) -> None:
    assert patterns.folds is not None  # rdm() requires folds
    assert patterns.whiten is not None  # rdm() estimates the noise
    folds = np.stack([patterns.whiten(fold) for fold in patterns.folds])
    folds = folds - folds.mean(axis=1, keepdims=True)
    patterns.out[:] = between_folds(folds, folds)


def between_folds(A: FloatArray, B: FloatArray) -> FloatArray:
    """Return the mean of (a_i - a_j)' (b_i - b_j) over ordered pairs of different folds, condensed."""
    n_folds, n, _ = A.shape
    products = A.sum(axis=0) @ B.sum(axis=0).T - np.matmul(A, B.mT).sum(axis=0)  # (n, n), over pairs of different folds
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
)
