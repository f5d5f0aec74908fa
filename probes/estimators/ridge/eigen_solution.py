"""Eigenvalues of a Gram matrix, and their inverses under a ridge penalty."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def spectrum(gram: Array) -> tuple[Array, Array]:
    """Return eigenvalues, ascending, and eigenvectors; eigenvalues within rounding of zero are zero.

    Examples
    --------
    >>> spectrum(np.diag([2.0, 1e-20]))[0].tolist()
    [0.0, 2.0]
    """
    values, vectors = np.linalg.eigh(gram)
    rounding = len(gram) * np.finfo(np.float64).eps * values[-1]
    return np.where(values > rounding, values, 0.0), vectors


def inverse(values: Array, alpha: float) -> Array:
    """Return 1 / (value + alpha) of each eigenvalue, and 0 of an eigenvalue that is zero.

    Examples
    --------
    >>> inverse(np.array([0.0, 1.5]), 0.5).tolist()
    [0.0, 0.5]
    """
    return np.where(values > 0.0, 1.0 / (values + alpha), 0.0)


def refuse_overflow(centered: Array, name: str) -> None:
    """Raise a ValueError if squares of products of the values overflow."""
    reach = np.max(np.abs(centered))
    if not reach < 1e100:  # products of two, squared, stay finite below it
        raise ValueError(f"The {name} reach {reach:.1e} from their mean, too large for float64. Rescale them.")
