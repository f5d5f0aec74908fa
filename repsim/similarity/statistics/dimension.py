"""Dimension of the patterns."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from repsim.similarity import checks
from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.pair_distances import squared_distances
from repsim.similarity.precision import FloatArray, centred
from repsim.similarity.statistics.statistic import NOTHING, SIMILARITY, About, Statistic, undefined

# Number of nearest stimuli, by distances from products, whose distances are computed again.
CANDIDATES = 8
# Relative difference of squared distances below which no further search is made.
TIED = 1e-9


@complete_docstring("n >= 3.")
def intrinsic_dimension(X: ArrayLike) -> float:
    r"""Estimate the dimension of the manifold of the patterns from two nearest neighbours (TwoNN).

    .. math:: \frac{n - 1}{\sum_i \log (r_{i2} / r_{i1})}

    with the Euclidean distances :math:`r_{i1} \leq r_{i2}` of each stimulus to its two nearest neighbours. If the
    density is constant over that range, the ratios follow a Pareto distribution whose exponent is the dimension. This
    is its maximum-likelihood estimator with n - 1 instead of n, which is unbiased. (Facco et al. fit a line to the
    distribution without its largest ratios.) Duplicates of a stimulus are left out: n is the number of distinct
    stimuli. High dimensions are underestimated unless n is very large.

    Returns
    -------
    float
        Positive. NaN, with a warning, if fewer than 3 stimuli are distinct, or if the two nearest neighbours of each
        have the same distance.

    Warns
    -----
    RuntimeWarning
        Once, with their number, if duplicates are left out.

    References
    ----------
    Facco, d'Errico, Rodriguez & Laio (2017). Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information. Scientific Reports 7:12140.

    Examples
    --------
    >>> round(intrinsic_dimension([[0], [1], [3]]), 4)
    0.9102
    """
    array = checks.representation(X)
    n = len(array)
    if n < 3:
        raise ValueError(f"X has {n} stimuli; two nearest neighbours need at least 3. Record more stimuli.")
    distinct = _distinct(array)
    if len(distinct) < 3:
        return undefined("intrinsic dimension", f"only {len(distinct)} of {n} stimuli are distinct")
    nearest = _two_nearest(distinct)
    total = float(np.log(nearest[:, 1] / nearest[:, 0]).sum())
    if total <= NOTHING * len(nearest):
        return undefined("intrinsic dimension", "the two nearest of each stimulus are equally far")
    if len(distinct) < n:
        warnings.warn(
            f"X: {n - len(distinct)} of {n} stimuli are duplicates of others and are left out of the intrinsic "
            "dimension.",
            RuntimeWarning,
            stacklevel=2,
        )
    return (len(distinct) - 1) / total


@complete_docstring()
def participation_ratio(X: ArrayLike) -> float:
    r"""Compute the effective number of dimensions of the variance.

    .. math:: \frac{(\sum_k \lambda_k)^2}{\sum_k \lambda_k^2} = \frac{(\mathrm{tr} \, C)^2}{|C|_F^2}

    with the eigenvalues of the covariance C of the features. It is a biased estimator: of n stimuli it is at most
    n - 1, and noise increases it.

    Returns
    -------
    float
        Within [1, min(n - 1, d)]; the upper bound if all variances are equal. NaN, with a warning, if X is constant.

    References
    ----------
    Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy & Ganguli (2017). A theory of multineuronal dimensionality, dynamics and
    measurement. bioRxiv 214262.

    Examples
    --------
    >>> round(participation_ratio([[1, 0], [-1, 0], [0, 1], [0, -1]]), 6)
    2.0
    """
    Z = centred(checks.representation(X), axis=0)
    n, d = Z.shape
    largest = np.abs(Z).max()
    if largest == 0:
        return undefined("participation ratio", "all patterns are equal")
    Z /= largest
    products = (Z.T @ Z if d <= n else Z @ Z.T).ravel()  # the same eigenvalues, but for zeros
    total = float(np.vdot(Z, Z))
    return float(np.clip(total**2 / (products @ products), 1.0, min(n - 1, d)))


def _distinct(X: FloatArray) -> FloatArray:
    """Return the rows of X without duplicates of earlier rows."""
    # Compared byte by byte, which unlike numpy.unique(axis=0) works for wide rows; adding 0 turns -0 into 0.
    rows = np.ascontiguousarray(X + 0.0).view(np.dtype((np.void, X.shape[1] * X.itemsize)))
    first = np.unique(rows[:, 0], return_index=True)[1]
    return X if len(first) == len(X) else X[np.sort(first)]


def _two_nearest(X: FloatArray) -> FloatArray:
    """Return the distances of each stimulus to its two nearest neighbours, (n, 2)."""
    Z = centred(X, axis=0)
    largest = np.abs(Z).max()
    Z /= largest
    # Candidates are chosen by distances from products, whose errors are at most this.
    error = 4 * (X.shape[1] + 4) * np.finfo(np.float64).eps * float(np.vecdot(Z, Z).max())
    k = min(CANDIDATES, len(X) - 1)
    nearest = np.empty((len(X), 2))
    for start, distances in squared_distances(Z):
        order = np.argpartition(distances, k, axis=1)[:, : k + 1]
        block = X[start : start + len(distances)]
        exact = np.stack([_lengths(block - X[order[:, i]]) for i in range(k)], axis=1)
        exact.sort(axis=1)
        # No other stimulus is nearer than the next candidate minus the error.
        beyond = distances[np.arange(len(block)), order[:, k]] - error
        doubtful = np.flatnonzero((1 - TIED) * np.square(exact[:, 1] / largest) > beyond)
        if doubtful.size:
            exact[doubtful, :2] = _two_nearest_of_all(X, start + doubtful)
        nearest[start : start + len(block)] = exact[:, :2]
    return nearest


def _lengths(rows: FloatArray) -> FloatArray:
    largest = np.abs(rows).max(axis=1)  # so that no square overflows or vanishes
    return largest * np.linalg.norm(rows / largest[:, None], axis=1)


def _two_nearest_of_all(X: FloatArray, which: NDArray[np.intp]) -> FloatArray:
    """Return the distances of some stimuli to their two nearest neighbours, computed without products."""
    Z = X / 2.0 ** np.floor(np.log2(np.abs(X).max()))  # a power of two, so that nothing is rounded
    distances = cdist(Z[which], Z)
    distances[np.arange(len(which)), which] = np.inf
    order = np.argpartition(distances, 1, axis=1)[:, :2]
    return np.sort(np.stack([_lengths(X[which] - X[order[:, i]]) for i in range(2)], axis=1), axis=1)


FAMILY = (
    Statistic(
        name="intrinsic_dimension",
        function=intrinsic_dimension,
        range=(0.0, math.inf),
        invariances=SIMILARITY,
        about=About(
            formula="(n − 1) / Σ log(r₂ / r₁), distances to the two nearest stimuli",
            cost="n² d",
            use="dimension of a curved manifold at its finest scale",
            reference="Facco et al. (2017)",
        ),
    ),
    Statistic(
        name="participation_ratio",
        function=participation_ratio,
        range=(1.0, math.inf),
        invariances=SIMILARITY,
        about=About(
            formula="(Σ λ)² / Σ λ², eigenvalues of the covariance",
            cost="n d min(n, d)",
            use="linear dimension, from the spread of the variance",
            reference="Gao et al. (2017)",
        ),
    ),
)
