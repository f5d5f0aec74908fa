"""Features of one layer: reading by blocks of rows, division by split, standardisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 8 * 2**20  # bytes of features that are read or converted at a time
# Squares of smaller deviations lose digits, or vanish.
SMALLEST = 1e-140


def row_blocks(X: Any, dtype: Any = np.float64, n_rows: int | None = None) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield consecutive rows of X (n, d) and their slice, so that a large layer is never converted as a whole.

    X is an array or an object whose slices are arrays. An array that has the dtype is yielded as one block; a dtype of
    None keeps that of X. Without `n_rows`, a block has as many rows as `BLOCK` bytes hold in double precision.

    Examples
    --------
    >>> [(rows, block.dtype.name) for rows, block in row_blocks(np.ones((3, 2), np.float32))]
    [(slice(0, 3, None), 'float64')]
    """
    n, d = X.shape
    if dtype is not None and isinstance(X, np.ndarray) and X.dtype == dtype:
        yield slice(0, n), X
        return
    step = n_rows or max(1, BLOCK // (8 * d))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        yield rows, np.asarray(X[rows], dtype=dtype)


def layer_blocks(layer: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the index of the first row and the rows of each block of a layer, or raise a ValueError if not real."""
    layer = layer if hasattr(layer, "shape") and hasattr(layer, "__getitem__") else np.asarray(layer)
    for rows, block in row_blocks(layer, dtype=None):
        if block.dtype.kind not in "fiub":
            raise ValueError(f"the layer has dtype {block.dtype}; expected real numbers.")
        yield rows.start, block


def read_features(layer: Any, rows: Mapping[str, NDArray[np.intp]], memory: int) -> dict[str, NDArray[Any]]:
    """Read a layer once and return the standardised features of each part of the split.

    Mean and scale are those of the training rows. A layer that fits into `memory` in double precision is held in double
    precision, a larger one in single precision; in addition no more than one block of rows is in memory.

    Examples
    --------
    >>> parts = read_features([[1.0], [3.0], [7.0]], {"train": np.array([0, 1]), "test": np.array([2])}, 2**20)
    >>> {part: X.ravel().tolist() for part, X in parts.items()}
    {'train': [-1.0, 1.0], 'test': [5.0]}
    """
    n, d = np.shape(layer)
    dtype = np.float64 if 8 * n * d <= memory else np.float32
    parts = {part: np.empty((len(which), d), dtype=dtype) for part, which in rows.items()}
    n_finite, reference = 0, np.zeros(d)
    for start, block in layer_blocks(layer):
        if dtype == np.float32:
            if start == 0:  # subtracted in double precision, so that a common offset costs no digits
                reference = np.where(np.isfinite(block[0]), block[0], 0.0).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                block = (block - reference).astype(dtype)
        n_finite += int(np.count_nonzero(np.isfinite(block)))
        for part, which in rows.items():
            inside = (which >= start) & (which < start + len(block))
            parts[part][inside] = block[which[inside] - start]
    if n_finite < n * d:
        where = " in single precision" if dtype == np.float32 else ""
        raise ValueError(f"{n * d - n_finite} of {n * d} values are NaN or infinite{where}.")
    if np.array_equal(parts["train"].max(axis=0), parts["train"].min(axis=0)):
        raise ValueError("every feature is constant on the training rows, so no probe can be fitted.")
    mean, scale = standardisation(parts["train"])
    for X in parts.values():
        X -= mean.astype(dtype)
        X /= scale.astype(dtype)
    return parts


def standardisation(X: NDArray[Any], weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean and scale that give every feature zero mean and unit variance over the training rows.

    A row of weight 2 counts as two rows, one of weight 0 is left out. A constant feature keeps its value and has scale
    1.

    Examples
    --------
    >>> [each.tolist() for each in standardisation(np.array([[1.0, 5.0], [3.0, 5.0]]))]
    [[2.0, 5.0], [1.0, 1.0]]
    """
    if weights is not None:
        X, weights = X[weights > 0], weights[weights > 0]
    shares = np.full(len(X), 1 / len(X)) if weights is None else weights / weights.sum()
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(shares[rows] @ block for rows, block in row_blocks(X))
        variance = sum(shares[rows] @ np.square(block - mean) for rows, block in row_blocks(X))
        scale = np.sqrt(variance)
    if not np.all(np.isfinite(scale)):
        raise ValueError(f"X reaches {np.max(np.abs(X)):.1e}, too large to standardise in float64. Rescale it.")
    # Rounding gives a constant a standard deviation above zero, which must not count as variation.
    constant = X.max(axis=0) == X.min(axis=0)
    for k in np.flatnonzero(~constant & (scale < SMALLEST)):
        unit = np.ptp(X[:, k].astype(np.float64))
        scale[k] = unit * np.sqrt(shares @ np.square((X[:, k] - mean[k]) / unit))
    return np.where(constant, X[0], mean), np.where(constant, 1.0, scale)
