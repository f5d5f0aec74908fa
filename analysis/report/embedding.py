"""Stimuli as points in a plane: by their distances, or by the main directions of their activations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

__all__ = ["Embedding", "aligned", "classical_mds", "pca"]

Array = NDArray[np.float64]


class Embedding(NamedTuple):
    """Points in a plane, shape (n, 2), NaN where a stimulus has none; and the share of the spread that they show."""

    points: Array
    share: float


def classical_mds(condensed: NDArray[Any]) -> Embedding:
    r"""Return the plane in which distances are closest to the given ones in the sense of classical scaling.

    With J the centering matrix and D the distances, the points are the two leading eigenvectors of
    :math:`-\tfrac12 J D^2 J`, times the roots of their eigenvalues. Stimuli are left out, those with most missing
    distances first, until no distance is missing. The share is of the positive eigenvalues.

    Parameters
    ----------
    condensed : array, shape (n(n-1)/2,)
        Distances, not their squares.
    """
    distances = squareform(np.asarray(condensed, dtype=np.float64), checks=False)
    kept = _complete(np.isfinite(distances))
    points = np.full((len(distances), 2), np.nan)
    squares = distances[np.ix_(kept, kept)] ** 2
    means = squares.mean(axis=0) if len(kept) else np.zeros(0)
    gram = -0.5 * (squares - means - means[:, None] + (means.mean() if len(kept) else 0.0))
    points[kept], share = _leading(gram)
    return Embedding(points, share)


def pca(X: NDArray[Any]) -> Embedding:
    """Return the first two principal components' scores of activations, shape (n, d); not standardised."""
    X = np.asarray(X, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(X).all(axis=1))
    points = np.full((len(X), 2), np.nan)
    centred = X[kept] - X[kept].mean(axis=0) if len(kept) else X[kept]
    points[kept], share = _leading(centred @ centred.T)
    return Embedding(points, share)


def aligned(points: Array, reference: Array) -> Array:
    """Return points turned and mirrored, and moved, but never scaled, as close to the reference as can be.

    It is the orthogonal Procrustes problem over the points that both have.
    """
    both = np.isfinite(points).all(axis=1) & np.isfinite(reference).all(axis=1)
    if both.sum() < 2:
        return points
    centre, target = points[both].mean(axis=0), reference[both].mean(axis=0)
    U, _, Vt = np.linalg.svd((points[both] - centre).T @ (reference[both] - target))
    return np.asarray((points - centre) @ (U @ Vt) + target)


def _complete(known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return stimuli among which every distance is known."""
    kept = np.arange(len(known))
    while len(kept) and not known[np.ix_(kept, kept)].all():
        kept = np.delete(kept, known[np.ix_(kept, kept)].sum(axis=1).argmin())
    return kept


def _leading(gram: Array) -> tuple[Array, float]:
    """Return coordinates (n, 2) from inner products, and the share of the positive eigenvalues that they have."""
    n = len(gram)
    if n < 2:
        return np.zeros((n, 2)), 0.0
    values, vectors = np.linalg.eigh(gram)  # ascending
    values = np.clip(values, 0.0, None)
    total = values.sum()
    return vectors[:, :-3:-1] * np.sqrt(values[:-3:-1]), float(values[-2:].sum() / total) if total > 0 else 0.0
