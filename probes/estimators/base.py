"""What probes that are scikit-learn estimators have in common: rows to fit and to read, classes, standardisation."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.features import standardisation
from probes.stimulus_order import ByStimulus, targets_of

Array = NDArray[np.float64]


class ScoredByStimulus:
    """A mixin for probes whose ``score``, as their ``fit``, takes the targets of a recorded layer by stimulus id."""

    def score(self, X: ArrayLike, y: ByStimulus, sample_weight: ArrayLike | None = None) -> float:
        """Return scikit-learn's score of these rows: accuracy, or R² of continuous targets; y as in `fit`."""
        score: float = super().score(X, targets_of(X, y), sample_weight)  # type: ignore[misc]
        return score


def checked_rows(probe: Any, X: ArrayLike, y: ByStimulus) -> tuple[Array, NDArray]:
    """Return what a probe of classes is to be fitted to: features in float64, and one label per row.

    Raises
    ------
    ValueError
        If X or y is not what scikit-learn accepts, or y does not fit the stimuli of a recorded layer.
    """
    features, labels = validate_data(probe, X, targets_of(X, y), dtype=np.float64)
    check_classification_targets(labels)
    return features, labels


def class_codes(labels: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the classes, sorted, and the place of each label among them; refuse a single class.

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
    """Return the mean and scale of the training rows, or zeros and ones if the probe does not standardise."""
    return standardisation(X, weights) if probe.standardize else (np.zeros(X.shape[1]), np.ones(X.shape[1]))


def standardised(probe: Any, X: ArrayLike) -> Array:
    """Return features to be read by a fitted probe, shape (n, d), standardised as its training rows were."""
    check_is_fitted(probe)
    features: Array = validate_data(probe, X, reset=False, dtype=np.float64)
    return (features - probe.mean_) / probe.scale_


def linear_scores(probe: Any, X: ArrayLike) -> Array:
    """Return what a fitted linear probe makes of features, with a column for each row of its `coef_`."""
    return standardised(probe, X) @ probe.coef_.T + probe.intercept_
