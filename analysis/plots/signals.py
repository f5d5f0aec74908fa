"""Quantities of teaching signals over boundaries, one panel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.axes import axes_grid, figure_of, fitting, label_height, whole_numbers
from analysis.plots.lines import plot_lines
from analysis.plots.styles import LineStyle
from repsim.similarity.drawing.figure_axes import place_legend

__all__ = ["plot_signals"]

_MOST_COLUMNS = 3


def plot_signals(
    table: pd.DataFrame,
    labels: Mapping[str, str],
    neutral: Mapping[str, float],
    *,
    curve: str = "view",
    bands: Mapping[str, tuple[str, str]] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
) -> Figure:
    """Draw quantities against the boundary, one panel per quantity and one curve per view or method.

    Parameters
    ----------
    table : DataFrame
        With columns ``curve``, ``boundary`` and those that are drawn, of which one at least has a value.
    labels : mapping of str to str
        Label of the y-axis of each column. Columns without a value have no panel.
    neutral : mapping of str to float
        Level of a dotted line, of columns that have one.
    curve, bands, among
        As for ``plot_by_layer_and_step``.
    """
    shown = {name: label for name, label in labels.items() if table[name].notna().any()}
    n_columns = fitting(len(shown), 1.6, _MOST_COLUMNS)
    n_rows = ceil(len(shown) / n_columns)
    n_columns = ceil(len(shown) / n_rows)  # four panels are two and two
    axes = axes_grid(n_rows, n_columns, 3.6 * n_columns, 2.8 * n_rows)
    low, high = table["boundary"].min(), table["boundary"].max()
    among = [str(name) for name in table[curve].unique()] if among is None else among
    for ax, (name, label) in zip(axes.flat, shown.items(), strict=False):
        band = None if bands is None else bands.get(name)
        plot_lines(table, "boundary", name, curve=curve, band=band, among=among, legend=False, ax=ax)
        if name in neutral:
            ax.axhline(neutral[name], color="0.4", linestyle=":", linewidth=1)
        label_height(ax, label)
        whole_numbers(ax)
        ax.set_xlim(low - 0.3, high + 0.3)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    place_legend(axes.flat[0], list(among))
    return figure_of(axes.flat[0])
