"""Apache Parquet files: columns of the stimuli and activation (or gradient), a list of d numbers, of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.export.layout import FolderFormat, stimulus_columns
from analysis.export.sources import ExportedAnalysis, ExportedLayer, ExportedRun, blocks

__all__ = ["PARQUET"]


def _write_tables(analysis: ExportedAnalysis, folder: Path) -> None:
    for name, frames in analysis.table_blocks():
        _write(folder / f"{name}.parquet", map(_table, frames))


def _write_layer(path: Path, run: ExportedRun, each: ExportedLayer) -> None:
    import pyarrow as pa

    def tables() -> Iterator[Any]:
        for rows, block in blocks(each.layer):
            flat = pa.array(np.ascontiguousarray(block).reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(flat, block.shape[1])
            yield pa.table({**stimulus_columns(run, rows), run.content.removesuffix("s"): lists})

    _write(path, tables())


def _write_pairs(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    _write(path, map(_table, frames))


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    _write(path, [_table(frame)])


def _table(frame: pd.DataFrame) -> Any:
    """Return a data frame as a table of pyarrow; a column of text without any value stays text."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def _write(path: Path, tables: Iterable[Any]) -> None:
    """Write tables of one schema, one row group each."""
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


PARQUET = FolderFormat(
    suffix=".parquet",
    write_table=_write_table,
    write_layer=_write_layer,
    write_pairs=_write_pairs,
    write_tables=_write_tables,
)
