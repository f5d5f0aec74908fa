"""Stimuli as points in a plane: by their distances, or by the main directions of their activations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import pdist, squareform

__all__ = ["Embedding", "aligned", "classical_mds", "pca"]

Array = NDArray[np.float64]


class Embedding(NamedTuple):
    """Points in a plane, shape (n, 2), NaN for a stimulus without a place; and the quality of the fit, at most 1."""

    points: Array
    fit: float


def classical_mds(condensed: NDArray[Any]) -> Embedding:
    r"""Return the points in a plane whose distances are closest to the given ones by classical scaling.

    With J the centering matrix and D the distances, the points are the two leading eigenvectors of
    :math:`-\tfrac12 J D^2 J`, times the square roots of their eigenvalues. Stimuli are left out, those with most
    missing distances first, until no distance is missing. The fit is the correlation of both sets of distances.
    """
    distances = squareform(np.asarray(condensed, dtype=np.float64), checks=False)
    kept = _complete(np.isfinite(distances))
    points = np.full((len(distances), 2), np.nan)
    if len(kept) < 3:
        return Embedding(points, 0.0)
    kept_distances = distances[np.ix_(kept, kept)]
    squares = kept_distances**2
    means = squares.mean(axis=0)
    values, vectors = _leading(-0.5 * (squares - means - means[:, None] + means.mean()))
    points[kept] = vectors * np.sqrt(values)
    return Embedding(points, _correlation(pdist(points[kept]), squareform(kept_distances, checks=False)))


def pca(X: NDArray[Any]) -> Embedding:
    """Return the scores of the first two principal components of activations, shape (n, d); not standardised.

    The fit is the share of the variance that they explain.
    """
    X = np.asarray(X, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(X).all(axis=1))
    points = np.full((len(X), 2), np.nan)
    if len(kept) < 3:
        return Embedding(points, 0.0)
    centred = X[kept] - X[kept].mean(axis=0)
    total = float((centred**2).sum())
    if centred.shape[1] < len(centred):
        values, vectors = _leading(centred.T @ centred)
        scores = centred @ vectors
    else:
        values, vectors = _leading(centred @ centred.T)
        scores = vectors * np.sqrt(values)
    points[kept] = 0.0
    points[kept, : scores.shape[1]] = scores
    return Embedding(points, float(values.sum() / total) if total > 0 else 0.0)


def aligned(points: Array, reference: Array) -> Array:
    """Return points that are rotated, reflected and shifted, never scaled, to be closest to the reference.

    Solves the orthogonal Procrustes problem over the points that are defined in both.
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


def _leading(matrix: Array) -> tuple[Array, Array]:
    """Return the two largest eigenvalues of a symmetric matrix, 0 for negative ones, and their vectors (n, 2)."""
    n = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[max(n - 2, 0), n - 1])  # ascending
    return np.clip(values[::-1], 0.0, None), vectors[:, ::-1]


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
