"""The array type of this room, and the one operation that nearly every measure starts with."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def centred(X: FloatArray, axis: int) -> FloatArray:
    """Subtract the mean along an axis, so that equal values become exactly zero.

    Parameters
    ----------
    X : array (n, d)
    axis : {0, 1}
        0 centres every column, 1 centres every row.

    Returns
    -------
    array (n, d)
        A new array; X is left alone.

    Examples
    --------
    >>> centred(np.full((3, 1), 0.1), axis=0).ravel()
    array([0., 0., 0.])
    """
    Z = X - X.mean(axis, keepdims=True)
    # A mean is only as exact as the offset is large, and what it leaves of equal values would look like a signal. These
    # leftovers are a few units in the last place, so their own mean is exact.
    Z -= Z.mean(axis, keepdims=True)
    return Z
