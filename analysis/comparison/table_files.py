"""Tables on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from checkpoints import Damaged

__all__ = ["read_table"]

_TEXT = (  # columns that are text also where every value looks like a number
    *("view", "view_a", "view_b", "run", "layer", "layer_a", "layer_b", "reference", "method", "rule"),
    *("status", "message", "results", "reason"),
)
# What reads every number as the nearest double: what pandas does by default since its version 3.
_EXACTLY: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}


def read_table(path: Path) -> pd.DataFrame:
    """Return a table that was written as CSV, every number as it was, to the last bit; empty cells are NaN.

    Raises
    ------
    Damaged
        If it is no such table.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""], **_EXACTLY)
    except ValueError as error:  # what pandas raises is one
        raise Damaged(f"{path} is not a table of comma-separated values ({str(error).strip()}).") from error
