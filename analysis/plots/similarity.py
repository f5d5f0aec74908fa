"""Similarity between the layers of networks as heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.axes import axes_grid, figure_of, label_layers, layer_names, new_axes, verbatim

__all__ = ["plot_similarity", "plot_similarity_grid"]


def plot_similarity(table: pd.DataFrame, view_a: str, view_b: str, *, low: float = 0.0, ax: Axes | None = None) -> Axes:
    """Draw layer × layer similarity between two views: rows are layers of ``view_a``, from the first at the bottom.

    Parameters
    ----------
    table : DataFrame
        With columns ``view_a``, ``layer_a``, ``depth_a``, the same for b, and ``cka``.
    view_a, view_b : str
    low : float, default 0
        Lower end of the colour scale; the upper end is 1.
    ax : Axes, optional
    """
    ax = ax if ax is not None else new_axes(4.4, 3.8)
    rows = table[(table["view_a"] == view_a) & (table["view_b"] == view_b)]
    matrix = rows.pivot(index="depth_a", columns="depth_b", values="cka")
    cmap = sns.color_palette("rocket", as_cmap=True)
    ax.imshow(matrix.to_numpy(), cmap=cmap, vmin=low, vmax=1.0, origin="lower", interpolation="nearest")
    label_layers(ax.yaxis, list(rows.drop_duplicates("depth_a").sort_values("depth_a")["layer_a"]), most=6)
    label_layers(ax.xaxis, list(rows.drop_duplicates("depth_b").sort_values("depth_b")["layer_b"]), most=6)
    ax.grid(visible=False)
    return ax


def plot_similarity_grid(table: pd.DataFrame, *, measure: str = "unbiased linear CKA") -> Figure:
    """Draw the similarity of every view with every other on one colour scale; above four views, with the first only."""
    views: Sequence[str] = list(table["view_a"].unique())
    rows = views if len(views) <= 4 else views[:1]
    grid = axes_grid(len(rows), len(views), 2.3 * len(views) + 1.4, 2.3 * len(rows) + 0.6)
    figure = figure_of(grid[0][0])
    for view_a, axes in zip(rows, grid, strict=True):
        for view_b, ax in zip(views, axes, strict=True):
            plot_similarity(table, view_a, view_b, ax=ax)
            ax.set_xlabel(verbatim(view_b) if view_a == rows[-1] else "", fontsize=9)
            ax.set_ylabel(verbatim(view_a) if view_b == views[0] else "", fontsize=9)
            ax.tick_params(labelsize=7)
    _, axis_title = layer_names(list(table["layer_a"].unique()))
    figure.suptitle(f"{axis_title} against {axis_title}", fontsize=9)
    bar = figure.colorbar(grid[0][0].images[0], ax=grid, shrink=0.8, pad=0.02)
    bar.set_label(measure, fontsize=9)
    return figure
