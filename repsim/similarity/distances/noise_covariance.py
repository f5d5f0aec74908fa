"""Covariance of noise, and whitening of patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from repsim.similarity.precision import FloatArray


def noise_covariance(residuals: FloatArray, degrees: int) -> FloatArray:
    """Return the covariance of residuals, shrunk towards a multiple of the identity.

    References
    ----------
    Ledoit & Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of
    Multivariate Analysis 88.
    """
    from sklearn.covariance import ledoit_wolf  # imports pandas

    shrunk, _ = ledoit_wolf(residuals, assume_centered=True)
    return shrunk * (len(residuals) / degrees)


def whitening(noise: ArrayLike, d: int) -> Callable[[FloatArray], FloatArray]:
    """Return the function that whitens patterns, after which Euclidean distances are Mahalanobis distances."""
    covariance = np.asarray(noise, dtype=np.float64)
    if covariance.shape not in ((d,), (d, d)):
        raise ValueError(f"noise has shape {covariance.shape}; expected ({d}, {d}), or ({d},) for variances.")
    if covariance.ndim == 1:
        if not (np.isfinite(covariance) & (covariance > 0)).all():
            raise ValueError(
                "noise has variances that are not positive; expected positive ones. Leave those features out."
            )
        deviations = np.sqrt(covariance)
        return lambda patterns: patterns / deviations
    if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=0):
        raise ValueError("noise is not symmetric; expected a covariance. Average it and its transpose first.")
    try:
        factor = cholesky(covariance, lower=True)
    except (LinAlgError, ValueError) as error:
        raise ValueError(
            f"noise is not positive definite ({error}). Shrink it towards its diagonal, or omit it."
        ) from None
    return lambda patterns: solve_triangular(factor, patterns.T, lower=True, check_finite=False).T
