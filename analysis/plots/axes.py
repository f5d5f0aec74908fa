"""What the plots share: figures without global state, and axes that count layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repsim.similarity.drawing import ShownAxes

__all__ = ["MARKERS", "axes_grid", "colours", "figure_of", "label_layers", "layer_names", "new_axes", "verbatim"]

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Return the axes of a new figure of the given size in inches."""
    return axes_grid(1, 1, width, height)[0][0]


def axes_grid(n_rows: int, n_columns: int, width: float, height: float, *, share_y: bool = False) -> Any:
    """Return a 2-D array of the axes of a new figure of the given size in inches; rows may share their y axes."""
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(width, height), layout="constrained")
        shown = {"axes_class": ShownAxes}
        return figure.subplots(n_rows, n_columns, squeeze=False, sharey="row" if share_y else False, subplot_kw=shown)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes stand on."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made on figures, and nothing here takes them off
    return figure


def colours(labels: Sequence[str]) -> dict[str, Any]:
    """Return a colour for each label that people with colour blindness can tell apart."""
    return dict(zip(labels, sns.color_palette("colorblind", max(len(labels), 1)), strict=False))


def verbatim(name: str) -> str:
    r"""Return a name so that matplotlib shows it as it is: no mathematics between dollars, no hidden legend entry.

    Examples
    --------
    >>> verbatim("a$b$")
    'a\\$b\\$'
    """
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


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


def label_layers(axis: Any, layers: Sequence[str], *, start: float = 0.0, most: int = 10) -> None:
    """Put layer names on a matplotlib axis on which layer i lies at ``start + i``, at most about ``most`` of them."""
    names, title = layer_names(layers)
    stride = -(-len(names) // most)
    shown = list(range(stride - 1, len(names), stride)) if stride > 1 else list(range(len(names)))
    if stride > 1 and 0 not in shown:
        shown = [0, *shown]
    axis.set_ticks([start + i for i in shown], labels=[names[i] for i in shown])
    axis.set_label_text(title)
