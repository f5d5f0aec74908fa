"""Tables as text: a file a layer, one row a stimulus; of an analysis its tables, and a file a dissimilarity matrix."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.export.layout import layer_file, layer_index, matrix_file, matrix_index, pairs, stimulus_columns
from analysis.export.sources import Analysis, Recorded, Recording, blocks

__all__ = ["write_analysis", "write_recording"]

_SUFFIX = ".csv"


def write_recording(recording: Recording, folder: Path, done: Callable[[str], None]) -> None:
    """Write ``layers.csv``, which lists the files, and a file a layer: stimulus_id, label, split, then d features.

    Numbers are the shortest text that reads as the same number of the recorded type; missing ones are ``nan``.
    """
    _append(folder / f"layers{_SUFFIX}", [layer_index(recording, _SUFFIX)])
    for place in recording.layers:
        path = folder / layer_file(place, _SUFFIX)
        path.parent.mkdir(exist_ok=True)
        _append(path, _frames(recording, place))
        done(place.layer.name)


def write_analysis(analysis: Analysis, folder: Path, done: Callable[[str], None]) -> None:
    """Copy the tables and write ``rdms.csv``, which lists the files, and a file a matrix, one row a pair of stimuli."""
    for path in analysis.table_paths:
        shutil.copyfile(path, folder / path.name)
    _append(folder / f"rdms{_SUFFIX}", [matrix_index(analysis, _SUFFIX)])
    for matrix in analysis.matrices:
        path = folder / matrix_file(matrix, _SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, pairs(analysis, analysis.rdm(matrix)))
        done(matrix.layer)


def _frames(recording: Recording, place: Recorded) -> Iterable[pd.DataFrame]:
    for rows, block in blocks(place.layer):
        features = pd.DataFrame(block, columns=[f"feature_{k}" for k in range(block.shape[1])])
        yield pd.concat([pd.DataFrame(stimulus_columns(recording, rows)), features], axis=1)


def _append(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        for index, frame in enumerate(frames):
            numbers = frame.select_dtypes(np.floating).columns
            shown = frame.astype(dict.fromkeys(numbers, object))  # as themselves, not as the double that is nearest
            shown.to_csv(file, index=False, header=index == 0, na_rep="nan")
