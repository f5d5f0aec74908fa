"""Quantities of teaching signals over boundaries, one panel each."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.axes import axes_grid, figure_of
from analysis.plots.lines import plot_lines
from repsim.similarity.drawing.figure_axes import place_legend

__all__ = ["plot_signals"]

_MOST_COLUMNS = 3


def plot_signals(table: pd.DataFrame, labels: Mapping[str, str], neutral: Mapping[str, float]) -> Figure:
    """Draw quantities against the boundary, one panel per quantity and one curve per view.

    Parameters
    ----------
    table : DataFrame
        With columns ``view``, ``boundary`` and those that are drawn, of which one at least has a value.
    labels : mapping of str to str
        Label of the y-axis of each column. Columns without a value have no panel.
    neutral : mapping of str to float
        Level of a dotted line, of columns that have one.
    """
    shown = {name: label for name, label in labels.items() if table[name].notna().any()}
    n_columns = min(_MOST_COLUMNS, len(shown))
    axes = axes_grid(ceil(len(shown) / n_columns), n_columns, 4.2 * n_columns, 3.2 * ceil(len(shown) / n_columns))
    views = [str(view) for view in table["view"].unique()]
    for ax, (name, label) in zip(axes.flat, shown.items(), strict=False):
        plot_lines(table, "boundary", name, curve="view", among=views, legend=False, ax=ax)
        if name in neutral:
            ax.axhline(neutral[name], color="0.4", linestyle=":", linewidth=1)
        ax.set_ylabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    place_legend(axes.flat[min(n_columns, len(shown)) - 1], views, size="small")
    return figure_of(axes.flat[0])
