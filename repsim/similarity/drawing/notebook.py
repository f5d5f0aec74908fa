"""HTML of results for notebooks: a title and a table, with all names escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["titled"]

_MOST = 30


def titled(title: str, frame: pd.DataFrame, *, index: bool = False) -> str:
    """Return a title and a table of at most 30 rows and columns."""
    table = frame.to_html(index=index, escape=True, max_rows=_MOST, max_cols=_MOST, float_format="{:.4g}".format)
    return f"<b>{escape(title)}</b>{table}"
