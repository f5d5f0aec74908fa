"""Activations of one checkpoint on disk: one (n_stimuli, n_features) array per layer, read lazily and in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.html_tables import table
from checkpoints.stimuli import Stimuli
from checkpoints.storage.hdf5_files.hdf5 import MOST_LAYERS, opened, read_column
from checkpoints.storage.hdf5_files.hdf5_attributes import attribute, attributes
from checkpoints.storage.hdf5_files.hdf5_datasets import (
    check_expansion,
    check_inflation,
    check_link,
    checked_dataset,
    checked_group,
    checked_size,
)
from checkpoints.storage.regular_files import FileSignature, check_regular, file_signature, is_settled

__all__ = ["Activations", "Layer"]

_DTYPES = ("<f4", "<f2", "<f8")
_ATTRIBUTES = {
    "n_rows": "whole number",
    "feature_shape": "list of sizes",
    "name": "text",
    "source_shape": "list of sizes",
    "source_dtype": "text",
    "reduction": "text",
    "module": "text",
    "call_index": "whole number",
    "side": "text",
    "path": "text",
}
_OPTIONAL = {"source_shape", "module", "side", "path"}
_FEW = 100  # layers, which take a few hundredths of a second to check


@dataclass(frozen=True)
class Layer:
    """The activations of one layer on disk. Values are read when the layer is indexed; no file stays open.

    Attributes
    ----------
    file : Path
        The ``activations.h5`` or ``gradients.h5`` that holds the layer.
    key : str
        Name of the layer's group in ``/layers``.
    name : str
        The module's name in the network, followed by ``#call`` if a forward pass called it several times, by
        ``:input`` if its input was recorded, and by the path into a tuple, dict or dataclass, e.g. ``lstm[0]``.
    shape : tuple of int
        (n_stimuli, n_features).
    dtype : numpy.dtype
        float32, float16 or float64.
    feature_shape, source_shape : tuple of int
        Shape of the activation of one stimulus, after and before its reduction.
    source_dtype : str
    reduction : str
    module : str
    call_index : int
    side : str
        "output", "input", or "gradient" of a loss with respect to the output.
    path : str
    stimulus_ids : str array, shape (n_stimuli,)
    """

    file: Path
    key: str
    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    feature_shape: tuple[int, ...]
    source_shape: tuple[int, ...]
    source_dtype: str
    reduction: str
    module: str
    call_index: int
    side: str
    path: str
    stimulus_ids: NDArray[Any] = field(repr=False, compare=False)

    ndim = 2

    @property
    def stimuli(self) -> Stimuli | None:
        """The stimuli of the rows, from the run's ``stimuli.h5``; None if the file is outside of a run."""
        path = self.file.absolute().parent.parent.parent / "stimuli.h5"  # NAME/checkpoints/step_…/activations.h5
        if not path.exists():
            return None
        stimuli = Stimuli.read(path)
        return stimuli if np.array_equal(stimuli.ids, self.stimulus_ids) else None

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return self.shape[0]

    def __getitem__(self, selection: Any) -> Any:
        """Read the selected rows (and columns); only the chunks that hold them are read.

        Rows may be a number, a slice, a boolean mask, or numbers in any order with repetitions; columns as in h5py.
        """
        rows, *columns = (selection if isinstance(selection, tuple) else (selection,)) or (...,)
        with self._opened() as data:
            if rows is Ellipsis or np.ndim(rows) == 0:
                check_inflation(self.file, data, self._span(rows))
                return data[selection]
            return self._rows(data, self._numbers(rows), tuple(columns))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole layer."""
        if copy is False:
            raise ValueError(f"Layer '{self.name}' is on disk; it cannot become an array without a copy.")
        return np.asarray(self[:], dtype=dtype)

    def blocks(self, rows: int = 1024) -> Iterator[NDArray[Any]]:
        """Yield consecutive blocks of at most ``rows`` stimuli, where ``rows`` is 1 or more."""
        if rows < 1:
            raise ValueError(f"rows is {rows}; expected 1 or more rows per block.")
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    @contextmanager
    def _opened(self) -> Iterator[h5py.Dataset]:
        with opened(self.file, "repsim-activations") as file:
            group = checked_group(self.file, checked_group(self.file, file, "layers"), self.key)
            yield _data(self.file, group)

    def _span(self, rows: Any) -> range:
        """Return the rows that a slice or a valid number selects; all rows for anything else."""
        every = range(len(self))
        if isinstance(rows, slice):
            return every[rows]
        return every[rows : int(rows) + 1 or None] if isinstance(rows, int | np.integer) else every

    def _numbers(self, rows: Any) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise IndexError(f"Rows of layer '{self.name}' must be numbers, or a mask of {len(self)} truth values.")
        numbers = chosen.astype(np.int64)
        if numbers.size and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"Layer '{self.name}' has rows 0 to {len(self) - 1}; the selection goes beyond them.")
        return numbers % max(len(self), 1)

    def _rows(self, data: h5py.Dataset, numbers: NDArray[np.int64], columns: tuple[Any, ...]) -> NDArray[Any]:
        """Read rows in any order, for one row of chunks after the other."""
        height = data.chunks[0] if data.chunks else len(data)
        parts = [np.empty((0, data.shape[1]), dtype=data.dtype)[(slice(None), *columns)]]
        order = np.argsort(numbers, kind="stable")
        for block in np.split(order, np.flatnonzero(np.diff(numbers[order] // height)) + 1):
            if block.size:
                first, last = numbers[block[0]], numbers[block[-1]]
                check_inflation(self.file, data, range(first, last + 1))
                parts.append(data[(slice(first, last + 1), *columns)][numbers[block] - first])
        return np.concatenate(parts)[np.argsort(order, kind="stable")]


class Activations(Mapping[str, Layer]):
    """The layers of one checkpoint by name, in network order.

    For a file with more than 100 layers, only their names are read at first. Shapes and other attributes are read and
    checked on the first access to a layer, or by ``check``. A file is listed once per process, until it changes.

    Raises
    ------
    Damaged
        If the file is missing, unreadable, of another format, or holds unsafe content (see ``docs/run-format.md``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listing = _listing(path)
        self.stimulus_ids = self._listing.stimulus_ids
        if len(self) <= _FEW:
            self.check()

    def __repr__(self) -> str:
        """Return the layers and their widths."""
        layers = ", ".join(f"{layer.name}: {layer.shape[1]}" for layer in self.values())
        return f"Activations({len(self.stimulus_ids)} stimuli; {layers})"

    def _repr_html_(self) -> str:
        """Return a table of the layers as HTML, for a notebook."""
        rows = [
            (layer.name, layer.shape[1], " × ".join(map(str, layer.feature_shape)) or 1, layer.dtype, layer.reduction)
            for layer in self.values()
        ]
        header = ["layer", "d", "feature shape", "type", "reduction"]
        return f"<b>Activations</b> of {len(self.stimulus_ids)} stimuli{table(rows, header)}"

    def __getitem__(self, name: str) -> Layer:
        """Return a layer; a KeyError lists the recorded layers."""
        if name not in self._listing.names:
            raise KeyError(f"No layer '{name}' was recorded. Choose one of: {', '.join(self)}.")
        return self._listing.layers[name]

    def __contains__(self, name: object) -> bool:
        """Return whether a layer was recorded."""
        return name in self._listing.names

    def __iter__(self) -> Iterator[str]:
        """Iterate over names in network order."""
        return iter(self._listing.names)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._listing.names)

    def check(self) -> None:
        """Check every layer; raise Damaged if one has unsafe content."""
        _ = self._listing.layers

    @property
    def header(self) -> dict[str, str | int]:
        """The stated origin of the file: ``run_uuid``, ``step``, ``stimulus_hash`` and ``weights_hash``."""
        kinds = {"run_uuid": "text", "step": "whole number", "stimulus_hash": "text", "weights_hash": "text"}
        with opened(self.path, "repsim-activations") as file:
            return attributes(self.path, file, kinds)


@dataclass(frozen=True)
class _Listing:
    """Content of a file: stimulus ids, the group of each layer by name, and the layers, read on first access."""

    path: Path
    stimulus_ids: NDArray[Any]
    names: dict[str, str]

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The checked layers by name."""
        layers, claimed = {}, 0
        with opened(self.path, "repsim-activations") as file:
            groups = checked_group(self.path, file, "layers")
            for name, key in self.names.items():
                layers[name], size = _describe(self.path, groups, key, self.stimulus_ids)
                claimed += size
                if layers[name].name != name:
                    raise Damaged(f"{self.path} has changed while it was read.")
        check_expansion(self.path, "All layers", claimed, self.path.stat().st_size)
        return layers


def _listing(path: Path) -> _Listing:
    """List a file once per process, until it changes."""
    check_regular(path)
    signature = file_signature(path)
    return _known_listing(path, signature) if is_settled(signature) else _list_names(path)


@lru_cache(maxsize=32)
def _known_listing(path: Path, signature: FileSignature) -> _Listing:
    return _list_names(path)


def _list_names(path: Path) -> _Listing:
    names: dict[str, str] = {}
    with opened(path, "repsim-activations") as file:
        stimulus_ids = read_column(path, file, "stimulus_id", "|S")
        stimulus_ids.setflags(write=False)  # shared by all callers
        groups = checked_group(path, file, "layers")
        if len(groups) > MOST_LAYERS:
            raise Damaged(f"{path} claims {len(groups)} layers; at most {MOST_LAYERS} are read.")
        for key in sorted(map(str, groups)):
            group = checked_group(path, groups, key)
            check_link(path, group, "data")
            name = attribute(path, group, "name", "text")
            if name in names:
                raise Damaged(f"{path} has two layers of the same name.")
            names[name] = key
    return _Listing(path, stimulus_ids, names)


def _describe(path: Path, groups: h5py.Group, key: str, stimulus_ids: NDArray[Any]) -> tuple[Layer, int]:
    """Return a layer and the number of bytes that it claims."""
    group = checked_group(path, groups, key)
    shape, dtype, claimed = checked_size(path, group, "data", _DTYPES, 2)
    stated = attributes(path, group, _ATTRIBUTES, _OPTIONAL)
    n_rows, feature_shape = stated.pop("n_rows"), tuple(stated.pop("feature_shape"))
    if shape != (n_rows, math.prod(feature_shape)) or n_rows != len(stimulus_ids):
        raise Damaged(
            f"{group.name} in {path} has shape {shape}, {n_rows} rows and feature shape {feature_shape} "
            f"for {len(stimulus_ids)} stimuli; these contradict each other."
        )
    absent = {"module": stated["name"], "side": "output", "path": ""}
    source_shape = tuple(stated.pop("source_shape", feature_shape))
    layer = Layer(
        file=path,
        key=key,
        stimulus_ids=stimulus_ids,
        shape=(shape[0], shape[1]),
        dtype=dtype,
        feature_shape=feature_shape,
        source_shape=source_shape,
        **{**absent, **stated},
    )
    return layer, claimed


def _data(path: Path, group: h5py.Group) -> h5py.Dataset:
    return checked_dataset(path, group, "data", _DTYPES, 2)
