"""Ridge regression for all penalties of a grid, with the exact leave-one-out error of each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.estimators.ridge.eigen_solution import inverse, refuse_overflow, spectrum
from probes.grids import PenaltyGrid

Array = NDArray[np.float64]

# Errors that differ by no more than this share of the targets' variance (1e-4 of R²) are equal at the edge of a grid
# that may be extended.
EQUAL = 1e-4
# A penalty so large that all coefficients are zero.
WITHOUT_FEATURES = 1e200


@dataclass(frozen=True, kw_only=True)
class RidgePath:
    """The best fit of a path of penalties, and the error of each."""

    coef: Array  # (k, d)
    intercept: Array  # (k,)
    alpha: float
    alphas: Array  # (n_alphas,), as given, or ascending where the grid was extended
    loo_error: Array  # (n_alphas,), in the order of alphas
    at_edge: bool  # whether a better alpha may lie beyond an end of the grid


def ridge_path(
    X: Array,
    T: Array,
    alphas: Array,
    sample_weight: Array | None = None,
    *,
    importance: Array | None = None,
    most_decades: int = 0,
) -> RidgePath:
    r"""Fit ridge regression for every penalty at once and return the fit of the least leave-one-out error.

    With row weights :math:`s_i` = `sample_weight` · `importance`, each fit minimises

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2 .

    The residual of a row that is left out of the fit follows from its residual :math:`e_i` in the fit to all rows and
    its leverage :math:`h_i`, here of features and intercept together:

    .. math:: L(\alpha) = \frac{1}{k \sum_i s_i} \sum_i s_i \left\lVert \frac{e_i}{1 - u_i h_i} \right\rVert^2,
              \qquad u_i = 1 / \max(\text{sample\_weight}_i, 1) .

    This equals n refits, without approximation. `sample_weight` counts occurrences, and one occurrence is left out at a
    time (:math:`u_i` is its share of the weight of the row), so that a row of weight 2 and a row that occurs twice give
    the same error; a row of weight below 1 is left out completely. `importance` scales the error of each occurrence.

    The eigendecomposition is of X'X if d < n - 1 and of XX' otherwise. Directions whose eigenvalue is within rounding
    of zero get no coefficient. If d < n - 1, the error of a row that differs from the others in one feature only loses
    digits once alpha is below 1e-10 of that eigenvalue. The function centers X; it does not check or scale it.

    Parameters
    ----------
    X : array, shape (n, d), float64, finite
        Features.
    T : array, shape (n, k), float64, finite
        Targets.
    alphas : array, shape (n_alphas,), > 0
        Penalties, in any order.
    sample_weight : array, shape (n,), > 0, default ones
        Occurrences of each row. Leave out rows of weight zero before.
    importance : array, shape (n,), > 0, default ones
        Weight of each occurrence, as given by class weights.
    most_decades : int, >= 0, default 0
        Decades by which the grid may be extended, at an end beyond which a better penalty may lie (see
        `probes.grids.wider`). A single penalty is never extended.

    Returns
    -------
    RidgePath
        `coef`, `intercept` and `alpha` of the best fit (the largest alpha on a tie), the `alphas` that were tried with
        the `loo_error` of each, and `at_edge`. If the grid may be extended, errors at its edge that differ by no more
        than 1e-4 of the variance of the targets count as a tie.

    Raises
    ------
    ValueError
        If all weight is on one row, or squares overflow.

    References
    ----------
    Allen (1974). The relationship between variable selection and data augmentation and a method for prediction.
    Technometrics 16. Rifkin and Lippert (2007). Notes on regularized least squares. MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> path = ridge_path(np.array([[-1.0], [0.0], [1.0]]), np.array([[-2.0], [0.0], [2.0]]), np.array([2.0]))
    >>> path.coef.tolist(), path.intercept.tolist(), path.loo_error.round(2).tolist()
    ([[1.0]], [0.0], [3.84])
    """
    counts = np.ones(len(X)) if sample_weight is None else sample_weight
    weight = counts if importance is None else counts * importance
    share = weight / weight.sum()  # (n,), the leverage of the intercept
    if share.max() > 1.0 - 1e-12:
        raise ValueError("All weight is on 1 sample; leave-one-out errors need 2 or more samples.")
    centers = share @ X, share @ T
    A, B = (np.sqrt(weight)[:, np.newaxis] * (Z - center) for Z, center in zip((X, T), centers, strict=True))
    refuse_overflow(A, "features")
    refuse_overflow(B, "targets")
    fits = _Primal(A, B, share) if A.shape[1] < len(A) - 1 else _Dual(A, B, share)
    left_out = 1.0 / np.maximum(counts, 1.0)
    total = B.shape[1] * weight.sum()
    equal = EQUAL * float(np.sum(B**2)) / total if most_decades else 0.0

    def error_of(alpha: float) -> float:
        return float(np.sum(_unseen(fits, alpha, left_out) ** 2)) / total

    grid = PenaltyGrid(
        alphas.tolist(), sign=-1, equal=equal, most_decades=most_decades, null=lambda: error_of(WITHOUT_FEATURES)
    )
    for alpha in alphas.tolist():
        grid.add(alpha, error_of(alpha))
    while (alpha := grid.next_value()) is not None:
        grid.add(alpha, error_of(alpha))
    best, tried = grid.best, grid.tried[::-1] if grid.n_extended else alphas.tolist()
    coef = np.where(A.any(axis=0), fits.coef(best), 0.0)  # exactly zero where a feature is constant
    return RidgePath(
        coef=coef,
        intercept=centers[1] - coef @ centers[0],
        alpha=best,
        alphas=np.array(tried),
        loo_error=np.array([grid.losses[alpha] for alpha in tried]),
        at_edge=grid.side != 0,
    )


class _Primal:
    """Fits of B on A by the eigenvectors of A'A; rows are weighted and centered, so there is no intercept."""

    def __init__(self, A: Array, B: Array, share: Array) -> None:
        self.B, self.free = B, 1.0 - share  # (n,), one minus the leverage of the intercept
        self.values, self.vectors = spectrum(A.T @ A)  # (d,), (d, d)
        self.scores = A @ self.vectors  # (n, d)
        self.squared_scores = self.scores**2
        self.loadings = self.scores.T @ B  # (d, k)

    def residuals(self, alpha: float) -> Array:
        return self.B - self.scores @ (inverse(self.values, alpha)[:, np.newaxis] * self.loadings)

    def slack(self, alpha: float) -> Array:
        """Return one minus the leverage, (n,), bounded below as if every direction had the largest eigenvalue."""
        least = self.free * alpha / (self.values[-1] + alpha)
        return np.maximum(self.free - self.squared_scores @ inverse(self.values, alpha), least)

    def coef(self, alpha: float) -> Array:
        return (self.vectors @ (inverse(self.values, alpha)[:, np.newaxis] * self.loadings)).T


class _Dual:
    """Fits of B on A by the eigenvectors of AA', for features and intercept that can fit every row."""

    def __init__(self, A: Array, B: Array, share: Array) -> None:
        self.A = A
        gram = A @ A.T
        # The direction of the intercept is moved to the top of the spectrum, apart from others of eigenvalue zero.
        top = 2.0 * float(np.trace(gram)) or 1.0
        values, vectors = spectrum(gram + top * np.outer(np.sqrt(share), np.sqrt(share)))
        self.values, self.vectors = values[:-1], vectors[:, :-1]  # (n - 1,), (n, n - 1)
        self.squared_vectors = self.vectors**2
        self.loadings = self.vectors.T @ B  # (n - 1, k)

    def residuals(self, alpha: float) -> Array:
        return self.vectors @ ((alpha / (self.values + alpha))[:, np.newaxis] * self.loadings)

    def slack(self, alpha: float) -> Array:
        """Return one minus the leverage, (n,); a sum of positive terms."""
        return self.squared_vectors @ (alpha / (self.values + alpha))

    def coef(self, alpha: float) -> Array:
        return (self.A.T @ (self.vectors @ (inverse(self.values, alpha)[:, np.newaxis] * self.loadings))).T


def _unseen(fits: _Primal | _Dual, alpha: float, left_out: Array) -> Array:
    """Return the residual of each row after `left_out` of its weight was removed from the fit, (n, k)."""
    slack = (1.0 - left_out) + left_out * fits.slack(alpha)
    return fits.residuals(alpha) / slack[:, np.newaxis]
