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


def rounding_of(X: FloatArray) -> float:
    r"""Singular values of what rounding may have added to a representation: below this, a direction is none.

    A matrix of independent errors of :math:`\epsilon |x_{ij}|` has the spectral norm
    :math:`\epsilon \, \mathrm{rms}(X) (\sqrt n + \sqrt d)` at most, about. :math:`\epsilon` is that of single precision
    where every value is one, as in a recorded layer, whatever its type is by now; else that of double. A decomposition
    adds :math:`\max(n, d)` times that of double.

    Parameters
    ----------
    X : array (n, d)
        Not centred: it is the values themselves that were rounded.

    Returns
    -------
    float

    Examples
    --------
    >>> rounding_of(np.eye(4)) < 1e-6, rounding_of(np.eye(4) / 3) < 1e-14
    (True, True)
    """
    with np.errstate(over="ignore", under="ignore"):
        is_single = bool((X.astype(np.float32) == X).all())
    epsilon = np.finfo(np.float32 if is_single else np.float64).eps
    largest = np.abs(X).max()
    norm = largest * np.linalg.norm(X / largest) if largest else 0.0  # so that no square overflows or vanishes
    n, d = X.shape
    return float(norm * max(epsilon * (n**-0.5 + d**-0.5), np.finfo(np.float64).eps * max(n, d)))
