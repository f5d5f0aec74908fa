"""Ridge probe of continuous targets."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from probes.estimators.base import ScoredByStimulus, linear_scores
from probes.estimators.ridge.base_ridge import BaseRidge, counted_rows
from probes.grids import AUTO
from probes.stimulus_order import ByStimulus, targets_of

Array = NDArray[np.float64]


class RegressionProbe(ScoredByStimulus, RegressorMixin, BaseRidge):
    r"""Ridge regression on continuous targets, with the penalty of least exact leave-one-out error.

    Minimises, over standardised features :math:`x_i`,

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2

    for each :math:`\alpha` of a grid, and chooses the one whose leave-one-out squared error is smallest (see
    `ridge_path`). All targets share one :math:`\alpha`, so give targets of comparable scale. Targets are not
    standardised, which would not change the fit of a single target. The intercept is not penalised. The leave-one-out
    error is exact given the standardisation of all rows: a row that is left out still contributes to `mean_` and
    `scale_`.
    `score` is R², at most 1, averaged over targets.

    Parameters
    ----------
    alphas : "auto", float or sequence of floats, > 0, default "auto"
        Weights of the penalty against the data. "auto" is the grid 1e-3, 1e-2, …, 1e6, which is extended a decade at
        a time, by 6 decades at most, while the leave-one-out error still falls at its edge. Numbers are used as given.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the weighted training rows. A constant feature gets scale 1
        and coefficient 0.

    Attributes
    ----------
    coef_ : array, shape (k, d), or (d,) where y was one-dimensional
        Coefficients of the standardised features `(X - mean_) / scale_`.
    intercept_ : array, shape (k,), or a float where y was one-dimensional
        Intercept that belongs to `coef_`.
    mean_, scale_ : arrays, shape (d,)
        The standardisation; zeros and ones with `standardize=False`.
    alpha_ : float
        The chosen penalty, the largest on a tie. At the lower end of "auto", errors that differ by no more than 1e-4 of
        the variance of the targets count as a tie.
    alphas_ : array, shape (n_alphas,)
        The penalties that were tried: `alphas`, or the grid of "auto" with its extension, ascending.
    alpha_at_edge_ : bool
        Whether the error is least at an end of `alphas_`, so that a wider grid may do better.
    loo_error_ : array, shape (n_alphas,), >= 0
        Leave-one-out squared error, averaged over weighted rows and targets, in the order of `alphas_`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Hoerl and Kennard (1970). Ridge regression: biased estimation for nonorthogonal problems. Technometrics 12.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> probe = RegressionProbe().fit(*load_diabetes(return_X_y=True))
    >>> probe.alpha_, round(probe.score(*load_diabetes(return_X_y=True)), 2)
    (1.0, 0.52)
    """

    def __init__(self, alphas: float | Sequence[float] | str = AUTO, *, standardize: bool = True) -> None:
        self.alphas = alphas
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ByStimulus, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the probe and return it.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Features, finite. They are computed with in float64, whatever their dtype.
        y : array-like, shape (n,) or (n, k), or by stimulus
            Targets, finite real numbers. For a recorded layer also a mapping of stimulus id to target, or a Series with
            the ids as its index; an array is taken by position.
        sample_weight : array-like, shape (n,), >= 0, optional
            A row of weight 2 counts as a row that occurs twice; a row of weight 0 is left out.

        Raises
        ------
        ValueError
            If a parameter is out of range, X, y or the weights have a wrong shape or invalid values, or fewer than two
            rows have a positive weight.
        """
        features, targets = validate_data(
            self, X, targets_of(X, y), dtype=np.float64, multi_output=True, y_numeric=True
        )
        features, targets, counts = counted_rows(features, targets, sample_weight)
        columns = targets.astype(np.float64).reshape(len(targets), -1)
        self._learn(features, columns, counts, np.ones(len(features)))
        if targets.ndim == 1:
            self.coef_, self.intercept_ = self.coef_[0], np.ravel(self.intercept_)[0]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return the predicted targets, shape (n,) or (n, k) as in `fit`."""
        return linear_scores(self, X)

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
