"""Style of figures for papers: a fixed width in inches, type of 7 to 9 points, and text that stays text in files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["FILE_STYLE", "PAPER_WIDTHS", "PaperFigure", "new_figure", "paper_style", "paper_width"]

PAPER_WIDTHS = {"column": 3.25, "page": 6.75}  # inches
_LOWEST, _LOWEST_OF_SEVERAL = 2.4, 1.4  # inches of a row of panels

FILE_STYLE: Any = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "repsim",
    "savefig.dpi": 300,
}
_TYPE: Any = {
    "font.size": 8.5,  # "small" is 7.1 points
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 7.1,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.0,
    "hatch.linewidth": 0.5,
}

_width: ContextVar[float | None] = ContextVar("width", default=None)


class PaperFigure(Figure):
    """A figure of a fixed width, whose files hold text as text (Type 42 in PDF), also if they are saved later."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure with the ticks that its layout made room for: their number follows the size of type."""
        with mpl.rc_context(_TYPE):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure; see ``Figure.savefig``."""
        with mpl.rc_context(_TYPE), mpl.rc_context(FILE_STYLE):
            super().savefig(fname, **options)


@contextmanager
def paper_style(width: str) -> Iterator[None]:
    """Make the figures that are created in a ``with`` block fit for a paper; other figures keep their style.

    Parameters
    ----------
    width : {"column", "page"}
        3.25 or 6.75 inches.
    """
    token = _width.set(PAPER_WIDTHS[width])
    try:
        with mpl.rc_context(_TYPE), mpl.rc_context(FILE_STYLE):
            yield
    finally:
        _width.reset(token)


def paper_width() -> float | None:
    """Return the width of figures in a ``with paper_style(...)`` block in inches, and None outside of one."""
    return _width.get()


def new_figure(width: float, height: float, n_rows: int = 1) -> Figure:
    """Return an empty figure of a size in inches; in the style for papers, of its width and lower in proportion."""
    fixed = paper_width()
    if fixed is None:
        return Figure(figsize=(width, height), layout="constrained")
    row = height / n_rows
    lowest = _LOWEST if n_rows == 1 else _LOWEST_OF_SEVERAL
    lower = max(row * min(1.0, fixed / width), min(row, lowest))
    return PaperFigure(figsize=(fixed, lower * n_rows), layout="constrained")
