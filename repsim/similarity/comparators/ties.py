"""Which distances are equal: those that differ by nothing but rounding tie, or ranks would order noise."""

import numpy as np
from numpy.typing import NDArray

from repsim.similarity.arrays import FloatArray

# Distances that agree to this much, relative to the largest, differ by nothing but rounding.
ROUNDING = 1e-12
# The same where all are numbers of single precision: two units in the last place of the largest.
SINGLE_ROUNDING = 2 * float(np.finfo(np.float32).eps)


def levels(distances: FloatArray) -> NDArray[np.int64]:
    """Return the place of every distance among the different ones; what differs by rounding alone is equal.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    array (m,)
        Integers from 0 upwards, in the order of the distances.

    Examples
    --------
    >>> levels(np.array([0.3, 0.1 + 0.2, 0.1]))
    array([1, 1, 0])
    """
    order = np.argsort(distances, kind="stable")
    begins = np.diff(distances[order]) > tolerance(distances)
    numbers = np.empty(len(distances), dtype=np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(begins)])
    return numbers


def tolerance(distances: FloatArray) -> float:
    """Return by how much distances may differ and still be equal.

    Parameters
    ----------
    distances : array (m,)

    Returns
    -------
    float

    Examples
    --------
    >>> tolerance(np.array([0.1, 2.0])), tolerance(np.array([1.0, 2.0])) > 1e-7
    (2e-12, True)
    """
    with np.errstate(over="ignore", under="ignore"):
        is_single = bool((distances.astype(np.float32) == distances).all())
    return (SINGLE_ROUNDING if is_single else ROUNDING) * float(np.abs(distances).max())
