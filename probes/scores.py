"""Scores of logits: log loss, accuracy, balanced accuracy; and of predicted numbers: mean squared error, R²."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Array = NDArray[np.float64]


def log_loss(logits: Array, y: NDArray[np.intp]) -> float:
    """Return the mean negative log probability of the true class, in nats, from logits (n, K) or (n, 1).

    Examples
    --------
    >>> round(log_loss(np.zeros((3, 2)), np.array([0, 1, 1])), 3)
    0.693
    """
    return float(np.mean(log_losses(logits, y)))


def log_losses(logits: Array, y: NDArray[np.intp]) -> Array:
    """Return the negative log probability of the true class of each example, (n,); arguments as `log_loss`.

    Examples
    --------
    >>> log_losses(np.zeros((2, 4)), np.array([0, 1])).round(3).tolist()
    [1.386, 1.386]
    """
    return -log_softmax(all_classes(logits), axis=1)[np.arange(len(y)), y]


def accuracy(logits: Array, y: NDArray[np.intp]) -> float:
    """Return the share of examples whose largest logit is that of the true class, in [0, 1]; arguments as `log_loss`.

    Examples
    --------
    >>> accuracy(np.array([[1.0], [-1.0]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(_hits(logits, y)))


def balanced_accuracy(logits: Array, y: NDArray[np.intp]) -> float:
    """Return the mean accuracy over the classes that occur in y, in [0, 1]; arguments as `log_loss`.

    Examples
    --------
    >>> balanced_accuracy(np.array([[1.0], [-1.0], [-1.0]]), np.array([1, 1, 0]))
    0.75
    """
    hits = _hits(logits, y)
    return float(np.mean([np.mean(hits[y == code]) for code in np.unique(y)]))


def mean_squared_error(predicted: Array, y: Array) -> float:
    """Return the mean squared difference of predictions and values, both (n,).

    Examples
    --------
    >>> mean_squared_error(np.array([0.0, 1.0]), np.array([2.0, 1.0]))
    2.0
    """
    return float(np.mean(np.square(predicted - y)))


def r2_score(predicted: Array, y: Array) -> float:
    """Return 1 minus the mean squared error over the variance of the values, at most 1; arguments as before.

    Values must differ.

    Examples
    --------
    >>> r2_score(np.array([1.0, 1.0, 4.0]), np.array([0.0, 1.0, 5.0]))
    0.857142857142857...
    """
    return 1.0 - mean_squared_error(predicted, y) / float(np.var(y))


def _hits(logits: Array, y: NDArray[np.intp]) -> NDArray[np.bool_]:
    return np.argmax(all_classes(logits), axis=1) == y


def all_classes(logits: Array) -> Array:
    """Return one logit per class, (n, K); if only the second of two classes has one, that of the first is 0.

    Examples
    --------
    >>> all_classes(np.array([[1.5], [-1.0]])).tolist()
    [[0.0, 1.5], [0.0, -1.0]]
    """
    return np.column_stack([np.zeros(len(logits)), logits]) if logits.shape[1] == 1 else logits
