"""Heat maps of the similarity between layers of networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.axes import axes_grid, figure_of, label_layers, layer_names, new_axes, verbatim
from repsim.similarity.drawing.figure_axes import mark_undefined, show_matrix, write_key
from repsim.similarity.drawing.labels import cut_names, family_for, fit, shorten

__all__ = ["plot_similarity", "plot_similarity_grid"]

_MOST_VIEWS = 8
_CELL = 2.1 * 72  # points, the width of a matrix in a grid


def plot_similarity(
    table: pd.DataFrame,
    view_a: str,
    view_b: str,
    *,
    measure: str = "cka",
    limits: tuple[float, float] = (0.0, 1.0),
    ax: Axes | None = None,
) -> Axes:
    """Draw the similarity of all layers of one view (rows, the first at the bottom) with all of another (columns).

    Parameters
    ----------
    table : DataFrame
        With columns ``view_a``, ``layer_a``, ``depth_a``, the same for b, and the measure.
    view_a, view_b : str
    measure : str, default "cka"
        The column that is drawn.
    limits : (float, float), default (0, 1)
        Ends of the colour scale.
    ax : Axes, optional
    """
    ax = ax if ax is not None else new_axes(4.4, 3.8)
    _draw_similarity(ax, table, view_a, view_b, measure, limits)
    mark_undefined([ax])
    return ax


def _draw_similarity(
    ax: Axes, table: pd.DataFrame, view_a: str, view_b: str, measure: str, limits: tuple[float, float]
) -> dict[str, str]:
    """Draw one matrix; return the whole name for each label of a layer that was cut."""
    rows = table[(table["view_a"] == view_a) & (table["view_b"] == view_b)]
    matrix = rows.pivot(index="depth_a", columns="depth_b", values=measure)
    cmap = sns.color_palette("rocket", as_cmap=True)
    show_matrix(ax, matrix.to_numpy(), cmap=cmap, vmin=limits[0], vmax=limits[1], origin="lower")
    cut: dict[str, str] = {}
    for axis, side in ((ax.yaxis, "a"), (ax.xaxis, "b")):
        in_order = rows.drop_duplicates(f"depth_{side}").sort_values(f"depth_{side}")
        cut |= label_layers(axis, list(in_order[f"layer_{side}"]))
    return cut


def plot_similarity_grid(
    table: pd.DataFrame, measure: str = "cka", *, name: str = "CKA", most: int = _MOST_VIEWS
) -> Figure:
    """Draw the similarity of views with one another on one colour scale.

    Parameters
    ----------
    table : DataFrame
        As for ``plot_similarity``.
    measure : str, default "cka"
        The column that is drawn.
    name : str
        Label of the colour bar.
    most : int
        Largest number of views that are drawn; of more, evenly spaced ones with the first and the last. Of more than
        four, only the similarity with the first is drawn.
    """
    views = _spread(list(table["view_a"].unique()), most)
    rows = views if len(views) <= 4 else views[:1]
    grid = axes_grid(len(rows), len(views), 2.3 * len(views) + 1.4, 2.3 * len(rows) + 0.6)
    figure = figure_of(grid[0][0])
    limits = _limits(table[measure])
    shown = dict(zip(views, fit(views, _CELL, 9.0), strict=True))
    font = {"fontsize": 9, "family": family_for(shown.values())}
    cut = cut_names(views, list(shown.values()))
    for view_a, axes in zip(rows, grid, strict=True):
        for view_b, ax in zip(views, axes, strict=True):
            ax.tick_params(labelsize=7)
            cut |= _draw_similarity(ax, table, view_a, view_b, measure, limits)
            ax.tick_params(labelbottom=view_a == rows[-1], labelleft=view_b == views[0])
            ax.set_xlabel(verbatim(shown[view_b]) if view_a == rows[-1] else "", **font)
            ax.set_ylabel(verbatim(shown[view_a]) if view_b == views[0] else "", **font)
    _, axis_title = layer_names(list(table["layer_a"].unique()))
    axis_title = shorten([axis_title])[0]
    figure.suptitle(verbatim(f"{axis_title} against {axis_title}"), fontsize=9)
    bar = figure.colorbar(grid[0][0].images[0], ax=grid, shrink=0.8, pad=0.02)
    bar.set_label(verbatim(name), fontsize=9)
    mark_undefined(list(grid.flat))
    write_key(figure, cut)
    figure.draw_without_rendering()  # the first layout does not know the height of the tick labels yet
    return figure


def _limits(values: pd.Series) -> tuple[float, float]:
    """Return (0, 1) if the values lie within, as those of CKA do, and their range otherwise."""
    low, high = values.min(), values.max()
    if np.isnan(low) or (low > -0.5 and 0.05 < high < 1.0 + 1e-6):
        return 0.0, 1.0
    return min(0.0, float(low)), float(high) if high > min(0.0, low) else 1.0


def _spread(views: Sequence[str], most: int) -> list[str]:
    count = min(len(views), most)
    return [views[i] for i in np.linspace(0, len(views) - 1, count).round().astype(int)]
