"""Ridge probes, of classes and of continuous targets: one eigendecomposition gives every penalty its exact error."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.features import standardisation

Array = NDArray[np.float64]

ALPHAS = tuple(10.0**power for power in range(-3, 7))


class _Ridge(BaseEstimator):
    """What both ridge probes share: standardise, follow the path of penalties, keep the best."""

    alphas: float | Sequence[float]
    standardize: bool
    coef_: Array
    intercept_: Array | float

    def _learn(self, X: Array, T: Array, counts: Array, importance: Array) -> None:
        alphas = _checked_alphas(self.alphas)
        self.mean_, self.scale_ = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if self.standardize:
            self.mean_, self.scale_ = standardisation(X, counts * importance)
        path = ridge_path((X - self.mean_) / self.scale_, T, alphas, counts, importance=importance)
        self.coef_, self.intercept_ = path.coef, path.intercept
        self.alpha_, self.loo_error_ = path.alpha, path.loo_error
        self.alpha_at_edge_ = len(alphas) > 1 and path.alpha in (alphas.min(), alphas.max())

    def _linear(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        features: Array = validate_data(self, X, reset=False, dtype=np.float64)
        return (features - self.mean_) / self.scale_ @ self.coef_.T + self.intercept_


class RidgeProbe(ClassifierMixin, _Ridge):
    r"""Ridge regression on class indicators, its penalty chosen by exact leave-one-out error.

    With a target :math:`t_{ik}` of +1 where row i is of class k and -1 elsewhere (for two classes, one column for the
    second), it minimises over standardised features :math:`x_i`

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2

    for each :math:`\alpha` of a grid, and keeps the one whose leave-one-out squared error is smallest (see
    `ridge_path`). All of them cost one eigendecomposition. The intercept is not penalised. The leave-one-out error is
    exact given the standardisation of all rows: a row left out has still had its part in `mean_` and `scale_`.

    It estimates no probabilities, and squared error punishes confident right answers; use it to screen many layers,
    and report it as a probe of its own beside `LogisticProbe`.

    Parameters
    ----------
    alphas : float or sequence of floats, > 0, default 1e-3, 1e-2, …, 1e6
        Weights of the penalty against the data; a single one is taken as it is.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the weighted training rows. A constant feature gets scale 1
        and coefficient 0.
    class_weight : None, "balanced" or dict of class to weight > 0, default None
        Factor of the squared error of each class, 1 for a class that the dict does not name. "balanced" gives class k
        the weight :math:`n / (K n_k)`, with rows counted by `sample_weight`.

    Attributes
    ----------
    classes_ : array, shape (K,)
        Labels, sorted; those of rows of weight zero do not count.
    coef_ : array, shape (K, d), or (1, d) for two classes
        Coefficients of the standardised features `(X - mean_) / scale_`.
    intercept_ : array, shape (K,), or (1,) for two classes
        Intercept beside `coef_`.
    mean_, scale_ : arrays, shape (d,)
        The standardisation; zeros and ones with `standardize=False`.
    alpha_ : float
        The penalty chosen.
    alpha_at_edge_ : bool
        Whether `alpha_` is the smallest or largest of several, so that a wider grid may do better.
    loo_error_ : array, shape (n_alphas,), >= 0
        Leave-one-out squared error, averaged over weighted rows and columns of targets, in the order of `alphas`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Rifkin and Lippert (2007). Notes on regularized least squares. MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> probe = RidgeProbe().fit(*load_iris(return_X_y=True))
    >>> probe.alpha_, probe.alpha_at_edge_, round(probe.score(*load_iris(return_X_y=True)), 2)
    (1.0, False, 0.85)
    """

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        standardize: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
    ) -> None:
        self.alphas = alphas
        self.standardize = standardize
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the probe.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Features, finite. They are computed with in float64, whatever their dtype.
        y : array-like, shape (n,)
            Class labels, at least two different ones.
        sample_weight : array-like, shape (n,), >= 0, optional
            How often each row counts: a row of weight 2 is a row that occurs twice, one of weight 0 is not there.

        Returns
        -------
        RidgeProbe
            The probe itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, X, y or the weights are unfit, or y has one class only.
        """
        features, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        features, labels, counts = _counted_rows(features, labels, sample_weight)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_.tolist()[0]!r}; a probe needs two or more classes.")
        occurrences: Array = np.bincount(codes, weights=counts).astype(np.float64)
        importance = _class_importance(self.class_weight, self.classes_, occurrences)
        self._learn(features, _class_targets(codes), counts, importance[codes])
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the predicted targets, near -1 to 1: shape (n, K), or (n,) for the second of two classes."""
        scores = self._linear(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the label of the largest predicted target of each row, shape (n,)."""
        scores = self._linear(X)
        best = (scores[:, 0] > 0.0).astype(np.intp) if len(self.classes_) == 2 else np.argmax(scores, axis=1)
        return self.classes_[best]


class RegressionProbe(RegressorMixin, _Ridge):
    r"""Ridge regression on continuous targets, its penalty chosen by exact leave-one-out error.

    Minimises, over standardised features :math:`x_i`,

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2

    for each :math:`\alpha` of a grid, and keeps the one whose leave-one-out squared error is smallest (see
    `ridge_path`). All targets share one :math:`\alpha`, so give targets of comparable scale. Targets are not
    standardised; that would not change the fit of one. The intercept is not penalised. The leave-one-out error is
    exact given the standardisation of all rows: a row left out has still had its part in `mean_` and `scale_`.
    `score` is R², at most 1, averaged over targets.

    Parameters
    ----------
    alphas : float or sequence of floats, > 0, default 1e-3, 1e-2, …, 1e6
        Weights of the penalty against the data; a single one is taken as it is.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the weighted training rows. A constant feature gets scale 1
        and coefficient 0.

    Attributes
    ----------
    coef_ : array, shape (k, d), or (d,) where y was one-dimensional
        Coefficients of the standardised features `(X - mean_) / scale_`.
    intercept_ : array, shape (k,), or a float where y was one-dimensional
        Intercept beside `coef_`.
    mean_, scale_ : arrays, shape (d,)
        The standardisation; zeros and ones with `standardize=False`.
    alpha_ : float
        The penalty chosen.
    alpha_at_edge_ : bool
        Whether `alpha_` is the smallest or largest of several, so that a wider grid may do better.
    loo_error_ : array, shape (n_alphas,), >= 0
        Leave-one-out squared error, averaged over weighted rows and targets, in the order of `alphas`.
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

    def __init__(self, alphas: float | Sequence[float] = ALPHAS, *, standardize: bool = True) -> None:
        self.alphas = alphas
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the probe.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Features, finite. They are computed with in float64, whatever their dtype.
        y : array-like, shape (n,) or (n, k)
            Targets, finite real numbers.
        sample_weight : array-like, shape (n,), >= 0, optional
            How often each row counts: a row of weight 2 is a row that occurs twice, one of weight 0 is not there.

        Returns
        -------
        RegressionProbe
            The probe itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, X, y or the weights are unfit, or fewer than two rows have weight.
        """
        features, targets = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        features, targets, counts = _counted_rows(features, targets, sample_weight)
        columns = targets.astype(np.float64).reshape(len(targets), -1)
        self._learn(features, columns, counts, np.ones(len(features)))
        if targets.ndim == 1:
            self.coef_, self.intercept_ = self.coef_[0], np.ravel(self.intercept_)[0]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return the predicted targets, shape (n,) or (n, k) as in `fit`."""
        return self._linear(X)

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@dataclass(frozen=True, kw_only=True)
class RidgePath:
    """The best fit of a path of penalties, and the error of each."""

    coef: Array  # (k, d)
    intercept: Array  # (k,)
    alpha: float
    loo_error: Array  # (n_alphas,), in the order given


def ridge_path(
    X: Array, T: Array, alphas: Array, sample_weight: Array | None = None, *, importance: Array | None = None
) -> RidgePath:
    r"""Fit ridge regression for every penalty at once and keep the one of the smallest leave-one-out error.

    With row weights :math:`s_i` = `sample_weight` · `importance`, each fit minimises

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2 .

    The residual of a row that the fit has not seen follows from the residual :math:`e_i` of one that it has, through
    the leverage :math:`h_i`, here of features and intercept together:

    .. math:: L(\alpha) = \frac{1}{k \sum_i s_i} \sum_i s_i \left\lVert \frac{e_i}{1 - u_i h_i} \right\rVert^2,
              \qquad u_i = 1 / \max(\text{sample\_weight}_i, 1) .

    It equals n refits, with no approximation. `sample_weight` counts occurrences, and one is left out at a time
    (:math:`u_i` is the share of the row's weight that goes with it), so that a row of weight 2 and a row that occurs
    twice give the same error; a row of weight below 1 goes whole. `importance` scales the error of each occurrence.

    The eigendecomposition is of X'X where d < n - 1 and else of XX'. Directions whose eigenvalue is no more than
    rounding get no coefficient. Where d < n - 1, the error of a row that only one feature tells from the others loses
    digits once alpha is below 1e-10 of that eigenvalue. It does not check or scale X; it centers it.

    Parameters
    ----------
    X : array, shape (n, d), float64, finite
        Features.
    T : array, shape (n, k), float64, finite
        Targets.
    alphas : array, shape (n_alphas,), > 0
        Penalties, in any order.
    sample_weight : array, shape (n,), > 0, default ones
        Occurrences of each row. Leave rows of weight zero out.
    importance : array, shape (n,), > 0, default ones
        Weight of each occurrence, as given by class weights.

    Returns
    -------
    RidgePath
        `coef`, `intercept` and `alpha` of the best fit, the largest alpha among equals, and `loo_error` of each.

    Raises
    ------
    ValueError
        If fewer than two rows share the weight, or squares overflow.

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
    _refuse_overflow(A, "features")
    _refuse_overflow(B, "targets")
    fits = _Primal(A, B, share) if A.shape[1] < len(A) - 1 else _Dual(A, B, share)
    left_out = 1.0 / np.maximum(counts, 1.0)
    errors = np.array([np.sum(_unseen(fits, alpha, left_out) ** 2) for alpha in alphas]) / (B.shape[1] * weight.sum())
    alpha = float(alphas[errors == errors.min()].max())
    coef = np.where(A.any(axis=0), fits.coef(alpha), 0.0)  # exactly zero where a feature is constant
    return RidgePath(coef=coef, intercept=centers[1] - coef @ centers[0], alpha=alpha, loo_error=errors)


class _Primal:
    """Fits of B on A through the eigenvectors of A'A: rows are weighted and centered, the intercept is out."""

    def __init__(self, A: Array, B: Array, share: Array) -> None:
        self.B, self.free = B, 1.0 - share  # (n,), what the intercept leaves of each row
        self.values, self.vectors = _spectrum(A.T @ A)  # (d,), (d, d)
        self.scores = A @ self.vectors  # (n, d)
        self.squared_scores = self.scores**2
        self.loadings = self.scores.T @ B  # (d, k)

    def residuals(self, alpha: float) -> Array:
        return self.B - self.scores @ (_inverse(self.values, alpha)[:, np.newaxis] * self.loadings)

    def slack(self, alpha: float) -> Array:
        """Return one minus the leverage, (n,); no less than where every direction is fitted like the first."""
        least = self.free * alpha / (self.values[-1] + alpha)
        return np.maximum(self.free - self.squared_scores @ _inverse(self.values, alpha), least)

    def coef(self, alpha: float) -> Array:
        return (self.vectors @ (_inverse(self.values, alpha)[:, np.newaxis] * self.loadings)).T


class _Dual:
    """The same through the eigenvectors of AA', where features and intercept can fit every row."""

    def __init__(self, A: Array, B: Array, share: Array) -> None:
        self.A = A
        gram = A @ A.T
        # Moved to the top of the spectrum, the direction of the intercept can be told from others of eigenvalue zero.
        top = 2.0 * float(np.trace(gram)) or 1.0
        values, vectors = _spectrum(gram + top * np.outer(np.sqrt(share), np.sqrt(share)))
        self.values, self.vectors = values[:-1], vectors[:, :-1]  # (n - 1,), (n, n - 1)
        self.squared_vectors = self.vectors**2
        self.loadings = self.vectors.T @ B  # (n - 1, k)

    def residuals(self, alpha: float) -> Array:
        return self.vectors @ ((alpha / (self.values + alpha))[:, np.newaxis] * self.loadings)

    def slack(self, alpha: float) -> Array:
        """Return one minus the leverage, (n,); a sum of positive terms."""
        return self.squared_vectors @ (alpha / (self.values + alpha))

    def coef(self, alpha: float) -> Array:
        return (self.A.T @ (self.vectors @ (_inverse(self.values, alpha)[:, np.newaxis] * self.loadings))).T


def _unseen(fits: _Primal | _Dual, alpha: float, left_out: Array) -> Array:
    """Return the residual of each row after `left_out` of its weight is taken from the fit, (n, k)."""
    kept = (1.0 - left_out) + left_out * fits.slack(alpha)
    return fits.residuals(alpha) / kept[:, np.newaxis]


def _spectrum(gram: Array) -> tuple[Array, Array]:
    """Return eigenvalues, ascending, and eigenvectors; an eigenvalue that is no more than rounding is zero."""
    values, vectors = np.linalg.eigh(gram)
    rounding = len(gram) * np.finfo(np.float64).eps * values[-1]
    return np.where(values > rounding, values, 0.0), vectors


def _inverse(values: Array, alpha: float) -> Array:
    return np.where(values > 0.0, 1.0 / (values + alpha), 0.0)


def _refuse_overflow(centered: Array, name: str) -> None:
    reach = np.max(np.abs(centered))
    if not reach < 1e100:  # products of two, squared, stay finite below it
        raise ValueError(f"The {name} reach {reach:.1e} from their mean, too large for float64. Rescale them.")


def _checked_alphas(alphas: object) -> Array:
    values = [alphas] if isinstance(alphas, Real | str) or not isinstance(alphas, Iterable) else list(alphas)
    if not values:
        raise ValueError("alphas is empty; give one or more positive numbers.")
    for value in values:
        if not isinstance(value, Real) or not 0.0 < float(value) < np.inf:
            raise ValueError(f"alphas has {value!r}; expected positive, finite numbers.")
    return np.array(values, dtype=np.float64)


def _counted_rows(X: Array, y: NDArray, sample_weight: ArrayLike | None) -> tuple[Array, NDArray, Array]:
    """Return the rows of positive weight, and their weights."""
    if sample_weight is None:
        return X, y, np.ones(len(X))
    counts = np.asarray(sample_weight, dtype=np.float64)
    if counts.shape != (len(X),):
        raise ValueError(f"sample_weight has shape {counts.shape}; expected one weight a row, shape ({len(X)},).")
    unfit = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0.0)))
    if len(unfit):
        raise ValueError(f"sample_weight has {counts[unfit[0]]} at row {unfit[0]}; expected finite numbers >= 0.")
    rows = counts > 0.0
    if not rows.any():
        raise ValueError("sample_weight is zero for every row; give one or more rows a positive weight.")
    return X[rows], y[rows], counts[rows]


def _class_targets(codes: NDArray[np.intp]) -> Array:
    """Return +1 in the column of the class and -1 elsewhere, (n, K), or (n, 1) for the second of two classes."""
    targets = 2.0 * np.eye(int(codes.max()) + 1)[codes] - 1.0
    return targets[:, 1:] if targets.shape[1] == 2 else targets


def _class_importance(class_weight: object, classes: NDArray, counts: Array) -> Array:
    """Return the weight of each class, (K,), given how often each occurs."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return counts.sum() / (len(counts) * counts)
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight is {class_weight!r}; expected None, 'balanced' or a dict of class to weight.")
    names = classes.tolist()
    for name, weight in class_weight.items():
        if name not in names:
            raise ValueError(f"class_weight has {name!r}, which is no class of y. The classes are: {names}.")
        if not isinstance(weight, Real) or not 0.0 < float(weight) < np.inf:
            raise ValueError(f"class_weight gives class {name!r} {weight!r}; expected a positive, finite number.")
    return np.array([float(class_weight.get(name, 1.0)) for name in names])
