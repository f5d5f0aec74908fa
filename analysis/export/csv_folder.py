"""Tables as text: a file a layer, one row a stimulus; of an analysis its tables, and a file a dissimilarity matrix."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.layout import layer_file, layer_index, matrix_file, matrix_index, pairs, stimulus_columns
from analysis.export.sources import Analysis, Recorded, Recording, blocks

__all__ = ["write_analysis", "write_recording"]

_SUFFIX = ".csv"
_DIGITS = {2: 5, 4: 9, 8: 17}  # that tell all numbers of so many bytes apart
_SPECIAL = re.compile(r'[",\r\n]')

Chunk = tuple[Iterable[Sequence[Any]], NDArray[Any]]  # columns of anything, then a matrix of numbers, of the same rows


def write_recording(recording: Recording, folder: Path, done: Callable[[str], None]) -> None:
    """Write ``layers.csv``, which lists the files, and a file a layer: stimulus_id, label, split, then d features.

    Numbers have the digits that it takes to read as the same numbers of the recorded type; undefined ones are ``nan``.
    """
    _write_frame(folder / f"layers{_SUFFIX}", layer_index(recording, _SUFFIX))
    for place in recording.layers:
        path = folder / layer_file(place, _SUFFIX)
        path.parent.mkdir(exist_ok=True)
        names = [f"feature_{k}" for k in range(place.layer.shape[1])]
        _write(path, ["stimulus_id", "label", "split", *names], _chunks(recording, place))
        done(place.layer.name)


def write_analysis(analysis: Analysis, folder: Path, done: Callable[[str], None]) -> None:
    """Copy the tables and write ``rdms.csv``, which lists the files, and a file a matrix, one row a pair of stimuli."""
    for path in analysis.table_paths:
        shutil.copyfile(path, folder / path.name)
    _write_frame(folder / f"rdms{_SUFFIX}", matrix_index(analysis, _SUFFIX))
    for matrix in analysis.matrices:
        path = folder / matrix_file(matrix, _SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = pairs(analysis, analysis.rdm(matrix))
        chunks = ((frame.iloc[:, :-1].T.values.tolist(), frame.iloc[:, -1:].to_numpy()) for frame in frames)
        _write(path, ["stimulus_a", "stimulus_b", "label_a", "label_b", "distance"], chunks)
        done(matrix.layer)


def _chunks(recording: Recording, place: Recorded) -> Iterable[Chunk]:
    for rows, block in blocks(place.layer):
        yield [column.tolist() for column in stimulus_columns(recording, rows).values()], block


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    _write(path, list(map(str, frame)), [([frame[name].tolist() for name in frame], np.empty((len(frame), 0)))])


def _write(path: Path, header: Sequence[str], chunks: Iterable[Chunk]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(",".join(map(_field, header)) + "\n")
        for columns, numbers in chunks:
            template = f",%.{_DIGITS[numbers.dtype.itemsize]}g" * numbers.shape[1] + "\n"
            for cells, row in zip(zip(*columns, strict=True), numbers.tolist(), strict=True):
                file.write(",".join(map(_field, cells)) + template % tuple(row))


def _field(value: Any) -> str:
    """Return a value as a cell, in quotes where it would end the cell."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text
