"""Zarr stores that xarray opens as labelled data sets: activations by step, dissimilarity matrices, and tables.

Layers and matrices are written in blocks, one chunk each. The store is of Zarr format 2, which all readers know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.analysis_plan import read_outcome
from analysis.comparison.tasks.rdm_file import dataset_name
from analysis.comparison.view import as_text
from analysis.export.layout import pair_ends
from analysis.export.sources import ExportedAnalysis, ExportedLayer, ExportedRun, blocks, rows_of_a_block

__all__ = ["write_analysis", "write_recording"]

_PAIRS = 2**22  # in a chunk
_KEYS = ("view", "run", "step", "layer", "depth", "view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b")


def write_recording(run: ExportedRun, folder: Path, done: Callable[[str], None]) -> None:
    """Write one variable per layer, (step, stimulus, feature), with the columns of the stimuli as coordinates.

    A layer that was not recorded at a step is NaN there.
    """
    root = _Group.create(folder, {"content": run.content})
    columns = {"stimulus" if name == "stimulus_id" else name: each for name, each in run.stimulus_columns.items()}
    for name, values in columns.items():
        root.put(dataset_name(name), ["stimulus"], values)
    root.put("step", ["step"], np.array(run.steps, dtype=np.int64))
    root.put("run", [], np.array(as_text(run.run.path.absolute())))
    root.declare_coordinates([*map(dataset_name, columns), "step", "run"])
    for name in dict.fromkeys(each.layer.name for each in run.layers):
        _write_layer(root, run, [each for each in run.layers if each.layer.name == name], done)
    root.consolidate()


def _write_layer(root: _Group, run: ExportedRun, places: Sequence[ExportedLayer], done: Callable[[str], None]) -> None:
    """Write one layer at all its steps."""
    first = places[0]
    for other in places:
        if other.layer.shape[1] != first.layer.shape[1]:
            raise ValueError(
                f"Layer '{first.layer.name}' has {first.layer.shape[1]} features at step {first.step} and "
                f"{other.layer.shape[1]} at step {other.step}, which one variable cannot hold. Export these steps one "
                "by one, with --steps."
            )
    name, (n, d) = dataset_name(first.layer.name), first.layer.shape
    dtype = np.result_type(*(each.layer.dtype for each in places))
    shape, chunks = (len(run.steps), n, d), (1, min(n, rows_of_a_block(first.layer)), d)
    about = {"layer": first.layer.name, "depth": first.depth, "reduction": first.layer.reduction}
    about["feature_shape"] = list(first.layer.feature_shape)
    dimensions = ["step", "stimulus", f"feature.{name}"]
    array = root.array(f"{run.content}.{name}", dimensions, shape, chunks, dtype, **about)
    for each in places:
        for rows, block in blocks(each.layer):
            array[run.steps.index(each.step), rows] = block
        done(each.layer.name)


def write_analysis(analysis: ExportedAnalysis, folder: Path, done: Callable[[str], None]) -> None:
    """Write ``rdm``, (view, layer, pair), with its coordinates, and each table as a group ``tables/NAME``, (row).

    A layer that a view lacks is NaN there.
    """
    views, layers = analysis.views, list(dict.fromkeys(matrix.layer for matrix in analysis.matrices))
    root, n = _Group.create(folder, {"distance": analysis.method}), len(analysis.stimulus_ids)
    outcome = read_outcome(analysis.folder) or {}
    run_of = {each["label"]: each["run"] for each in outcome.get("views", [])}
    root.put("view", ["view"], np.array([view.label for view in views], dtype=object))
    root.put("run", ["view"], np.array([run_of.get(view.label, "") for view in views], dtype=object))
    root.put("step", ["view"], np.array([view.step for view in views], dtype=np.int64))
    root.put("layer", ["layer"], np.array(layers, dtype=object))
    root.put("stimulus", ["stimulus"], analysis.stimulus_ids)
    root.put("label", ["stimulus"], analysis.labels)
    _write_pair_ends(root, n)
    names = ["view", "run", "step", "layer", "stimulus", "label", "stimulus_a", "stimulus_b"]
    root.declare_coordinates(names)
    _write_matrices(root, analysis, layers, done)
    for name, frames in analysis.table_blocks():
        _write_table(root.child(f"tables/{name}"), frames)
    root.consolidate()


def _write_pair_ends(root: _Group, n: int) -> None:
    """Write the positions of the two stimuli of each pair."""
    n_pairs = n * (n - 1) // 2
    chunks, meaning = (max(1, min(n_pairs, _PAIRS)),), "position along the dimension stimulus"
    ends = [
        root.array(name, ["pair"], (n_pairs,), chunks, np.dtype(np.int32), meaning=meaning)
        for name in ("stimulus_a", "stimulus_b")
    ]
    for start in range(0, n_pairs, _PAIRS):
        stop = min(start + _PAIRS, n_pairs)
        for array, values in zip(ends, pair_ends(np.arange(start, stop), n), strict=True):
            array[start:stop] = values.astype(np.int32)


def _write_matrices(
    root: _Group, analysis: ExportedAnalysis, layers: Sequence[str], done: Callable[[str], None]
) -> None:
    array: Any = None
    for matrix in analysis.matrices:
        rdm = analysis.rdm(matrix)
        if array is None:
            shape, chunks = (len(analysis.views), len(layers), len(rdm)), (1, 1, max(1, min(len(rdm), _PAIRS)))
            array = root.array("rdm", ["view", "layer", "pair"], shape, chunks, rdm.dtype)
        array[analysis.views.index(matrix.view), layers.index(matrix.layer)] = rdm
        done(matrix.layer)


def _write_table(group: _Group, frames: Iterable[pd.DataFrame]) -> None:
    """Write one variable per column, extended block by block. Empty cells are NaN, or empty text."""
    arrays: dict[str, Any] = {}
    for frame in frames:
        for name in map(str, frame):
            values = _column(frame[name])
            if name not in arrays:
                arrays[name] = group.array(dataset_name(name), ["row"], (0,), (max(1, len(frame)),), values.dtype)
            arrays[name].append(values)
    group.declare_coordinates([name for name in _KEYS if name in arrays])


def _column(column: pd.Series) -> NDArray[Any]:
    """Return a column as numbers or text; truth values of which some are missing become 1, 0 and NaN."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean" and column.isna().any():
        return column.astype("boolean").astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_numeric_dtype(column) or kind == "boolean":
        return column.to_numpy(dtype=bool if kind == "boolean" else None)
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)


class _Group:
    """A group of a store, whose arrays have named dimensions."""

    def __init__(self, group: Any) -> None:
        self._group = group

    @classmethod
    def create(cls, folder: Path, attributes: dict[str, Any]) -> _Group:
        """Create the store in an empty folder."""
        import zarr

        return cls(zarr.create_group(folder, zarr_format=2, attributes=attributes))

    def child(self, path: str) -> _Group:
        """Create a group inside of this one."""
        return _Group(self._group.create_group(path))

    def array(
        self,
        name: str,
        dimensions: Sequence[str],
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: Any,
        **attributes: Any,
    ) -> Any:
        """Create an array to be filled; missing numbers are NaN, others have no value that stands for missing."""
        is_text = np.dtype(dtype).kind in "OU"
        return self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=str if is_text else dtype,
            fill_value=np.nan if np.dtype(dtype).kind == "f" else None,
            attributes={"_ARRAY_DIMENSIONS": list(dimensions), **attributes},
        )

    def put(self, name: str, dimensions: Sequence[str], values: NDArray[Any]) -> None:
        """Write a whole array."""
        array = self.array(name, dimensions, values.shape, tuple(max(1, size) for size in values.shape), values.dtype)
        array[...] = values.astype(object) if values.dtype.kind == "U" else values

    def declare_coordinates(self, names: Sequence[str]) -> None:
        """Mark arrays as coordinates, except those whose names have spaces, which a list of names cannot hold."""
        self._group.attrs["coordinates"] = " ".join(name for name in names if not re.search(r"\s", name))

    def consolidate(self) -> None:
        """Collect the descriptions of all arrays in one file, so that the store opens fast."""
        import zarr

        zarr.consolidate_metadata(self._group.store)
