"""The files ``activations.h5`` and ``gradients.h5``: blocks of stimuli are written as they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.storage.hdf5_files.checksum import CHECKSUM_BYTES, fletcher32
from checkpoints.storage.hdf5_files.hdf5 import MOST_LAYERS, created, set_attributes, write_column

__all__ = ["LayerValues", "check_same_layers", "write_activations"]

_CHUNK_BYTES = 2**20
_WIDEST_CHUNK = 8192


@dataclass(frozen=True)
class LayerValues:
    """The activations of one layer for all stimuli, or for a block of them.

    Attributes
    ----------
    values : float array, shape (n_stimuli, n_features)
        float32, float16 or float64.
    feature_shape : tuple of int
        Shape of the activation of one stimulus, after its reduction and before flattening.
    source_dtype : str
        Type of the network's activations, e.g. ``"torch.float32"``.
    source_shape : tuple of int, optional
        Shape of the activation of one stimulus before its reduction; by default ``feature_shape``.
    reduction : str, default "flatten"
        Text of the reduction, e.g. ``"spatial_mean"``.
    module : str, optional
        Name of the module in the network; by default the name of the layer.
    call_index : int, default 0
        Number of the module's call in a forward pass, from 0.
    side : str, default "output"
        "output", "input", or "gradient" of a loss with respect to the output.
    path : str, default ""
        Position of the tensor in a tuple, dict or dataclass, e.g. ``"[1][hidden]"``.
    """

    values: NDArray[Any]
    feature_shape: tuple[int, ...]
    source_dtype: str
    source_shape: tuple[int, ...] | None = None
    reduction: str = "flatten"
    module: str | None = None
    call_index: int = 0
    side: str = "output"
    path: str = ""

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self.values)

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of the layer in ``activations.h5``."""
        source_shape = self.feature_shape if self.source_shape is None else self.source_shape
        return {
            "name": name,
            "module": name if self.module is None else self.module,
            "call_index": self.call_index,
            "side": self.side,
            "path": self.path,
            "feature_shape": np.asarray(self.feature_shape, dtype=np.int64),
            "source_shape": np.asarray(source_shape, dtype=np.int64),
            "source_dtype": self.source_dtype,
            "reduction": self.reduction,
        }


def write_activations(
    path: Path,
    blocks: Iterable[Mapping[str, LayerValues]],
    stimulus_ids: NDArray[Any],
    header: Mapping[str, str | int],
    *,
    compress: bool = False,
) -> None:
    """Write ``activations.h5`` while its values are computed; only one block is in memory at a time.

    Parameters
    ----------
    path : Path
        Must not exist.
    blocks : iterable of mapping of str to LayerValues
        Consecutive blocks of stimuli. All have the same layers, in the order in which a stimulus passes through them,
        and none has more rows than the first block.
    stimulus_ids : str array, shape (n_stimuli,)
    header : mapping
        Further root attributes, e.g. step, run uuid, hashes.
    compress : bool, default False
        Whether to compress with gzip level 1: about 0.6 of the size for relu layers, but slower to write.

    Raises
    ------
    ValueError
        If the blocks differ in their layers, or a layer does not have one row per stimulus.
    OSError
        If the file could not be written; the message names it.
    """
    with _ActivationWriter(path, stimulus_ids, header, compress) as writer:
        for block in blocks:
            writer.append(block)
        writer.check_complete()


class _ActivationWriter:
    """An ``activations.h5`` in the course of writing."""

    def __init__(self, path: Path, stimulus_ids: NDArray[Any], header: Mapping[str, str | int], compress: bool) -> None:
        self._n = len(stimulus_ids)
        self._row = 0
        self._compress = compress
        self._filters = {"fletcher32": True} | ({"compression": "gzip", "compression_opts": 1} if compress else {})
        self._first: dict[str, LayerValues] = {}  # the first row of each layer, to compare other blocks with
        self._datasets: list[h5py.Dataset] = []
        with ExitStack() as stack:
            self._file, self._sink = stack.enter_context(created(path))
            set_attributes(self._file, {"format": "repsim-activations", "format_version": 1, **header})
            write_column(self._file, "stimulus_id", stimulus_ids)
            self._file["stimulus_id"].make_scale("stimulus_id")
            self._groups = self._file.create_group("layers")
            self._stack = stack.pop_all()  # closed with the writer

    def __enter__(self) -> _ActivationWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, so that HDF5 writes its buffers."""
        self._datasets.clear()
        self._stack.close()

    def append(self, block: Mapping[str, LayerValues]) -> None:
        """Write the next rows of every layer."""
        stop = self._row + max(map(len, block.values()), default=0)
        for name, layer in block.items():
            if self._row + len(layer) != stop or stop > self._n:
                raise ValueError(f"Layer '{name}' has {self._row + len(layer)} rows for {self._n} stimuli.")
        if not self._datasets:
            self._create_layers(block)
        check_same_layers(self._first, block)
        for data, layer in zip(self._datasets, block.values(), strict=True):
            height = data.chunks[0]
            whole = self._row % height == 0 and (len(layer) % height == 0 or stop == self._n)
            if whole and not self._compress:
                _write_chunks(data, self._row, layer.values)
            else:
                data[self._row : stop] = layer.values
            self._sink.check()
        self._row = stop

    def check_complete(self) -> None:
        """Raise ValueError unless every stimulus has a row."""
        if self._row != self._n or not self._datasets:
            raise ValueError(f"{self._row} rows of {len(self._datasets)} layers were captured for {self._n} stimuli.")

    def _create_layers(self, block: Mapping[str, LayerValues]) -> None:
        if len(block) > MOST_LAYERS:
            raise ValueError(f"{len(block)} layers were captured; at most {MOST_LAYERS} can be read again.")
        for index, (name, layer) in enumerate(block.items()):
            self._first[name] = replace(layer, values=layer.values[:1].copy())
            self._datasets.append(self._create_layer(f"{index:04d}", name, layer))

    def _create_layer(self, key: str, name: str, layer: LayerValues) -> h5py.Dataset:
        group = self._groups.create_group(key)
        n_features = layer.values.shape[1]
        data = group.create_dataset(
            "data",
            shape=(self._n, n_features),
            dtype=layer.values.dtype.newbyteorder("<"),
            chunks=_chunk(len(layer), n_features, layer.values.itemsize),
            **self._filters,
        )
        set_attributes(group, {**layer.attributes(name), "n_rows": self._n})
        feature = group.create_dataset(
            "feature", shape=(n_features,), dtype="<i4"
        )  # names a dimension and holds no values
        feature.make_scale("This is a netCDF dimension but not a netCDF variable.")
        data.dims[0].attach_scale(self._file["stimulus_id"])
        data.dims[1].attach_scale(feature)
        return data


def _write_chunks(data: h5py.Dataset, first_row: int, values: NDArray[Any]) -> None:
    """Write whole chunks with checksums, bypassing the filters of HDF5, which copy twice and run at 0.9 GB/s."""
    height, width = data.chunks
    buffer = np.zeros(height * width * data.dtype.itemsize + CHECKSUM_BYTES, dtype=np.uint8)
    content, checksum = buffer[:-CHECKSUM_BYTES], buffer[-CHECKSUM_BYTES:].view("<u4")
    chunk, words = content.view(data.dtype).reshape(height, width), content.view("<u2").reshape(height, -1)
    for row, column in product(range(0, len(values), height), range(0, values.shape[1], width)):
        part = values[row : row + height, column : column + width]
        chunk[part.shape[0] :], chunk[:, part.shape[1] :] = 0, 0  # beyond the edge of the dataset
        chunk[: part.shape[0], : part.shape[1]] = part
        checksum[0] = fletcher32(words)
        data.id.write_direct_chunk((first_row + row, column), buffer)


def _chunk(n_rows: int, n_columns: int, itemsize: int) -> tuple[int, int]:
    """Return a chunk shape of about 1 MiB that divides a block of ``n_rows`` into whole chunks.

    If rows are narrow, a chunk is several whole rows. If their number has no suitable divisor (for example a prime
    number), the block is divided by columns instead.
    """
    columns = max(1, min(n_columns, _WIDEST_CHUNK))
    wanted = max(1, _CHUNK_BYTES // (columns * itemsize))
    rows = max(size for size in range(1, min(wanted, n_rows) + 1) if n_rows % size == 0)
    if rows * 4 < min(wanted, n_rows):
        rows, columns = n_rows, max(1, min(columns, _CHUNK_BYTES // (n_rows * itemsize)))
    return rows, columns


def check_same_layers(first: Mapping[str, LayerValues], block: Mapping[str, LayerValues]) -> None:
    """Raise ValueError unless two blocks of stimuli have the same layers with the same shapes and types."""
    if list(first) != list(block):
        difference = sorted(set(first) ^ set(block)) or ["their order"]
        raise ValueError(f"The layers differ between blocks of stimuli: {', '.join(difference)}.")
    for name, layer in block.items():
        shapes = [(each.feature_shape, each.source_shape) for each in (first[name], layer)]
        if shapes[0] != shapes[1] or layer.values.dtype != first[name].values.dtype:
            raise ValueError(
                f"Layer '{name}' has shape {first[name].feature_shape} in one block of stimuli and "
                f"{layer.feature_shape} in another; pad the stimuli to one length, or give a reduction."
            )
