"""Layers that are read in blocks of stimuli, compared in one pass where memory allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsim.similarity import checks
from repsim.similarity.measures.cka import alignment
from repsim.similarity.measures.hsic import degrees, u_centred
from repsim.similarity.measures.hsic_pairs import from_tiles
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FeatureRange, FloatArray
from repsim.similarity.streaming.forms import STREAMED
from repsim.similarity.streaming.moments import Moments, warn_undefined

# Entries of a block of all layers: 32 MiB in float64, of which three copies are held.
BLOCK = 2**22
# Tiles of Gram matrices with fewer rows read the data too often.
SMALLEST_TILE = 128
# Stimuli that are read at a time to find the mean of a layer and the lengths of its rows.
_ROWS = 1024


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
        warn_undefined(tuple(layers), np.isnan(np.diagonal(values)), measure, stacklevel=3)
    return Pairwise(values=values, rows=tuple(layers), columns=tuple(layers), measure=measure)


class _Tile:
    """Tiles of the (U-centred) Gram matrix of a layer that is read block by block."""

    def __init__(self, layer: Any, name: str, *, unbiased: bool) -> None:
        self.layer, self._name, self._unbiased = layer, name, unbiased
        self._mean, self._constant, self._unit = self._scan()
        blocks = (self._deviations(slice(start, start + _ROWS)) for start in range(0, len(layer), _ROWS))
        self._squares = np.concatenate([np.vecdot(block, block) for block in blocks])
        self._size = np.sqrt(self._squares.mean()) or 1.0

    def __call__(self, rows: slice, columns: slice, out: Any) -> Any:
        """Write a tile."""
        A = self._deviations(rows) / self._size
        B = A if rows == columns else self._deviations(columns) / self._size
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

    def _scan(self) -> tuple[FloatArray, NDArray[np.bool_], float]:
        """Return the mean, which features are constant up to rounding, and a power of two near the largest range."""
        n, d = self.layer.shape
        features, total = FeatureRange(d), np.zeros(d)
        for start in range(0, n, _ROWS):
            block = self._read(slice(start, start + _ROWS))
            features.update(block)
            total += block.sum(axis=0)
        largest = float((features.high - features.low).max()) or 1.0
        return total / n, features.constant(), float(2.0 ** np.floor(np.log2(largest)))

    def _deviations(self, rows: slice) -> FloatArray:
        Z = (self._read(rows) - self._mean) / self._unit
        Z[:, self._constant] = 0.0
        return Z

    def _read(self, rows: slice) -> FloatArray:
        return checks.representation(self.layer[rows], self._name, least=1, is_block=True)
