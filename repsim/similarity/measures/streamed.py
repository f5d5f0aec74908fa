"""Streamed forms: measures that follow from sums over stimuli, without all stimuli at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from repsim.similarity.precision import FloatArray

# Singular values of a covariance below this, relative to the largest, are rounding: its square root is that of float64.
RANK = 1e-12


class Sums(Protocol):
    """Sums over all stimuli of the products of the features of several layers, see `streaming.Moments`."""

    n: int
    names: tuple[str, ...]

    def products(self, i: int, j: int) -> FloatArray:
        """Return the sum of products of the features of two layers about their means."""

    def hsic(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC with linear kernels, of layers in the units of `products`."""


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Streamed form of a measure.

    Parameters
    ----------
    from_sums : callable
        Takes `Sums`, returns the values of all pairs of layers (n_layers, n_layers).
    hsic : {"unbiased", "biased"}, optional
        The estimator of HSIC, if the measure is the alignment of linear Gram matrices. Tiles of these are computed
        where the sums take more memory than is allowed.
    """

    from_sums: Callable[[Sums], FloatArray]
    hsic: str | None = None


def values_of_pairs(
    sums: Sums,
    *,
    prepare: Callable[[FloatArray, int, str], Any],
    compare: Callable[[Any, Any, FloatArray], float],
) -> FloatArray:
    """Compute a measure of each pair of layers from their products with themselves and with one another.

    ``prepare`` takes the products of a layer with itself (d, d), the number of stimuli and the name of the layer;
    ``compare`` takes what it returned for two layers, and their products (d1, d2). Values are NaN where ``prepare``
    returned None.
    """
    values = np.full((len(sums.names),) * 2, np.nan)
    prepared = [prepare(sums.products(i, i), sums.n, name) for i, name in enumerate(sums.names)]
    for i, x in enumerate(prepared):
        for j, y in enumerate(prepared[i:], start=i):
            if x is not None and y is not None:
                values[i, j] = values[j, i] = compare(x, y, sums.products(i, j))
    return values
