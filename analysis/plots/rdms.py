"""Representational dissimilarity matrices as images, classes marked on the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from analysis.plots.axes import axes_grid, figure_of, layer_names, new_axes, verbatim

__all__ = ["plot_rdm", "plot_rdm_grid"]

_MOST_PIXELS = 300


def plot_rdm(
    rdm: NDArray[Any],
    labels: NDArray[np.int64],
    classes: Mapping[int, str],
    *,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one matrix with the stimuli in order of their labels.

    Parameters
    ----------
    rdm : array, condensed (n(n-1)/2,)
    labels : int array, shape (n,), ascending
    classes : mapping of int to str
        Name of each label.
    limits : (float, float), optional
        Colour scale; the matrix's own range by default.
    ax : Axes, optional

    Notes
    -----
    Above 300 stimuli, neighbouring cells are averaged for display.
    """
    ax = ax if ax is not None else new_axes(4.8, 4.0)
    n = len(labels)
    low, high = limits if limits is not None else (float(np.nanmin(rdm)), float(np.nanmax(rdm)))
    image = _shrink(squareform(rdm, checks=False))
    cmap = sns.color_palette("mako", as_cmap=True)
    ax.imshow(image, cmap=cmap, vmin=low, vmax=high, extent=(0, n, n, 0), interpolation="nearest")
    edges = [int(edge) + 1 for edge in np.flatnonzero(np.diff(labels))]
    for edge in edges:
        ax.axhline(edge, color="white", linewidth=0.3, alpha=0.6)
        ax.axvline(edge, color="white", linewidth=0.3, alpha=0.6)
    starts, stops = [0, *edges], [*edges, n]
    centres = [(start + stop) / 2 for start, stop in zip(starts, stops, strict=True)]
    names = [verbatim(classes[int(labels[start])]) for start in starts]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(centres, labels=names)
        axis.set_tick_params(length=0, labelsize=7)
    ax.grid(visible=False)
    return ax


def plot_rdm_grid(
    rdms: Mapping[str, Mapping[str, NDArray[Any]]],
    labels: NDArray[np.int64],
    classes: Mapping[int, str],
    *,
    distance: str = "correlation distance",
) -> Figure:
    """Draw matrices on one colour scale: a row a network, a column a layer.

    Parameters
    ----------
    rdms : mapping of view to mapping of layer to condensed matrix
    labels : int array, shape (n,), ascending
    classes : mapping of int to str
    distance : str
        Name of the colour bar.
    """
    n_columns = max(len(row) for row in rdms.values())
    grid = axes_grid(len(rdms), n_columns, 1.15 * n_columns + 1.6, 1.2 * len(rdms) + 0.7)
    figure = figure_of(grid[0][0])
    high = _highest([matrix for row in rdms.values() for matrix in row.values()])
    titles: list[str] = []
    for place, (view, matrices) in enumerate(rdms.items()):
        row = grid[place]
        names, axis_title = layer_names(list(matrices))
        for column, ax in enumerate(row):
            if column >= len(matrices):
                ax.set_axis_off()
                continue
            plot_rdm(list(matrices.values())[column], labels, classes, limits=(0.0, high), ax=ax)
            ax.xaxis.set_tick_params(labelsize=5, labelbottom=place == len(rdms) - 1)
            ax.yaxis.set_tick_params(labelsize=5, labelleft=column == 0)
            if names != titles:
                ax.set_title(names[column], fontsize=9)
        titles = names
        row[0].set_ylabel(verbatim(view), fontsize=9)
    figure.suptitle(axis_title, fontsize=9)
    images = grid[0][0].images[0]
    bar = figure.colorbar(images, ax=grid, shrink=0.8, pad=0.01, extend="max")
    bar.set_label(distance, fontsize=9)
    return figure


def _highest(matrices: Sequence[NDArray[Any]]) -> float:
    """Return the largest 99th percentile, or 1 if no distance is defined."""
    defined = [matrix[np.isfinite(matrix)] for matrix in matrices]
    return max((float(np.percentile(distances, 99)) for distances in defined if distances.size), default=1.0)


def _shrink(image: NDArray[Any]) -> NDArray[Any]:
    """Average square blocks until at most _MOST_PIXELS remain on a side; a last partial block is kept."""
    block = -(-len(image) // _MOST_PIXELS)
    if block == 1:
        return image
    starts = np.arange(0, len(image), block)
    counts = np.diff(np.r_[starts, len(image)])
    sums = np.add.reduceat(np.add.reduceat(image, starts, axis=0), starts, axis=1)
    return np.asarray(sums / np.outer(counts, counts))
