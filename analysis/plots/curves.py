"""Curves over layers, epochs and boundaries, one per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.axes import axes_grid, figure_of, label_layers, new_axes, verbatim
from analysis.plots.lines import plot_lines
from analysis.plots.styles import method_styles
from repsim.similarity.drawing.figure_axes import legend_labels, place_legend
from repsim.similarity.drawing.labels import shorten

__all__ = ["plot_alignment", "plot_by_layer", "plot_by_layer_and_step", "plot_training"]

_MOST_STEPS = 6  # panels in a row


def plot_by_layer(
    table: pd.DataFrame,
    value: str,
    *,
    ylabel: str,
    curve: str = "view",
    band: tuple[str, str] | None = None,
    among: Sequence[str] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a value against depth, one curve per view or method.

    Parameters
    ----------
    table : DataFrame
        With columns ``layer``, ``depth``, ``value`` and ``curve``.
    value : str
        The column to draw.
    ylabel : str
        Label of the y-axis, with the unit.
    curve : str, default "view"
        The column that tells curves apart.
    band : (str, str), optional
        Columns of the lower and the upper end of a band around the curve. Rows where they are missing have no band.
    among : sequence of str, optional
        All names in the order of their styles, if other figures show more of them.
    legend : bool, default True
    ax : Axes, optional
    """
    ax = plot_lines(table, "depth", value, curve=curve, band=band, among=among, legend=False, ax=ax)
    layers = _names_by_depth(table)
    ax.update_datalim([(1.0, 0.0), (float(len(layers)), 0.0)], updatey=False)  # also where values are not defined
    ax.autoscale_view(scaley=False)
    label_layers(ax.xaxis, layers, start=1.0)
    ax.set_ylabel(ylabel)
    if legend:
        place_legend(ax, [str(name) for name in (among or table[curve].unique())])
    return ax


def plot_by_layer_and_step(
    table: pd.DataFrame, values: Mapping[str, str], *, curve: str, band: tuple[str, str] | None = None
) -> Figure:
    """Draw values against depth: one row of panels per value, one panel per step, one curve per network or method.

    Parameters
    ----------
    table : DataFrame
        With columns ``layer``, ``depth``, ``step``, ``curve`` and those of the values.
    values : dict of str to str
        Columns to draw, and the label of the y-axis of each.
    curve : str
        The column that tells curves apart.
    band : (str, str), optional
        Columns of the lower and the upper end of a band around the curves.

    Notes
    -----
    At most 6 steps are drawn, evenly chosen, with the first and the last.
    """
    every = sorted(table["step"].unique())
    chosen = np.linspace(0, len(every) - 1, min(len(every), _MOST_STEPS)).round().astype(int)
    steps = [every[k] for k in chosen]
    names = [str(name) for name in table[curve].unique()]
    width, height = max(2.1 * len(steps) + 1.2, 5.0), 2.6 if len(values) > 1 else 3.2
    grid = axes_grid(len(values), len(steps), width, height * len(values), share_y=True)
    for place, (row, (value, ylabel)) in enumerate(zip(grid, values.items(), strict=True)):
        for ax, step in zip(row, steps, strict=True):
            rows = table[table["step"] == step]
            plot_by_layer(rows, value, ylabel=ylabel, curve=curve, band=band, among=names, legend=False, ax=ax)
            ax.set_title("" if place else f"step {step}", fontsize=9)
            ax.set_ylabel(ylabel if ax is row[0] else "")
            ax.set_xlabel(ax.get_xlabel() if place == len(grid) - 1 else "")
    place_legend(grid[0][-1], names, size="small")
    return figure_of(grid[0][0])


def _names_by_depth(table: pd.DataFrame) -> list[str]:
    """Return the names of layers by depth, or numbers if networks name the layers of one depth differently."""
    by_depth, depths = table.groupby("depth")["layer"], range(1, int(table["depth"].max()) + 1)
    names = by_depth.first() if by_depth.nunique().max() == 1 else pd.Series(dtype=object)
    return [str(names.get(depth, depth)) for depth in depths]


def plot_training(table: pd.DataFrame, value: str, *, ylabel: str, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Draw training (solid) and validation (dashed) curves over epochs, one colour per run.

    Parameters
    ----------
    table : DataFrame
        With columns ``view``, ``epoch``, ``value`` and ``validation_<value>``.
    value : str
        ``"loss"`` or ``"accuracy"``.
    ylabel : str
    legend : bool, default True
    ax : Axes, optional
    """
    ax = ax if ax is not None else new_axes()
    views = [str(view) for view in table["view"].unique()]
    styles, names = method_styles(views), dict(zip(views, shorten(views), strict=True))
    for view, rows in table.groupby("view", sort=False):
        name, look = names[str(view)], {"color": styles[str(view)].colour, "markersize": 4}
        look["marker"] = styles[str(view)].marker if len(views) > 8 else None
        ax.plot(rows["epoch"], rows[value], label=verbatim(f"{name}, training"), **look)
        validation = rows.dropna(subset=[f"validation_{value}"])
        ax.plot(
            validation["epoch"],
            validation[f"validation_{value}"],
            linestyle="--",
            label=verbatim(f"{name}, validation"),
            **look,
        )
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(ylabel)
    if legend:
        place_legend(ax, views, size="small")
    return ax


def plot_alignment(table: pd.DataFrame, over: str, *, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the angle between the chosen and the true gradient, one curve per run.

    Parameters
    ----------
    table : DataFrame
        With columns ``view``, ``step``, ``boundary``, ``rule`` and ``angle`` (degrees).
    over : str
        ``"boundary"``: angles at the last step. ``"step"``: the mean over boundaries; in a run with another rule than
        backprop, over the boundaries of that rule. Only steps at which the angle is defined at all boundaries are
        shown, if there are any. A run without a defined angle has no curve.
    legend : bool, default True
    ax : Axes, optional
    """
    ax = ax if ax is not None else new_axes()
    views = [str(view) for view in table["view"].unique()]
    styles, labels = method_styles(views), legend_labels(views)
    for view, rows in table.groupby("view", sort=False):
        if over == "step" and (rows["rule"] != "backprop").any():
            rows = rows[rows["rule"] != "backprop"]
        by_step = rows.pivot(index="step", columns="boundary", values="angle")
        known = by_step.dropna() if by_step.notna().all(axis=1).any() else by_step.dropna(how="all")
        if known.empty:
            continue
        angles = known.iloc[-1] if over == "boundary" else known.mean(axis=1)
        ax.plot(angles.index, angles, label=labels[str(view)], markersize=4, **styles[str(view)].look)
    ax.axhline(90.0, color="0.4", linestyle=":", linewidth=1)
    ax.set_ylim(-3.0, max(93.0, ax.get_ylim()[1]))
    ax.set_xlabel(over)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("angle to the true gradient (degrees)")
    if legend:
        place_legend(ax, views, size="small")
    return ax
