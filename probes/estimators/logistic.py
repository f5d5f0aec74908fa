"""Logistic probe: multinomial logistic regression with a certificate, as a scikit-learn estimator."""

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from probes.checks import check_positive
from probes.estimators.base import ScoredByStimulus, checked_rows, class_codes, linear_scores, standardisation_of
from probes.scores import all_classes
from probes.solvers import Fit
from probes.solvers.solver_settings import SolverSettings
from probes.stimulus_order import ByStimulus

Array = NDArray[np.float64]


class LogisticProbe(ScoredByStimulus, ClassifierMixin, BaseEstimator):
    r"""Multinomial logistic regression with a bound on the distance to its optimum.

    Minimises, over standardised features :math:`x_i`,

    .. math:: P(W, b) = C \sum_i s_i \, \ell(y_i, W x_i + b) + \tfrac12 \lVert W \rVert_F^2

    where :math:`s_i` is the weight of an example times the weight of its class, and :math:`\ell` is the softmax
    cross-entropy over K rows of `W`, or for two classes the sigmoid cross-entropy of one row. The intercept is not
    penalised. With standardisation, one C has the same effect on layers of different scale. It changes the objective,
    so coefficients differ from those of a fit to the raw features.

    Parameters
    ----------
    C : float, > 0, default 1.0
        Weight of the data against the penalty.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the training rows. A constant feature gets scale 1 and
        coefficient 0.
    solver : str, default "auto"
        A key of `probes.SOLVERS`: "lbfgs", "newton" (few features and classes), or "auto", which chooses by size.
    class_weight : None, "balanced" or dict, default None
        Weight of each class, by label; "balanced" is n / (K · number of its examples).
    device : str, default "cpu"
        Device on which torch multiplies, such as "cuda"; the certificate is computed on the CPU in double precision.
    warm_start : bool, default False
        Whether `fit` starts from the coefficients of an earlier fit with the same numbers of features and classes.
    tol : float, > 0, default 1e-6
        Largest duality gap, relative to the objective, of a converged fit.
    max_iter : int, >= 1, default 1000
        Largest number of iterations.

    Attributes
    ----------
    classes_ : array, shape (K,)
        Labels, sorted.
    coef_ : array, shape (K, d), or (1, d) for two classes
        Coefficients of the standardised features `(X - mean_) / scale_`.
    intercept_ : array, shape (K,), or (1,) for two classes
        Intercept that belongs to `coef_`; sums to zero when K > 2.
    mean_, scale_ : arrays, shape (d,)
        The standardisation; zeros and ones with `standardize=False`.
    n_constant_ : int
        Number of features that are constant on the training rows.
    n_iter_ : int
        Iterations used; 0 when the intercept alone is optimal.
    duality_gap_ : float, >= 0
        Upper bound on the objective minus its minimum.
    relative_gap_ : float, >= 0
        `duality_gap_` divided by the objective.
    converged_ : bool
        Whether `relative_gap_ <= tol`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Alain and Bengio (2016). Understanding intermediate layers using linear classifier probes. arXiv:1610.01644.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> probe = LogisticProbe(C=0.1).fit(*load_iris(return_X_y=True))
    >>> probe.converged_, round(probe.score(*load_iris(return_X_y=True)), 2)
    (True, 0.93)
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        standardize: bool = True,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: str | Mapping[Any, float] | None = None,
        device: str = "cpu",
        warm_start: bool = False,
    ) -> None:
        self.C = C
        self.standardize = standardize
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.device = device
        self.warm_start = warm_start

    def fit(self, X: ArrayLike, y: ByStimulus, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the probe and return it.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Features, finite. They are computed with in float64, whatever their dtype.
        y : array-like, shape (n,), or by stimulus
            Class labels, at least two different ones. For a recorded layer also a mapping of stimulus id to label, a
            Series with the ids as its index, or the ``stimuli`` of a run; an array is taken by position.
        sample_weight : array-like, shape (n,), >= 0, optional
            A weight of 2 counts as two examples, also in the standardisation; an example of weight 0 is left out.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y has a wrong shape or invalid values, or y has one class only.

        Warns
        -----
        UserWarning
            If every feature is constant on the training rows.
        ConvergenceWarning
            If the duality gap is above `tol` after `max_iter` iterations.
        """
        check_positive(self.C, "C")
        settings = SolverSettings(solver=self.solver, tol=self.tol, max_iter=self.max_iter, device=self.device)
        features, labels = checked_rows(self, X, y)
        weights = (
            None if sample_weight is None else _check_sample_weight(sample_weight, features, ensure_non_negative=True)
        )
        self.classes_, codes = class_codes(labels)
        start = self._earlier(features.shape[1])
        self.mean_, self.scale_ = standardisation_of(self, features, weights)
        self.n_constant_ = self._constant(features if weights is None else features[weights > 0])
        self._store(
            settings.solve(
                (features - self.mean_) / self.scale_,
                codes,
                self.C,
                sample_weight=self._weights(labels, codes, weights),
                start=start,
            )
        )
        return self

    def _constant(self, features: Array) -> int:
        n_constant = int(np.count_nonzero(features.max(axis=0) == features.min(axis=0)))
        if n_constant == features.shape[1]:
            warnings.warn(
                f"All {n_constant} features are constant on the training rows; the probe predicts the class rates.",
                UserWarning,
                stacklevel=3,
            )
        return n_constant

    def _weights(self, labels: NDArray, codes: NDArray[np.intp], weights: Array | None) -> Array | None:
        if self.class_weight is None:
            total, chosen = np.bincount(codes, weights), weights
        else:
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=labels, sample_weight=weights)
            chosen = of_class[codes] if weights is None else of_class[codes] * weights
            total = np.bincount(codes, chosen)
        if np.any(total <= 0):
            lost = self.classes_[total <= 0].tolist()[0]
            raise ValueError(f"The examples of class {lost!r} have weight 0; leave them out or raise it.")
        return chosen

    def _earlier(self, d: int) -> Fit | None:
        """Return the earlier fit if it can be the start of this one."""
        n_classes = len(self.classes_)
        shape = (1 if n_classes == 2 else n_classes, d)
        if not (self.warm_start and hasattr(self, "coef_") and self.coef_.shape == shape):
            return None
        return Fit(coef=self.coef_, intercept=self.intercept_, objective=np.inf, gap=np.inf, n_iter=0, converged=False)

    def _store(self, fit: Fit) -> None:
        self.coef_, self.intercept_ = fit.coef, fit.intercept
        self.n_iter_, self.converged_ = fit.n_iter, fit.converged
        self.duality_gap_, self.relative_gap_ = fit.gap, fit.relative_gap
        if not fit.converged:
            warnings.warn(
                f"The probe stopped after {fit.n_iter} iterations at relative duality gap {fit.relative_gap:.1e}; "
                f"tol={self.tol:.1e} was requested. Raise max_iter, raise tol, or lower C.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the logits: shape (n, K), or (n,) for the second of two classes."""
        logits = linear_scores(self, X)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of each class, shape (n, K), in [0, 1]; rows sum to 1."""
        return softmax(all_classes(linear_scores(self, X)), axis=1)

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the most probable label of each row, shape (n,)."""
        best = np.argmax(all_classes(linear_scores(self, X)), axis=1)
        return self.classes_[best]
