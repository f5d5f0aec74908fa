"""Curves with bands over any axis, and notes below figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.axes import figure_of, new_axes, show_constant
from analysis.plots.styles import LineStyle, method_styles
from repsim.similarity.drawing.figure_axes import legend_labels, place_legend

__all__ = ["noted", "plot_lines", "write_note"]

_MOST_MARKED = 60  # points of a curve, so that markers do not run into one another


def plot_lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    curve: str,
    band: tuple[str, str] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw y against x, one curve per name. The axes are labelled with the names of the columns.

    Parameters
    ----------
    table : DataFrame
        With columns x, y and curve; one row per point.
    x, y : str
        Columns.
    curve : str
        The column that tells curves apart.
    band : (str, str), optional
        Columns of the lower and the upper end of a band. Rows where they are missing have no band.
    among : sequence of str, or dict of str to LineStyle, optional
        All names in the order of their styles, if other axes show more of them; or the styles themselves.
    legend : bool, default True
    ax : Axes, optional

    Notes
    -----
    The points of a curve have markers, at most 60 of them at even distances. A row without a value leaves a gap, so
    that several seeds of a method may be one curve. The band of a point without neighbours is a vertical line.
    """
    ax = ax if ax is not None else new_axes()
    styles = method_styles([str(name) for name in table[curve].unique()] if among is None else among)
    names = list(styles)
    labels = legend_labels(names)
    for name, rows in table.groupby(curve, sort=False):
        style, every = styles[str(name)], -(-len(rows) // _MOST_MARKED) or 1
        ax.plot(rows[x], rows[y], label=labels[str(name)], markersize=3.5, markevery=every, **style.look)
        if band is not None:
            ax.fill_between(rows[x], rows[band[0]], rows[band[1]], color=style.colour, alpha=0.15, linewidth=0)
            alone = rows[_has_no_neighbour(rows[band[0]].notna())]
            ax.vlines(alone[x], alone[band[0]], alone[band[1]], color=style.colour, alpha=0.5)
    ax.set(xlabel=x, ylabel=y)
    show_constant([ax])
    if legend:
        place_legend(ax, names)
    return ax


def _has_no_neighbour(has_band: pd.Series) -> pd.Series:
    """Return where a point has a band and the points beside it have none, so that the area between has no width."""
    return has_band & ~has_band.shift(1, fill_value=False) & ~has_band.shift(-1, fill_value=False)


def write_note(figure: Figure, text: str) -> None:
    """Write a line below a figure, such as its seeds, its n and the meaning of its bands."""
    text = "\n".join(filter(None, [text, figure.get_supxlabel()]))
    figure.supxlabel(text, fontsize=7.5, color="0.35", x=0.01, horizontalalignment="left")


def noted(ax: Axes, text: str) -> Figure:
    """Return the figure of axes, after writing a note below it."""
    figure = figure_of(ax)
    write_note(figure, text)
    return figure
