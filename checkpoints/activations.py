"""Activations of one checkpoint in HDF5: one (n_stimuli, n_features) dataset a layer, read lazily and in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.hdf5 import attribute, checked_dataset, image, opened, set_attributes

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
        file["stimulus_id"] = np.char.encode(stimulus_ids, "utf-8")
        for index, (name, layer) in enumerate(layers.items()):
            _write_layer(file.create_group(f"layers/{index:04d}"), name, layer, compress)

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
            return checked_dataset(self.path, file["layers"][self.key], "data")[selection]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole layer."""
        if copy is False:
            raise ValueError(f"Layer '{self.name}' is on disk; it cannot become an array without a copy.")
        return np.asarray(self[:], dtype=dtype)

    def blocks(self, rows: int = 1024) -> Iterator[NDArray[np.float32]]:
        """Yield consecutive blocks of at most ``rows`` stimuli."""
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
            self.stimulus_ids = np.char.decode(checked_dataset(path, file, "stimulus_id")[()], "utf-8")
            layers = [self._describe(file, key) for key in sorted(file.get("layers", ()))]
        self._layers = {layer.name: layer for layer in layers}

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

    def _describe(self, file: h5py.File, key: str) -> Layer:
        group = file["layers"].get(key) if isinstance(file["layers"].get(key, getlink=True), h5py.HardLink) else None
        if not isinstance(group, h5py.Group):
            raise Damaged(f"/layers/{key} in {self.path} is not a plain group.")
        dataset = checked_dataset(self.path, group, "data")
        n_stimuli = len(self.stimulus_ids)
        if dataset.ndim != 2 or dataset.shape[0] != n_stimuli or attribute(group, "n_rows") != n_stimuli:
            raise Damaged(f"/layers/{key} in {self.path} has shape {dataset.shape}; expected {n_stimuli} rows.")
        feature_shape = tuple(int(size) for size in attribute(group, "feature_shape"))
        name, source_dtype = str(attribute(group, "name")), str(attribute(group, "source_dtype"))
        return Layer(self.path, key, name, dataset.shape, feature_shape, source_dtype)
