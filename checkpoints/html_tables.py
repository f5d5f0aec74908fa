"""HTML tables of runs for notebooks; every name is escaped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkpoints.run import Run

__all__ = ["MOST_NUMBERS", "abbreviated", "run_as_html", "table", "value_or_error"]

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


def value_or_error(function: Callable[[], Any]) -> str:
    """Return the value of a function as text, or the message of its error if a file cannot be read."""
    try:
        return str(function())
    except (ValueError, OSError) as error:
        return str(error)


def run_as_html(run: Run) -> str:
    """Return state, steps, layers and settings of a run as HTML; unreadable values are replaced by their error."""
    values: dict[str, Callable[[], Any]] = {
        "state": lambda: run.status.get("state"),
        "steps": lambda: abbreviated(run.steps),
        "recorded steps": lambda: abbreviated(run.recorded_steps),
        "stimuli": lambda: len(run.stimuli),
    }
    try:
        last = run.last()
        layers = f"Step {last.step}: {last.activations._repr_html_()}"
    except (ValueError, OSError) as error:
        layers = escape(str(error))
    config = escape(json.dumps(run.config, indent=2))
    rows = table((name, value_or_error(value)) for name, value in values.items())
    return (
        f"<b>Run {escape(str(run.path))}</b>{rows}{layers}"
        f"<details><summary>config</summary><pre>{config}</pre></details>"
    )
