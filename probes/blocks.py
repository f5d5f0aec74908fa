"""Features that are too large to convert at once, a block of rows at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8 * 2**20  # bytes of features that are converted at a time


def blocks_of(X: Any, dtype: Any = np.float64) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Give consecutive rows of X in a precision: all of an array that has it already, else `BLOCK` bytes at a time.

    Parameters
    ----------
    X : array, shape (n, d), or what gives such rows by slices
    dtype : float32 or float64

    Yields
    ------
    (slice, array)

    Examples
    --------
    >>> [(rows, block.dtype.name) for rows, block in blocks_of(np.ones((3, 2), np.float32))]
    [(slice(0, 3, None), 'float64')]
    """
    n, d = X.shape
    if isinstance(X, np.ndarray) and X.dtype == dtype:
        yield slice(0, n), X
        return
    step = max(1, BLOCK // (8 * d))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        yield rows, np.asarray(X[rows], dtype=dtype)
