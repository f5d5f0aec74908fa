"""Schema of the table of probes: dtypes, reading from CSV and documentation, all derived from COLUMNS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from probes.table.columns import COLUMNS

BAR = "\\|"  # a bar in a cell of a table in Markdown


def probe_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with all columns and their dtypes, also if there are no rows or only failed ones.

    A column that a row lacks is empty there.

    Examples
    --------
    >>> probe_frame([])[["layer", "accuracy", "C_extended"]].dtypes.astype(str).tolist()
    ['str', 'float64', 'Int64']
    """
    return with_dtypes(pd.DataFrame(list(rows), columns=list(COLUMNS)))


def with_dtypes(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the dtypes of the schema; columns that are not in the schema stay as they are."""
    return table.astype({name: column.dtype for name, column in COLUMNS.items() if name in table})


def read_probe_table(path: str | Path) -> pd.DataFrame:
    """Read a table of probes from a CSV file, with the dtypes that it had when it was written.

    Parameters
    ----------
    path : str or Path
        A file that ``table.to_csv(path, index=False)`` or ``repsim compare`` has written. Columns that are not in the
        schema are read as pandas reads them.

    Raises
    ------
    ValueError
        If the file has no column of the schema.
    """
    header = pd.read_csv(path, nrows=0).columns
    known = {name: column.dtype for name, column in COLUMNS.items() if name in header}
    if not known:
        raise ValueError(f"{path} has no column of a table of probes; it has: {', '.join(header)}. Give another file.")
    empty = {name: [""] for name in header if known.get(name) != "str"}  # an empty message stays a text
    # The nearest double is what pandas reads by default since version 3.
    exactly: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}
    return pd.read_csv(path, dtype=known, keep_default_na=False, na_values=empty, **exactly)


def column_table() -> str:
    """Return the columns as a table in Markdown, for the documentation."""
    rows = []
    for name, column in COLUMNS.items():
        options = [f"`{column.option}`"] if column.option else []
        if column.stage in ("probe", "control") and len(column.kinds) == 1:
            options.append(f"{column.kinds[0]} targets")
        rows.append(f"| `{name}` | {column.dtype} | {', '.join(options)} | {column.meaning.replace('|', BAR)} |")
    return "\n".join(["| column | dtype | only with | meaning |", "|---|---|---|---|", *rows]) + "\n"
