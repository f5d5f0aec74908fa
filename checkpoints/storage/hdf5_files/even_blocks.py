"""Blocks of rows of one height, made of blocks of different heights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from checkpoints.storage.hdf5_files.activation_file import LayerValues, check_same_layers

__all__ = ["even_blocks"]


def even_blocks(blocks: Iterable[Mapping[str, LayerValues]]) -> Iterator[dict[str, LayerValues]]:
    """Yield the rows of blocks again, in blocks as high as the first; the last one may be lower.

    ``write_activations`` needs such blocks.
    """
    kept: dict[str, LayerValues] = {}
    height = 0
    for block in blocks:
        check_same_layers(kept or block, block)
        height = height or max(map(len, block.values()), default=0)
        values = {name: [kept[name].values] if name in kept else [] for name in block}
        kept = {
            name: replace(layer, values=np.concatenate([*values[name], layer.values])) for name, layer in block.items()
        }
        while height and max(map(len, kept.values())) >= height:
            yield _rows(kept, slice(0, height))
            kept = _rows(kept, slice(height, None))
    if any(map(len, kept.values())):
        yield kept


def _rows(block: Mapping[str, LayerValues], rows: slice) -> dict[str, LayerValues]:
    return {name: replace(layer, values=layer.values[rows]) for name, layer in block.items()}
