"""HSIC of all pairs of representations, from few large products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import isqrt
from typing import Any

import numpy as np
import torch

from repsim.similarity.measures.hsic import degrees, gram, squared_norms
from repsim.similarity.precision import FloatArray

# Rows of the largest tile of a Gram matrix. Larger tiles are not faster, and save less by symmetry.
LARGEST_TILE = 512
# Bytes of layers whose columns are concatenated. More would save multiplications but cost new memory.
SIDE_BY_SIDE = 64 * 2**20
# Multiply-adds in the time that centring and comparing one entry of a Gram matrix takes.
ENTRY = 100

Pairs = Sequence[tuple[int, int]]
Tile = Callable[..., Any]


def linear_hsic(
    layers: Sequence[FloatArray], pairs: Pairs, *, unbiased: bool, memory: int, device: str | None
) -> FloatArray:
    """Compute HSIC with linear kernels for many pairs of layers, by the faster route.

    Layers are those of `hsic.normalised`, pairs are positions (i, j), i <= j, and ``memory`` bounds the bytes of the
    products held at a time. The result is correct at the pairs and at their mirror images.
    """
    n, widths = len(layers[0]), [layer.shape[1] for layer in layers]
    products = [widths[i] * widths[j] for i, j in pairs]
    on_device: Sequence[Any] = layers if device is None else [torch.from_numpy(layer).to(device) for layer in layers]
    if sum(products) < n / 2 * sum(width + ENTRY for width in widths) and 8 * max(products) <= memory:
        return from_features(on_device, pairs, unbiased=unbiased, memory=memory)
    return from_tiles([partial(gram, layer, unbiased=unbiased) for layer in on_device], n, memory, device) / degrees(
        n, unbiased=unbiased
    )


def from_features(layers: Sequence[Any], pairs: Pairs, *, unbiased: bool, memory: int) -> FloatArray:
    """Compute HSIC from the cross products of each layer with as many others at once as memory allows."""
    n = len(layers[0])
    hsic = np.full((len(layers), len(layers)), np.nan)
    for i, js, columns in _meetings(layers, pairs, memory):
        cross = layers[i].T @ columns  # (d_i, sum of d_j)
        squares = _on_cpu((cross * cross).sum(0))
        hsic[i, js] = np.add.reduceat(squares, np.cumsum([0, *(layers[j].shape[1] for j in js[:-1])]))
    if unbiased:
        squares = np.stack([np.asarray(_on_cpu(squared_norms(layer))) for layer in layers])  # (n_layers, n)
        sums = squares.sum(axis=1)
        hsic += np.multiply.outer(sums, sums) / ((n - 1) * (n - 2)) - squares @ squares.T * (n / (n - 2))
    hsic /= degrees(n, unbiased=unbiased)
    return np.where(np.isnan(hsic), hsic.T, hsic)


def _meetings(layers: Sequence[Any], pairs: Pairs, memory: int) -> Iterator[tuple[int, list[int], Any]]:
    """Yield each layer with the concatenated columns of several others, as few large products are faster."""
    n, widest = len(layers[0]), max(layer.shape[1] for layer in layers)
    room: Any = None
    for group in _groups(layers, sorted({j for _, j in pairs}), min(memory, SIDE_BY_SIDE) // (8 * (n + 2 * widest))):
        columns, room = _side_by_side([layers[j] for j in group], room)
        ends = dict(zip(group, np.cumsum([layers[j].shape[1] for j in group]).tolist(), strict=True))
        for i, js in _runs(pairs, group):
            yield i, js, columns[:, ends[js[0]] - layers[js[0]].shape[1] : ends[js[-1]]]


def _groups(layers: Sequence[Any], which: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield groups of consecutive layers with at most ``width`` columns, or single layers."""
    group: list[int] = []
    for j in which:
        if group and sum(layers[k].shape[1] for k in [*group, j]) > width:
            yield group
            group = []
        group.append(j)
    yield group


def _runs(pairs: Pairs, group: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield each i with runs of consecutive layers of a group that it is paired with."""
    required = set(pairs)
    for i in sorted({i for i, _ in pairs}):
        for wanted, run in groupby(group, key=lambda j: (i, j) in required):  # groupby calls the key at once
            if wanted:
                yield i, list(run)


def _side_by_side(layers: Sequence[Any], room: Any) -> tuple[Any, Any]:
    """Return the concatenated columns, and their memory for the next call."""
    if len(layers) == 1:
        return layers[0], room
    n, width = len(layers[0]), sum(layer.shape[1] for layer in layers)
    on_device = isinstance(layers[0], torch.Tensor)
    if room is None or len(room) < n * width:
        room = layers[0].new_empty(n * width) if on_device else np.empty(n * width)
    columns = room[: n * width].reshape(n, width)
    if on_device:
        torch.cat(list(layers), dim=1, out=columns)
    else:
        np.concatenate(layers, axis=1, out=columns)
    return columns, room


def from_tiles(tiles: Sequence[Tile], n: int, memory: int, device: str | None = None) -> FloatArray:
    """Sum the entrywise products of all pairs of Gram matrices.

    The same tile of all matrices is stacked; the product of the stack with its transpose is added to the sums. Each
    tile takes two slices, rows and columns, and writes its entries to ``out``.
    """
    count = len(tiles)
    size = _tile_size(n, count, memory)
    stack: Any
    total: Any
    if device is None:
        stack, total = np.empty(count * size * size), np.zeros((count, count))
    else:
        stack = torch.empty(count * size * size, dtype=torch.float64, device=device)
        total = torch.zeros((count, count), dtype=torch.float64, device=device)
    for rows, columns in _tiles(n, size):
        shape = (count, rows.stop - rows.start, columns.stop - columns.start)
        places = stack[: shape[0] * shape[1] * shape[2]].reshape(shape)
        for tile, place in zip(tiles, places, strict=True):
            tile(rows, columns, out=place)
        flat = places.reshape(count, -1)
        total += (1 if rows == columns else 2) * (flat @ flat.T)
    return _on_cpu(total)


def _on_cpu(array: Any) -> Any:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array


def _tile_size(n: int, count: int, memory: int) -> int:
    if memory < 8 * count:
        raise ValueError(
            f"memory is {memory} bytes; {count} representations need at least {8 * count}. "
            "Use the default unless memory is short."
        )
    return min(n, LARGEST_TILE, isqrt(memory // (8 * count)))


def _tiles(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the tiles on and above the diagonal."""
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            yield rows, columns
