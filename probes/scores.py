"""How good logits are: the scores of probes."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Array = NDArray[np.float64]


def log_loss(logits: Array, y: NDArray[np.intp]) -> float:
    """Mean negative log probability of the true class.

    Parameters
    ----------
    logits : array, shape (n, K), or (n, 1) for the second of two classes
    y : array, shape (n,), int
        Class codes.

    Returns
    -------
    float
        Nats, >= 0.

    Examples
    --------
    >>> round(log_loss(np.zeros((3, 2)), np.array([0, 1, 1])), 3)
    0.693
    """
    return float(-np.mean(log_softmax(all_classes(logits), axis=1)[np.arange(len(y)), y]))


def accuracy(logits: Array, y: NDArray[np.intp]) -> float:
    """Share of examples whose largest logit is that of the true class, in [0, 1].

    Parameters
    ----------
    logits, y
        As for `log_loss`.

    Examples
    --------
    >>> accuracy(np.array([[1.0], [-1.0]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(hits(logits, y)))


def balanced_accuracy(logits: Array, y: NDArray[np.intp]) -> float:
    """Mean over the classes that occur of the accuracy on their examples, in [0, 1].

    Parameters
    ----------
    logits, y
        As for `log_loss`.

    Examples
    --------
    >>> balanced_accuracy(np.array([[1.0], [-1.0], [-1.0]]), np.array([1, 1, 0]))
    0.75
    """
    right = hits(logits, y)
    return float(np.mean([np.mean(right[y == code]) for code in np.unique(y)]))


def hits(logits: Array, y: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For each example, whether its largest logit is that of the true class.

    Parameters
    ----------
    logits, y
        As for `log_loss`.

    Examples
    --------
    >>> hits(np.array([[1.0], [-1.0]]), np.array([1, 1]))
    array([ True, False])
    """
    return np.argmax(all_classes(logits), axis=1) == y


def all_classes(logits: Array) -> Array:
    """Return a logit for every class, (n, K): of two, the first has 0 where only the second has one.

    Examples
    --------
    >>> all_classes(np.array([[1.5], [-1.0]])).tolist()
    [[0.0, 1.5], [0.0, -1.0]]
    """
    return np.column_stack([np.zeros(len(logits)), logits]) if logits.shape[1] == 1 else logits
