from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from analysis.plots import (
    angles_over,
    plot_alignment,
    plot_by_layer,
    plot_by_layer_and_step,
    plot_lines,
    plot_rdm,
    plot_rdm_grid,
    plot_signals,
    plot_similarity,
    plot_similarity_by_step,
    plot_similarity_grid,
    plot_training,
)
from analysis.plots.axes import figure_of, label_layers, layer_names, new_axes, verbatim
from analysis.plots.styles import STYLES
from repsim.similarity.drawing.paper import paper_style

HOSTILE = "_a$\\foo$"


def by_layer(views: list[str], n_layers: int = 3) -> pd.DataFrame:
    """A value of 10 · position of the view + depth."""
    rows = [
        {"view": view, "layer": f"hidden.{depth}", "depth": depth, "score": 10.0 * place + depth}
        for place, view in enumerate(views)
        for depth in range(1, n_layers + 1)
    ]
    return pd.DataFrame(rows)


def similarity(views: dict[str, int]) -> pd.DataFrame:
    """For views of so many layers, a value of depth_a + depth_b / 10, the deepest first."""
    rows = [
        {"view_a": a, "layer_a": f"hidden.{i}", "depth_a": i, "view_b": b, "layer_b": f"hidden.{j}", "depth_b": j}
        for a in views
        for b in views
        for i in range(views[a], 0, -1)
        for j in range(views[b], 0, -1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(cka=table["depth_a"] + table["depth_b"] / 10)


def training(views: list[str]) -> pd.DataFrame:
    rows = [
        {"view": view, "epoch": epoch, "loss": 4.0 - epoch, "validation_loss": 3.0 if epoch < 3 else np.nan}
        for view in views
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def alignment(angles: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Angles of each view by step (10, 20, ...) and boundary (1, 2, ...)."""
    rows = [
        {"view": view, "step": 10 * place, "boundary": boundary, "rule": "noise", "angle": angle}
        for view, steps in angles.items()
        for place, row in enumerate(steps, start=1)
        for boundary, angle in enumerate(row, start=1)
    ]
    return pd.DataFrame(rows)


def plot_angles(table: pd.DataFrame, over: str, ax: Axes | None = None) -> Axes:
    return plot_alignment(angles_over(table, over), over, among=[str(view) for view in table["view"].unique()], ax=ax)


def distances(n: int, seed: int = 0) -> np.ndarray:
    return pdist(np.random.default_rng(seed).normal(size=(n, 3)))


def ticks(axis: object) -> dict[float, str]:
    return dict(zip(axis.get_ticklocs(), (label.get_text() for label in axis.get_ticklabels()), strict=True))


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# What the plots share


@pytest.mark.parametrize(
    ("layers", "names", "title"),
    [
        (["hidden.1", "hidden.2"], ["1", "2"], "hidden layer"),
        (["encoder.block.1", "encoder.block.2"], ["1", "2"], "encoder block layer"),
        (["hidden.1", "output"], ["hidden.1", "output"], "layer"),
        (["conv", "output"], ["conv", "output"], "layer"),
    ],
)
def test_layers_are_named_without_what_they_share(layers: list[str], names: list[str], title: str) -> None:
    assert layer_names(layers) == (names, title)


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (1, [1]),
        (10, list(range(1, 11))),
        (11, [1, 2, 4, 6, 8, 10]),
        (20, [1, *range(2, 21, 2)]),
        (100, [1, *range(10, 101, 10)]),
    ],
)
def test_a_layer_axis_has_few_ticks_each_where_its_layer_is(n: int, shown: list[int]) -> None:
    ax = new_axes()
    label_layers(ax.xaxis, [f"hidden.{depth}" for depth in range(1, n + 1)], start=1.0)
    assert ticks(ax.xaxis) == {float(depth): str(depth) for depth in shown}


# Curves


def test_each_network_has_one_curve_over_depth() -> None:
    ax = plot_by_layer(by_layer(["b", "a"]), "score", ylabel="score (bits)")
    assert [line.get_xydata().tolist() for line in ax.get_lines()] == [
        [[1, 1], [2, 2], [3, 3]],
        [[1, 11], [2, 12], [3, 13]],
    ]
    assert legend(ax) == ["b", "a"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("hidden layer", "score (bits)")
    assert ticks(ax.xaxis) == {1.0: "1", 2.0: "2", 3.0: "3"}
    assert (
        len({line.get_color() for line in ax.get_lines()}) == len({line.get_marker() for line in ax.get_lines()}) == 2
    )


def test_lines_are_labelled_with_their_columns_and_have_at_most_60_markers() -> None:
    table = pd.DataFrame({"seed": "a", "time": range(130), "angle": 1.0})
    ax = plot_lines(table, "time", "angle", curve="seed")
    (line,) = ax.get_lines()
    assert (ax.get_xlabel(), ax.get_ylabel(), legend(ax)) == ("time", "angle", ["a"])
    assert (len(line.get_xdata()), line.get_markevery()) == (130, 3)
    assert plot_lines(table[:60], "time", "angle", curve="seed").get_lines()[0].get_markevery() == 1


def test_networks_of_different_depth_share_the_axis() -> None:
    table = pd.concat([by_layer(["short"], 2), by_layer(["long"], 4)])
    ax = plot_by_layer(table, "score", ylabel="score")
    assert list(ticks(ax.xaxis)) == [1.0, 2.0, 3.0, 4.0]


def test_layers_of_one_depth_but_other_names_are_numbered() -> None:
    other = by_layer(["other"]).assign(layer=["conv", "pool", "output"])
    ax = plot_by_layer(pd.concat([by_layer(["a"]), other]), "score", ylabel="score")
    assert ticks(ax.xaxis) == {1.0: "1", 2.0: "2", 3.0: "3"}
    assert ax.get_xlabel() == "layer"


def test_a_band_goes_from_its_lower_to_its_upper_end() -> None:
    table = by_layer(["a"]).assign(low=[0.5, 1.75, 3.0], high=[1.5, 2.25, 3.0])
    ax = plot_by_layer(table, "score", ylabel="score", band=("low", "high"))
    corners = {tuple(vertex) for vertex in ax.collections[0].get_paths()[0].vertices}
    assert {(1.0, 0.5), (1.0, 1.5), (2.0, 1.75), (2.0, 2.25), (3.0, 3.0)} <= corners
    assert legend(ax) == ["a"]


def test_curves_of_methods_have_the_colours_that_they_have_among_all() -> None:
    table = by_layer(["a", "b", "c"]).rename(columns={"view": "method"})
    alone = plot_by_layer(table[table["method"] == "b"], "score", ylabel="score", curve="method", among=["a", "b", "c"])
    together = plot_by_layer(table, "score", ylabel="score", curve="method")
    for what in ("get_color", "get_marker"):
        assert getattr(alone.get_lines()[0], what)() == getattr(together.get_lines()[1], what)()


def test_layers_keep_their_places_where_earlier_ones_have_no_rows() -> None:
    table = by_layer(["a"])
    ax = plot_by_layer(table[table["depth"] > 1], "score", ylabel="score")
    assert ax.get_lines()[0].get_xdata().tolist() == [2, 3]
    names = ticks(ax.xaxis)
    assert (names[2.0].rpartition(".")[2], names[3.0].rpartition(".")[2]) == ("2", "3")


def test_a_missing_value_leaves_a_gap_and_keeps_the_labels() -> None:
    table = by_layer(["a"])
    table.loc[0, "score"] = np.nan
    ax = plot_by_layer(table, "score", ylabel="score")
    assert np.isnan(ax.get_lines()[0].get_ydata()).tolist() == [True, False, False]
    assert ticks(ax.xaxis) == {1.0: "1", 2.0: "2", 3.0: "3"}


def test_training_and_validation_have_the_style_of_their_run() -> None:
    axes = {name: plot_training(training(["a", "b"]), name, ylabel="nats") for name in ("loss", "validation_loss")}
    curves = {name: [line.get_xydata().tolist() for line in ax.get_lines()] for name, ax in axes.items()}
    assert curves["loss"] == [[[1, 3], [2, 2], [3, 1]]] * 2
    assert curves["validation_loss"] == [[[1, 3], [2, 3]]] * 2  # no point where validation is missing
    for ax in axes.values():
        assert [line.get_color() for line in ax.get_lines()] == [style.colour for style in STYLES[:2]]
        assert legend(ax) == ["a", "b"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "nats")


def test_epochs_are_whole_numbers() -> None:
    ax = plot_training(training(["a"]), "loss", ylabel="nats")
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


@pytest.mark.parametrize(("last", "shown"), [(4, [1, 2, 3, 4]), (20, [5, 10, 15, 20])])
def test_boundaries_have_as_many_ticks_as_there_is_room_for_in_a_column(last: int, shown: list[int]) -> None:
    table = pd.DataFrame({"curve": "a", "boundary": range(1, last + 1), "x": 0.5, "y": 1.5})
    with paper_style("column"):
        figure = plot_signals(table, {"x": "x", "y": "y"}, {}, curve="curve")
        figure.canvas.draw()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == shown


def test_the_band_of_a_point_alone_is_a_line() -> None:
    known = [False, True, False, True, True]
    table = pd.DataFrame({"curve": "a", "x": range(5), "y": 1.0, "low": 0.5, "high": 1.5})
    table.loc[~np.array(known), ["low", "high"]] = np.nan
    ax = plot_lines(table, "x", "y", curve="curve", band=("low", "high"))
    (lines,) = (each for each in ax.collections if isinstance(each, LineCollection))
    assert [segment.tolist() for segment in lines.get_segments()] == [[[1.0, 0.5], [1.0, 1.5]]]


def test_angles_are_drawn_over_boundaries_at_the_last_step_and_over_steps_as_means() -> None:
    table = alignment({"a": [[10.0, 20.0, 60.0], [5.0, 15.0, 40.0]], "b": [[80.0, 100.0], [70.0, 90.0]]})
    over = {name: plot_angles(table, name) for name in ("boundary", "step")}
    curves = {name: [line.get_xydata().tolist() for line in ax.get_lines()[:2]] for name, ax in over.items()}
    assert curves["boundary"] == [[[1, 5], [2, 15], [3, 40]], [[1, 70], [2, 90]]]
    assert curves["step"] == [[[10, 30], [20, 20]], [[10, 90], [20, 80]]]
    for name, ax in over.items():
        assert legend(ax) == ["a", "b"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == (name, "angle to true gradient (°)")
        assert len({line.get_color() for line in ax.get_lines()[:2]}) == 2
        assert len({line.get_marker() for line in ax.get_lines()[:2]}) == 2
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_the_mean_over_boundaries_is_of_those_where_a_rule_other_than_backprop_acts() -> None:
    table = alignment({"a": [[40.0, 0.0]], "backprop": [[0.0, 0.0]]})
    table.loc[1:, "rule"] = "backprop"
    curves = [line.get_xydata().tolist() for line in plot_angles(table, "step").get_lines()[:2]]
    assert curves == [[[10, 40]], [[10, 0]]]
    assert plot_angles(table, "boundary").get_lines()[0].get_xydata().tolist() == [[1, 40], [2, 0]]


def test_the_right_angle_is_dotted_and_in_view() -> None:
    for angles, highest in (([[1.0, 2.0]], 93.0), ([[1.0, 178.0]], 178.0)):
        ax = plot_angles(alignment({"a": angles}), "boundary")
        *_, right = ax.get_lines()
        assert (list(right.get_ydata()), right.get_linestyle()) == ([90.0, 90.0], ":")
        low, high = ax.get_ylim()
        assert low < 0 < highest <= high


def test_steps_with_an_undefined_angle_are_left_out_if_others_have_none() -> None:
    table = alignment({"a": [[np.nan, 4.0], [20.0, 40.0], [np.nan, 8.0]]})
    assert plot_angles(table, "step").get_lines()[0].get_xydata().tolist() == [[20, 30]]
    assert plot_angles(table, "boundary").get_lines()[0].get_xydata().tolist() == [[1, 20], [2, 40]]


def test_steps_with_an_undefined_angle_are_drawn_if_all_have_one() -> None:
    table = alignment({"a": [[np.nan, np.nan], [np.nan, 40.0], [np.nan, 8.0]]})
    assert plot_angles(table, "step").get_lines()[0].get_xydata().tolist() == [[20, 40], [30, 8]]
    assert plot_angles(table, "boundary").get_lines()[0].get_xydata().tolist()[1] == [2, 8]


def test_a_run_without_an_angle_has_no_curve_and_keeps_the_colours_of_others() -> None:
    table = alignment({"a": [[10.0]], "dead": [[np.nan]], "b": [[30.0]]})
    ax = plot_angles(table, "boundary")
    assert legend(ax) == ["a", "b"]
    first, _, third = STYLES[:3]
    assert [line.get_color() for line in ax.get_lines()[:2]] == [first.colour, third.colour]


def test_names_are_escaped_in_legends() -> None:
    for ax in (
        plot_angles(alignment({HOSTILE: [[1.0]]}), "step"),
        plot_by_layer(by_layer([HOSTILE]), "score", ylabel="score"),
        plot_training(training([HOSTILE]), "loss", ylabel="nats"),
    ):
        assert all("\\$\\foo\\$" in text for text in legend(ax))
        figure_of(ax).draw_without_rendering()


# RDMs


def test_an_rdm_is_drawn_square_with_its_classes() -> None:
    D = distances(5)
    ax = plot_rdm(D, np.array([0, 0, 2, 2, 2]), ["cat", "dog", "eel"])
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), squareform(D))
    assert image.get_clim() == (D.min(), D.max())
    assert image.get_extent() == [0, 5, 5, 0]  # the first stimulus is at the top left
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == {1.0: "cat", 3.5: "eel"}
    segments = [segment.tolist() for segment in ax.collections[0].get_segments()]
    assert segments == [[[0, 2], [5, 2]], [[2, 0], [2, 5]]]


def test_an_rdm_takes_the_colour_limits_given() -> None:
    assert plot_rdm(distances(3), np.zeros(3, int), ["a"], limits=(0.0, 9.0)).images[0].get_clim() == (0.0, 9.0)


@pytest.mark.parametrize("n", [301, 600, 700, 901])
def test_a_big_matrix_is_drawn_as_exact_means_of_blocks(n: int) -> None:
    D = distances(n)
    image = plot_rdm(D, np.zeros(n, int), ["a"]).images[0].get_array()
    block = -(-n // 300)
    edges = [*range(0, n, block), n]
    assert image.shape == (len(edges) - 1,) * 2
    assert max(image.shape) <= 300
    square = squareform(D)
    last = len(image) - 1
    for i, j in [(0, 0), (3, 7), (last, 0), (last, last)]:
        rows, columns = (slice(*edges[k : k + 2]) for k in (i, j))
        assert image[i, j] == pytest.approx(square[rows, columns].mean(), rel=1e-12)


def test_three_hundred_stimuli_are_drawn_one_by_one() -> None:
    D = distances(300)
    np.testing.assert_array_equal(plot_rdm(D, np.zeros(300, int), ["a"]).images[0].get_array(), squareform(D))


def grid(rdms: dict[str, dict[str, np.ndarray]]) -> tuple[Figure, list[Axes]]:
    n = len(squareform(next(iter(next(iter(rdms.values())).values()))))
    figure = plot_rdm_grid(rdms, np.zeros(n, int), ["a"], distance="euclidean distance")
    return figure, figure.axes


def test_a_grid_has_a_row_per_network_a_column_per_layer_and_one_scale() -> None:
    rdms = {
        view: {f"hidden.{depth}": scale * distances(6, depth) for depth in (1, 2)}
        for view, scale in (("a", 1), ("b", 3))
    }
    figure, axes = grid(rdms)
    assert len(axes) == 5  # and the colour bar
    largest = max(float(np.percentile(D, 99)) for row in rdms.values() for D in row.values())
    assert {ax.images[0].get_clim() for ax in axes[:4]} == {(0.0, largest)}
    assert [ax.get_title() for ax in axes[:4]] == ["1", "2", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["a", "", "b", "", "euclidean distance"]
    assert figure.get_suptitle() == "hidden layer"
    np.testing.assert_array_equal(axes[3].images[0].get_array(), squareform(rdms["b"]["hidden.2"]))


def test_a_name_that_is_longer_than_its_row_is_broken_and_only_then_cut() -> None:
    names = ["backprop/seed-0", "synthetic-gradient/seed-0", "short", "one" * 30, "a b_c-" * 40]
    figure, axes = grid({name: {"hidden.1": distances(4)} for name in names})
    broken, again, short, *cut = (ax.get_ylabel() for ax in axes[:5])
    assert (broken, again, short) == ("backprop/\nseed-0", "synthetic-\ngradient/\nseed-0", "short")
    assert all("\u2026" in label for label in cut)
    assert figure.get_supxlabel().count(" = ") == 2


def test_columns_of_another_network_s_layers_have_titles_of_their_own() -> None:
    D = distances(4)
    _, axes = grid({"deep": {f"hidden.{i}": D for i in (1, 3, 5)}, "shallow": {f"hidden.{i}": D for i in (1, 2)}})
    assert [ax.get_title() for ax in axes[:6]] == ["1", "3", "5", "1", "2", ""]
    assert [ax.axison for ax in axes[:6]] == [True] * 5 + [False]


@pytest.mark.parametrize("order", [["dead", "alive"], ["alive", "dead"]])
def test_undefined_distances_do_not_spoil_the_scale(order: list[str]) -> None:
    D = distances(4)
    rdms = {"alive": {"hidden.1": D}, "dead": {"hidden.1": np.full_like(D, np.nan)}}
    figure, axes = grid({view: rdms[view] for view in order})
    assert {ax.images[0].get_clim() for ax in axes[:2]} == {(0.0, float(np.percentile(D, 99)))}
    figure.draw_without_rendering()


def test_a_grid_without_any_distance_can_be_drawn() -> None:
    figure, axes = grid({"dead": {"hidden.1": np.full(6, np.nan)}})
    assert axes[0].images[0].get_clim() == (0.0, 1.0)
    figure.draw_without_rendering()


# Similarity


def test_similarity_has_the_first_layers_at_the_bottom_left() -> None:
    ax = plot_similarity(similarity({"a": 2, "b": 3}), "a", "b", limits=(-0.5, 1.0))
    image = ax.images[0]
    np.testing.assert_allclose(image.get_array(), [[1.1, 1.2, 1.3], [2.1, 2.2, 2.3]])
    assert image.origin == "lower"
    assert image.get_clim() == (-0.5, 1.0)
    assert ticks(ax.yaxis) == {0.0: "1", 1.0: "2"}
    assert ticks(ax.xaxis) == {0.0: "1", 1.0: "2", 2.0: "3"}


def test_a_similarity_grid_shows_every_pair_on_one_scale() -> None:
    table = similarity({"a": 2, HOSTILE: 3})
    table = table.assign(alignment=table["cka"] / table["cka"].max()).drop(columns="cka")
    figure = plot_similarity_grid(table, "alignment", name="kernel alignment")
    panels = figure.axes[:4]
    assert [ax.images[0].get_array().shape for ax in panels] == [(2, 2), (2, 3), (3, 2), (3, 3)]
    assert {ax.images[0].get_clim() for ax in panels} == {(0.0, 1.0)}
    assert [ax.get_ylabel() for ax in panels] == ["a", "", verbatim(HOSTILE), ""]
    assert [ax.get_xlabel() for ax in panels] == ["", "", "a", verbatim(HOSTILE)]
    assert figure.axes[4].get_ylabel() == "kernel alignment"
    assert figure.get_suptitle() == "hidden layer against hidden layer"
    figure.draw_without_rendering()


@pytest.mark.parametrize(("largest", "limits"), [(0.1, (0.0, 1.0)), (1.0, (0.0, 1.0)), (7.0, (0.0, 7.0))])
def test_values_above_one_extend_the_colour_scale(largest: float, limits: tuple[float, float]) -> None:
    table = similarity({"a": 2, "b": 2})
    figure = plot_similarity_grid(table.assign(cka=largest * table["cka"] / table["cka"].max()))
    assert figure.axes[0].images[0].get_clim() == pytest.approx(limits)


def test_negative_values_extend_the_colour_scale() -> None:
    figure = plot_similarity_grid(similarity({"a": 2, "b": 2}).assign(cka=[-2.0, *[0.5] * 15]))
    assert figure.axes[0].images[0].get_clim() == (-2.0, 0.5)


def test_a_grid_shows_a_subset_of_very_many_networks() -> None:
    figure = plot_similarity_grid(similarity({f"n{i}": 1 for i in range(40)}), most=8)
    assert [ax.get_xlabel() for ax in figure.axes[:-1]] == ["n0", "n6", "n11", "n17", "n22", "n28", "n33", "n39"]


def test_many_networks_are_compared_with_the_first_only() -> None:
    figure = plot_similarity_grid(similarity(dict.fromkeys("abcde", 1)))
    assert [ax.get_xlabel() for ax in figure.axes[:-1]] == list("abcde")
    assert [ax.get_ylabel() for ax in figure.axes[:-1]] == ["a", "", "", "a", ""]  # in two rows


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot_by_layer(by_layer(["a"]), "score", ylabel="score", ax=ax),
        lambda ax: plot_training(training(["a"]), "loss", ylabel="nats", ax=ax),
        lambda ax: plot_angles(alignment({"a": [[1.0]]}), "step", ax=ax),
        lambda ax: plot_rdm(distances(4), np.zeros(4, int), ["a"], ax=ax),
        lambda ax: plot_similarity(similarity({"a": 2}), "a", "a", ax=ax),
    ],
)
def test_a_plot_draws_on_the_axes_given_or_makes_its_own(draw: object) -> None:
    ax = new_axes()
    assert draw(ax) is ax
    assert isinstance(figure_of(draw(None)), Figure)
    assert figure_of(draw(None)) is not figure_of(ax)


def test_plots_leave_pyplot_alone() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    plot_by_layer(by_layer(["a"]), "score", ylabel="score")
    plot_similarity_grid(similarity({"a": 2}))
    assert pyplot.get_fignums() == []


# Many, long and odd names, and what is not defined

ODD = [
    "cost$_$in",
    "_hidden",
    "a\\b^{2}%",
    "two\nlines",
    "\u4e2d\u6587\u5c42",
    "\U0001f680",
    "<script>&amp;",
    "\u05e2\u05d1",
    "",
]
LONG = [(f"encoder_{k}_" + "attention_output_" * 9)[:120] for k in range(6)]
MANY = [f"block_{k:03d}" for k in range(200)]


def named(layers: list[str], views: list[str]) -> pd.DataFrame:
    rows = [
        {"view": view, "layer": layer, "depth": depth, "score": 0.5 + 0.01 * depth}
        for view in views
        for depth, layer in enumerate(layers, start=1)
    ]
    return pd.DataFrame(rows)


def named_similarity(layers: list[str], views: list[str]) -> pd.DataFrame:
    rows = [
        {"view_a": a, "layer_a": m, "depth_a": i, "view_b": b, "layer_b": n, "depth_b": j, "cka": 0.5}
        for a in views
        for b in views
        for i, m in enumerate(layers)
        for j, n in enumerate(layers)
    ]
    return pd.DataFrame(rows)


def check_readable(figure: Figure) -> None:
    """Draw a figure, and check that neighbouring tick labels do not overlap; warnings are errors."""
    FigureCanvasAgg(figure).draw()
    for ax in figure.axes:
        for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
            boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes))


@pytest.mark.parametrize("layers", [ODD, LONG, MANY, ["fc"]], ids=["odd", "long", "many", "one"])
@pytest.mark.parametrize(
    "views", [["a", "b"], ODD, LONG, [f"run {k}" for k in range(30)]], ids=["two", "odd", "long", "30"]
)
def test_curves_stay_readable(layers: list[str], views: list[str]) -> None:
    ax = plot_by_layer(named(layers, views), "score", ylabel="score")
    check_readable(figure_of(ax))
    assert ax.get_window_extent().height >= 0.5 * figure_of(ax).bbox.height
    assert len(legend(ax)) == len(set(legend(ax))) == len(views)


@pytest.mark.parametrize("draw", [plot_training, plot_angles], ids=["training", "alignment"])
def test_curves_of_30_runs_have_their_legend_outside(draw: Any) -> None:
    views = [f"run {k}" for k in range(30)]
    table = training(views) if draw is plot_training else alignment({view: [[10.0, 20.0]] for view in views})
    ax = draw(table, "loss", ylabel="nats") if draw is plot_training else draw(table, "boundary")
    check_readable(figure_of(ax))
    box = ax.get_window_extent()
    assert box.height >= 0.5 * figure_of(ax).bbox.height
    assert not ax.get_legend().get_window_extent().overlaps(box)
    assert len({(line.get_color(), line.get_marker()) for line in ax.get_lines() if line.get_label()[0] == "r"}) == len(
        STYLES
    )


def test_axes_without_a_defined_value_name_all_layers() -> None:
    ax = plot_by_layer(named(["a", "b", "c"], ["x"]).assign(score=np.nan), "score", ylabel="score")
    check_readable(figure_of(ax))
    assert ticks(ax.xaxis) == {1.0: "a", 2.0: "b", 3.0: "c"}


def test_without_a_defined_angle_there_is_no_legend() -> None:
    ax = plot_angles(alignment({"dead": [[np.nan]]}), "boundary")
    assert ax.get_legend() is None
    check_readable(figure_of(ax))


@pytest.mark.parametrize("layers", [ODD, LONG, MANY[:60]], ids=["odd", "long", "many"])
def test_a_grid_of_similarities_stays_readable(layers: list[str]) -> None:
    figure = plot_similarity_grid(named_similarity(layers, ["_a", "b" * 120]))
    check_readable(figure)
    assert sum(ax.get_window_extent().height for ax in figure.axes[:3:2]) >= 0.5 * figure.bbox.height


def test_a_grid_names_layers_at_its_edges_only() -> None:
    figure = plot_similarity_grid(named_similarity(["x", "y"], ["a", "b"]))
    figure.draw_without_rendering()
    shown = [
        [
            any(t.get_visible() and t.get_text() for t in labels)
            for labels in (ax.get_xticklabels(), ax.get_yticklabels())
        ]
        for ax in figure.axes[:4]
    ]
    assert shown == [[False, True], [False, False], [True, True], [True, False]]


@pytest.mark.parametrize("layers", [ODD, LONG], ids=["odd", "long"])
def test_a_grid_of_rdms_stays_readable(layers: list[str]) -> None:
    n, classes = 200, dict(enumerate([*ODD, *LONG, *MANY[:85]]))
    labels = np.repeat(np.arange(100), 2)
    rdms = {view: {layer: distances(n) for layer in layers} for view in ("_a", "b" * 120, "c$d$")}
    figure = plot_rdm_grid(rdms, labels, classes)
    check_readable(figure)
    assert figure.get_supxlabel() != ""


def test_undefined_similarities_are_marked_in_plot_and_legend() -> None:
    table = named_similarity(["x", "y", "z"], ["a", "b"])
    table.loc[(table["view_a"] == "b") & (table["layer_a"] == "y"), "cka"] = np.nan
    figure = plot_similarity_grid(table)
    masks = [np.ma.getmaskarray(ax.images[0].get_array()) for ax in figure.axes[:4]]
    assert [mask.any(axis=1).tolist() for mask in masks] == [[False] * 3, [False] * 3, *[[False, True, False]] * 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefined"]
    alone = plot_similarity(table, "b", "a")
    assert legend(alone) == ["undefined"]
    assert plot_similarity(table, "a", "a").get_legend() is None


def test_undefined_rdms_are_marked_in_plot_and_legend() -> None:
    labels, classes = np.repeat([0, 1], 3), {0: "a", 1: "b"}
    nothing = np.full(15, np.nan)
    ax = plot_rdm(nothing, labels, classes)
    assert np.ma.getmaskarray(ax.images[0].get_array()).all()
    assert legend(ax) == ["undefined"]
    one = squareform(distances(6))
    one[2, :] = one[:, 2] = np.nan
    one[2, 2] = 0.0
    ax = plot_rdm(squareform(one, checks=False), labels, classes)
    mask = np.ma.getmaskarray(ax.images[0].get_array())
    assert (mask == (np.arange(6) == 2) | (np.arange(6)[:, None] == 2)).all()
    figure = plot_rdm_grid({"v": {"x": distances(6), "y": nothing}}, labels, classes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefined"]
    check_readable(figure)


def test_an_undefined_stimulus_does_not_hide_its_neighbours() -> None:
    n = 700
    square = squareform(distances(n))
    square[5, :] = square[:, 5] = np.nan
    np.fill_diagonal(square, 0.0)
    ax = plot_rdm(squareform(square, checks=False), np.zeros(n, int), {0: "a"})
    image = ax.images[0].get_array()
    assert image.shape[0] <= 300
    assert not np.ma.getmaskarray(image).any()


# By step


def by_step(networks: list[str], steps: list[int], n_layers: int = 3) -> pd.DataFrame:
    """A value that falls by 0.01 with every step and layer, and by 0.1 with every network."""
    rows = [
        {
            "network": network,
            "step": step,
            "layer": f"hidden.{depth}",
            "depth": depth,
            "value": 1.0 - 0.1 * n - 0.01 * (k + depth - 1),
        }
        for n, network in enumerate(networks)
        for k, step in enumerate(steps)
        for depth in range(1, n_layers + 1)
    ]
    return pd.DataFrame(rows)


def test_similarity_by_step_has_a_panel_per_network_on_one_scale() -> None:
    figure = plot_similarity_by_step(by_step(["a", "b"], [0, 10, 20, 30]), name="CKA with x", forked={"b": 10})
    *panels, bar = figure.axes
    assert [ax.get_title() for ax in panels] == ["a", "b"]
    np.testing.assert_allclose(
        panels[0].images[0].get_array()[:, 0], [1.0, 0.99, 0.98]
    )  # the first layer at the bottom
    assert [image.get_clim() for ax in panels for image in ax.images] == [(pytest.approx(0.85), 1.0)] * 2
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["0", "10", "20", "30"]
    assert [len(ax.lines) for ax in panels] == [0, 1]
    assert panels[1].lines[0].get_xdata()[0] == 1.5
    assert panels[0].texts[0].get_text() == "1.000"
    assert bar.get_ylabel() == "CKA with x"


def test_similarity_by_step_of_layers_that_are_all_equal_has_a_scale() -> None:
    table = by_step(["a"], [0, 1]).assign(value=1.0)
    assert plot_similarity_by_step(table).axes[0].images[0].get_clim() == (0.98, 1.0)
    distances = table.assign(value=0.0)
    assert plot_similarity_by_step(distances, most_alike=0.0).axes[0].images[0].get_clim()[1] >= 0.0


def test_numbers_have_contrast_to_their_cells() -> None:
    table = by_step(["a"], list(range(12)), 10).assign(value=np.linspace(0.1, 1.0, 120))
    ax = plot_similarity_by_step(table).axes[0]
    (image,) = ax.images
    for text in ax.texts:
        column, row = (int(place) for place in text.get_position())
        back, front = (luminance(each) for each in (image.to_rgba(image.get_array())[row, column], text.get_color()))
        assert (max(back, front) + 0.05) / (min(back, front) + 0.05) > 4.0


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_layers_that_a_network_lacks_are_hatched() -> None:
    table = by_step(["a", "b"], [0, 1])
    figure = plot_similarity_by_step(table[(table["network"] == "a") | (table["depth"] < 3)])
    assert np.ma.getmaskarray(figure.axes[1].images[0].get_array()).tolist() == [[False] * 2, [False] * 2, [True] * 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefined"]


def test_many_networks_and_steps_are_drawn_in_part_without_numbers() -> None:
    figure = plot_similarity_by_step(by_step([f"n{k:02d}" for k in range(20)], list(range(0, 400, 10)), 5))
    shown = [ax.get_title() for ax in figure.axes[:8]]
    assert (shown[0], shown[-1], len(set(shown))) == ("n00", "n19", 8)
    assert not figure.axes[0].texts


def test_curves_by_step_share_their_colours_and_axes() -> None:
    table = by_step(["a", "b"], list(range(10)))
    figure = plot_by_layer_and_step(
        table[(table["network"] == "b") | (table["step"] > 0)], {"value": "bits"}, curve="network"
    )
    assert [ax.get_title() for ax in figure.axes] == [f"step {step}" for step in (0, 2, 4, 5, 7, 9)]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    colour_of_b = {line.get_color() for ax in figure.axes for line in ax.get_lines() if line.get_label() == "b"}
    assert len(colour_of_b) == 1
    assert [len(ax.get_lines()) for ax in figure.axes] == [1, 2, 2, 2, 2, 2]
    assert [ax.get_ylabel() for ax in figure.axes] == ["bits", "", "", "", "", ""]
