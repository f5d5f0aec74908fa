"""Axes of figures: sizes, names on ticks, legends, matrices with undefined cells.

Figures are not part of the state of pyplot: they need not be closed, and the user's style is not changed. Axes made
here are displayed if they are the last value of a notebook cell, and are enlarged if names need space; the size of axes
that the caller passes is not changed.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import Formatter, Locator
from numpy.typing import ArrayLike

from repsim.similarity.drawing.labels import cut_names, family_for, fit, printable, shorten, verbatim, width_of
from repsim.similarity.drawing.paper import PaperFigure, new_figure
from repsim.similarity.precision import FloatArray

__all__ = [
    "ShownAxes",
    "figure_of",
    "lay_out",
    "legend_labels",
    "mark_undefined",
    "name_rows",
    "name_ticks",
    "new_axes",
    "place_legend",
    "show_matrix",
    "write_key",
]

_POINTS = 72.0  # in an inch
_MOST_TICKS = 40
_FEWEST_FLAT_TICKS, _MOST_FLAT_TICKS = 8, 10  # beside one another, not rotated
_STRIDES = [factor * 10**power for power in range(7) for factor in (1, 2, 5)]
_SHARE = 0.4  # of the axes that tick labels may take away
_SMALL = 0.833  # of the font, where tick labels are rotated
_SMALLEST = 7.0  # points
# In units of the font size:
_GAP = 0.6  # between tick labels
_LINE, _TALL_LINE = 1.35, 1.7  # heights of a line, without and with fonts of other scripts
_NARROW = 3.5  # width up to which a tick label is never rotated
_WIDEST_INSIDE = 18.0  # width of an entry of a legend inside the axes
_HANDLE = 4.5  # width of what is before and after the text of an entry

_MOST_INSIDE = 8  # entries of a legend inside the axes
_MOST_ENTRIES = 60
_MOST_ROWS = 10  # of a legend above a figure for a paper
_MOST_CHARACTERS = 40  # of a name in a legend
_MOST_KEYS = 8
_KEY_SIZE, _PAPER_KEY_SIZE = 6.0, 7.0  # points
_UNDEFINED: dict[str, Any] = {"facecolor": "0.8", "edgecolor": "0.5", "hatch": "////", "linewidth": 0.0}


class ShownAxes(Axes):
    """Axes that a notebook displays as an image of their figure."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        figure_of(self).savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


def new_axes(width: float = 5.6, height: float = 4.0) -> Axes:
    """Return the axes of a new figure of a size in inches."""
    return new_figure(width, height).add_subplot(axes_class=ShownAxes)


# Ticks


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Label rows at the heights 0, 1, 2, …, the first at the top."""
    size = _font_size(ax.yaxis)
    _grow(ax, height=min(_LINE * size * len(names), 10 * _POINTS) - _room(ax)[1])
    name_ticks(ax.yaxis, names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def name_ticks(axis: Any, names: Sequence[str], places: ArrayLike | None = None) -> dict[str, str]:
    """Label places on an axis with names; when the figure is drawn, as many as fit are shown.

    Long names are cut so that the axes keep most of the figure, and rotated if more of them fit this way. If the figure
    was made here and has no other axes, the whole names are written below it. Return the whole name of each shown label
    that was cut.
    """
    size = _font_size(axis)
    width, height = _room(axis.axes)
    most = _MOST_TICKS
    if axis.axis_name == "y":
        labels = fit(names, _SHARE * width, size)
    elif _lie_flat(names, width / size):
        labels, most = shorten(names), _MOST_FLAT_TICKS
    else:
        size = max(_SMALL * size, min(size, _SMALLEST))
        _grow(axis.axes, height=min(width_of(shorten(names, 24)) * size - _SHARE * height, height / 2))
        labels = fit(names, _SHARE * _room(axis.axes)[1], size, most=24)
        axis.set_tick_params(rotation=90, labelsize=size)
    shown = [verbatim(label) for label in labels]
    ticks = np.arange(len(names), dtype=float) if places is None else np.asarray(places, dtype=float)
    axis.set_tick_params(labelfontfamily=family_for(shown))
    axis.set_major_locator(_Thinned(ticks, shown, most))
    axis.set_major_formatter(_Named(ticks, shown))
    named = np.isin(ticks, axis.get_majorticklocs())
    cut = cut_names(
        *([each for each, is_named in zip(all_, named, strict=True) if is_named] for all_ in (names, labels))
    )
    if figure_of(axis.axes).axes == [axis.axes]:
        write_key(figure_of(axis.axes), cut)
    return cut


def _lie_flat(names: Sequence[str], width: float) -> bool:
    """Return whether names are shown without rotation: they fit, are short, or only a few can be shown anyway."""
    widest = width_of(shorten(names))
    n_fitting = width / (widest + _GAP)
    return (
        widest <= _NARROW or n_fitting >= len(names) or (len(names) > _MOST_TICKS and n_fitting >= _FEWEST_FLAT_TICKS)
    )


class _Thinned(Locator):
    """Ticks at as many of the given places as have labels that do not overlap in the current size of the axes."""

    def __init__(self, places: FloatArray, labels: Sequence[str], most: int) -> None:
        self.places, self.most = places, most
        self.widest = width_of(labels)
        self.line = _TALL_LINE if any(max(label, default=" ") > "\u024f" for label in labels) else _LINE

    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of the ticks for the current size of the axes."""
        n, span = len(self.places), abs(vmax - vmin)
        if n < 2 or not span:
            return self.places
        scale = self._length() / span  # points for each unit of the axis
        spacing = scale * (self.places[-1] - self.places[0]) / (n - 1)
        stride = max(1, math.ceil(n / self.most), math.ceil(self._needed() / spacing))
        stride = stride if n <= 20 else next(nice for nice in _STRIDES if nice >= stride)
        return self._apart(range(stride - 1, n, stride), self._needed() / scale)

    def _apart(self, chosen: Sequence[int], distance: float) -> FloatArray:
        """Return the chosen places and the first, without those closer than a distance to the previous place."""
        apart: list[float] = []
        for place in self.places[list(chosen)]:
            if not apart or place - apart[-1] >= distance:
                apart.append(float(place))
        first = float(self.places[0])
        return np.array(apart if apart and apart[0] - first < distance else [first, *apart])

    def _length(self) -> float:
        width, height = _room(self.axis.axes)  # type: ignore[union-attr]
        return width if self._is_x() else height

    def _is_x(self) -> bool:
        return bool(self.axis.axis_name == "x")  # type: ignore[union-attr]

    def _needed(self) -> float:
        """Return the space that a label needs along the axis, in points."""
        label = self.axis.get_major_ticks(1)[0].label1  # type: ignore[union-attr]
        is_along = self._is_x() and label.get_rotation() % 180 == 0
        return _font_size(self.axis) * (self.widest + _GAP if is_along else self.line)


class _Named(Formatter):
    """Names at given places, and no label elsewhere."""

    def __init__(self, places: FloatArray, labels: Sequence[str]) -> None:
        self.labels = dict(zip(np.round(places, 6).tolist(), labels, strict=True))

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.labels.get(round(float(x), 6), "")


# Legends and the key


def legend_labels(names: Sequence[str]) -> dict[str, str]:
    """Return the label of each name in a legend: cut if it is long, and escaped for matplotlib."""
    return dict(zip(names, map(verbatim, shorten(names, _MOST_CHARACTERS)), strict=True))


def place_legend(ax: Axes, names: Sequence[str] = (), *, size: str = "small") -> None:
    """Add a legend outside the axes: to the right in columns, or above them in a figure for a paper.

    The legend of a figure that was made here is beside all of its axes, and names that were cut are written below it.
    On axes of another figure, a legend of few entries is where matplotlib finds the most room.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    figure, font = figure_of(ax), _font(labels, size)
    write_key(figure, cut_names(names, shorten(names, _MOST_CHARACTERS)))
    points, widest = float(font.get_size_in_points()), width_of(labels)
    look: dict[str, Any] = {"frameon": False, "prop": font}
    if isinstance(figure, PaperFigure):
        n_columns = max(1, int(_POINTS * figure.get_figwidth() / (points * (widest + _HANDLE))))
        handles, labels = _counted(handles, labels, _MOST_ROWS * n_columns)
        n_rows = math.ceil(len(handles) / n_columns)
        figure.set_figheight(figure.get_figheight() + (n_rows * 1.5 * points + 4.0) / _POINTS)
        figure.legend(handles, labels, loc="outside upper center", ncols=math.ceil(len(handles) / n_rows), **look)
        return
    if not _is_ours(figure) and len(handles) <= _MOST_INSIDE and widest <= _WIDEST_INSIDE:
        ax.legend(handles, labels, loc="best", prop=font)
        return
    handles, labels = _counted(handles, labels, _MOST_ENTRIES)
    height = _room(ax)[1] if figure.axes == [ax] else _POINTS * figure.get_figheight()
    n_columns = math.ceil(len(handles) / max(1, int(0.9 * height / (1.5 * points))))
    _grow(ax, width=points * (n_columns * (widest + _HANDLE) + 1), among_others=True)
    if figure.axes != [ax] and _is_ours(figure):
        figure.legend(handles, labels, loc="outside right upper", ncols=n_columns, **look)
    else:
        ax.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, ncols=n_columns, **look
        )


def _counted(handles: Sequence[Any], labels: Sequence[str], most: int) -> tuple[list[Any], list[str]]:
    """Return at most so many entries of a legend, of which the last counts those that are left out."""
    if len(handles) <= most:
        return list(handles), list(labels)
    rest = len(handles) - most + 1
    blank = Line2D([], [], linestyle="none")
    return [*handles[:-rest], blank], [*labels[:-rest], f"\u2026 and {rest} more"]


def write_key(figure: Figure, names: Mapping[str, str]) -> None:
    """Write at most 8 whole names of cut labels below a figure that was made here, and the number of the others."""
    written = figure.get_supxlabel()
    names = {label: name for label, name in names.items() if verbatim(f"{label} = ") not in written}
    if not names or not _is_ours(figure):
        return
    entries = [f"{label} = {printable(name)}" for label, name in names.items()]
    rest = len(entries) - _MOST_KEYS
    if rest > 0:
        entries = [*entries[:_MOST_KEYS], f"\u2026 and {rest} more shortened names"]
    size = _PAPER_KEY_SIZE if isinstance(figure, PaperFigure) else _KEY_SIZE
    em = max(width_of([entry]) / len(entry) for entry in entries)  # of a character of the widest
    width = max(int(0.95 * _POINTS * figure.get_figwidth() / (em * size)), 8)
    lines = [line for entry in entries for line in textwrap.wrap(entry, width, subsequent_indent="    ")]
    text = "\n".join(filter(None, [written, *map(verbatim, lines)]))
    font = _font(lines, size)
    figure.supxlabel(text, fontproperties=font, color="0.35", x=0.01, horizontalalignment="left")
    added = len(lines) * size * _LINE / _POINTS
    times = 1 if isinstance(figure, PaperFigure) else 2  # the axes grow as much as the key, to remain the larger part
    figure.set_figheight(figure.get_figheight() + times * added)
    if len(figure.axes) > 1 and not isinstance(figure, PaperFigure):  # square panels get higher only by getting wider
        figure.set_figwidth(figure.get_figwidth() + added)


def _font(texts: Sequence[str], size: str | float) -> FontProperties:
    return FontProperties(family=family_for(texts), size=size)


# Matrices


def show_matrix(ax: Axes, values: ArrayLike, **options: Any) -> AxesImage:
    """Draw a matrix as an image in which undefined cells (NaN) are hatched in grey; see `mark_undefined`."""
    masked = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
    image = ax.imshow(masked, interpolation="nearest", **options)
    ax.grid(visible=False)
    if masked.mask.any():
        ax.patch.set(**_UNDEFINED)
    return image


def mark_undefined(axes: Sequence[Axes]) -> None:
    """Add a legend entry for undefined cells, if matrices on these axes have any: to the axes, or to their figure."""
    images = [image for ax in axes for image in ax.images]
    if not any(np.ma.getmaskarray(cast("Any", image.get_array())).any() for image in images):
        return
    entry = [Patch(label="undefined", **_UNDEFINED)]
    if len(axes) == 1:
        axes[0].legend(
            handles=entry,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
            frameon=False,
            fontsize="small",
        )
    else:
        figure_of(axes[0]).legend(handles=entry, loc="outside lower right", frameon=False, fontsize="small")


# Sizes


def _room(ax: Axes) -> tuple[float, float]:
    """Return the current width and height of axes, in points."""
    points = _POINTS / figure_of(ax).dpi
    return float(ax.bbox.width * points), float(ax.bbox.height * points)


def _font_size(axis: Any) -> float:
    """Return the size of the tick labels of an axis, in points."""
    return float(axis.get_major_ticks(1)[0].label1.get_fontsize())


def _grow(ax: Axes, *, width: float = 0.0, height: float = 0.0, among_others: bool = False) -> None:
    """Enlarge the figure of axes by some points, if it was made here and has no other axes or these are allowed."""
    figure = figure_of(ax)
    if not _is_ours(figure) or (figure.axes != [ax] and not among_others):
        return
    width = 0.0 if isinstance(figure, PaperFigure) else width
    inches = max(width, 0.0) / _POINTS, max(height, 0.0) / _POINTS
    figure.set_size_inches(figure.get_figwidth() + inches[0], figure.get_figheight() + inches[1])


def lay_out(figure: Figure) -> None:
    """Give the axes of a figure their places once, so that what is drawn next knows the room that there is."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def _is_ours(figure: Figure) -> bool:
    return bool(figure.axes) and isinstance(figure.axes[0], ShownAxes)


def figure_of(ax: Axes) -> Figure:
    """Return the figure of axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are created on figures and never removed here
    return figure
