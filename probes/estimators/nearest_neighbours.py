"""Nearest-neighbour probe as a scikit-learn estimator."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier

from probes.checks import check_positive_integer
from probes.estimators.base import ScoredByStimulus, checked_rows, class_codes, standardisation_of, standardised
from probes.stimulus_order import ByStimulus

Array = NDArray[np.float64]

METRICS = ("cosine", "euclidean")


class NeighbourProbe(ScoredByStimulus, ClassifierMixin, BaseEstimator):
    r"""Classifier by the votes of the k nearest training rows; it learns no direction in the layer.

    The probability of class c at x is its share among the neighbours :math:`N_k(x)`,

    .. math:: p_c(x) = \frac1k \sum_{i \in N_k(x)} [y_i = c],

    which are nearest in Euclidean or cosine distance of standardised features. Every vote has the same weight. It is
    not a linear probe: it also reads classes that are not linearly separable, and features without information about
    the class make it worse.

    Parameters
    ----------
    k : int, >= 1, default 20
        Number of neighbours that vote, at most the number of training rows.
    metric : {"euclidean", "cosine"}, default "euclidean"
        Distance between rows. The cosine distance from a row of zeros is 1.
    standardize : bool, default True
        Give every feature zero mean and unit variance over the training rows. A constant feature gets scale 1 and does
        not affect which rows are near.

    Attributes
    ----------
    classes_ : array, shape (K,)
        Labels, sorted.
    mean_, scale_ : arrays, shape (d,)
        The standardisation; zeros and ones with `standardize=False`.
    neighbours_ : KNeighborsClassifier
        The fitted classifier of scikit-learn on standardised features.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Cover and Hart (1967). Nearest neighbor pattern classification. IEEE Trans. Inf. Theory 13.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> probe = NeighbourProbe(k=5).fit(*load_iris(return_X_y=True))
    >>> round(probe.score(*load_iris(return_X_y=True)), 2)
    0.95
    """

    def __init__(self, k: int = 20, *, metric: str = "euclidean", standardize: bool = True) -> None:
        self.k = k
        self.metric = metric
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ByStimulus) -> Self:
        """Store the training rows and return the probe.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Features, finite. They are computed with in float64, whatever their dtype.
        y : array-like, shape (n,), or by stimulus
            Class labels, at least two different ones. For a recorded layer also a mapping of stimulus id to label, a
            Series with the ids as its index, or the ``stimuli`` of a run; an array is taken by position.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y has a wrong shape or invalid values, y has one class only, or k
            exceeds the number of rows.
        """
        _check_parameters(self)
        features, labels = checked_rows(self, X, y)
        self.classes_, _ = class_codes(labels)
        n = len(features)
        if self.k > n:
            raise ValueError(f"k is {self.k} and X has {n} rows; there are not enough neighbours. Lower k.")
        self.mean_, self.scale_ = standardisation_of(self, features)
        model = KNeighborsClassifier(n_neighbors=self.k, metric=self.metric)
        self.neighbours_ = model.fit((features - self.mean_) / self.scale_, labels)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the share of each class among the neighbours, shape (n, K), in [0, 1]; rows sum to 1."""
        features = standardised(self, X)
        shares: Array = self.neighbours_.predict_proba(features)
        return shares

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the commonest label among the neighbours of each row, shape (n,); on a tie the first one."""
        best = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[best]


def _check_parameters(probe: NeighbourProbe) -> None:
    check_positive_integer(probe.k, "k")
    if probe.metric not in METRICS:
        raise ValueError(f"Unknown metric {probe.metric!r}. Choose one of: {', '.join(METRICS)}.")
