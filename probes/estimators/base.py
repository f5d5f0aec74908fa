"""Functions that all probes share: validation of features and labels, class codes, standardisation."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.features import standardisation
from probes.stimulus_order import ByStimulus, targets_of

Array = NDArray[np.float64]


class ScoredByStimulus:
    """Mixin: ``score``, like ``fit``, accepts the targets of a recorded layer by stimulus id."""

    def score(self, X: ArrayLike, y: ByStimulus, sample_weight: ArrayLike | None = None) -> float:
        """Return the score of scikit-learn: accuracy, or R² for continuous targets. y has the forms of `fit`."""
        score: float = super().score(X, targets_of(X, y), sample_weight)  # type: ignore[misc]
        return score


def checked_rows(probe: Any, X: ArrayLike, y: ByStimulus) -> tuple[Array, NDArray]:
    """Return validated features in float64, and one class label per row."""
    features, labels = validate_data(probe, X, targets_of(X, y), dtype=np.float64)
    check_classification_targets(labels)
    return features, labels


def class_codes(labels: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the sorted classes and the class code of each label; raise a ValueError if there is a single class.

    Examples
    --------
    >>> [each.tolist() for each in class_codes(np.array(["dog", "cat", "dog"]))]
    [['cat', 'dog'], [1, 0, 1]]
    """
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has one class, {classes.tolist()[0]!r}; a probe needs two or more classes.")
    return classes, codes


def standardisation_of(probe: Any, X: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean and scale of the training rows; zeros and ones if the probe does not standardise."""
    return standardisation(X, weights) if probe.standardize else (np.zeros(X.shape[1]), np.ones(X.shape[1]))


def standardised(probe: Any, X: ArrayLike) -> Array:
    """Return features, shape (n, d), standardised with the mean and scale of a fitted probe."""
    check_is_fitted(probe)
    features: Array = validate_data(probe, X, reset=False, dtype=np.float64)
    return (features - probe.mean_) / probe.scale_


def linear_scores(probe: Any, X: ArrayLike) -> Array:
    """Return the outputs of a fitted linear probe, with one column for each row of its `coef_`."""
    return standardised(probe, X) @ probe.coef_.T + probe.intercept_
