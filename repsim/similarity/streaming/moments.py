r"""Sums over stimuli from which measures follow exactly, in one pass over blocks of stimuli.

CKA, CCA, PLS and Procrustes distances follow from sums over stimuli. Subtracting a fixed vector from a representation
changes none of them, so the mean of the first block is subtracted to preserve digits; its difference from the true mean
is subtracted at the end. With the shifted rows x and y,

.. math::

    XY = \sum x y^T, \quad s = \sum x, \quad b = \sum |x|^2, \quad v = \sum x |y|^2, \quad a = \sum |x|^2 |y|^2

the unbiased HSIC of Song et al. (2012, eq. 5), whose kernels have no diagonal, is

.. math::

    \frac{1}{n (n - 3)} \left( |XY|_F^2 - a + \frac{(|s_x|^2 - b_x)(|s_y|^2 - b_y)}{(n - 1)(n - 2)}
    - \frac{2}{n - 2} (s_x^T XY s_y - s_x^T v_{xy} - s_y^T v_{yx} + a) \right)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from repsim.similarity import checks
from repsim.similarity.entries import choose
from repsim.similarity.measures import MEASURES, Measure
from repsim.similarity.measures.hsic import degrees
from repsim.similarity.measures.measure import warn_undefined
from repsim.similarity.measures.streamed import Streamed
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FeatureRange, FloatArray


class Moments:
    """Sums of products of the features of several layers over blocks of stimuli.

    Memory is 8 bytes for every pair of features of all layers, for any number of stimuli.

    Parameters
    ----------
    device : str, optional
        Device on which torch multiplies; the CPU by default.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> moments = Moments()
    >>> for start in range(0, 50, 20):
    ...     moments.update({"input": X[start : start + 20], "scaled": 2 * X[start : start + 20]})
    >>> moments.n, moments.pairwise("cka").values.round(6)[0, 1]
    (50, np.float64(1.0))
    """

    def __init__(self, device: str | None = None) -> None:
        self.n = 0
        self._device = device
        self.names: tuple[str, ...] = ()
        self._spans: list[slice] = []
        self._features: list[FeatureRange] = []
        self._shift = self._unit = self._sum = torch.empty(0)
        self._cross: list[Tensor] = []  # one per layer: its features with those of itself and all later layers
        self._with_squares = torch.empty(0)  # (D, n_layers): sums of x |y|^2
        self._squares = torch.empty(0)  # (n_layers, n_layers): sums of |x|^2 |y|^2
        self._norms = torch.empty(0)  # (n_layers,): sums of |x|^2

    def update(self, blocks: Mapping[str, ArrayLike]) -> None:
        """Add a block of stimuli.

        Parameters
        ----------
        blocks : mapping from str to array-like (b, d_i)
            Activations of each layer for these stimuli; every block has the same layers of the same widths. The number
            of stimuli b may differ between blocks.

        Raises
        ------
        ValueError
            If a block is not finite and real, if its layers or widths differ from those of the first block, or if the
            layers have different numbers or ids of stimuli.
        """
        if not blocks:
            raise ValueError("There are no layers in the block; expected at least 1.")
        arrays = checks.representations(blocks, least=1, is_block=True)
        if not self.names:
            self._begin(arrays)
        self._check(arrays)
        for features, array in zip(self._features, arrays.values(), strict=True):
            features.update(array)
        block = np.concatenate(list(arrays.values()), axis=1)
        Z = (torch.from_numpy(block).to(self._device) - self._shift) / self._unit  # (b, D)
        for span, cross in zip(self._spans, self._cross, strict=True):
            cross.addmm_(Z[:, span].T, Z[:, span.start :])
        squares = torch.stack([torch.linalg.vecdot(Z[:, span], Z[:, span]) for span in self._spans], dim=1)  # (b, L)
        self._sum += Z.sum(dim=0)
        self._with_squares.addmm_(Z.T, squares)
        self._squares.addmm_(squares.T, squares)
        self._norms += squares.sum(dim=0)
        self.n += len(Z)

    def pairwise(self, measure: str | Measure = "cka") -> Pairwise:
        """Compare every layer with every other, over all stimuli so far.

        Parameters
        ----------
        measure : str or Measure, default "cka"
            A measure that has a streamed form, or its key in `MEASURES`.

        Returns
        -------
        Pairwise
            The result of ``repsim.pairwise`` for the same measure, to 1e-10 where covariances are well conditioned
            (Procrustes distances near zero to 1e-7).

        Raises
        ------
        ValueError
            If the measure is unknown or has no streamed form, or if there are too few stimuli for it.
        """
        chosen, streamed = streamable(measure)
        return as_pairwise(chosen, self.names, streamed.from_sums(self.checked()), stacklevel=4)

    def checked(self) -> Moments:
        """Return these sums if there are enough stimuli to compare layers.

        Raises
        ------
        ValueError
            If there are fewer than 4 stimuli.
        """
        if self.n < 4:
            raise ValueError(f"There are {self.n} stimuli so far; at least 4 are needed to compare. Add more blocks.")
        return self

    def products(self, i: int, j: int) -> FloatArray:
        """Return the sum of products (d_i, d_j), i <= j, of the features of two layers about their means.

        Each layer has a unit of its own. Products of features that are constant up to rounding are zero.
        """
        rows, columns = self._spans[i], self._spans[j]
        within = slice(columns.start - rows.start, columns.stop - rows.start)
        means = torch.outer(self._sum[rows], self._sum[columns]) / self.n
        products = (self._cross[i][:, within] - means).cpu().numpy()
        products[self._features[i].constant()] = 0.0
        products[:, self._features[j].constant()] = 0.0
        return products

    def hsic(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC (n_layers, n_layers) of layers in the units of `products`; see the equation of this module."""
        n, count = self.n, len(self.names)
        total = np.empty((count, count))
        for i, rows in enumerate(self._spans):
            for j in range(i, count):
                columns = self._spans[j]
                if unbiased:
                    cross = self._cross[i][:, columns.start - rows.start : columns.stop - rows.start]
                    sx, sy, a = self._sum[rows], self._sum[columns], self._squares[i, j]
                    both = (sx @ sx - self._norms[i]) * (sy @ sy - self._norms[j])
                    single = (
                        sx @ cross @ sy - sx @ self._with_squares[rows, j] - sy @ self._with_squares[columns, i] + a
                    )
                    value = (cross * cross).sum() - a + both / ((n - 1) * (n - 2)) - 2 * single / (n - 2)
                    total[i, j] = total[j, i] = float(value)
                else:
                    total[i, j] = total[j, i] = float(np.square(self.products(i, j)).sum())
        return total / degrees(n, unbiased=unbiased)

    def _begin(self, arrays: Mapping[str, FloatArray]) -> None:
        self.names = tuple(arrays)
        ends = np.cumsum([array.shape[1] for array in arrays.values()]).tolist()
        self._spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        kind: Any = {"dtype": torch.float64, "device": self._device}
        means = [array.mean(axis=0) for array in arrays.values()]
        sizes = [np.abs(array - mean).max() or 1.0 for array, mean in zip(arrays.values(), means, strict=True)]
        self._features = [FeatureRange(mean.size) for mean in means]
        self._shift = torch.from_numpy(np.concatenate(means)).to(self._device)
        # Powers of two, which round nothing, so that no fourth power overflows or vanishes.
        units = np.repeat(2.0 ** np.floor(np.log2(sizes)), [mean.size for mean in means])
        self._unit = torch.from_numpy(units).to(self._device)
        self._cross = [torch.zeros(span.stop - span.start, ends[-1] - span.start, **kind) for span in self._spans]
        self._sum = torch.zeros(ends[-1], **kind)
        self._with_squares = torch.zeros(ends[-1], len(arrays), **kind)
        self._squares = torch.zeros(len(arrays), len(arrays), **kind)
        self._norms = torch.zeros(len(arrays), **kind)

    def _check(self, arrays: Mapping[str, FloatArray]) -> None:
        if tuple(arrays) != self.names:
            raise ValueError(
                f"The block has layers {list(arrays)}; expected {list(self.names)}, as in the first block."
            )
        for (name, array), span in zip(arrays.items(), self._spans, strict=True):
            if array.shape[1] != span.stop - span.start:
                raise ValueError(
                    f"{name} has {array.shape[1]} features in this block; expected {span.stop - span.start}, as in the "
                    "first block."
                )


def streamable(measure: str | Measure | Callable[..., float]) -> tuple[Measure, Streamed]:
    """Return a measure and its streamed form."""
    chosen = choose(measure, MEASURES, Measure, "measure")
    if chosen.streamed is None:
        names = sorted(name for name, each in MEASURES.items() if each.streamed is not None)
        raise ValueError(f"The measure {chosen.name!r} has no streamed form. Choose one of: {', '.join(names)}.")
    return chosen, chosen.streamed


def as_pairwise(measure: Measure, names: tuple[str, ...], values: FloatArray, *, stacklevel: int) -> Pairwise:
    """Return values of all pairs of layers as a `Pairwise`, with one warning if some are NaN."""
    if np.isnan(values).any():
        is_undefined = dict(zip(names, np.isnan(np.diagonal(values)).tolist(), strict=True))
        warn_undefined(measure, is_undefined, stacklevel=stacklevel)
    return Pairwise(values=values, rows=names, columns=names, measure=measure.name, direction=measure.direction)
