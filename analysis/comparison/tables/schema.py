"""Registry of the tables of a comparison, and their CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.comparison.tables.arm_tables import ARMS, ATTRIBUTION, SIMILARITY_TESTS
from analysis.comparison.tables.comparison_table import ComparisonTable
from analysis.comparison.tables.layer_tables import CLASS_STRUCTURE, RDM_SIMILARITY, SIMILARITY, UNDEFINED
from analysis.comparison.tables.probe_tables import FIRST_LAYERS, PROBE_BANDS, PROBE_DIFFERENCES, PROBES
from analysis.comparison.tables.quantity_table import LAYER_QUANTITIES
from analysis.comparison.tables.run_tables import GRADIENTS, TRAINING
from analysis.comparison.tables.signal_table import SIGNALS
from analysis.own_parts.registries import KINDS
from checkpoints import Damaged
from repsim.registration import add_installed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "document_tables", "read_table", "read_table_blocks"]

TABLES: dict[str, ComparisonTable] = {
    "arms": ARMS,
    "attribution": ATTRIBUTION,
    "similarity_tests": SIMILARITY_TESTS,
    "probes": PROBES,
    "probe_bands": PROBE_BANDS,
    "probe_differences": PROBE_DIFFERENCES,
    "first_layers": FIRST_LAYERS,
    "class_structure": CLASS_STRUCTURE,
    "rdm_similarity": RDM_SIMILARITY,
    "similarity": SIMILARITY,
    "layer_quantities": LAYER_QUANTITIES,
    "undefined": UNDEFINED,
    "training": TRAINING,
    "gradients": GRADIENTS,
    "signals": SIGNALS,
}
add_installed(KINDS["tables"])


def read_table(path: Path) -> pd.DataFrame:
    """Return a table that was written as CSV, with exactly the written numbers; empty cells are NaN.

    Columns that are text in ``TABLES`` are read as text.
    """
    return next(read_table_blocks(path, rows=None))


def read_table_blocks(
    path: Path, rows: int | None = 2**17, dtypes: Mapping[str, Any] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield a table that was written as CSV in blocks of rows, one or more; else as ``read_table``.

    Columns in ``dtypes`` are read with these dtypes. Without them, a column may have different dtypes in two blocks.
    """
    import pandas as pd

    texts = {name: str for table in TABLES.values() for name, column in table.columns.items() if column.is_text}
    # The nearest double is what pandas reads by default since version 3.
    exactly: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}
    given = {"dtype": texts | dict(dtypes or {}), "keep_default_na": False, "na_values": [""], **exactly}
    try:
        if rows is None:
            yield pd.read_csv(path, **given)
            return
        with pd.read_csv(path, chunksize=rows, **given) as blocks:
            yield from blocks
    except ValueError as error:  # the base class of what pandas raises
        raise Damaged(f"{path} is not a table of comma-separated values ({str(error).strip()}).") from error


def document_tables() -> str:
    """Return a section of Markdown for each table: what one row is, and a list of the columns."""
    from probes.table.columns import COLUMNS  # imports torch, which reading needs not

    sections = []
    for name, table in TABLES.items():
        rows = [
            f"| `{column}` | {described.meaning or COLUMNS[column].meaning} |"
            for column, described in table.columns.items()
        ]
        rest = [f"\nFurther columns: {table.rest}."] if table.rest else []
        head = [f"## {name}.csv\n", f"One row is {table.row}.\n", "| column | meaning |", "|---|---|"]
        sections.append("\n".join([*head, *rows, *rest]) + "\n")
    return "\n".join(sections)
