"""Ridge probe of classes: ridge regression on class indicators, a fast linear probe."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from probes.checks import is_positive
from probes.estimators.base import ScoredByStimulus, checked_rows, class_codes, linear_scores
from probes.estimators.ridge.base_ridge import BaseRidge, counted_rows
from probes.grids import AUTO
from probes.scores import all_classes
from probes.stimulus_order import ByStimulus

Array = NDArray[np.float64]


class RidgeProbe(ScoredByStimulus, ClassifierMixin, BaseRidge):
    r"""Ridge regression on class indicators, with the penalty of least exact leave-one-out error.

    With a target :math:`t_{ik}` of +1 where row i is of class k and -1 elsewhere (for two classes, one column for the
    second), it minimises over standardised features :math:`x_i`

    .. math:: \sum_i s_i \lVert t_i - W x_i - b \rVert^2 + \alpha \lVert W \rVert_F^2

    for each :math:`\alpha` of a grid, and chooses the one whose leave-one-out squared error is smallest (see
    `ridge_path`). The whole grid costs one eigendecomposition. The intercept is not penalised. The leave-one-out error
    is exact given the standardisation of all rows: a row that is left out still contributes to `mean_` and `scale_`.

    It does not estimate probabilities, and squared error also penalises correct answers of high confidence. Use it to
    screen many layers, and report it separately from `LogisticProbe`.

    Parameters
    ----------
    alphas : "auto", float or sequence of floats, > 0, default "auto"
        Weights of the penalty against the data. "auto" is the grid 1e-3, 1e-2, …, 1e6, which is extended a decade at
        a time, by 6 decades at most, while the leave-one-out error still falls at its edge. Numbers are used as given.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the weighted training rows. A constant feature gets scale 1
        and coefficient 0.
    class_weight : None, "balanced" or dict of class to weight > 0, default None
        Factor of the squared error of each class, 1 for a class that the dict does not name. "balanced" gives class k
        the weight :math:`n / (K n_k)`, with rows counted by `sample_weight`.

    Attributes
    ----------
    classes_ : array, shape (K,)
        Labels of the rows of positive weight, sorted.
    coef_ : array, shape (K, d), or (1, d) for two classes
        Coefficients of the standardised features `(X - mean_) / scale_`.
    intercept_ : array, shape (K,), or (1,) for two classes
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
        Leave-one-out squared error, averaged over weighted rows and columns of targets, in the order of `alphas_`.
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
        alphas: float | Sequence[float] | str = AUTO,
        *,
        standardize: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
    ) -> None:
        self.alphas = alphas
        self.standardize = standardize
        self.class_weight = class_weight

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
            A row of weight 2 counts as a row that occurs twice; a row of weight 0 is left out.

        Raises
        ------
        ValueError
            If a parameter is out of range, X, y or the weights have a wrong shape or invalid values, or y has one class
            only.
        """
        features, labels = checked_rows(self, X, y)
        features, labels, counts = counted_rows(features, labels, sample_weight)
        self.classes_, codes = class_codes(labels)
        occurrences: Array = np.bincount(codes, weights=counts).astype(np.float64)
        importance = _class_importance(self.class_weight, self.classes_, occurrences)
        self._learn(features, _class_targets(codes), counts, importance[codes])
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the predicted targets, near -1 to 1: shape (n, K), or (n,) for the second of two classes."""
        scores = linear_scores(self, X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the label of the largest predicted target of each row, shape (n,)."""
        best = np.argmax(all_classes(linear_scores(self, X)), axis=1)
        return self.classes_[best]


def _class_targets(codes: NDArray[np.intp]) -> Array:
    """Return +1 in the column of the class and -1 elsewhere, (n, K), or (n, 1) for the second of two classes."""
    targets = 2.0 * np.eye(int(codes.max()) + 1)[codes] - 1.0
    return targets[:, 1:] if targets.shape[1] == 2 else targets


def _class_importance(class_weight: object, classes: NDArray, counts: Array) -> Array:
    """Return the weight of each class, (K,), given the number of its rows."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return counts.sum() / (len(counts) * counts)
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight is {class_weight!r}; expected None, 'balanced' or a dict of class to weight.")
    names = classes.tolist()
    for name, weight in class_weight.items():
        if name not in names:
            raise ValueError(f"class_weight has {name!r}, which is not a class of y. Choose one of: {names}.")
        if not is_positive(weight):
            raise ValueError(f"class_weight gives class {name!r} {weight!r}; expected a positive, finite number.")
    return np.array([float(class_weight.get(name, 1.0)) for name in names])
