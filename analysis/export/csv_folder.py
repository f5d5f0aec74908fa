"""CSV files: columns of the stimuli and d features of each layer; of an analysis its tables, and pairs of stimuli.

Numbers have as many digits as it takes to read them back exactly; undefined ones are ``nan``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.layout import FolderFormat, digits_of, stimulus_columns
from analysis.export.sources import ExportedAnalysis, ExportedLayer, ExportedRun, blocks

__all__ = ["CSV"]

_SPECIAL = re.compile(r'[",\r\n]')

Chunk = tuple[Iterable[Sequence[Any]], NDArray[Any]]  # columns of anything, then a matrix of numbers, of the same rows


def _copy_tables(analysis: ExportedAnalysis, folder: Path) -> None:
    for path in analysis.table_paths:
        shutil.copyfile(path, folder / path.name)


def _write_layer(path: Path, run: ExportedRun, each: ExportedLayer) -> None:
    names = [f"feature_{k}" for k in range(each.layer.shape[1])]
    chunks = (
        ([column.tolist() for column in stimulus_columns(run, rows).values()], block)
        for rows, block in blocks(each.layer)
    )
    _write(path, [*run.stimulus_columns, *names], chunks)


def _write_pairs(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    chunks = ((frame.iloc[:, :-1].T.values.tolist(), frame.iloc[:, -1:].to_numpy()) for frame in frames)
    _write(path, ["stimulus_a", "stimulus_b", "label_a", "label_b", "distance"], chunks)


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    _write(path, list(map(str, frame)), [([frame[name].tolist() for name in frame], np.empty((len(frame), 0)))])


def _write(path: Path, header: Sequence[str], chunks: Iterable[Chunk]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        file.write(",".join(map(_field, header)) + "\n")
        for columns, numbers in chunks:
            template = f",{digits_of(numbers.dtype)}" * numbers.shape[1] + "\n"
            for cells, row in zip(zip(*columns, strict=True), numbers.tolist(), strict=True):
                file.write(",".join(map(_field, cells)) + template % tuple(row))


def _field(value: Any) -> str:
    """Return a value as a cell, in quotes if it contains a character that ends a cell."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


CSV = FolderFormat(
    suffix=".csv",
    write_table=_write_table,
    write_layer=_write_layer,
    write_pairs=_write_pairs,
    write_tables=_copy_tables,
)
