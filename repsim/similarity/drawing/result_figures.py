"""Figures of results: heat maps, intervals and bars. Importing this module imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from repsim.similarity.drawing.figure_axes import (
    figure_of,
    mark_undefined,
    name_rows,
    name_ticks,
    new_axes,
    place_legend,
    show_matrix,
)
from repsim.similarity.drawing.labels import verbatim
from repsim.similarity.precision import FloatArray

__all__ = ["bars", "beside_null", "heat_map", "intervals", "new_axes", "stimulus_map"]


def heat_map(
    values: FloatArray, rows: Sequence[str], columns: Sequence[str], label: str, ax: Axes | None = None
) -> Axes:
    """Draw a matrix, its first row at the top, with a colour bar; undefined cells (NaN) are hatched."""
    ax = new_axes() if ax is None else ax
    image = show_matrix(ax, values, cmap="viridis", aspect="auto")
    name_ticks(ax.yaxis, rows)
    name_ticks(ax.xaxis, columns)
    mark_undefined([ax])
    figure_of(ax).colorbar(image, ax=ax, label=verbatim(label))
    return ax


def stimulus_map(
    values: FloatArray, ids: ArrayLike | None, labels: ArrayLike | None, label: str, ax: Axes | None = None
) -> Axes:
    """Draw a matrix (n, n) of stimuli with a colour bar: by class if labels are given, otherwise in their order."""
    ax = new_axes() if ax is None else ax
    if labels is None:
        names = list(map(str, range(len(values)) if ids is None else np.asarray(ids).tolist()))
        places = np.arange(len(values), dtype=np.float64)
    else:
        order = np.argsort(np.asarray(labels), kind="stable")
        values, (classes, counts) = values[np.ix_(order, order)], np.unique(np.asarray(labels), return_counts=True)
        names, ends = list(map(str, classes.tolist())), np.cumsum(counts)
        places = ends - counts / 2 - 0.5
        for end in ends[:-1]:
            ax.axhline(end - 0.5, color="white", linewidth=0.5)
            ax.axvline(end - 0.5, color="white", linewidth=0.5)
    image = show_matrix(ax, values, cmap="viridis", aspect="equal")
    name_ticks(ax.yaxis, names, places)
    name_ticks(ax.xaxis, names, places)
    mark_undefined([ax])
    figure_of(ax).colorbar(image, ax=ax, label=verbatim(label))
    return ax


def intervals(
    ax: Axes, names: Sequence[str], values: ArrayLike, low: ArrayLike, high: ArrayLike, *, label: str
) -> None:
    """Draw one point with its interval per row, the first name at the top."""
    places = np.arange(len(names))
    values, low, high = (np.asarray(each, dtype=np.float64) for each in (values, low, high))
    ax.hlines(places, low, high, color="C0", linewidth=2)
    ax.plot(values, places, "o", color="C0", label=verbatim(label))
    name_rows(ax, names)


def beside_null(names: Sequence[str], values: FloatArray, null: FloatArray, label: str, ax: Axes | None) -> Axes:
    """Draw values over the central 95 % of their values under permutations, one row per name."""
    ax = new_axes() if ax is None else ax
    low, high = np.percentile(null, [2.5, 97.5], axis=0)
    ax.hlines(np.arange(len(names)), low, high, color="0.8", linewidth=6, label="95 % of permutations", zorder=0)
    intervals(ax, names, values, values, values, label="observed")
    ax.set_xlabel(verbatim(label))
    place_legend(ax)
    return ax


def bars(names: Sequence[str], values: Sequence[float], label: str, ax: Axes | None) -> Axes:
    """Draw one bar per name, the first at the top."""
    ax = new_axes() if ax is None else ax
    ax.barh(np.arange(len(names)), values)
    name_rows(ax, names)
    ax.set_xlabel(verbatim(label))
    return ax
