"""Folders of a format: one file per layer or matrix, with an index, and tables of stimuli and pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.sources import ExportedAnalysis, ExportedLayer, ExportedMatrix, ExportedRun

__all__ = ["FolderFormat", "digits_of", "layer_file", "pair_ends", "safe_name", "stimulus_columns"]

_LONGEST_NAME = 80
_PAIRS_AT_ONCE = 2**18
_DIGITS = {2: 5, 4: 9, 8: 17}  # that distinguish all numbers of so many bytes


@dataclass(frozen=True, kw_only=True)
class FolderFormat:
    """A format of one file per table.

    ``write_layer`` writes a layer of a run in blocks of rows, ``write_pairs`` a table whose rows come in several
    frames, ``write_tables`` the tables of an analysis.
    """

    suffix: str
    write_table: Callable[[Path, pd.DataFrame], None]
    write_layer: Callable[[Path, ExportedRun, ExportedLayer], None]
    write_pairs: Callable[[Path, Iterator[pd.DataFrame]], None]
    write_tables: Callable[[ExportedAnalysis, Path], None]

    def write_recording(self, run: ExportedRun, folder: Path, done: Callable[[str], None]) -> None:
        """Write the table ``layers``, which lists the files, and one file per layer."""
        self.write_table(folder / f"layers{self.suffix}", _layer_index(run, self.suffix))
        for each in run.layers:
            path = folder / layer_file(each, self.suffix)
            path.parent.mkdir(exist_ok=True)
            self.write_layer(path, run, each)
            done(each.layer.name)

    def write_analysis(self, analysis: ExportedAnalysis, folder: Path, done: Callable[[str], None]) -> None:
        """Write the tables, ``rdms``, which lists the files, and one file per matrix, one row per pair of stimuli."""
        self.write_tables(analysis, folder)
        self.write_table(folder / f"rdms{self.suffix}", _matrix_index(analysis, self.suffix))
        for matrix in analysis.matrices:
            path = folder / _matrix_file(matrix, self.suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write_pairs(path, _pairs(analysis, analysis.rdm(matrix)))
            done(matrix.layer)


def stimulus_columns(run: ExportedRun, rows: slice) -> dict[str, Any]:
    """Return the columns about some stimuli, by the name of the column; texts are Python objects."""
    columns = ((name, values[rows]) for name, values in run.stimulus_columns.items())
    return {name: each.astype(object) if each.dtype.kind == "U" else each for name, each in columns}


def layer_file(each: ExportedLayer, suffix: str) -> str:
    """Return the path of a layer's file, such as ``step_00000038/01_hidden.1.csv``."""
    return f"step_{each.step:08d}/{each.depth:02d}_{safe_name(each.layer.name)}{suffix}"


def _matrix_file(matrix: ExportedMatrix, suffix: str) -> str:
    """Return the path of a matrix's file, such as ``rdm/0000/01_hidden.1.csv``; 0000 is the position of the view."""
    return f"rdm/{matrix.view.key}/{matrix.depth:02d}_{safe_name(matrix.layer)}{suffix}"


def safe_name(name: str) -> str:
    """Return a name as part of a file name on any system; it is never a path.

    Examples
    --------
    >>> safe_name("block/1.conv[0]")
    'block_1.conv_0_'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST_NAME]


def _layer_index(run: ExportedRun, suffix: str) -> pd.DataFrame:
    """Return one row per file of a run: step, layer, and how the layer was recorded."""
    return pd.DataFrame(
        [
            {
                "step": each.step,
                "layer": each.layer.name,
                "depth": each.depth,
                "d": each.layer.shape[1],
                "feature_shape": "x".join(map(str, each.layer.feature_shape)),
                "dtype": str(each.layer.dtype),
                "reduction": each.layer.reduction,
                "file": layer_file(each, suffix),
            }
            for each in run.layers
        ]
    )


def _matrix_index(analysis: ExportedAnalysis, suffix: str) -> pd.DataFrame:
    """Return one row per file of dissimilarities: view, layer and distance."""
    return pd.DataFrame(
        [
            {
                "view": matrix.view.label,
                "step": matrix.view.step,
                "layer": matrix.layer,
                "depth": matrix.depth,
                "distance": analysis.method,
                "file": _matrix_file(matrix, suffix),
            }
            for matrix in analysis.matrices
        ],
        columns=["view", "step", "layer", "depth", "distance", "file"],
    )


def _pairs(analysis: ExportedAnalysis, rdm: NDArray[Any]) -> Iterator[pd.DataFrame]:
    """Yield a condensed matrix as blocks of a table with one row per pair of stimuli."""
    n = len(analysis.stimulus_ids)
    for start in range(0, len(rdm), _PAIRS_AT_ONCE):
        positions = np.arange(start, min(start + _PAIRS_AT_ONCE, len(rdm)))
        i, j = pair_ends(positions, n)
        ids, labels = analysis.stimulus_ids.astype(object), analysis.labels
        yield pd.DataFrame(
            {
                "stimulus_a": ids[i],
                "stimulus_b": ids[j],
                "label_a": labels[i],
                "label_b": labels[j],
                "distance": rdm[positions],
            }
        )


def pair_ends(positions: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the two stimuli of pairs, given by their positions in the condensed matrix of n stimuli.

    Examples
    --------
    >>> i, j = pair_ends(np.arange(3), 3)
    >>> i.tolist(), j.tolist()
    ([0, 0, 1], [1, 2, 2])
    """
    ends = np.cumsum(np.arange(n - 1, -1, -1))  # of the rows of the upper triangle
    i = np.searchsorted(ends, positions, side="right")
    return i, positions - ends[i] + n


def digits_of(dtype: np.dtype[Any]) -> str:
    """Return the format of a number with as many digits as distinguish all numbers of a type.

    Examples
    --------
    >>> digits_of(np.dtype("float32"))
    '%.9g'
    """
    return f"%.{_DIGITS[dtype.itemsize]}g"
