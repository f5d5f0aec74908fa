"""Comparison of layers that are read in blocks of stimuli, in one pass if memory allows."""

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
from repsim.similarity.measures.measure import Measure
from repsim.similarity.pairwise import Pairwise
from repsim.similarity.precision import FeatureRange, FloatArray
from repsim.similarity.streaming.moments import Moments, as_pairwise, streamable

# Entries of a block of all layers (32 MiB in float64); three copies are held.
BLOCK = 2**22
# Smallest number of rows of a tile of a Gram matrix; with fewer, the data are read too often.
SMALLEST_TILE = 128
# Stimuli read at a time to compute the mean of a layer and the lengths of its rows.
_ROWS = 1024


def streamed_pairwise(
    layers: Mapping[str, Any],
    *,
    measure: str | Measure = "cka",
    rows: int | None = None,
    memory: int = 512 * 2**20,
    device: str | None = None,
) -> Pairwise:
    """Compare every layer with every other, reading blocks of stimuli instead of whole layers.

    The data are read once if the products of all features fit in memory. Otherwise CKA is computed from tiles of Gram
    matrices, for which the data are read about n / 512 times.

    Parameters
    ----------
    layers : mapping from str to array-like (n, d_i)
        Anything with a shape and rows that are read by slices: a recorded layer, an HDF5 dataset, a memory map, an
        array.
    measure : str or Measure, default "cka"
        A measure that has a streamed form, or its key in `MEASURES`.
    rows : int, optional
        Stimuli in a block; by default as many as take 32 MiB.
    memory : int, default 512 MiB
        Bound in bytes on the sums; blocks take memory beside it.
    device : str, optional
        Device on which torch multiplies; the CPU by default.

    Returns
    -------
    Pairwise
        The result of ``repsim.pairwise`` for the same measure, to 1e-10 where covariances are well conditioned
        (Procrustes distances near zero to 1e-7).

    Raises
    ------
    ValueError
        If the layers have different numbers of stimuli, are not finite, or are too wide for the memory; if the measure
        is unknown or has no streamed form, or if there are too few stimuli for it.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> streamed_pairwise({"input": X, "first": X[:, :1]}, rows=8).values.round(2)
    array([[1.  , 0.78],
           [0.78, 1.  ]])
    """
    chosen, streamed = streamable(measure)
    if rows is not None:
        checks.whole_number(rows, "rows", 1)
    if device is not None:
        checks.device(device, chosen.name, can_use_it=True)
    for name, layer in layers.items():
        checks.check_shape(layer, name)
    checks.same_ids(layers)
    checks.same_stimuli({name: len(layer) for name, layer in layers.items()})
    widths = [layer.shape[1] for layer in layers.values()]
    needed = 8 * sum(width * sum(widths[i:]) for i, width in enumerate(widths))
    if needed <= memory:
        values = streamed.from_sums(_read_once(layers, rows or max(1, BLOCK // sum(widths)), device).checked())
    elif streamed.hsic is not None:
        values = _from_tiles(layers, memory, device, unbiased=streamed.hsic == "unbiased")
    else:
        raise ValueError(
            f"The products of {sum(widths)} features take {needed} bytes, and memory is {memory}. Compare fewer "
            "layers at a time, give more memory, or record fewer features."
        )
    return as_pairwise(chosen, tuple(layers), values, stacklevel=4)


def _read_once(layers: Mapping[str, Any], rows: int, device: str | None) -> Moments:
    moments = Moments(device)
    for start in range(0, len(next(iter(layers.values()))), rows):
        moments.update({name: layer[start : start + rows] for name, layer in layers.items()})
    return moments


def _from_tiles(layers: Mapping[str, Any], memory: int, device: str | None, *, unbiased: bool) -> FloatArray:
    """Return CKA from tiles of Gram matrices, whose rows are read when they are needed."""
    n = len(next(iter(layers.values())))
    least = 8 * len(layers) * min(n, SMALLEST_TILE) ** 2
    if memory < least:
        raise ValueError(
            f"memory is {memory} bytes; {len(layers)} layers of {n} stimuli need at least {least}. Give more memory."
        )
    tiles = [_StreamedGram(layer, name, unbiased=unbiased) for name, layer in layers.items()]
    hsic = from_tiles(tiles, n, memory, device) / degrees(n, unbiased=unbiased)
    own = np.diagonal(hsic)
    return alignment(hsic, own, own)


class _StreamedGram:
    """Gram matrix of a layer that is read block by block; U-centred for the unbiased estimator."""

    def __init__(self, layer: Any, name: str, *, unbiased: bool) -> None:
        self.layer, self._name, self._unbiased = layer, name, unbiased
        self._mean, self._constant, self._unit = self._scan()
        blocks = (self._deviations(slice(start, start + _ROWS)) for start in range(0, len(layer), _ROWS))
        self._squares = np.concatenate([np.vecdot(block, block) for block in blocks])
        self._size = np.sqrt(self._squares.mean()) or 1.0

    def __call__(self, rows: slice, columns: slice, out: Any) -> Any:
        """Write a tile to ``out`` and return it."""
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
        """Return the mean, a mask of features that are constant, and a power of two near the largest range."""
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
