"""Tied distances: distances that differ only by rounding error at their own magnitude.

Ranks would order rounding errors if distances had to be equal to the last digit. Whether two distances are tied depends
on these two alone, never on the largest distance of the RDM: one stimulus far away from all others leaves the ranks of
the others as they are.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from repsim.similarity.precision import SINGLE, FloatArray, epsilon_of

# Rounding error of a distance, relative to the distance, in double and in single precision. It includes that of the
# activations from which the distance was computed.
DOUBLE_ROUNDING = 1e-12
SINGLE_ROUNDING = 12 * SINGLE


def levels(distances: FloatArray) -> NDArray[np.int64]:
    """Return the position of every distance among the distinct ones; tied distances share a position.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    array (m,)
        Integers from 0, of the smallest distance, upwards.

    Examples
    --------
    >>> levels(np.array([0.3, 0.1 + 0.2, 0.1]))
    array([1, 1, 0])
    """
    order = np.argsort(distances, kind="stable")
    numbers = np.empty(len(distances), dtype=np.int64)
    numbers[order] = np.cumsum(starts_of_ties(distances[order])) - 1
    return numbers


def ranks(distances: FloatArray) -> FloatArray:
    """Return the rank of every distance, from 1 upwards; tied distances share their mean rank.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    array (m,)

    Examples
    --------
    >>> ranks(np.array([0.3, 0.1 + 0.2, 0.1]))
    array([2.5, 2.5, 1. ])
    """
    return np.asarray(rankdata(levels(distances)), dtype=np.float64)


def starts_of_ties(ascending: FloatArray) -> NDArray[np.bool_]:
    """Return where each group of tied distances starts.

    A distance is tied with its predecessor if they differ by no more than rounding error, and if the group still spans
    no more than that. The second condition matters for RDMs of so many stimuli that neighbouring distances differ by
    less than rounding error everywhere: such a chain is cut into groups as wide as the rounding error.

    Parameters
    ----------
    ascending : array (m,)
        Distances in ascending order.

    Returns
    -------
    array of bool (m,)

    Examples
    --------
    >>> starts_of_ties(np.array([0.1, 0.1 + 0.2, 0.3 + 1e-16, 500.0]))
    array([ True,  True, False,  True])
    """
    rounding = relative_rounding(ascending)
    starts = np.ones(len(ascending), dtype=bool)
    with np.errstate(over="ignore"):  # the difference of two huge distances of opposite signs is infinite
        starts[1:] = np.diff(ascending) > rounding * _larger(ascending[:-1], ascending[1:])
        first = np.flatnonzero(starts)
        counts = np.diff(first, append=len(ascending))
        low, high = ascending[first], ascending[first + counts - 1]
        is_wide = high - low > rounding * _larger(low, high)
    # Groups are cut on a logarithmic scale: none contains zero or a change of sign, where neighbours are never tied.
    members = np.flatnonzero(np.repeat(is_wide, counts))
    ratios = ascending[members] / np.repeat(low[is_wide], counts[is_wide])
    starts[members[1:]] |= np.diff(np.floor(np.abs(np.log(ratios)) / rounding)) != 0
    return starts


def relative_rounding(distances: FloatArray) -> float:
    """Return the rounding error of distances relative to their own magnitude.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    float
        That of the precision of the distances, whatever the type of the array is (`precision.epsilon_of`).

    Examples
    --------
    >>> relative_rounding(np.array([0.1, 2.0])), relative_rounding(np.array([0.5, 2.0])) > 1e-7
    (1e-12, True)
    """
    return SINGLE_ROUNDING if epsilon_of(distances) == SINGLE else DOUBLE_ROUNDING


def is_constant(distances: FloatArray) -> bool:
    """Return whether all distances are equal up to rounding error.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    bool

    Examples
    --------
    >>> is_constant(np.array([1.0, 1.0 + 1e-15])), is_constant(np.array([1.0, 2.0]))
    (True, False)
    """
    if distances.size < 2:
        return True
    low, high = distances.min(), distances.max()
    with np.errstate(over="ignore"):
        return bool(high - low <= relative_rounding(distances) * _larger(low, high))


def _larger(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.maximum(np.abs(a), np.abs(b))
