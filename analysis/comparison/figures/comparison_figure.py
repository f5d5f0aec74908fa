"""A figure of a comparison: its heading, caption and drawing, also as registered by a user."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES

__all__ = ["ComparisonFigure", "own_figure"]


@dataclass(frozen=True, kw_only=True)
class ComparisonFigure:
    """A figure that is drawn from the tables of a comparison.

    Attributes
    ----------
    heading : str
    table : str
        Table that the figure shows, which the report offers as CSV: a key of ``TABLES`` or ``"rdm"``.
    caption : callable (tables) -> str
    draw : callable (tables) -> Figure
    is_possible : callable (tables) -> bool
        Whether the tables hold what the figure needs. By default they always do.
    leads : bool, default False
        Whether the report shows the figure in its overview.
    file_name : callable (tables) -> str, optional
        Name of the file without its ending; the key in ``FIGURES`` by default.
    singly : ComparisonFigure, optional
        The same figure with every seed, if it shows means over the seeds of a method.
    """

    heading: str
    table: str
    caption: Callable[[Tables], str]
    draw: Callable[[Tables], Figure]
    is_possible: Callable[[Tables], bool] = lambda tables: True
    leads: bool = False
    file_name: Callable[[Tables], str] | None = None
    singly: ComparisonFigure | None = None


def own_figure(name: str, given: Any, **declared: Any) -> ComparisonFigure:
    """Return the figure that a user registers: a ``ComparisonFigure``, or a function of the tables that draws one.

    With a function the other fields are declared; ``heading`` is the name and ``table`` is ``"similarity"`` by default,
    and ``caption`` may be a text, by default the first line of the function's docstring.
    """
    if isinstance(given, ComparisonFigure):
        figure = replace(given, **declared)
    elif not callable(given):
        raise TypeError(f"The figure '{name}' is {given!r}; expected a ComparisonFigure, or a function of the tables.")
    else:
        caption = declared.pop("caption", (inspect.getdoc(given) or "").partition("\n")[0])
        shown: Callable[[Tables], str] = partial(_text, caption) if isinstance(caption, str) else caption
        usual: dict[str, Any] = {"heading": name, "table": "similarity"}
        figure = ComparisonFigure(**{**usual, **declared}, draw=given, caption=shown)
    if figure.table not in (*TABLES, "rdm"):
        raise ValueError(
            f"The figure '{name}' shows the table '{figure.table}', which does not exist. Choose one of: "
            f"{', '.join((*TABLES, 'rdm'))}."
        )
    return figure


def _text(text: str, tables: Tables) -> str:
    return text
