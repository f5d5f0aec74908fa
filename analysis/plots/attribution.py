"""Picture of an attribution: differences of a method by layer and step, in total and beyond each control."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.plots.axes import axes_grid, figure_of, fitting, label_height, label_layers
from analysis.plots.styles import LineStyle, method_styles
from repsim.similarity.drawing.figure_axes import lay_out, place_legend
from repsim.similarity.drawing.labels import shorten, verbatim

__all__ = ["plot_attribution", "plot_effects_by_layer"]

_MARKS = {"different": "o", "equivalent": "$=$"}
_MOST_LEVEL = 3  # steps whose names fit beside one another
_INK = LineStyle("#404040", "solid", "o", "circle")  # of a total beside its controls


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
    steps = list(dict.fromkeys(table["at"]))
    depth = int(table["depth"].max())
    has_controls = any(control for _, control in titles)
    places, most = _places(titles)
    n_rows = max(row for row, _ in places.values()) + 1
    width = max(2.6, 0.5 * len(steps) + 1.2)
    grid = axes_grid(n_rows, most, min(14.0, width * most + 1.5), n_rows * (1.0 + 0.17 * max(min(depth, 40), 8)))
    limit = np.nanmax([2.0 * table["smallest"].max(), *np.abs(table["difference"])])
    norm = TwoSlopeNorm(0.0, -limit, limit)
    headings = dict(zip(titles, _in_two_lines(list(titles.values())), strict=True))
    shown = dict(zip(titles, shorten([method for method, _ in titles], 24), strict=True))
    for ax in grid.flat:
        ax.set_axis_off()
    for key, (row, column) in places.items():
        ax = grid[row][column]
        ax.set_axis_on()
        rows = table[(table["method"] == key[0]) & (table["control"].fillna("") == key[1])]
        far = {at for base, at in zip(rows["base"], rows["at"], strict=True) if (base, at) in unmatched}
        names = {step: f"{step} ≠" if step in far else step for step in steps}
        image = _panel(ax, rows, names, _layers(table, depth), norm)
        method = verbatim(shown[key])
        ax.set_title(headings[key] if has_controls else method, fontsize=8.5)
        ax.set_ylabel("" if column else f"{method}\n{ax.get_ylabel()}" if has_controls else ax.get_ylabel())
        ax.set_xlabel("training" if row == n_rows - 1 else "")
    figure = figure_of(grid[0][0])
    bar = figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.9, aspect=30)
    label_height(bar.ax, label)
    return figure


def _places(titles: Mapping[tuple[str, str], str]) -> tuple[dict[tuple[str, str], tuple[int, int]], int]:
    """Return row and column of each panel, and the number of columns; the panels of a method begin a row."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for key in titles:
        panels.setdefault(key[0], []).append(key)
    most = fitting(max(map(len, panels.values())), 1.4)
    places: dict[tuple[str, str], tuple[int, int]] = {}
    row = 0
    for keys in panels.values():
        places |= {key: (row + k // most, k % most) for k, key in enumerate(keys)}
        row += -(-len(keys) // most)
    return places, most


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
    verdicts, is_far = rows["verdict"].to_numpy(), np.abs(values[y, x]) > 0.6 * float(norm.vmax or 1.0)
    undecided = [
        [(column - 0.5, row - 0.5), (column + 0.5, row - 0.5), (column + 0.5, row + 0.5), (column - 0.5, row + 0.5)]
        for column, row in zip(x[verdicts == "undecided"], y[verdicts == "undecided"], strict=True)
    ]
    ax.add_collection(
        PolyCollection(undecided, facecolor="none", edgecolor="0.55", hatch="///", linewidth=0), autolim=False
    )
    for verdict, mark in _MARKS.items():
        for colour, chosen in (("white", is_far), ("0.15", ~is_far)):
            here = chosen & (verdicts == verdict)
            ax.plot(x[here], y[here], linestyle="none", marker=mark, markersize=4.5, markeredgewidth=0, color=colour)
    ax.grid(visible=False)
    ax.set_xticks(range(len(steps)), [verbatim(name) for name in names.values()], fontsize=7.5)
    if len(steps) > _MOST_LEVEL:
        for label in ax.get_xticklabels():
            label.set(rotation=45, horizontalalignment="right")
    label_layers(ax.yaxis, layers)
    return image


def plot_effects_by_layer(
    table: pd.DataFrame,
    titles: Mapping[tuple[str, str], str],
    *,
    label: str,
    smallest: float,
    among: Sequence[str] | Mapping[str, LineStyle] | None = None,
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
    among : sequence of str, or dict of str to LineStyle, optional
        All methods and controls in the order of their styles, or the styles themselves; by default those of the titles.
        A contrast with a control has the style of the control. A total has that of its method if there are no controls,
        and is dark otherwise.
    """
    methods = list(dict.fromkeys(method for method, _ in titles))
    n_columns = fitting(len(methods), 3.0)
    n_rows = -(-len(methods) // n_columns)
    panels = axes_grid(n_rows, n_columns, min(14.0, 5.2 * n_columns + 0.5), 3.4 * n_rows, share_y=True)
    grid = list(panels.flat)
    for ax in grid[len(methods) :]:
        ax.set_axis_off()
    has_controls = any(control for _, control in titles)
    arms = method_styles(among or list(dict.fromkeys([arm for key in titles for arm in key if arm])))
    for ax, method in zip(grid, methods, strict=False):
        for k, key in enumerate(each for each in titles if each[0] == method):
            rows = table[(table["method"] == key[0]) & (table["control"].fillna("") == key[1])]
            shift = 0.08 * k
            ax.errorbar(
                rows["depth"] + shift,
                rows["difference"],
                yerr=rows["difference"] - rows["band_low"],
                label=verbatim(titles[key]),
                **(arms[key[1]] if key[1] else _INK if has_controls else arms[method]).look,
                markersize=3,
                linewidth=1.2,
                elinewidth=0.8,
                capsize=1.5,
            )
        ax.axhspan(-smallest, smallest, color="0.85", zorder=0, linewidth=0)
        ax.axhline(0.0, color="0.4", linestyle=":", linewidth=1)
        ax.set_title(verbatim(shorten([method])[0]), fontsize=9)
        label_layers(ax.xaxis, _layers(table, int(table["depth"].max())), start=1.0)
    if has_controls:
        place_legend(grid[0], list(dict.fromkeys(titles.values())))
    for row in panels:
        label_height(row[0], label)
    lay_out(figure_of(grid[0]))  # so that the label has room beside the final ticks
    return figure_of(grid[0])
