"""Estimate of CKA from minibatches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.measures import MEASURES
from repsim.similarity.measures.cka import NOTHING
from repsim.similarity.measures.hsic import degrees, gram
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FloatArray, centred
from repsim.similarity.streaming.moments import as_pairwise


def minibatch_cka(batches: Iterable[Mapping[str, ArrayLike]]) -> Pairwise:
    r"""Estimate the CKA of every pair of layers from HSIC within batches.

    .. math:: \frac{\sum_b \mathrm{HSIC}(X_b, Y_b)}
              {\sqrt{\sum_b \mathrm{HSIC}(X_b, X_b) \sum_b \mathrm{HSIC}(Y_b, Y_b)}}

    with the unbiased HSIC of each batch, whose mean estimates the same HSIC for any batch size. The three sums are
    computed before the division; a mean of the ratios of batches is another quantity. The value is not CKA over all
    stimuli: use `streamed_pairwise` for that, which is exact at the same cost.

    Parameters
    ----------
    batches : iterable of mapping from str to array-like (b, d_i)
        Batches of the same layers, with b >= 4 stimuli. Each batch is weighted by b.

    Returns
    -------
    Pairwise
        Values within [-1, 1]; NaN where the sum of a layer's HSIC with itself is not positive.

    Raises
    ------
    ValueError
        If there are no batches, or if a batch has no layers, fewer than 4 stimuli, other layers than the first batch,
        values that are not finite, or layers with different ids of stimuli.

    References
    ----------
    Nguyen, Raghu & Kornblith (2021). Do wide and deep networks learn the same things? ICLR, eq. 2 and 3.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> batches = ({"input": X[k : k + 20], "scaled": 2 * X[k : k + 20]} for k in (0, 20))
    >>> minibatch_cka(batches).values[0, 1].round(9)
    np.float64(1.0)
    """
    names: tuple[str, ...] = ()
    total = scale = units = np.zeros(())
    for number, batch in enumerate(batches, start=1):
        if not batch:
            raise ValueError(f"Batch {number} has no layers; expected at least 1.")
        layers = checks.representations(batch, least=4)
        if names and tuple(layers) != names:
            raise ValueError(
                f"Batch {number} has layers {list(layers)}; expected {list(names)}, as in the first batch."
            )
        if not names:
            units = np.array([_unit(layer) for layer in layers.values()])
        names, n = tuple(layers), len(next(iter(layers.values())))
        centred_layers = [centred(layer, axis=0) for layer in layers.values()]
        for layer, unit in zip(centred_layers, units, strict=True):
            if unit != 1:
                layer /= unit
        flat = np.stack([gram(layer, unbiased=True).ravel() for layer in centred_layers])
        sizes = np.array([np.vdot(layer, layer) / n for layer in centred_layers])
        total = total + n * (flat @ flat.T) / degrees(n, unbiased=True)
        scale = scale + n * sizes**2
    if not names:
        raise ValueError("There are no batches; expected at least 1.")
    own = np.where(np.diagonal(total) > NOTHING * scale, np.diagonal(total), np.nan)
    values = np.clip(total / np.sqrt(np.multiply.outer(own, own)), -1.0, 1.0)
    return as_pairwise(MEASURES["cka"], names, values, stacklevel=4)


def _unit(layer: FloatArray) -> float:
    """Return a divisor for a layer after which no fourth power overflows or vanishes."""
    largest = float(np.abs(layer).max()) or 1.0
    return 1.0 if 1e-60 < largest < 1e60 else largest
