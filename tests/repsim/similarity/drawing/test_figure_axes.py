"""Axes with many, long and odd names: what can be read of them when they are drawn."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from repsim.similarity.drawing.figure_axes import (
    figure_of,
    legend_labels,
    mark_undefined,
    name_rows,
    name_ticks,
    new_axes,
    place_legend,
    show_matrix,
    write_key,
)

NAMES = {
    "few": ["a", "b", "c"],
    "numbers": [str(k) for k in range(1, 101)],
    "20 characters": [f"layer{i}_{j}_relu_output" for i in range(1, 5) for j in (0, 1)],
    "200 layers": [f"block_{k:03d}" for k in range(200)],
    "120 characters": [(f"encoder_{k}_" + "attention_output_" * 9)[:120] for k in range(6)],
    "wide": ["W" * 120, "M" * 90, "i"],
    "dollars": ["cost$_$in", "$a$", "_b"],
    "chinese": ["\u4e2d\u6587\u5c42\u540d" * 20, "\u4e2d"],
}


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


def overlaps(texts: list[Text]) -> int:
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return sum(a.overlaps(b) for a, b in pairwise(boxes))


def share(ax: Axes) -> float:
    """Return the part of the figure's height that axes fill."""
    return ax.get_window_extent().height / figure_of(ax).bbox.height


def shown(axis: object) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_neighbouring_labels_never_overlap_and_the_axes_stay_large(names: list[str]) -> None:
    for size in [(5.6, 4.0), (3.0, 2.5), (12.0, 3.0)]:
        ax = new_axes(*size)
        ax.plot(range(len(names)), range(len(names)))
        name_ticks(ax.xaxis, names)
        drawn(figure_of(ax))
        assert overlaps(ax.get_xticklabels()) == 0
        assert len(shown(ax.xaxis)) >= min(len(names), 2)
        assert share(ax) >= 0.5


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_rows_are_named_beside_the_axes(names: list[str]) -> None:
    ax = new_axes()
    name_rows(ax, names)
    drawn(figure_of(ax))
    assert overlaps(ax.get_yticklabels()) == 0
    assert ax.get_window_extent().width / figure_of(ax).bbox.width >= 0.4
    assert ax.yaxis_inverted()


def test_ticks_follow_the_size_of_the_figure() -> None:
    ax = new_axes()
    ax.set_xlim(0, 199)
    name_ticks(ax.xaxis, NAMES["200 layers"])
    few = len(shown(ax.xaxis))
    figure_of(ax).set_size_inches(24.0, 4.0)
    assert len(shown(ax.xaxis)) > few


def test_each_label_stands_at_its_place() -> None:
    ax = new_axes()
    ax.set_xlim(0, 400)
    names = NAMES["200 layers"]
    name_ticks(ax.xaxis, names, [2.0 * k for k in range(200)])
    for place, text in zip(ax.xaxis.get_ticklocs(), shown(ax.xaxis), strict=True):
        assert text == names[round(place / 2)]


def test_places_that_are_close_are_thinned_by_their_distance() -> None:
    ax = new_axes()
    ax.set_xlim(0, 100)
    name_ticks(ax.xaxis, ["aaaa", "bbbb", "cccc", "dddd"], [1.0, 2.0, 60.0, 61.0])
    drawn(figure_of(ax))
    assert overlaps(ax.get_xticklabels()) == 0
    assert len(shown(ax.xaxis)) == 2


def test_a_name_that_was_cut_is_explained_below_the_figure() -> None:
    ax = new_axes()
    ax.set_xlim(0, 5)
    cut = name_ticks(ax.xaxis, NAMES["120 characters"])
    assert len(cut) == len(set(cut.values())) == 6
    key = figure_of(ax).get_supxlabel().replace("\n    ", "").replace(" ", "")
    for label, name in cut.items():
        assert label in shown(ax.xaxis)
        assert f"{label}={name}" in key


def test_a_given_figure_keeps_its_size() -> None:
    figure = Figure(figsize=(3.0, 2.0))
    ax = figure.add_subplot()
    ax.set_xlim(0, 5)
    name_ticks(ax.xaxis, NAMES["120 characters"])
    ax.plot([1.0], label="x" * 100)
    place_legend(ax, ["x" * 100])
    assert tuple(figure.get_size_inches()) == (3.0, 2.0)
    assert figure.get_supxlabel() == ""


# Legends


@pytest.mark.parametrize("n", [1, 8, 9, 18, 30, 59, 100])
def test_a_legend_of_any_length_leaves_the_axes_large_and_free(n: int) -> None:
    ax = new_axes(6.4, 4.0)
    names = [f"run {k}" for k in range(n)]
    for name, label in legend_labels(names).items():
        ax.plot([0, 1], [0, int(name[4:])], label=label)
    place_legend(ax, names)
    drawn(figure_of(ax))
    legend, box = ax.get_legend(), ax.get_window_extent()
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == (names if n <= 60 else [*names[:59], "\u2026 and 41 more"])
    assert share(ax) >= 0.5
    assert box.width >= 0.75 * 6.4 * figure_of(ax).dpi * 0.9
    frame = legend.get_window_extent()
    assert not frame.overlaps(box)
    assert figure_of(ax).bbox.width >= frame.x1
    assert frame.y0 >= 0


def test_long_entries_are_cut_and_explained() -> None:
    ax = new_axes()
    names = ["a" * 90 + "x", "b" * 90]
    for label in legend_labels(names).values():
        ax.plot([0, 1], label=label)
    place_legend(ax, names)
    assert all(len(text.get_text()) <= 40 for text in ax.get_legend().get_texts())
    assert names[0] in figure_of(ax).get_supxlabel().replace("\n    ", "")


def test_axes_without_labelled_artists_have_no_legend() -> None:
    ax = new_axes()
    place_legend(ax)
    assert ax.get_legend() is None


def test_a_key_counts_omitted_names() -> None:
    ax = new_axes()
    write_key(figure_of(ax), {f"s{k}": "long" * 9 for k in range(11)})
    lines = figure_of(ax).get_supxlabel().split("\n")
    assert len(lines) == 9
    assert lines[-1] == "\u2026 and 3 more shortened names"
    height = figure_of(ax).get_figheight()
    write_key(figure_of(ax), {"s0": "long" * 9})  # is there already
    assert figure_of(ax).get_figheight() == height


@pytest.mark.parametrize("letter", ["i", "n", "W", "\u4e2d"])
def test_a_key_is_no_wider_than_its_figure(letter: str) -> None:
    figure = figure_of(new_axes(3.0, 3.0))
    write_key(figure, {"cut": 120 * letter})
    (key,) = drawn(figure).texts
    assert key.get_window_extent().x1 <= figure.bbox.x1


# Matrices


def test_undefined_cells_have_their_own_look_and_an_entry_in_the_legend() -> None:
    ax = new_axes()
    image = show_matrix(ax, [[1.0, np.nan], [0.0, np.inf]])
    mark_undefined([ax])
    assert image.get_array().mask.tolist() == [[False, True], [False, True]]
    assert image.get_cmap()(np.ma.masked)[3] == 0  # the hatched patch behind is seen
    assert ax.patch.get_hatch()
    (text,) = ax.get_legend().get_texts()
    (handle,) = ax.get_legend().legend_handles
    assert text.get_text() == "undefined"
    assert (handle.get_hatch(), handle.get_facecolor()) == (ax.patch.get_hatch(), ax.patch.get_facecolor())
    drawn(figure_of(ax))


def test_a_matrix_without_undefined_cells_has_no_such_entry() -> None:
    ax = new_axes()
    show_matrix(ax, np.eye(2))
    mark_undefined([ax])
    assert ax.get_legend() is None
    assert not ax.patch.get_hatch()


def test_the_entry_of_several_panels_is_on_their_figure() -> None:
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    show_matrix(left, np.eye(2))
    show_matrix(right, np.full((2, 2), np.nan))
    mark_undefined([left, right])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefined"]
