"""What a notebook shows of a run: tables, in which every name is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["MOST_NUMBERS", "few", "or_why", "table"]

MOST_NUMBERS = 12


def table(rows: Iterable[Iterable[Any]], header: Iterable[str] = ()) -> str:
    """Return a table whose cells are escaped.

    Examples
    --------
    >>> table([("<b>", 1)])
    '<table><tr><td>&lt;b&gt;</td><td>1</td></tr></table>'
    """
    head = "".join(f"<th>{escape(str(name))}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def few(numbers: Sequence[int]) -> str:
    """Return numbers as text, the first and the last of many.

    Examples
    --------
    >>> few([1, 5]), few(range(100))
    ('1, 5', '0, 1, 2 … 99 (100)')
    """
    if len(numbers) <= MOST_NUMBERS:
        return ", ".join(map(str, numbers)) or "none"
    return f"{', '.join(map(str, numbers[:3]))} … {numbers[-1]} ({len(numbers)})"


def or_why(fact: Callable[[], Any]) -> str:
    """Return a fact, or the sentence that says why it cannot be read: a notebook shows what there is."""
    try:
        return str(fact())
    except (ValueError, OSError) as error:
        return str(error)
