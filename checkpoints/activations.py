"""Activations of one checkpoint on disk: one (n_stimuli, n_features) array a layer, read lazily and in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import Damaged
from checkpoints.hdf5 import (
    MOST_LAYERS,
    attribute,
    check_expansion,
    check_inflation,
    checked_dataset,
    checked_group,
    claimed_bytes,
    opened,
    read_column,
)
from checkpoints.html import table
from checkpoints.stimuli import Stimuli

__all__ = ["Activations", "Layer"]

_DTYPES = ("<f4", "<f2", "<f8")


@dataclass(frozen=True)
class Layer:
    """One layer's activations on disk. Nothing is read until it is indexed; no file stays open.

    Attributes
    ----------
    file : Path
        The ``activations.h5`` that holds it.
    key : str
        Its group below ``/layers``.
    name : str
        The module's name in the network, followed by ``#call`` if a forward pass called it several times, by
        ``:input`` if its input was recorded, and by the path into a tuple, dict or dataclass, e.g. ``lstm[0]``.
    shape : tuple of int
        (n_stimuli, n_features).
    dtype : numpy.dtype
        float32, float16 or float64.
    feature_shape, source_shape : tuple of int
        Shape of one stimulus' activation after and before its reduction.
    source_dtype : str
    reduction : str
    module : str
    call_index : int
    side : str
        "output" or "input".
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
        """The stimuli of its rows with their labels and split, from the run's ``stimuli.h5``; None outside a run."""
        path = self.file.absolute().parents[2] / "stimuli.h5"  # of runs/NAME/checkpoints/step_…/activations.h5
        if not path.exists():
            return None
        stimuli = Stimuli.read(path)
        return stimuli if np.array_equal(stimuli.ids, self.stimulus_ids) else None

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return self.shape[0]

    def __getitem__(self, selection: Any) -> Any:
        """Read the selected rows (and columns), and the chunks that hold them, only.

        Rows may be a number, a slice, a boolean mask or numbers in any order, also repeated; columns as in h5py.
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
        """Yield consecutive blocks of at most ``rows`` stimuli; at least 1."""
        if rows < 1:
            raise ValueError(f"Blocks of {rows} rows were asked for; expected 1 or more.")
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    @contextmanager
    def _opened(self) -> Iterator[h5py.Dataset]:
        with opened(self.file, "repsim-activations") as file:
            group = checked_group(self.file, checked_group(self.file, file, "layers"), self.key)
            yield _data(self.file, group)

    def _span(self, rows: Any) -> range:
        """Return the rows that a slice or a number, if it is one that there is, selects; of anything else all."""
        every = range(len(self))
        if isinstance(rows, slice):
            return every[rows]
        return every[rows : int(rows) + 1 or None] if isinstance(rows, int | np.integer) else every

    def _numbers(self, rows: Any) -> NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise IndexError(f"Rows of layer '{self.name}' are numbers or a mask of {len(self)} truth values.")
        numbers = chosen.astype(np.int64)
        if numbers.size and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"Layer '{self.name}' has rows 0 to {len(self) - 1}; others were asked for.")
        return numbers % max(len(self), 1)

    def _rows(self, data: h5py.Dataset, numbers: NDArray[np.int64], columns: tuple[Any, ...]) -> NDArray[Any]:
        """Read rows in any order, one row of chunks at a time."""
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
            if len(groups) > MOST_LAYERS:
                raise Damaged(f"{path} claims {len(groups)} layers; at most {MOST_LAYERS} are read.")
            self._layers: dict[str, Layer] = {}
            claimed = 0
            for key in sorted(map(str, groups)):
                layer, size = self._describe(groups, key)
                if layer.name in self._layers:
                    raise Damaged(f"{path} has two layers of one name.")
                self._layers[layer.name] = layer
                claimed += size
        check_expansion(path, "All layers", claimed, path.stat().st_size)

    def __repr__(self) -> str:
        """List the layers and their widths."""
        layers = ", ".join(f"{layer.name}: {layer.shape[1]}" for layer in self.values())
        return f"Activations({len(self.stimulus_ids)} stimuli; {layers})"

    def _repr_html_(self) -> str:
        """Show the layers in a notebook."""
        rows = [
            (layer.name, layer.shape[1], " × ".join(map(str, layer.feature_shape)) or 1, layer.dtype, layer.reduction)
            for layer in self.values()
        ]
        header = ["layer", "d", "feature shape", "type", "reduction"]
        return f"<b>Activations</b> of {len(self.stimulus_ids)} stimuli{table(rows, header)}"

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

    def _describe(self, groups: h5py.Group, key: str) -> tuple[Layer, int]:
        """Return a layer and the bytes that it claims to hold."""
        group = checked_group(self.path, groups, key)
        data = _data(self.path, group)

        def stated(name: str, kind: str, absent: Any = None) -> Any:
            return attribute(self.path, group, name, kind, absent=absent)

        n_rows, feature_shape = stated("n_rows", "whole number"), tuple(stated("feature_shape", "list of sizes"))
        if data.shape != (n_rows, math.prod(feature_shape)) or n_rows != len(self.stimulus_ids):
            raise Damaged(
                f"{group.name} in {self.path} has shape {data.shape}, {n_rows} rows and feature shape {feature_shape} "
                f"for {len(self.stimulus_ids)} stimuli; these do not fit together."
            )
        name = stated("name", "text")
        layer = Layer(
            file=self.path,
            key=key,
            stimulus_ids=self.stimulus_ids,
            name=name,
            shape=data.shape,
            dtype=data.dtype,
            feature_shape=feature_shape,
            source_shape=tuple(stated("source_shape", "list of sizes", list(feature_shape))),
            source_dtype=stated("source_dtype", "text"),
            reduction=stated("reduction", "text"),
            module=stated("module", "text", name),
            call_index=stated("call_index", "whole number"),
            side=stated("side", "text", "output"),
            path=stated("path", "text", ""),
        )
        return layer, claimed_bytes(data)


def _data(path: Path, group: h5py.Group) -> h5py.Dataset:
    return checked_dataset(path, group, "data", _DTYPES, 2)
