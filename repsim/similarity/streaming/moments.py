r"""Similarity of representations of more stimuli than fit in memory, exactly, in one pass over blocks of them.

CKA, CCA, PLS and Procrustes distances follow from sums over stimuli. Subtracting any fixed vector from a representation
changes none of them, so the mean of the first block is subtracted, and the sums keep their digits; what it differs from
the true mean is taken off at the end. With x and y the rows so shifted,

.. math::

    XY = \sum x y^T, \quad s = \sum x, \quad b = \sum |x|^2, \quad v = \sum x |y|^2, \quad a = \sum |x|^2 |y|^2

the unbiased HSIC of Song et al. (2012, eq. 5), whose kernels have no diagonal, is

.. math::

    \frac{1}{n (n - 3)} \left( |XY|_F^2 - a + \frac{(|s_x|^2 - b_x)(|s_y|^2 - b_y)}{(n - 1)(n - 2)}
    - \frac{2}{n - 2} (s_x^T XY s_y - s_x^T v_{xy} - s_y^T v_{yx} + a) \right)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repsim.similarity import checks
from repsim.similarity.measures.hsic import degrees
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FeatureRange, FloatArray
from repsim.similarity.streaming.forms import STREAMED


class Moments:
    """Sums of products of the features of several layers, over blocks of stimuli that come one after the other.

    Memory is 8 bytes for every two features of all layers, halved by symmetry, whatever the number of stimuli.

    Parameters
    ----------
    device : str, optional
        Where torch is to multiply; the CPU by default.

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
            What each layer did on these stimuli; the same layers, of the same widths, every time. b may differ.

        Raises
        ------
        ValueError
            If a block is not finite and real, or not of the layers and widths of the first, or if the layers have
            different numbers of stimuli (or, where blocks carry them, ids of stimuli).
        """
        checks.same_ids(blocks)
        arrays = {name: checks.representation(block, name, least=1, is_block=True) for name, block in blocks.items()}
        if not arrays:
            raise ValueError("There are no layers in the block; expected at least 1.")
        checks.same_stimuli({name: len(array) for name, array in arrays.items()})
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

    def pairwise(self, measure: str = "cka") -> Pairwise:
        """Compare every layer with every other, over all stimuli so far.

        Parameters
        ----------
        measure : str, default "cka"
            A key of `STREAMED`.

        Returns
        -------
        Pairwise
            What ``repsim.pairwise`` returns for the same measure, to 1e-10 where covariances are well conditioned
            (Procrustes distances near zero to 1e-7).

        Raises
        ------
        ValueError
            If there is no such measure, or there are too few stimuli for it.
        """
        values_of = checks.choice(measure, STREAMED, "measure of streams")
        if self.n < 4:
            raise ValueError(f"There are {self.n} stimuli so far; at least 4 are needed to compare.")
        values = values_of(self)
        if np.isnan(values).any():
            warn_undefined(self.names, np.isnan(np.diagonal(values)), measure, stacklevel=2)
        return Pairwise(values=values, rows=self.names, columns=self.names, measure=measure)

    def products(self, i: int, j: int) -> FloatArray:
        """Return the sum of products (d_i, d_j), i <= j, of the features of two layers about their means.

        Each layer is in a unit of its own. Features that are constant up to rounding are zero.
        """
        rows, columns = self._spans[i], self._spans[j]
        within = slice(columns.start - rows.start, columns.stop - rows.start)
        means = torch.outer(self._sum[rows], self._sum[columns]) / self.n
        products = (self._cross[i][:, within] - means).cpu().numpy()
        products[self._features[i].constant()] = 0.0
        products[:, self._features[j].constant()] = 0.0
        return products

    def hsic(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC (n_layers, n_layers) with linear kernels; see the head of this module."""
        squares = [float(self._unit[span.start]) ** 2 for span in self._spans]
        return self.hsic_in_units(unbiased=unbiased) * np.multiply.outer(squares, squares)

    def hsic_in_units(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC (n_layers, n_layers) of layers in the units of `products`."""
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
            raise ValueError(f"The block is of layers {list(arrays)}; expected {list(self.names)}, as in the first.")
        for (name, array), span in zip(arrays.items(), self._spans, strict=True):
            if array.shape[1] != span.stop - span.start:
                raise ValueError(
                    f"{name} has {array.shape[1]} features in this block; expected {span.stop - span.start}, as in the "
                    "first."
                )


def warn_undefined(names: Sequence[str], undefined: NDArray[np.bool_], measure: str, stacklevel: int) -> None:
    """Warn once of the layers for which a measure is not defined.

    Warns
    -----
    RuntimeWarning
        With their names.
    """
    which = [name for name, is_undefined in zip(names, undefined, strict=True) if is_undefined]
    warnings.warn(
        f"{len(which)} of {len(names)} representations ({', '.join(which)}) are constant, or have no two stimuli "
        f"that are more alike than others. Their {measure} is NaN.",
        RuntimeWarning,
        stacklevel=stacklevel + 1,
    )
