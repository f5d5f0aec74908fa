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
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repsim.similarity import checks
from repsim.similarity.arrays import FloatArray, centred
from repsim.similarity.measures.cka import NOTHING, alignment
from repsim.similarity.measures.hsic import degrees, gram, u_centred
from repsim.similarity.measures.hsic_pairs import from_tiles
from repsim.similarity.pairwise import Pairwise

# Singular values of a covariance below this, relative to the largest, are rounding: its square root is that of float64.
RANK = 1e-12
# Entries of a block of all layers: 32 MiB in float64, of which three copies are held.
BLOCK = 2**22
# Tiles of Gram matrices with fewer rows read the data too often.
SMALLEST_TILE = 128


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
        self._shift = self._sum = torch.empty(0)
        self._cross: list[Tensor] = []  # one a layer: its features with those of itself and all later layers
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
            different numbers of stimuli.
        """
        arrays = {name: checks.representation(block, name, least=1) for name, block in blocks.items()}
        if not arrays:
            raise ValueError("There are no layers in the block; expected at least 1.")
        checks.same_stimuli({name: len(array) for name, array in arrays.items()})
        if not self.names:
            self._begin(arrays)
        self._check(arrays)
        Z = torch.from_numpy(np.concatenate(list(arrays.values()), axis=1)).to(self._device) - self._shift  # (b, D)
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
            _warn_undefined(self.names, np.isnan(np.diagonal(values)), measure, stacklevel=2)
        return Pairwise(values=values, rows=self.names, columns=self.names, measure=measure)

    def products(self, i: int, j: int) -> FloatArray:
        """Return the sum of products (d_i, d_j), i <= j, of the features of two layers about their means."""
        rows, columns = self._spans[i], self._spans[j]
        within = slice(columns.start - rows.start, columns.stop - rows.start)
        means = torch.outer(self._sum[rows], self._sum[columns]) / self.n
        return (self._cross[i][:, within] - means).cpu().numpy()

    def hsic(self, *, unbiased: bool) -> FloatArray:
        """Return HSIC (n_layers, n_layers) with linear kernels; see the head of this module."""
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
        self._shift = torch.from_numpy(np.concatenate([array.mean(axis=0) for array in arrays.values()])).to(
            self._device
        )
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


def streamed_pairwise(
    layers: Mapping[str, Any],
    *,
    measure: str = "cka",
    rows: int | None = None,
    memory: int = 512 * 2**20,
    device: str | None = None,
) -> Pairwise:
    """Compare every layer with every other, reading blocks of stimuli rather than whole layers.

    One pass over the data where the products of all features fit in memory; else, for CKA, tiles of Gram matrices, for
    which the data are read about n / 512 times.

    Parameters
    ----------
    layers : mapping from str to array-like (n, d_i)
        Anything with a shape whose rows are read by slices: a recorded layer, an HDF5 dataset, a memory map, an array.
    measure : str, default "cka"
        A key of `STREAMED`.
    rows : int, optional
        Stimuli in a block; by default as many as take 32 MiB.
    memory : int, default 512 MiB
        Bound in bytes on the sums that are held; blocks come beside it.
    device : str, optional
        Where torch is to multiply; the CPU by default.

    Returns
    -------
    Pairwise
        What ``repsim.pairwise`` returns for the same measure, to 1e-10 where covariances are well conditioned
        (Procrustes distances near zero to 1e-7).

    Raises
    ------
    ValueError
        If the layers have different numbers of stimuli, are not finite, or are too wide for the memory; if there is no
        such measure, or there are too few stimuli for it.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> streamed_pairwise({"input": X, "first": X[:, :1]}, rows=8).values.round(2)
    array([[1.  , 0.78],
           [0.78, 1.  ]])
    """
    checks.choice(measure, STREAMED, "measure of streams")
    if rows is not None:
        checks.whole_number(rows, "rows", 1)
    if device is not None:
        checks.device(device, measure, can_use_it=True)
    for name, layer in layers.items():
        checks.check_shape(layer, name)
    checks.same_ids(layers)
    checks.same_stimuli({name: len(layer) for name, layer in layers.items()})
    widths = [layer.shape[1] for layer in layers.values()]
    needed = 8 * sum(width * sum(widths[i:]) for i, width in enumerate(widths))
    if needed > memory:
        if not measure.startswith("cka"):
            raise ValueError(
                f"The products of {sum(widths)} features take {needed} bytes, and memory is {memory}. Compare fewer "
                "layers at a time, give more memory, or record fewer features."
            )
        least = 8 * len(layers) * min(len(next(iter(layers.values()))), SMALLEST_TILE) ** 2
        if memory < least:
            raise ValueError(f"memory is {memory} bytes; {len(layers)} layers of this size need at least {least}.")
        return _from_tiles(layers, measure, memory, device)
    moments = Moments(device)
    n, rows = len(next(iter(layers.values()))), rows or max(1, BLOCK // sum(widths))
    for start in range(0, n, rows):
        moments.update({name: layer[start : start + rows] for name, layer in layers.items()})
    return moments.pairwise(measure)


def _from_tiles(layers: Mapping[str, Any], measure: str, memory: int, device: str | None) -> Pairwise:
    """CKA from tiles of Gram matrices, whose rows are read when they are needed."""
    unbiased = measure == "cka"
    tiles = [_Tile(layer, name, unbiased=unbiased) for name, layer in layers.items()]
    n = len(tiles[0].layer)
    hsic = from_tiles(tiles, n, memory, device) / degrees(n, unbiased=unbiased)
    own = np.diagonal(hsic)
    values = alignment(hsic, own, own)
    if np.isnan(values).any():
        _warn_undefined(tuple(layers), np.isnan(np.diagonal(values)), measure, stacklevel=3)
    return Pairwise(values=values, rows=tuple(layers), columns=tuple(layers), measure=measure)


class _Tile:
    """Tiles of the (U-centred) Gram matrix of a layer that is read block by block."""

    def __init__(self, layer: Any, name: str, *, unbiased: bool) -> None:
        self.layer, self._name, self._unbiased = layer, name, unbiased
        n, starts = len(layer), range(0, len(layer), _ROWS)
        self._mean = np.sum([self._read(slice(start, start + _ROWS), 0.0).sum(axis=0) for start in starts], axis=0) / n
        blocks = (self._read(slice(start, start + _ROWS), self._mean) for start in starts)
        self._squares = np.concatenate([np.vecdot(block, block) for block in blocks])
        self._size = np.sqrt(self._squares.mean()) or 1.0

    def __call__(self, rows: slice, columns: slice, out: Any) -> Any:
        """Write a tile."""
        A = self._read(rows, self._mean) / self._size
        B = A if rows == columns else self._read(columns, self._mean) / self._size
        product = (
            torch.matmul(*(torch.from_numpy(each).to(out.device) for each in (A, B.T)), out=out)
            if isinstance(out, Tensor)
            else np.matmul(A, B.T, out=out)
        )
        if not self._unbiased:
            return product
        sums = -self._squares / self._size**2
        return u_centred(
            product, rows, columns, torch.from_numpy(sums).to(out.device) if isinstance(out, Tensor) else sums
        )

    def _read(self, rows: slice, mean: float | FloatArray) -> FloatArray:
        return checks.representation(self.layer[rows], self._name, least=1) - mean


_ROWS = 1024


def minibatch_cka(batches: Iterable[Mapping[str, ArrayLike]]) -> Pairwise:
    r"""CKA of every layer with every other from HSIC within batches: an estimate, not the value over all stimuli.

    .. math:: \frac{\sum_b \mathrm{HSIC}(X_b, Y_b)}
              {\sqrt{\sum_b \mathrm{HSIC}(X_b, X_b) \sum_b \mathrm{HSIC}(Y_b, Y_b)}}

    with the unbiased HSIC of each batch, so that their means estimate the same HSIC whatever the size of batches. The
    three are summed before the one division; a mean of the ratios of batches is another quantity. For all stimuli at
    the same cost take `streamed_pairwise`, which is exact.

    Parameters
    ----------
    batches : iterable of mapping from str to array-like (b, d_i)
        The same layers every time, b >= 4. Batches of fewer stimuli count less: each is weighted by b.

    Returns
    -------
    Pairwise
        Within [-1, 1]; NaN where the sum of a layer's HSIC with itself is not positive.

    Raises
    ------
    ValueError
        If there is no batch, if one has fewer than 4 stimuli or other layers than the first, or is not finite.

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
    total = scale = np.zeros(())
    for number, batch in enumerate(batches, start=1):
        layers = {name: checks.representation(block, name, least=4) for name, block in batch.items()}
        checks.same_stimuli({name: len(layer) for name, layer in layers.items()})
        if names and tuple(layers) != names:
            raise ValueError(f"Batch {number} is of layers {list(layers)}; expected {list(names)}, as in the first.")
        names, n = tuple(layers), len(next(iter(layers.values())))
        centred_layers = [centred(layer, axis=0) for layer in layers.values()]
        flat = np.stack([gram(layer, unbiased=True).ravel() for layer in centred_layers])
        sizes = np.array([np.vdot(layer, layer) / n for layer in centred_layers])
        total = total + n * (flat @ flat.T) / degrees(n, unbiased=True)
        scale = scale + n * sizes**2
    if not names:
        raise ValueError("There are no batches; expected at least 1.")
    own = np.where(np.diagonal(total) > NOTHING * scale, np.diagonal(total), np.nan)
    if np.isnan(own).any():
        _warn_undefined(names, np.isnan(own), "cka", stacklevel=2)
    values = np.clip(total / np.sqrt(np.multiply.outer(own, own)), -1.0, 1.0)
    return Pairwise(values=values, rows=names, columns=names, measure="cka")


# What follows from sums of products.


def _cka(moments: Moments, *, unbiased: bool) -> FloatArray:
    hsic = moments.hsic(unbiased=unbiased)
    sizes = np.sqrt([np.trace(moments.products(i, i)) for i in range(len(moments.names))])
    with np.errstate(divide="ignore", invalid="ignore"):
        hsic = hsic * np.square(moments.n**0.5 / sizes)[:, None] * np.square(moments.n**0.5 / sizes)
    own = np.where(sizes > 0, np.diagonal(hsic), 0.0)
    return alignment(hsic, own, own)


def _of_pairs(
    moments: Moments,
    *,
    prepare: Callable[[FloatArray, int, str], Any],
    compare: Callable[[Any, Any, FloatArray], float],
) -> FloatArray:
    """Return a measure of each pair from what is prepared of each layer, and the products of the two."""
    values = np.full((len(moments.names),) * 2, np.nan)
    prepared = [prepare(moments.products(i, i), moments.n, name) for i, name in enumerate(moments.names)]
    for i, x in enumerate(prepared):
        for j, y in enumerate(prepared[i:], start=i):
            if x is not None and y is not None:
                values[i, j] = values[j, i] = compare(x, y, moments.products(i, j))
    return values


def _whitener(own: FloatArray, n: int, name: str) -> FloatArray | None:
    """Return what makes a layer's features orthonormal, (d, rank)."""
    if n <= len(own):
        raise ValueError(
            f"{name} has {n} stimuli and {len(own)} features; CCA needs more stimuli than features. "
            "Record more stimuli, or take CKA."
        )
    values, vectors = np.linalg.eigh(own)
    kept = values > RANK * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept]) if values[-1] > 0 else None


def _mean_cca(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    return float(np.clip(np.linalg.svd(x.T @ cross @ y, compute_uv=False), 0.0, 1.0).mean())


def _covariance(own: FloatArray, n: int, name: str) -> FloatArray | None:
    return own if own.any() else None


def _pls(x: FloatArray, y: FloatArray, cross: FloatArray) -> float:
    U, s, V = np.linalg.svd(cross, full_matrices=False)
    lengths = np.sqrt(np.vecdot(U.T, U.T @ x) * np.vecdot(V, V @ y))
    shared = s > RANK * s[0]
    return float(np.clip((s[shared] ** 2 / lengths[shared]).sum() / s[shared].sum(), 0.0, 1.0))


def _length(own: FloatArray, n: int, name: str) -> float | None:
    return float(np.sqrt(np.trace(own))) or None


def _cosine(x: float, y: float, cross: FloatArray) -> float:
    """Cosine of the angular Procrustes distance: the nuclear norm of the products of both, scaled to length one."""
    return float(np.clip(np.linalg.svd(cross / (x * y), compute_uv=False).sum(), 0.0, 1.0))


def _procrustes(x: float, y: float, cross: FloatArray) -> float:
    return float(np.sqrt(2 - 2 * _cosine(x, y, cross)))


def _angular_procrustes(x: float, y: float, cross: FloatArray) -> float:
    return float(np.arccos(_cosine(x, y, cross)))


STREAMED: dict[str, Callable[[Moments], FloatArray]] = {
    "cka": partial(_cka, unbiased=True),
    "cka_biased": partial(_cka, unbiased=False),
    "mean_cca": partial(_of_pairs, prepare=_whitener, compare=_mean_cca),
    "pls": partial(_of_pairs, prepare=_covariance, compare=_pls),
    "procrustes": partial(_of_pairs, prepare=_length, compare=_procrustes),
    "angular_procrustes": partial(_of_pairs, prepare=_length, compare=_angular_procrustes),
}


def _warn_undefined(names: Sequence[str], undefined: NDArray[np.bool_], measure: str, stacklevel: int) -> None:
    which = [name for name, is_undefined in zip(names, undefined, strict=True) if is_undefined]
    warnings.warn(
        f"{len(which)} of {len(names)} representations ({', '.join(which)}) are constant, or have no two stimuli "
        f"that are more alike than others. Their {measure} is NaN.",
        RuntimeWarning,
        stacklevel=stacklevel + 1,
    )
