"""How results draw themselves; importing this imports matplotlib, which importing `repsim` does not.

Figures are no part of pyplot's state: nothing has to be closed, and no style of the user is changed. Axes made here
show themselves where they are the last value of a notebook's cell.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from repsim.similarity.arrays import FloatArray

__all__ = ["ShownAxes", "bars", "beside_null", "heat_map", "intervals", "new_axes", "verbatim"]

_MOST_TICKS = 30


class ShownAxes(Axes):
    """Axes that a notebook shows as the picture of their figure."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None
        figure.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


def new_axes(width: float = 5.6, height: float = 4.0) -> Axes:
    """Return the axes of a new figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.add_subplot(axes_class=ShownAxes)


def verbatim(name: str) -> str:
    r"""Return a name so that matplotlib shows it as it is: no mathematics between dollars, no hidden legend entry.

    Examples
    --------
    >>> verbatim("a$b$")
    'a\\$b\\$'
    """
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def heat_map(
    values: FloatArray, rows: Sequence[str], columns: Sequence[str], label: str, ax: Axes | None = None
) -> Axes:
    """Draw a matrix, its first row at the top, with a colour bar; NaN is left blank.

    Parameters
    ----------
    values : array (n_rows, n_columns)
    rows, columns : sequence of str
        Above 30 only every second, third, ... is named.
    label : str
        Of the colour bar.
    ax : Axes, optional
    """
    ax = new_axes() if ax is None else ax
    image = ax.imshow(np.ma.masked_invalid(values), cmap="viridis", interpolation="nearest", aspect="auto")
    _name_ticks(ax.yaxis, rows)
    _name_ticks(ax.xaxis, columns)
    ax.xaxis.set_tick_params(rotation=90)
    ax.grid(visible=False)
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label=verbatim(label))
    return ax


def intervals(
    ax: Axes, names: Sequence[str], values: ArrayLike, low: ArrayLike, high: ArrayLike, *, label: str
) -> None:
    """Draw one point with its interval a row, the first name at the top.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    values, low, high : array-like (n,)
        Where an end is NaN there is no interval.
    label : str
        For the legend.
    """
    places = np.arange(len(names))
    values, low, high = (np.asarray(each, dtype=np.float64) for each in (values, low, high))
    ax.hlines(places, low, high, color="C0", linewidth=2)
    ax.plot(values, places, "o", color="C0", label=verbatim(label))
    _name_ticks(ax.yaxis, names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def beside_null(names: Sequence[str], values: FloatArray, null: FloatArray, label: str, ax: Axes | None) -> Axes:
    """Draw values over the central 95 % of what chance gives, one row a name.

    Parameters
    ----------
    names : sequence of str
    values : array (n,)
    null : array (n_permutations, n)
    label : str
    ax : Axes or None
    """
    ax = new_axes() if ax is None else ax
    low, high = np.percentile(null, [2.5, 97.5], axis=0)
    ax.hlines(np.arange(len(names)), low, high, color="0.8", linewidth=6, label="95 % of permutations", zorder=0)
    intervals(ax, names, values, values, values, label="observed")
    ax.set_xlabel(verbatim(label))
    ax.legend()
    return ax


def bars(names: Sequence[str], values: Sequence[float], label: str, ax: Axes | None) -> Axes:
    """Draw one bar a name, the first at the top.

    Parameters
    ----------
    names : sequence of str
    values : sequence of float
    label : str
    ax : Axes or None
    """
    ax = new_axes() if ax is None else ax
    ax.barh(np.arange(len(names)), values)
    _name_ticks(ax.yaxis, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(verbatim(label))
    return ax


def _name_ticks(axis: Any, names: Sequence[str]) -> None:
    stride = max(1, -(-len(names) // _MOST_TICKS))
    places = range(0, len(names), stride)
    axis.set_ticks(list(places), labels=[verbatim(str(names[k])) for k in places])
