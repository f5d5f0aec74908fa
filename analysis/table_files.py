"""Tables on disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

__all__ = ["read_table"]


def read_table(path: Path) -> pd.DataFrame:
    """Return a table that was written as CSV, every number as it was, to the last bit; empty cells are NaN."""
    # this engine reads every number as Python does
    return pd.read_csv(path, engine="python", keep_default_na=False, na_values=[""])
