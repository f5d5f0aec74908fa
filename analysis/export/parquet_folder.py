"""Tables of Apache Parquet: a file a layer, whose activations are one column of lists of equal length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from analysis.export.layout import layer_file, layer_index, matrix_file, matrix_index, pairs, stimulus_columns
from analysis.export.sources import Analysis, Recorded, Recording, blocks

__all__ = ["write_analysis", "write_recording"]

_SUFFIX = ".parquet"


def write_recording(recording: Recording, folder: Path, done: Callable[[str], None]) -> None:
    """Write ``layers.parquet``, which lists the files, and a file a layer.

    Its columns are stimulus_id, label, split and activation, a list of d numbers of the recorded type.
    """
    _write(folder / f"layers{_SUFFIX}", [_table(layer_index(recording, _SUFFIX))])
    for place in recording.layers:
        path = folder / layer_file(place, _SUFFIX)
        path.parent.mkdir(exist_ok=True)
        _write(path, _tables(recording, place))
        done(place.layer.name)


def write_analysis(analysis: Analysis, folder: Path, done: Callable[[str], None]) -> None:
    """Write the tables and ``rdms.parquet``, which lists the files, and a file a matrix, one row a pair of stimuli."""
    for name, table in analysis.tables().items():
        _write(folder / f"{name}{_SUFFIX}", [_table(table)])
    _write(folder / f"rdms{_SUFFIX}", [_table(matrix_index(analysis, _SUFFIX))])
    for matrix in analysis.matrices:
        path = folder / matrix_file(matrix, _SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, map(_table, pairs(analysis, analysis.rdm(matrix))))
        done(matrix.layer)


def _tables(recording: Recording, place: Recorded) -> Iterable[Any]:
    import pyarrow as pa

    for rows, block in blocks(place.layer):
        flat = pa.array(np.ascontiguousarray(block).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, block.shape[1])
        yield pa.table({**stimulus_columns(recording, rows), "activation": lists})


def _table(frame: Any) -> Any:
    """Return a data frame as a table of pyarrow; text that is missing throughout is text all the same."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def _write(path: Path, tables: Iterable[Any]) -> None:
    """Write tables of one schema, a row group each."""
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
