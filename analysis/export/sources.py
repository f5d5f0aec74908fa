"""Sources of an export: recorded activations of a run, or tables and dissimilarity matrices of an analysis."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.tables.schema import read_table, read_table_blocks
from analysis.comparison.tasks.rdm_file import RDM_FILE, dataset_name, layer_name
from analysis.comparison.view import View
from analysis.config.recorded_steps import choose_recorded_steps
from checkpoints import Damaged, Layer, Run, Stimuli
from checkpoints.name_patterns import choose_names
from checkpoints.storage.regular_files import is_system_file

__all__ = [
    "ExportedAnalysis",
    "ExportedLayer",
    "ExportedMatrix",
    "ExportedRun",
    "ExportedView",
    "blocks",
    "open_source",
    "rows_of_a_block",
]

_BLOCK_BYTES = 16 * 2**20
_TABLE_ROWS = 2**17  # in a block of a table


class ExportedLayer(NamedTuple):
    """One layer at one step; depth is its position among the recorded layers, from 1."""

    step: int
    depth: int
    layer: Layer


@dataclass(frozen=True)
class ExportedRun:
    """The chosen layers of a run at the chosen steps, in order of steps, then of the network.

    ``content`` says what their values are: "activations", or "gradients".
    """

    run: Run
    layers: tuple[ExportedLayer, ...]
    content: str = "activations"

    @property
    def stimuli(self) -> Stimuli:
        """Row i of every layer belongs to stimulus i."""
        return self.run.stimuli

    @property
    def stimulus_columns(self) -> dict[str, NDArray[Any]]:
        """What is known of the stimuli, by column: id, label, split and, if there are any, class, groups and targets.

        Targets are called ``target.NAME``.
        """
        stimuli = self.run.stimuli
        named = View("", self.run, 0).classes
        columns = {"stimulus_id": stimuli.ids, "label": stimuli.labels, "split": stimuli.split}
        if any(name != str(label) for label, name in named.items()):
            columns["class"] = np.array([named[label] for label in stimuli.labels.tolist()])
        optional = {"group": stimuli.groups, "position": stimuli.positions}
        columns |= {name: values for name, values in optional.items() if values is not None}
        return {**columns, **{f"target.{name}": values for name, values in stimuli.targets.items()}}

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps, ascending."""
        return tuple(dict.fromkeys(each.step for each in self.layers))

    def __len__(self) -> int:
        """Return the number of layers over all steps."""
        return len(self.layers)


class ExportedView(NamedTuple):
    """One network at one step in ``rdm.h5``: the name of its group, its label, and its layers in order."""

    key: str
    label: str
    step: int
    layers: tuple[str, ...]


class ExportedMatrix(NamedTuple):
    """The place of one dissimilarity matrix."""

    view: ExportedView
    depth: int
    layer: str


@dataclass(frozen=True)
class ExportedAnalysis:
    """The folder that ``repsim analyze`` or ``repsim compare`` wrote."""

    folder: Path
    method: str
    stimulus_ids: NDArray[Any]
    labels: NDArray[np.int64]
    views: tuple[ExportedView, ...]

    @property
    def matrices(self) -> tuple[ExportedMatrix, ...]:
        """The places of the dissimilarity matrices, view by view."""
        return tuple(
            ExportedMatrix(view, depth, layer)
            for view in self.views
            for depth, layer in enumerate(view.layers, start=1)
        )

    @property
    def table_paths(self) -> tuple[Path, ...]:
        """The files of the tables."""
        return tuple(sorted(path for path in self.folder.glob("*.csv") if not is_system_file(path.name)))

    def __len__(self) -> int:
        """Return the number of dissimilarity matrices."""
        return len(self.matrices)

    def rdm(self, matrix: ExportedMatrix) -> NDArray[Any]:
        """Return a condensed dissimilarity matrix, (n(n-1)/2,), as it is stored."""
        path, n = self.folder / RDM_FILE, len(self.stimulus_ids)
        with h5py.File(path, "r") as file:
            values = np.asarray(file[matrix.view.key][dataset_name(matrix.layer)][()])
        if values.shape != (n * (n - 1) // 2,):
            raise Damaged(f"The RDM of '{matrix.layer}' in {path} has shape {values.shape}; there are {n} stimuli.")
        return values

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables by name. Text stays text, also where it looks like a number or a missing value."""
        return {path.stem: read_table(path) for path in self.table_paths}

    def table_blocks(self) -> Iterator[tuple[str, Iterator[pd.DataFrame]]]:
        """Yield the name of each table, and its rows in blocks whose columns have the same dtypes in all of them."""
        for path in self.table_paths:
            yield path.stem, _uniform_blocks(path)


def open_source(
    path: str | Path,
    steps: str | None = None,
    layers: Sequence[str] | None = None,
    *,
    gradients: bool = False,
    needs_layers: bool = True,
) -> ExportedRun | ExportedAnalysis:
    """Open a run or an analysis for export, after checking that it can be read.

    By default the last step and all layers of a run are exported; with ``gradients``, the recorded gradients in place
    of the activations. Unless layers are needed, a run that has not recorded any may be exported without them.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is neither a run nor an analysis at {path}.")
    if (path / "run.json").exists() or path.is_file():
        run, content = Run.open(path), "gradients" if gradients else "activations"
        if not (needs_layers or steps or layers or gradients or run.recorded_steps):
            return ExportedRun(run, (), content)
        return _recording(run, steps or "last", layers, content)
    if not (path / RDM_FILE).is_file():
        raise FileNotFoundError(
            f"{path} is neither a run (it has no run.json) nor an analysis (it has no {RDM_FILE}). Give the directory "
            "of a run, or the folder that repsim analyze or repsim compare wrote."
        )
    options = {"--steps": steps is not None, "--layers": bool(layers), "--gradients": gradients}
    if option := next((name for name, is_given in options.items() if is_given), None):
        raise ValueError(f"{path} is an analysis, and {option} belongs to a run. Leave it out, or give a run.")
    return _analysis(path)


def blocks(layer: Layer, multiple: int = 1) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the layer in blocks of about 16 MiB with their slices of rows; heights are multiples of ``multiple``."""
    rows = rows_of_a_block(layer, multiple)
    for index, block in enumerate(layer.blocks(rows)):
        yield slice(index * rows, index * rows + len(block)), block


def rows_of_a_block(layer: Layer, multiple: int = 1) -> int:
    """Return the height of the blocks of a layer; the last one may have fewer rows."""
    fitting = _BLOCK_BYTES // max(1, layer.shape[1] * layer.dtype.itemsize)
    return max(1, fitting // multiple) * multiple


# Tables


def _uniform_blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Yield a table in blocks. If there are several, all are read once before, as dtypes follow from all rows."""
    first, *more = itertools.islice(read_table_blocks(path, _TABLE_ROWS), 2)
    if not more:
        yield first
        return
    kinds: dict[str, set[str]] = defaultdict(set)
    for block in read_table_blocks(path, _TABLE_ROWS):
        for name in map(str, block):
            kinds[name] |= _kinds(block[name])
    yield from read_table_blocks(path, _TABLE_ROWS, {name: _dtype(kinds[name]) for name in kinds})


def _kinds(column: pd.Series) -> set[str]:
    """Return what a part of a column holds: "missing", and "integer", "floating", "boolean" or text."""
    missing = {"missing"} if column.isna().any() else set()
    return missing | ({pd.api.types.infer_dtype(column, skipna=True)} if column.notna().any() else set())


def _dtype(kinds: set[str]) -> Any:
    """Return the dtype that holds a column of such parts, as pandas would infer it from all rows."""
    found = kinds - {"missing"}
    if found == {"boolean"}:
        return "boolean" if "missing" in kinds else "bool"
    if found <= {"integer", "floating"}:
        return "int64" if kinds == {"integer"} else "float64"
    return str


# Runs


def _recording(run: Run, steps: str, patterns: Sequence[str] | None, content: str) -> ExportedRun:
    run.last()  # raises if nothing was recorded
    chosen: list[ExportedLayer] = []
    for step in choose_recorded_steps(steps, run.recorded_steps):
        checkpoint = run[step]
        checkpoint.verify("sha256")
        recorded = checkpoint.gradients if content == "gradients" else checkpoint.activations
        if not np.array_equal(recorded.stimulus_ids, run.stimuli.ids):
            raise Damaged(f"{recorded.path} and stimuli.h5 of its run hold different stimuli.")
        wanted = choose_names(list(recorded), patterns or ["**"])
        places = enumerate(recorded.values(), start=1)
        chosen += [ExportedLayer(step, depth, layer) for depth, layer in places if layer.name in wanted]
    return ExportedRun(run, tuple(chosen), content)


# Analyses


def _analysis(folder: Path) -> ExportedAnalysis:
    path = folder / RDM_FILE
    try:
        with h5py.File(path, "r") as file:
            if (file.attrs.get("format"), file.attrs.get("format_version")) != ("repsim-rdms", 1):
                raise Damaged(f"{path} is not a file of dissimilarity matrices of format version 1.")
            order = _order_of_layers(folder)
            views = tuple(_view(file[key], order) for key in sorted(file) if "view" in file[key].attrs)
            ids = np.char.decode(file["stimulus_id"][()], "utf-8")
            return ExportedAnalysis(folder, str(file.attrs["method"]), ids, file["label"][()].astype(np.int64), views)
    except Damaged:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{path} cannot be read ({error}). Run repsim analyze again.") from error


def _view(group: h5py.Group, order: Mapping[tuple[str, str], int]) -> ExportedView:
    """Return the view that a group of ``rdm.h5`` holds."""
    label = str(group.attrs["view"])
    if nested := [name for name, item in group.items() if isinstance(item, h5py.Group)]:
        raise Damaged(
            f"{group.file.filename} has the group {nested[0]!r} in place of a matrix, as earlier versions wrote layers "
            "with a slash in their names. Run repsim analyze again."
        )
    names = map(layer_name, group)
    layers = sorted(names, key=lambda name: (order.get((label, name), len(order)), _numbers_as_such(name)))
    return ExportedView(group.name.strip("/"), label, int(group.attrs["step"]), tuple(layers))


def _order_of_layers(folder: Path) -> dict[tuple[str, str], int]:
    """Return the depth of the layers of each view; HDF5 lists them by name only."""
    path = folder / "class_structure.csv"
    if not path.is_file():
        return {}
    table = read_table(path)
    if not {"view", "layer", "depth"} <= set(table):
        return {}
    return {(str(row.view), str(row.layer)): int(str(row.depth)) for row in table.itertuples()}


def _numbers_as_such(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
