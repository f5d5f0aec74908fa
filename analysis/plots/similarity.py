"""Heat maps of the similarity between layers of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis.plots.axes import axes_grid, figure_of, fitting, label_layers, layer_names, new_axes, verbatim
from repsim.similarity.drawing.figure_axes import lay_out, mark_undefined, name_ticks, show_matrix, write_key
from repsim.similarity.drawing.labels import cut_names, family_for, fit, shorten
from repsim.similarity.drawing.paper import paper_width

__all__ = ["MOST_PAIRED", "plot_similarity", "plot_similarity_by_step", "plot_similarity_grid"]

MOST_PAIRED = 4  # views whose similarity with one another is drawn; of more, that with the first
_MOST_VIEWS = 8
_MOST_ROWS = 20  # that are a quarter of an inch high; of more, each is lower
_CELL = 2.1 * 72  # points, the width of a matrix in a grid
_MOST_WRITTEN = 160  # cells of a panel in which their numbers are written
_WIDE_RANGE = 0.2  # of a colour scale, in which two decimals are enough
_DARK = 0.2  # luminance below which white has more contrast than dark grey
_NARROWEST_RANGE = 0.02  # of a colour scale, so that rounding does not look like a change


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
    views = views[: fitting(len(views), 1.35)]
    rows = views if len(views) <= MOST_PAIRED else views[:1]
    pairs = [(view_a, view_b) for view_a in rows for view_b in views]
    n_columns = len(views) if len(rows) > 1 or paper_width() else ceil(len(views) / ceil(len(views) / MOST_PAIRED))
    n_rows = ceil(len(pairs) / n_columns)
    grid = axes_grid(n_rows, n_columns, 2.3 * n_columns + 1.4, 2.3 * n_rows + 0.6)
    figure = figure_of(grid[0][0])
    limits = _limits(table[measure])
    shown = dict(zip(views, fit(views, _cell(n_columns), 9.0), strict=True))
    font = {"fontsize": 9, "family": family_for(shown.values())}
    cut = cut_names(views, list(shown.values()))
    for place, ((view_a, view_b), ax) in enumerate(zip(pairs, grid.flat, strict=False)):
        is_left, is_lowest = place % n_columns == 0, place + n_columns >= len(pairs)
        ax.tick_params(labelsize=7)
        cut |= _draw_similarity(ax, table, view_a, view_b, measure, limits)
        ax.tick_params(labelbottom=is_lowest, labelleft=is_left)
        ax.set_xlabel(verbatim(shown[view_b]) if is_lowest or len(rows) == 1 else "", **font)
        ax.set_ylabel(verbatim(shown[view_a]) if is_left else "", **font)
    for ax in grid.flat[len(pairs) :]:
        ax.remove()
    _, axis_title = layer_names(list(table["layer_a"].unique()))
    axis_title = shorten([axis_title])[0]
    figure.suptitle(verbatim(f"{axis_title} against {axis_title}"), fontsize=9)
    bar = figure.colorbar(grid[0][0].images[0], ax=figure.axes, shrink=0.8, pad=0.02)
    bar.set_label(verbatim(name), fontsize=9)
    mark_undefined(list(grid.flat[: len(pairs)]))
    write_key(figure, cut)
    lay_out(figure)  # the first layout does not know the height of the tick labels yet
    return figure


def plot_similarity_by_step(
    table: pd.DataFrame,
    *,
    name: str = "CKA",
    most_alike: float = 1.0,
    forked: Mapping[str, int] | None = None,
    most: int = _MOST_VIEWS,
) -> Figure:
    """Draw the similarity of layers (rows, the first at the bottom) to a reference by step (columns).

    Parameters
    ----------
    table : DataFrame
        With columns ``network``, ``step``, ``layer``, ``depth`` and ``value``; one row per cell.
        Each network has a panel.
    name : str
        Label of the colour bar.
    most_alike : float, default 1.0
        Value of equal layers, which is one end of the colour scale.
    forked : dict of str to int, optional
        Step after which a network was trained otherwise than the reference; a dashed line marks it.
    most : int
        Largest number of networks that are drawn; of more, evenly spaced ones with the first and the last.
    """
    networks = _spread(list(table["network"].unique()), most)
    steps = sorted(table["step"].unique())
    layers = [str(layer) for layer in table.sort_values("depth")["layer"].unique()]
    columns = fitting(len(networks), 1.5 if len(steps) <= 8 else 3.0, 4 if len(steps) <= 8 else 2)
    rows = -(-len(networks) // columns)
    width, height = 1.2 + 0.42 * len(steps), 1.0 + 0.26 * min(max(len(layers), 4), _MOST_ROWS)
    grid = axes_grid(rows, columns, min(14.0, max(2.8, width) * columns + 1.2), height * rows)
    figure = figure_of(grid[0][0])
    limits = _scale(table["value"], most_alike)
    cmap = sns.color_palette("rocket" if limits[1] == most_alike else "rocket_r", as_cmap=True)
    shown = dict(zip(networks, fit(networks, _cell(columns), 9.0), strict=True))
    cut = cut_names(networks, list(shown.values()))
    for network, ax in zip(networks, grid.flat, strict=False):
        matrix = table[table["network"] == network].pivot(index="layer", columns="step", values="value")
        values = matrix.reindex(index=layers, columns=steps).to_numpy(dtype=float)
        image = show_matrix(ax, values, cmap=cmap, vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto")
        _write_values(image, values, digits=2 if limits[1] - limits[0] >= _WIDE_RANGE else 3)
        cut |= label_layers(ax.yaxis, layers)
        name_ticks(ax.xaxis, [str(step) for step in steps])
        ax.set_xlabel("step")
        ax.set_title(verbatim(shown[network]), fontsize=9, family=family_for(shown.values()))
        if forked and network in forked:
            ax.axvline(sum(step <= forked[network] for step in steps) - 0.5, color="tab:blue", linestyle="--")
    for ax in grid.flat[len(networks) :]:
        ax.set_axis_off()
    bar = figure.colorbar(grid[0][0].images[0], ax=grid, shrink=0.8, pad=0.02)
    bar.set_label(verbatim(name), fontsize=9)
    mark_undefined(list(grid.flat[: len(networks)]))
    write_key(figure, cut)
    lay_out(figure)  # the first layout does not know the height of the tick labels yet
    return figure


def _cell(n_columns: int) -> float:
    """Return the width of a matrix in a grid, in points."""
    paper = paper_width()
    return _CELL if paper is None else 0.9 * 72 * (paper - 1.1) / n_columns


def _scale(values: pd.Series, most_alike: float) -> tuple[float, float]:
    """Return a range from the value that differs most from that of equal layers to the latter."""
    known = values.dropna()
    furthest = float(known.iloc[(known - most_alike).abs().argmax()]) if len(known) else most_alike
    low, high = min(furthest, most_alike), max(furthest, most_alike)
    if high - low >= _NARROWEST_RANGE:
        return low, high
    return (low, low + _NARROWEST_RANGE) if furthest > most_alike else (high - _NARROWEST_RANGE, high)


def _write_values(image: AxesImage, values: NDArray[np.float64], *, digits: int) -> None:
    """Write the numbers into the cells of a matrix with few of them, white on dark colours."""
    if values.size > _MOST_WRITTEN:
        return
    if paper_width() is not None and values.shape[1] * 22.0 > _cell(1):  # points of a number
        return
    is_dark = _luminance(image.to_rgba(values)) < _DARK
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        text, colour = f"{values[row, column]:.{digits}f}", "white" if is_dark[row, column] else "0.1"
        image.axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _luminance(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the relative luminance (WCAG 2.1) of colours, whose last axis is red, green, blue and opacity."""
    encoded = colours[..., :3]
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


def _limits(values: pd.Series) -> tuple[float, float]:
    """Return (0, 1) if the values lie within, as those of CKA do, and their range otherwise."""
    low, high = values.min(), values.max()
    if np.isnan(low) or (low > -0.5 and 0.05 < high < 1.0 + 1e-6):
        return 0.0, 1.0
    return min(0.0, float(low)), float(high) if high > min(0.0, low) else 1.0


def _spread(views: Sequence[str], most: int) -> list[str]:
    count = min(len(views), most)
    return [views[i] for i in np.linspace(0, len(views) - 1, count).round().astype(int)]
