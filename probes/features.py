"""Features of one layer as probes want them: read by blocks, parted, checked and standardised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.blocks import BLOCK, blocks_of

Array = NDArray[np.float64]

# Squares of smaller deviations lose digits, or vanish.
SMALLEST = 1e-140


def read_features(layer: Any, rows: Mapping[str, NDArray[np.intp]], memory: int) -> dict[str, NDArray[Any]]:
    """Read a layer once, and give each part of the stimuli its standardised features.

    Mean and scale are those of the training rows. A layer that fits into `memory` in double precision is held so, a
    larger one in single precision; beside it there is no more than a block of rows.

    Parameters
    ----------
    layer : array-like, shape (n, d), or what gives rows by slices
    rows : dict of str to array of int
        The rows of each part, "train" among them.
    memory : int
        Bytes.

    Returns
    -------
    dict of str to array, shape (n_part, d), float64 or float32

    Raises
    ------
    ValueError
        If the values are no finite real numbers, or all features are constant on the training rows.

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
    for start, block in blocks_of_layer(layer):
        if dtype == np.float32:
            if start == 0:  # what features have in common is taken off before digits are
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
        raise ValueError("every feature is constant on the training rows; there is nothing to read.")
    mean, scale = standardisation(parts["train"])
    for X in parts.values():
        X -= mean.astype(dtype)
        X /= scale.astype(dtype)
    return parts


def blocks_of_layer(layer: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give consecutive rows of a layer as they are, with the number of the first.

    Raises
    ------
    ValueError
        If they are no real numbers.

    Examples
    --------
    >>> [(start, block.shape) for start, block in blocks_of_layer([[1.0], [2.0]])]
    [(0, (2, 1))]
    """
    layer = layer if hasattr(layer, "shape") and hasattr(layer, "__getitem__") else np.asarray(layer)
    n, d = layer.shape
    step = max(1, BLOCK // (8 * d))
    for start in range(0, n, step):
        block = np.asarray(layer[start : start + step])
        if block.dtype.kind not in "fiub":
            raise ValueError(f"the layer has dtype {block.dtype}; expected real numbers.")
        yield start, block


def n_constant(X: NDArray[Any]) -> int:
    """Count the features that do not vary, of rows that were standardised by themselves.

    Examples
    --------
    >>> n_constant(np.array([[0.0, 1.0], [0.0, -1.0]]))
    1
    """
    return int(np.count_nonzero(~np.any(X, axis=0)))


def standardisation(X: NDArray[Any], weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and scale that give every feature zero mean and unit variance over the training rows.

    Parameters
    ----------
    X : array, shape (n, d), float64 or float32
    weights : array, shape (n,), >= 0, optional
        A row of weight 2 counts twice, one of weight 0 not at all.

    Returns
    -------
    mean, scale : arrays, shape (d,), float64
        The value itself, and 1, of a feature that is constant.

    Raises
    ------
    ValueError
        If a variance overflows.

    Examples
    --------
    >>> [each.tolist() for each in standardisation(np.array([[1.0, 5.0], [3.0, 5.0]]))]
    [[2.0, 5.0], [1.0, 1.0]]
    """
    if weights is not None:
        X, weights = X[weights > 0], weights[weights > 0]
    shares = np.full(len(X), 1 / len(X)) if weights is None else weights / weights.sum()
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(shares[rows] @ block for rows, block in blocks_of(X))
        variance = sum(shares[rows] @ np.square(block - mean) for rows, block in blocks_of(X))
        scale = np.sqrt(variance)
    if not np.all(np.isfinite(scale)):
        raise ValueError(f"X reaches {np.max(np.abs(X)):.1e}, too large to standardise in float64. Rescale it.")
    # The standard deviation of a constant is not zero but rounding, which must not pass for variation.
    constant = X.max(axis=0) == X.min(axis=0)
    for k in np.flatnonzero(~constant & (scale < SMALLEST)):
        unit = np.ptp(X[:, k].astype(np.float64))
        scale[k] = unit * np.sqrt(shares @ np.square((X[:, k] - mean[k]) / unit))
    return np.where(constant, X[0], mean), np.where(constant, 1.0, scale)
