"""Curves over layers, epochs and boundaries, one per network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.axes import axes_grid, figure_of, fitting, label_height, label_layers, whole_numbers
from analysis.plots.lines import plot_lines
from analysis.plots.styles import LineStyle
from repsim.similarity.drawing.figure_axes import place_legend

__all__ = ["angles_over", "plot_alignment", "plot_by_layer", "plot_by_layer_and_step", "plot_training", "shown_steps"]

_MOST_STEPS = 6  # panels in a row
_STEP_WIDTH = 1.5  # inches of a panel in the style for papers


def plot_by_layer(
    table: pd.DataFrame,
    value: str,
    *,
    ylabel: str,
    curve: str = "view",
    band: tuple[str, str] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
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
    among : sequence of str, or dict of str to LineStyle, optional
        All names in the order of their styles, if other figures show more of them; or the styles themselves.
    legend : bool, default True
    ax : Axes, optional
    """
    ax = plot_lines(table, "depth", value, curve=curve, band=band, among=among, legend=False, ax=ax)
    layers = _names_by_depth(table)
    ax.update_datalim([(1.0, 0.0), (float(len(layers)), 0.0)], updatey=False)  # also where values are not defined
    ax.autoscale_view(scaley=False)
    label_layers(ax.xaxis, layers, start=1.0)
    label_height(ax, ylabel)
    if legend:
        place_legend(ax, [str(name) for name in (among or table[curve].unique())])
    return ax


def plot_by_layer_and_step(
    table: pd.DataFrame,
    values: Mapping[str, str],
    *,
    curve: str,
    bands: Mapping[str, tuple[str, str]] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
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
    bands : dict of str to (str, str), optional
        Columns of the lower and the upper end of a band around the curves of a value.
    among : sequence of str, or dict of str to LineStyle, optional
        All names in the order of their styles, if other figures show more of them; or the styles themselves.

    Notes
    -----
    At most 6 steps are drawn, evenly chosen, with the first and the last; in the style for papers as many as fit.
    """
    steps = shown_steps(table["step"].unique())
    among = [str(name) for name in table[curve].unique()] if among is None else among
    width, height = max(2.1 * len(steps) + 0.6, 4.0), 2.6 if len(values) > 1 else 3.2
    grid = axes_grid(len(values), len(steps), width, height * len(values), share_y=True)
    for place, (row, (value, ylabel)) in enumerate(zip(grid, values.items(), strict=True)):
        for ax, step in zip(row, steps, strict=True):
            rows = table[table["step"] == step]
            band = None if bands is None else bands.get(value)
            plot_by_layer(rows, value, ylabel=ylabel, curve=curve, band=band, among=among, legend=False, ax=ax)
            ax.set_title("" if place else f"step {step}", fontsize=9)
            label_height(ax, ylabel if ax is row[0] else "")
            ax.set_xlabel(ax.get_xlabel() if place == len(grid) - 1 else "")
    place_legend(grid[0][-1], list(among))
    return figure_of(grid[0][0])


def shown_steps(steps: Iterable[int]) -> list[int]:
    """Return the steps that have a panel: at most 6, and in the style for papers as many as fit, evenly chosen."""
    every = sorted(steps)
    chosen = np.linspace(0, len(every) - 1, fitting(len(every), _STEP_WIDTH, _MOST_STEPS)).round().astype(int)
    return [every[k] for k in (chosen if len(chosen) > 1 else [-1])]


def _names_by_depth(table: pd.DataFrame) -> list[str]:
    """Return the names of layers by depth, or numbers if networks name the layers of one depth differently."""
    by_depth, depths = table.groupby("depth")["layer"], range(1, int(table["depth"].max()) + 1)
    names = by_depth.first() if by_depth.nunique().max() == 1 else pd.Series(dtype=object)
    return [str(names.get(depth, depth)) for depth in depths]


def plot_training(
    table: pd.DataFrame,
    value: str,
    *,
    ylabel: str,
    curve: str = "view",
    band: tuple[str, str] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a column of the table of training over epochs, one curve per run or method.

    Parameters
    ----------
    table : DataFrame
        With columns ``epoch``, ``value`` and ``curve``.
    value : str
        Such as ``"loss"`` or ``"validation_accuracy"``. Epochs where it is missing have no point.
    ylabel : str
    curve, band, among, legend, ax
        As for ``plot_by_layer``.
    """
    rows = table.dropna(subset=[value])
    among = [str(name) for name in table[curve].unique()] if among is None else among
    ax = plot_lines(rows, "epoch", value, curve=curve, band=band, among=among, legend=False, ax=ax)
    ax.set_xlabel("epoch")
    whole_numbers(ax)
    label_height(ax, ylabel)
    if legend:
        place_legend(ax, list(among))
    return ax


def plot_alignment(
    table: pd.DataFrame,
    over: str,
    *,
    curve: str = "view",
    band: tuple[str, str] | None = None,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the angle between the chosen and the true gradient, one curve per run or method.

    Parameters
    ----------
    table : DataFrame
        With columns ``boundary`` or ``step``, ``angle`` (degrees) and ``curve``, as ``angles_over`` returns it.
    over : {"boundary", "step"}
        The column on the x-axis.
    curve, band, among, legend, ax
        As for ``plot_by_layer``.
    """
    among = [str(name) for name in table[curve].unique()] if among is None else among
    ax = plot_lines(table, over, "angle", curve=curve, band=band, among=among, legend=False, ax=ax)
    ax.axhline(90.0, color="0.4", linestyle=":", linewidth=1)
    ax.set_ylim(-3.0, max(93.0, ax.get_ylim()[1]))
    whole_numbers(ax)
    label_height(ax, "angle to true gradient (°)")
    if legend:
        place_legend(ax, list(among))
    return ax


def angles_over(table: pd.DataFrame, over: str) -> pd.DataFrame:
    """Return the angle of each view by boundary, at the last step, or by step, as the mean over boundaries.

    Parameters
    ----------
    table : DataFrame
        With columns ``view``, ``step``, ``boundary``, ``rule`` and ``angle`` (degrees).
    over : {"boundary", "step"}
        Means of a run with another rule than backprop are over the boundaries of that rule. Only steps at which the
        angle is defined at all boundaries are used, if there are any. A run without a defined angle has no row.

    Returns
    -------
    DataFrame
        With columns ``view``, ``over`` and ``angle``.
    """
    found = [_angles(rows, over).rename("angle").reset_index().assign(view=view) for view, rows in _by_view(table)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["view", over, "angle"])


def _by_view(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(view), rows) for view, rows in table.groupby("view", sort=False)]


def _angles(rows: pd.DataFrame, over: str) -> pd.Series:
    if over == "step" and (rows["rule"] != "backprop").any():
        rows = rows[rows["rule"] != "backprop"]
    by_step = rows.pivot(index="step", columns="boundary", values="angle")
    known = by_step.dropna() if by_step.notna().all(axis=1).any() else by_step.dropna(how="all")
    if known.empty:
        return pd.Series(dtype=float, index=pd.Index([], name=over))
    return known.iloc[-1] if over == "boundary" else known.mean(axis=1)
