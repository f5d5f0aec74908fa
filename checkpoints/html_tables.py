"""HTML tables of runs for notebooks; every name is escaped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["MOST_NUMBERS", "abbreviated", "run_as_html", "table"]

MOST_NUMBERS = 12


def table(rows: Iterable[Iterable[Any]], header: Iterable[str] = ()) -> str:
    """Return an HTML table with escaped cells.

    Examples
    --------
    >>> table([("<b>", 1)])
    '<table><tr><td>&lt;b&gt;</td><td>1</td></tr></table>'
    """
    head = "".join(f"<th>{escape(str(name))}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def abbreviated(numbers: Sequence[int]) -> str:
    """Return numbers as text, abbreviated to the first and the last if there are many.

    Examples
    --------
    >>> abbreviated([1, 5]), abbreviated(range(100))
    ('1, 5', '0, 1, 2 … 99 (100)')
    """
    if len(numbers) <= MOST_NUMBERS:
        return ", ".join(map(str, numbers)) or "none"
    return f"{', '.join(map(str, numbers[:3]))} … {numbers[-1]} ({len(numbers)})"


def run_as_html(
    path: Path, values: Mapping[str, Callable[[], Any]], layers: Callable[[], str], config: Mapping[str, Any]
) -> str:
    """Return values, layers and settings of a run as HTML; what cannot be read is replaced by its error.

    ``layers`` returns HTML.
    """
    rows = table((name, _value_or_error(value)) for name, value in values.items())
    try:
        shown = layers()
    except (ValueError, OSError) as error:
        shown = escape(str(error))
    settings = escape(json.dumps(config, indent=2))
    return (
        f"<b>Run {escape(str(path))}</b>{rows}{shown}<details><summary>config</summary><pre>{settings}</pre></details>"
    )


def _value_or_error(value: Callable[[], Any]) -> str:
    try:
        return str(value())
    except (ValueError, OSError) as error:
        return str(error)
