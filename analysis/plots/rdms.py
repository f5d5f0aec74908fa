"""Images of representational dissimilarity matrices, with classes on the axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from analysis.plots.axes import axes_grid, figure_of, layer_names, new_axes, verbatim
from repsim.similarity.drawing.figure_axes import mark_undefined, name_ticks, show_matrix, write_key
from repsim.similarity.drawing.labels import cut_names, family_for, fit, printable, shorten, width_of
from repsim.similarity.drawing.paper import paper_width

__all__ = ["plot_rdm", "plot_rdm_grid"]

_MOST_PIXELS = 300
_SHOWN_PIXELS = 175  # of a matrix in a grid on a screen, which is about 1.15 inches wide
_MOST_LINES = 40  # between classes; above, they would hide the matrix
_CELL = 0.95 * 72  # points, about the width of a matrix in a grid
_MOST_NAME_LINES = 3


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
    Above 300 stimuli, neighbouring cells are averaged for display. Undefined cells are hatched in grey.
    """
    ax = ax if ax is not None else new_axes(4.8, 4.0)
    _draw_rdm(ax, rdm, labels, classes, limits if limits is not None else _range(rdm))
    mark_undefined([ax])
    return ax


def _draw_rdm(
    ax: Axes,
    rdm: NDArray[Any],
    labels: NDArray[np.int64],
    classes: Mapping[int, str],
    limits: tuple[float, float],
    pixels: int = _MOST_PIXELS,
) -> dict[str, str]:
    """Draw one matrix; return the full name of each class whose label was cut."""
    n = len(labels)
    low, high = limits
    cmap = sns.color_palette("mako", as_cmap=True)
    show_matrix(ax, _shrink(_square(rdm), pixels), cmap=cmap, vmin=low, vmax=high, extent=(0, n, n, 0))
    edges = [int(edge) + 1 for edge in np.flatnonzero(np.diff(labels))]
    if len(edges) <= _MOST_LINES:
        lines = [[(0, edge), (n, edge)] for edge in edges] + [[(edge, 0), (edge, n)] for edge in edges]
        ax.add_collection(LineCollection(lines, color="white", linewidth=0.3, alpha=0.6), autolim=False)
    starts, stops = [0, *edges], [*edges, n]
    centres = [(start + stop) / 2 for start, stop in zip(starts, stops, strict=True)]
    names = [classes[int(labels[start])] for start in starts]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_tick_params(length=0, labelsize=7.0)
    cut = name_ticks(ax.yaxis, names, centres)
    short = {whole: label for label, whole in cut.items()}  # the same labels on both axes
    again = name_ticks(ax.xaxis, [short.get(name, name) for name in names], centres)
    return cut | {label: cut.get(name, name) for label, name in again.items()}


def _square(rdm: NDArray[Any]) -> NDArray[Any]:
    """Return the square matrix; a stimulus without any defined distance has none to itself either."""
    square = squareform(np.asarray(rdm, dtype=np.float64), checks=False)
    alone = np.isnan(square).sum(axis=0) >= len(square) - 1
    square[alone, alone] = np.nan
    return np.asarray(square)


def _range(rdm: NDArray[Any]) -> tuple[float, float]:
    defined = rdm[np.isfinite(rdm)]
    return (float(defined.min()), float(defined.max())) if defined.size else (0.0, 1.0)


def plot_rdm_grid(
    rdms: Mapping[str, Mapping[str, NDArray[Any]]],
    labels: NDArray[np.int64],
    classes: Mapping[int, str],
    *,
    distance: str = "correlation distance",
) -> Figure:
    """Draw matrices on one colour scale: one row per network and one column per layer.

    Parameters
    ----------
    rdms : mapping of view to mapping of layer to condensed matrix
    labels : int array, shape (n,), ascending
    classes : mapping of int to str
    distance : str
        Label of the colour bar.
    """
    n_columns = max(len(row) for row in rdms.values())
    width = 1.15 * n_columns + 1.6
    grid = axes_grid(len(rdms), n_columns, width, 1.2 * len(rdms) + 0.7)
    figure = figure_of(grid[0][0])
    paper = paper_width()
    pixels, cell = (_SHOWN_PIXELS, _CELL) if paper is None else (_MOST_PIXELS, 0.8 * 72 * (paper - 0.9) / n_columns)
    high = _highest([matrix for row in rdms.values() for matrix in row.values()])
    if paper is not None:  # as high as square matrices of this width are
        figure.set_figheight(len(rdms) * ((paper - 0.9) / n_columns + 0.08) + 0.7)
    views, cut = _wrap(list(rdms), cell)
    titles = list[str]()
    for place, matrices in enumerate(rdms.values()):
        names, axis_title = layer_names(list(matrices))
        shown = fit(names, cell, 9.0)
        for column, ax in enumerate(grid[place]):
            if column >= len(matrices):
                ax.set_axis_off()
                continue
            cut |= _draw_rdm(ax, list(matrices.values())[column], labels, classes, (0.0, high), pixels)
            ax.xaxis.set_tick_params(labelbottom=place == len(rdms) - 1)
            ax.yaxis.set_tick_params(labelleft=column == 0)
            if names != titles:
                ax.set_title(verbatim(shown[column]), fontsize=9, family=family_for(shown))
        titles, cut = names, cut | cut_names(names, shown)
        grid[place][0].set_ylabel(views[place], fontsize=9, family=family_for(views))
    figure.suptitle(verbatim(shorten([axis_title])[0]), fontsize=9)
    bar = figure.colorbar(grid[0][0].images[0], ax=grid, shrink=0.8, pad=0.01, extend="max")
    bar.set_label(verbatim(distance), fontsize=9)
    mark_undefined([ax for ax in grid.flat if ax.images])
    write_key(figure, cut)
    return figure


def _wrap(names: Sequence[str], cell: float) -> tuple[list[str], dict[str, str]]:
    """Return labels of rows, in several lines if a name is long, and the full name of each that had to be cut."""
    wrapped = [_lines(printable(name), cell) for name in names]
    shown = [[label] if lines is None else lines for lines, label in zip(wrapped, fit(names, cell, 9.0), strict=True)]
    cut = {lines[0]: name for lines, whole, name in zip(shown, wrapped, names, strict=True) if whole is None}
    return ["\n".join(map(verbatim, lines)) for lines in shown], cut


def _lines(text: str, cell: float) -> list[str] | None:
    """Break a name after its separators into as few and as even lines as fit a row; None if that takes too many."""
    parts = re.findall(r"[^\s/_.,-]*[\s/_.,-]+|[^\s/_.,-]+", text)
    if width_of([text]) * 9.0 > _MOST_NAME_LINES * cell:
        return None
    for count in range(1, _MOST_NAME_LINES + 1):
        breaks = [(0, *inner, len(parts)) for inner in combinations(range(1, len(parts)), count - 1)]
        ways = [["".join(parts[start:stop]).rstrip() for start, stop in pairwise(places)] for places in breaks]
        best = min(ways, key=width_of, default=[text])
        if width_of(best) * 9.0 <= cell:
            return best
    return None


def _highest(matrices: Sequence[NDArray[Any]]) -> float:
    """Return the largest 99th percentile, or 1 if no distance is defined."""
    defined = [matrix[np.isfinite(matrix)] for matrix in matrices]
    return max((float(np.percentile(distances, 99)) for distances in defined if distances.size), default=1.0)


def _shrink(image: NDArray[Any], most: int) -> NDArray[Any]:
    """Average the defined cells of square blocks until at most so many remain on a side."""
    block = -(-len(image) // most)
    if block == 1:
        return image
    starts = np.arange(0, len(image), block)
    defined = np.isfinite(image)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1)
        for values in (np.where(defined, image, 0.0), defined.astype(float))
    )
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
