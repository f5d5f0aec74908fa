"""Fitting of both ridge probes: the grid of penalties, rows of positive weight, and fitted attributes."""

from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from probes.checks import is_positive
from probes.estimators.base import standardisation_of
from probes.estimators.ridge.leave_one_out import ridge_path
from probes.grids import AUTO, MOST_DECADES

Array = NDArray[np.float64]

ALPHAS = tuple(10.0**power for power in range(-3, 7))  # the grid "auto"


class BaseRidge(BaseEstimator):
    """Base of the ridge probes: standardises features, fits every penalty and stores the best fit."""

    alphas: float | Sequence[float] | str
    standardize: bool
    coef_: Array
    intercept_: Array | float

    def _learn(self, X: Array, T: Array, counts: Array, importance: Array) -> None:
        automatic = isinstance(self.alphas, str) and self.alphas == AUTO
        alphas = _checked_alphas(ALPHAS if automatic else self.alphas)
        self.mean_, self.scale_ = standardisation_of(self, X, counts * importance)
        path = ridge_path(
            (X - self.mean_) / self.scale_,
            T,
            alphas,
            counts,
            importance=importance,
            most_decades=MOST_DECADES if automatic else 0,
        )
        self.coef_, self.intercept_ = path.coef, path.intercept
        self.alpha_, self.alphas_, self.loo_error_ = path.alpha, path.alphas, path.loo_error
        self.alpha_at_edge_ = path.at_edge


def _checked_alphas(alphas: object) -> Array:
    values = [alphas] if isinstance(alphas, Real | str) or not isinstance(alphas, Iterable) else list(alphas)
    if not values:
        raise ValueError("alphas is empty; give one or more positive numbers, or 'auto'.")
    for value in values:
        if not is_positive(value):
            raise ValueError(f"alphas has {value!r}; expected positive, finite numbers, or 'auto'.")
    return np.array(values, dtype=np.float64)


def counted_rows(X: Array, y: NDArray, sample_weight: ArrayLike | None) -> tuple[Array, NDArray, Array]:
    """Return the rows of positive weight and their weights, which are ones without `sample_weight`."""
    if sample_weight is None:
        return X, y, np.ones(len(X))
    counts = np.asarray(sample_weight, dtype=np.float64)
    if counts.shape != (len(X),):
        raise ValueError(f"sample_weight has shape {counts.shape}; expected one weight per row, shape ({len(X)},).")
    unfit = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0.0)))
    if len(unfit):
        raise ValueError(f"sample_weight has {counts[unfit[0]]} at row {unfit[0]}; expected finite numbers >= 0.")
    rows = counts > 0.0
    if not rows.any():
        raise ValueError("sample_weight is zero for every row; give one or more rows a positive weight.")
    return X[rows], y[rows], counts[rows]
