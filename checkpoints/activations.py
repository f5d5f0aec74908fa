"""Activations of one checkpoint in HDF5: one (n_stimuli, n_features) dataset a layer, read lazily and in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.hdf5 import (
    attribute,
    checked_dataset,
    checked_group,
    image,
    opened,
    read_column,
    set_attributes,
    write_column,
)

__all__ = ["Activations", "Layer", "LayerValues", "encode_activations"]

_CHUNK_BYTES = 2**20
_WIDEST_CHUNK = 8192


@dataclass(frozen=True)
class LayerValues:
    """What was captured of one layer.

    Attributes
    ----------
    values : float32 array, shape (n_stimuli, n_features)
    feature_shape : tuple of int
        Shape of one stimulus' activation before it was flattened.
    source_dtype : str
        The type that the network computed in, e.g. ``"torch.float32"``.
    """

    values: NDArray[np.float32]
    feature_shape: tuple[int, ...]
    source_dtype: str


def encode_activations(
    layers: Mapping[str, LayerValues],
    stimulus_ids: NDArray[Any],
    header: Mapping[str, str | int],
    *,
    compress: bool = False,
) -> bytes:
    """Return the content of ``activations.h5``.

    Parameters
    ----------
    layers : mapping of str to LayerValues
        In the order in which a stimulus passes through them.
    stimulus_ids : str array, shape (n_stimuli,)
    header : mapping
        Further root attributes, e.g. step, run uuid, hashes.
    compress : bool, default False
        Gzip level 1: about 0.6 of the size for relu layers, slower to write.

    Raises
    ------
    ValueError
        If a layer does not have one row a stimulus.
    """
    for name, layer in layers.items():
        if len(layer.values) != len(stimulus_ids):
            raise ValueError(f"Layer '{name}' has {len(layer.values)} rows for {len(stimulus_ids)} stimuli.")

    def fill(file: h5py.File) -> None:
        set_attributes(file, {"format": "repsim-activations", "format_version": 1, **header})
        write_column(file, "stimulus_id", stimulus_ids)
        groups = file.create_group("layers")
        for index, (name, layer) in enumerate(layers.items()):
            _write_layer(groups.create_group(f"{index:04d}"), name, layer, compress)

    return image(fill)


def _write_layer(group: h5py.Group, name: str, layer: LayerValues, compress: bool) -> None:
    n_rows, n_columns = layer.values.shape
    columns = min(n_columns, _WIDEST_CHUNK)
    rows = min(n_rows, max(1, _CHUNK_BYTES // (columns * layer.values.itemsize)))
    group.create_dataset(
        "data",
        data=layer.values,
        chunks=(rows, columns),
        fletcher32=True,
        compression="gzip" if compress else None,
        compression_opts=1 if compress else None,
    )
    attributes = {
        "name": name,
        "call_index": 0,
        "feature_shape": np.asarray(layer.feature_shape, dtype=np.int64),
        "source_dtype": layer.source_dtype,
        "reduction": "flatten",
        "n_rows": n_rows,
    }
    set_attributes(group, attributes)


@dataclass(frozen=True)
class Layer:
    """One layer's activations on disk. Nothing is read until it is indexed; no file stays open.

    Attributes
    ----------
    path : Path
        The ``activations.h5`` that holds it.
    key : str
        Its group below ``/layers``.
    name : str
        The module's name in the network.
    shape : tuple of int
        (n_stimuli, n_features).
    feature_shape : tuple of int
        Shape of one stimulus' activation before it was flattened.
    source_dtype : str
    """

    path: Path
    key: str
    name: str
    shape: tuple[int, int]
    feature_shape: tuple[int, ...]
    source_dtype: str

    dtype = np.dtype(np.float32)
    ndim = 2

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return self.shape[0]

    def __getitem__(self, selection: Any) -> Any:
        """Read the selected rows (and columns) only; selections are those of h5py."""
        with opened(self.path, "repsim-activations") as file:
            group = checked_group(self.path, checked_group(self.path, file, "layers"), self.key)
            return _data(self.path, group)[selection]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole layer."""
        if copy is False:
            raise ValueError(f"Layer '{self.name}' is on disk; it cannot become an array without a copy.")
        return np.asarray(self[:], dtype=dtype)

    def blocks(self, rows: int = 1024) -> Iterator[NDArray[np.float32]]:
        """Yield consecutive blocks of at most ``rows`` stimuli; at least 1."""
        if rows < 1:
            raise ValueError(f"Blocks of {rows} rows were asked for; expected 1 or more.")
        for start in range(0, len(self), rows):
            yield self[start : start + rows]


class Activations(Mapping[str, Layer]):
    """The layers of one checkpoint by name, in network order.

    Raises
    ------
    Damaged
        If the file is missing, unreadable, of another format, or holds anything that a reader must not trust.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, "repsim-activations") as file:
            self.stimulus_ids = read_column(path, file, "stimulus_id", "|S")
            groups = checked_group(path, file, "layers")
            layers = [self._describe(groups, key) for key in sorted(map(str, groups))]
        self._layers = {layer.name: layer for layer in layers}
        if len(self._layers) != len(layers):
            raise Damaged(f"{path} has two layers of one name.")

    def __getitem__(self, name: str) -> Layer:
        """Return a layer; a KeyError lists the names there are."""
        try:
            return self._layers[name]
        except KeyError:
            raise KeyError(f"No layer '{name}' was recorded; recorded are: {', '.join(self._layers)}.") from None

    def __iter__(self) -> Iterator[str]:
        """Iterate over names in network order."""
        return iter(self._layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    @property
    def header(self) -> dict[str, str | int]:
        """What the file says of its origin: ``run_uuid``, ``step``, ``stimulus_hash`` and ``weights_hash``."""
        kinds = {"run_uuid": "text", "step": "whole number", "stimulus_hash": "text", "weights_hash": "text"}
        with opened(self.path, "repsim-activations") as file:
            return {name: attribute(self.path, file, name, kind) for name, kind in kinds.items()}

    def _describe(self, groups: h5py.Group, key: str) -> Layer:
        group = checked_group(self.path, groups, key)
        shape = _data(self.path, group).shape
        n_rows = attribute(self.path, group, "n_rows", "whole number")
        feature_shape = tuple(attribute(self.path, group, "feature_shape", "list of sizes"))
        if shape != (n_rows, math.prod(feature_shape)) or n_rows != len(self.stimulus_ids):
            raise Damaged(
                f"{group.name} in {self.path} has shape {shape}, {n_rows} rows and feature shape {feature_shape} for "
                f"{len(self.stimulus_ids)} stimuli; these do not fit together."
            )
        name, source_dtype = (attribute(self.path, group, text, "text") for text in ("name", "source_dtype"))
        return Layer(self.path, key, name, shape, feature_shape, source_dtype)


def _data(path: Path, group: h5py.Group) -> h5py.Dataset:
    return checked_dataset(path, group, "data", "<f4", 2)
