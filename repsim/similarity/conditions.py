"""Rows that belong together: conditions, folds, and the noise about their means."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repsim.similarity.arrays import FloatArray
from repsim.similarity.distances.noise import noise_covariance

Codes = NDArray[np.intp]


def check_labels(labels: ArrayLike, n: int, name: str) -> Codes:
    """Return the condition of every row as a number, in the order of `numpy.unique`.

    Parameters
    ----------
    labels : array-like (n,)
    n : int
        Rows.
    name : str
        What the messages call the representation.

    Returns
    -------
    array (n,)

    Raises
    ------
    ValueError
        If there is not one label a row, or only one condition.

    Examples
    --------
    >>> check_labels(["dog", "cat", "dog"], 3, "X")
    array([1, 0, 1])
    """
    codes = _codes(labels, n, "labels", name)
    if codes.max() == 0:
        raise ValueError(f"{name} has only one condition; at least 2 are needed to compare.")
    return codes


def averaged(X: ArrayLike, codes: Codes) -> FloatArray:
    """Return the mean of the rows of every condition.

    Parameters
    ----------
    X : array (n, d)
    codes : array (n,)
        As from `check_labels`.

    Returns
    -------
    array (n_conditions, d)

    Examples
    --------
    >>> averaged(np.array([[1.0], [2.0], [5.0]]), np.array([1, 0, 1]))
    array([[2.],
           [3.]])
    """
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    sums = np.add.reduceat(np.asarray(X, dtype=np.float64)[order], starts, axis=0)
    return sums / np.bincount(codes)[:, None]


def split_into_folds(X: ArrayLike, codes: Codes, folds: ArrayLike, name: str) -> FloatArray:
    """Return the mean of the rows of every condition within every fold.

    Parameters
    ----------
    X : array (n, d)
    codes : array (n,)
    folds : array-like (n,)
    name : str

    Returns
    -------
    array (n_folds, n_conditions, d)

    Raises
    ------
    ValueError
        If there is not one fold a row, or only one fold, or if a condition does not occur in a fold.

    Examples
    --------
    >>> split_into_folds([[1.0], [2.0], [3.0], [6.0]], np.array([0, 1, 0, 1]), [1, 1, 2, 2], "X").ravel()
    array([1., 2., 3., 6.])
    """
    array, parts = np.asarray(X, dtype=np.float64), _codes(folds, len(codes), "folds", name)
    if parts.max() == 0:
        raise ValueError(f"{name} has only one fold; at least 2 are needed to cross-validate.")
    counts = np.zeros((parts.max() + 1, codes.max() + 1), dtype=int)
    np.add.at(counts, (parts, codes), 1)
    if (counts == 0).any():
        raise ValueError(
            f"{name}: {(counts == 0).any(axis=0).sum()} conditions do not occur in every fold. "
            "Leave them out, or divide the data into fewer folds."
        )
    return np.stack([averaged(array[parts == part], codes[parts == part]) for part in range(len(counts))])


def noise_of(X: ArrayLike, codes: Codes | None, folds: ArrayLike | None, name: str) -> FloatArray:
    """Return the shrunk covariance of the deviations from the mean of each condition, in each fold if there are any.

    Parameters
    ----------
    X : array (n, d)
    codes : array (n,), optional
        All rows are one condition without.
    folds : array-like (n,), optional
    name : str

    Returns
    -------
    array (d, d)

    Raises
    ------
    ValueError
        If no condition has two rows.

    Examples
    --------
    >>> noise_of([[0.0], [2.0]], None, None, "X")
    array([[2.]])
    """
    array = np.asarray(X, dtype=np.float64)
    groups = np.zeros(len(array), dtype=np.intp) if codes is None else codes
    if folds is not None:
        parts = _codes(folds, len(array), "folds", name)
        groups = np.unique(np.stack([groups, parts]), axis=1, return_inverse=True)[1].ravel()
    means = averaged(array, groups)
    degrees = len(array) - len(means)
    if degrees == 0:
        raise ValueError(
            f"{name} has one row a condition{'' if folds is None else ' and fold'}, from which no noise can be "
            "estimated. Give the noise covariance, or record repeats."
        )
    return noise_covariance(array - means[groups], degrees)


def _codes(values: ArrayLike, n: int, what: str, name: str) -> Codes:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} has {n} rows and {what} has shape {array.shape}; expected shape ({n},).")
    return np.unique(array, return_inverse=True)[1]
