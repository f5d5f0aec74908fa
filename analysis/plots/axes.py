"""Figures without global state, and axes of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from textwrap import wrap
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from repsim.similarity.drawing.figure_axes import ShownAxes, figure_of, name_ticks
from repsim.similarity.drawing.labels import shorten, verbatim, width_of
from repsim.similarity.drawing.paper import new_figure, paper_width

__all__ = [
    "axes_grid",
    "figure_of",
    "fitting",
    "label_height",
    "label_layers",
    "layer_names",
    "new_axes",
    "show_constant",
    "verbatim",
    "whole_numbers",
]


_BETWEEN = 1.0  # between labels of ticks, in units of their size
_MOST_WHOLE = 12  # ticks


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Return the axes of a new figure of the given size in inches."""
    return axes_grid(1, 1, width, height)[0][0]


def axes_grid(n_rows: int, n_columns: int, width: float, height: float, *, share_y: bool = False) -> Any:
    """Return a 2-D array of the axes of a new figure of the given size in inches; rows may share their y axes."""
    with sns.axes_style("whitegrid"):
        figure = new_figure(width, height, n_rows)
        shown = {"axes_class": ShownAxes}
        return figure.subplots(n_rows, n_columns, squeeze=False, sharey="row" if share_y else False, subplot_kw=shown)


def fitting(n_panels: int, width: float, most: int | None = None) -> int:
    """Return how many panels of a width in inches stand in a row: in the style for papers, as many as fit."""
    most = n_panels if most is None else min(n_panels, most)
    fixed = paper_width()
    return most if fixed is None else max(1, min(most, int(fixed / width)))


def show_constant(axes: Iterable[Axes]) -> None:
    """Give axes on which all curves are constant a range of sensible numbers, and every axis numbers without offset.

    Differences below a millionth of the values are the rounding of numbers, and would fill the axes otherwise.
    """
    for ax in axes:
        ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        low, high = ax.dataLim.intervaly
        largest = max(abs(low), abs(high))
        if np.isfinite(largest) and high - low <= max(1e-6 * largest, 1e-12):
            middle = (low + high) / 2 if largest > 1e-12 else 0.0
            ax.set_ylim(middle - (margin := 0.05 * abs(middle) or 0.05), middle + margin)


def label_height(ax: Axes, text: str) -> None:
    """Label the y-axis, in several lines if the label is longer than the axis is high."""
    size = float(ax.yaxis.label.get_fontsize())
    room = ax.bbox.height * 72.0 / figure_of(ax).dpi
    n_lines = ceil(width_of(text.split("\n")) * size / max(0.75 * room, 1.0))
    lines = (
        text.split("\n")
        if n_lines < 2
        else wrap(text, ceil(1.15 * len(text) / n_lines), break_long_words=False, break_on_hyphens=False)
    )
    ax.set_ylabel("\n".join(lines))


def whole_numbers(ax: Axes) -> None:
    """Put the ticks of the x-axis at whole numbers: two or more, or one if it shows one only."""
    low, high = ax.dataLim.intervalx
    ax.xaxis.set_major_locator(_WholeNumbers(min_n_ticks=1 if low == high else 2))
    if low == high:
        ax.set_xlim(low - 0.5, high + 0.5)


class _WholeNumbers(MaxNLocator):
    """Ticks at as many whole numbers, at even distances, as there is room for in the current size of the axes."""

    def __init__(self, min_n_ticks: int) -> None:
        super().__init__("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=min_n_ticks)

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the ticks of a range."""
        ax = self.axis.axes  # type: ignore[union-attr]
        size = float(self.axis.get_major_ticks(1)[0].label1.get_fontsize())  # type: ignore[union-attr]
        needed = (width_of([f"{max(abs(vmin), abs(vmax)):.0f}"]) + _BETWEEN) * size  # points
        self.set_params(nbins=max(1, min(_MOST_WHOLE, int(ax.bbox.width * 72.0 / figure_of(ax).dpi / needed))))
        return super().tick_values(vmin, vmax)


def layer_names(layers: Sequence[str]) -> tuple[list[str], str]:
    """Return short tick labels for layers and the name of their axis.

    Examples
    --------
    >>> layer_names(["hidden.1", "hidden.2"])
    (['1', '2'], 'hidden layer')
    """
    prefixes = {name.rpartition(".")[0] for name in layers}
    if len(prefixes) == 1 and (prefix := prefixes.pop()):
        return [name.rpartition(".")[2] for name in layers], f"{prefix.replace('.', ' ')} layer"
    return list(layers), "layer"


def label_layers(axis: Any, layers: Sequence[str], *, start: float = 0.0) -> dict[str, str]:
    """Label layer i at ``start + i`` on a matplotlib axis, for as many layers as there is room for.

    Return the full name of each label that was cut.
    """
    names, title = layer_names(layers)
    cut = name_ticks(axis, names, [start + i for i in range(len(names))])
    axis.set_label_text(verbatim(shorten([title])[0]))
    return cut
