"""Picture of an attribution: differences of a method by layer and step, in total and beyond each control."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.plots.axes import axes_grid, figure_of, label_layers
from analysis.plots.styles import method_styles
from repsim.similarity.drawing.figure_axes import place_legend
from repsim.similarity.drawing.labels import shorten, verbatim

__all__ = ["plot_attribution", "plot_effects_by_layer"]

_MARKS = {"different": "●", "equivalent": "="}


def plot_attribution(
    table: pd.DataFrame,
    titles: Mapping[tuple[str, str], str],
    *,
    label: str,
    unmatched: Collection[tuple[str, str]] = (),
) -> Figure:
    """Draw the differences of one quantity: one row of panels per method, one panel per contrast.

    Cells whose difference is larger than the smallest of interest have a dot, those whose difference is smaller an
    equals sign; undecided cells are hatched.

    Parameters
    ----------
    table : DataFrame
        Rows of one quantity of the table ``attribution``, without those of controls alone.
    titles : dict of (method, control) to str
        Title of each panel, in the order in which they are drawn; the control of a total is "".
    label : str
        Label of the colour bar.
    unmatched : collection of (arm, step)
        Controls that should be matched in accuracy and are not; "≠" stands beside these steps.
    """
    methods = list(dict.fromkeys(method for method, _ in titles))
    panels = {method: [key for key in titles if key[0] == method] for method in methods}
    most = max(map(len, panels.values()))
    steps = list(dict.fromkeys(table["at"]))
    depth = int(table["depth"].max())
    width = max(2.0, 0.5 * len(steps) + 1.2)
    grid = axes_grid(len(methods), most, min(14.0, width * most + 1.5), len(methods) * (1.0 + 0.17 * max(depth, 8)))
    limit = float(np.nanmax(np.abs(table["difference"]))) if table["difference"].notna().any() else 1.0
    norm = TwoSlopeNorm(0.0, -max(limit, 1e-9), max(limit, 1e-9))
    headings = dict(zip(titles, _in_two_lines(list(titles.values())), strict=True))
    image = None
    for row, method in enumerate(methods):
        for column in range(most):
            ax = grid[row][column]
            if column >= len(panels[method]):
                ax.set_axis_off()
                continue
            key = panels[method][column]
            rows = table[(table["method"] == key[0]) & (table["control"].fillna("") == key[1])]
            far = {at for base, at in zip(rows["base"], rows["at"], strict=True) if (base, at) in unmatched}
            names = {step: f"{step} ≠" if step in far else step for step in steps}
            image = _panel(ax, rows, names, _layers(table, depth), norm)
            ax.set_title(headings[key], fontsize=9)
            ax.set_ylabel("" if column else f"{verbatim(method)}\n{ax.get_ylabel()}")
    figure = figure_of(grid[0][0])
    if image is not None:
        figure.colorbar(image, ax=grid.ravel().tolist(), label=label, shrink=0.7, aspect=30)
    return figure


def _in_two_lines(titles: Sequence[str]) -> list[str]:
    """Return titles with the name of the control, which may be cut, on a line of its own."""
    parts = [title.removesuffix(")").partition(" (") for title in titles]
    names = shorten([name for _, _, name in parts])
    return [
        verbatim(head) + (f"\n({verbatim(name)})" if bracket else "")
        for (head, bracket, _), name in zip(parts, names, strict=True)
    ]


def _layers(table: pd.DataFrame, depth: int) -> list[str]:
    names = table.drop_duplicates("depth").set_index("depth")["layer"]
    return [str(names.get(k, k)) for k in range(1, depth + 1)]


def _panel(
    ax: Axes, rows: pd.DataFrame, names: Mapping[str, str], layers: Sequence[str], norm: TwoSlopeNorm
) -> AxesImage:
    """Draw one contrast, with a name for each step, and return the image."""
    steps = list(names)
    values = np.full((len(layers), len(steps)), np.nan)
    x = np.array([steps.index(at) for at in rows["at"]], dtype=int)
    y = rows["depth"].to_numpy(dtype=int) - 1
    values[y, x] = rows["difference"].to_numpy(dtype=float)
    image = ax.imshow(values, aspect="auto", origin="lower", cmap="RdBu_r", norm=norm, interpolation="nearest")
    limit = float(norm.vmax or 1.0)
    for column, row, verdict in zip(x.tolist(), y.tolist(), rows["verdict"], strict=True):
        if verdict == "undecided":
            sides = [column - 0.5, column + 0.5]
            ax.fill_between(sides, row - 0.5, row + 0.5, facecolor="none", edgecolor="0.55", hatch="///", lw=0)
        elif verdict in _MARKS:
            colour = "white" if abs(values[row, column]) > 0.6 * limit else "0.15"
            ax.text(column, row, _MARKS[verdict], ha="center", va="center", fontsize=7, color=colour)
    ax.grid(visible=False)
    ax.set_xticks(range(len(steps)), [verbatim(name) for name in names.values()], rotation=45, ha="right", fontsize=8)
    ax.set_xlabel("training")
    label_layers(ax.yaxis, layers)
    return image


def plot_effects_by_layer(
    table: pd.DataFrame, titles: Mapping[tuple[str, str], str], *, label: str, smallest: float
) -> Figure:
    """Draw the differences of one quantity at one step over layers, with their simultaneous bands.

    Parameters
    ----------
    table : DataFrame
        Rows of one quantity and step of the table ``attribution``, without those of controls alone.
    titles : dict of (method, control) to str
        Name of each curve; the control of a total is "".
    label : str
        Label of the y-axis.
    smallest : float
        Smallest difference of interest; a grey range shows it.
    """
    methods = list(dict.fromkeys(method for method, _ in titles))
    grid = axes_grid(1, len(methods), min(14.0, 5.2 * len(methods) + 0.5), 3.9, share_y=True)[0]
    names = list(dict.fromkeys(titles.values()))
    styles = method_styles(names)
    for ax, method in zip(grid, methods, strict=True):
        for k, key in enumerate(each for each in titles if each[0] == method):
            rows = table[(table["method"] == key[0]) & (table["control"].fillna("") == key[1])]
            shift = 0.08 * k
            ax.errorbar(
                rows["depth"] + shift,
                rows["difference"],
                yerr=rows["difference"] - rows["band_low"],
                label=verbatim(titles[key]),
                **styles[titles[key]].look,
                markersize=3,
                linewidth=1.2,
                elinewidth=0.8,
                capsize=1.5,
            )
        ax.axhspan(-smallest, smallest, color="0.85", zorder=0, linewidth=0)
        ax.axhline(0.0, color="0.4", linestyle=":", linewidth=1)
        ax.set_title(verbatim(method), fontsize=10)
        label_layers(ax.xaxis, _layers(table, int(table["depth"].max())), start=1.0)
    place_legend(grid[-1], names, size="small")
    grid[0].set_ylabel(label)
    return figure_of(grid[0])
