"""Figures without global state, and axes of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repsim.similarity.drawing.figure_axes import ShownAxes, figure_of, name_ticks
from repsim.similarity.drawing.labels import shorten, verbatim

__all__ = ["axes_grid", "figure_of", "label_layers", "layer_names", "new_axes", "verbatim"]


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Return the axes of a new figure of the given size in inches."""
    return axes_grid(1, 1, width, height)[0][0]


def axes_grid(n_rows: int, n_columns: int, width: float, height: float, *, share_y: bool = False) -> Any:
    """Return a 2-D array of the axes of a new figure of the given size in inches; rows may share their y axes."""
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(width, height), layout="constrained")
        shown = {"axes_class": ShownAxes}
        return figure.subplots(n_rows, n_columns, squeeze=False, sharey="row" if share_y else False, subplot_kw=shown)


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
