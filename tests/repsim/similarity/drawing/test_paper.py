"""Figures for papers: their width, the size of their text, that no texts overlap, and that text stays text in files."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.plots import (
    plot_alignment,
    plot_by_layer,
    plot_by_layer_and_step,
    plot_rdm_grid,
    plot_signals,
    plot_similarity_by_step,
    plot_similarity_grid,
    plot_training,
)
from analysis.plots.attribution import plot_attribution, plot_effects_by_layer
from analysis.plots.axes import figure_of, new_axes, whole_numbers
from analysis.plots.drawing import keep_layout, save_figure
from repsim.similarity.drawing.paper import PAPER_WIDTHS, paper_style, paper_width

LONG = [f"{k:02d}_" + ("attention$_$output_" * 9)[:117] for k in range(30)]
CASES = {
    "few": (["hidden.1", "hidden.2", "hidden.3"], ["bp", "sg"]),
    "many": ([f"block_{k:03d}" for k in range(200)], [f"run {k}" for k in range(30)]),
    "long": (LONG[:6], LONG),
}


def points(layers: list[str], networks: list[str]) -> pd.DataFrame:
    """A value for each network, layer and step, under all names of columns that plots expect."""
    rows = [
        (network, layer, depth, depth, step, step, 0.5 + 0.01 * k + 0.1 * (depth % 7))
        for k, network in enumerate(networks)
        for depth, layer in enumerate(layers, start=1)
        for step in (0, 2000)
    ]
    table = pd.DataFrame(rows, columns=["curve", "layer", "depth", "boundary", "step", "epoch", "value"])
    return table.assign(
        network=table["curve"], angle=90 * table["value"] / table["value"].max(), difference=table["value"] - 0.6
    )


def pairs(layers: list[str], networks: list[str]) -> pd.DataFrame:
    places = [(network, layer, depth) for network in networks for depth, layer in enumerate(layers, start=1)]
    columns = ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", "cka"]
    return pd.DataFrame([(*a, *b, 0.5) for a in places for b in places], columns=columns)


def effects(layers: list[str], networks: list[str]) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    table = points(layers, networks[:3]).rename(columns={"curve": "method"})
    table = table[table["step"] > 0].assign(
        control="", base="bp", verdict="undecided", at=lambda t: t["step"].map("{} %".format)
    )
    table = table.assign(band_low=table["difference"] - 0.05, band_high=table["difference"] + 0.05, smallest=0.05)
    return table, {(name, ""): "total" for name in networks[:3]}


def draw_rdms(layers: list[str], networks: list[str]) -> Figure:
    labels = np.repeat(np.arange(100), 2)
    matrix = np.random.default_rng(0).uniform(size=200 * 199 // 2)
    classes = dict(enumerate([*LONG, *(f"class {k}" for k in range(70))]))
    rdms = {network: dict.fromkeys(layers[:3], matrix) for network in networks[:3]}
    return plot_rdm_grid(rdms, labels, classes)


def draw_effects(layers: list[str], networks: list[str]) -> Figure:
    table, titles = effects(layers, networks)
    return plot_effects_by_layer(table[table["at"] == "2000 %"], titles, label="CKA lost between arms", smallest=0.05)


def draw_attribution(layers: list[str], networks: list[str]) -> Figure:
    table, titles = effects(layers, networks)
    return plot_attribution(table, titles, label="CKA lost between arms")


LABEL = "between minus within class distance"
DRAWN: Mapping[str, Callable[[list[str], list[str]], Figure]] = {
    "by_layer": lambda *of: figure_of(
        plot_by_layer(points(*of)[lambda t: t["step"] == 0], "value", ylabel=LABEL, curve="curve")
    ),
    "by_layer_and_step": lambda *of: plot_by_layer_and_step(points(*of), {"value": LABEL}, curve="curve"),
    "training": lambda *of: figure_of(
        plot_training(points(*of)[lambda t: t["depth"] == 1], "value", ylabel="cross-entropy (nats)", curve="curve")
    ),
    "alignment": lambda *of: figure_of(
        plot_alignment(points(*of)[lambda t: t["step"] == 0], "boundary", curve="curve")
    ),
    "signals": lambda *of: plot_signals(
        points(*of)[lambda t: t["step"] == 0],
        {"angle": "angle to true gradient (°)", "value": "correlation of implied loss", "difference": "variance"},
        {"angle": 90.0},
        curve="curve",
    ),
    "rdm_grid": draw_rdms,
    "similarity": lambda layers, networks: plot_similarity_grid(pairs(layers[:40], networks[:5])),
    "similarity_by_step": lambda layers, networks: plot_similarity_by_step(points(layers, networks[:5])),
    "attribution": draw_attribution,
    "attribution_by_layer": draw_effects,
}


def texts_of(figure: Figure) -> Iterator[Text]:
    """Yield the texts of a figure that are drawn outside the data."""
    yield from (text for text in [figure._suptitle, figure._supxlabel] if text is not None)
    yield from (text for legend in figure.legends for text in legend.get_texts())
    for ax in figure.axes:
        if ax.axison and ax.get_visible():
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                yield axis.label
                yield from (
                    tick.label1 if tick.label1.get_visible() else tick.label2
                    for tick in axis.get_major_ticks()
                    if low <= tick.get_loc() <= high
                )
            yield ax.title


def check_paper(figure: Figure, width: str) -> None:
    figure.draw_without_rendering()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert figure.get_figwidth() == PAPER_WIDTHS[width]
    texts = [text for text in texts_of(figure) if text.get_text().strip() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    assert {text.get_text(): text.get_fontsize() for text in texts if not 6.9 <= text.get_fontsize() <= 9.0} == {}
    page = figure.bbox.padded(2.0)
    out = [
        name
        for name, box in boxes
        if not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1)
    ]
    assert out == []
    assert [(a, b) for (a, first), (b, second) in combinations(boxes, 2) if first.padded(-0.5).overlaps(second)] == []


@pytest.mark.parametrize("case", ["many", "long"])
@pytest.mark.parametrize("width", PAPER_WIDTHS)
@pytest.mark.parametrize("name", DRAWN)
def test_all_text_is_readable_and_does_not_overlap(name: str, width: str, case: str) -> None:
    with paper_style(width):
        check_paper(DRAWN[name](*CASES[case]), width)


@pytest.mark.parametrize("width", PAPER_WIDTHS)
def test_labels_stay_on_the_page_when_the_figure_is_drawn_later(width: str) -> None:
    table, titles = effects([f"hidden.{k}" for k in range(1, 9)], ["sg"])
    difference = np.array([0.022, 0.038, 0.050, 0.057, 0.042, 0.028, 0.016, 0.011])
    table = table[table["at"] == "2000 %"].assign(difference=difference, band_low=difference - 0.01)
    with paper_style(width):
        figure = plot_effects_by_layer(table, titles, label="CKA lost between arms", smallest=0.05)
        keep_layout(figure)
    figure.draw_without_rendering()
    assert figure.axes[0].yaxis.label.get_window_extent().x0 >= 0.0


def test_a_narrow_panel_names_two_whole_numbers() -> None:
    ax = new_axes(0.9, 2.0)
    ax.plot([1, 2, 3, 4], [0.1, 0.2, 0.1, 0.3])
    whole_numbers(ax)
    ax.set_xlim(0.7, 4.3)
    figure_of(ax).draw_without_rendering()
    assert [tick for tick in ax.get_xticks() if 0.7 <= tick <= 4.3] == [2, 4]


def test_the_style_leaves_settings_and_other_figures_alone() -> None:
    before = dict(mpl.rcParams)
    with pytest.raises(KeyError), paper_style("column"):
        assert paper_width() == 3.25
        raise KeyError
    assert (dict(mpl.rcParams), paper_width()) == (before, None)
    assert figure_of(plot_by_layer(points(["a"], ["x"]), "value", ylabel="", curve="curve")).get_figwidth() > 6.0


def test_files_hold_text_as_text_whenever_they_are_saved(tmp_path: Path) -> None:
    with paper_style("column"):
        figure = DRAWN["by_layer"](*CASES["few"])
    figure.savefig(tmp_path / "later.pdf")
    save_figure(figure, tmp_path / "now.pdf")
    for name in ("later", "now"):
        content = (tmp_path / f"{name}.pdf").read_bytes()
        assert b"/CIDFontType2" in content  # Type 42: a TrueType font
        assert b"/Type3" not in content
    save_figure(figure, tmp_path / "now.svg")
    assert "hidden layer</text>" in (tmp_path / "now.svg").read_text()


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_equal_figures_give_equal_files(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with paper_style("page"):
            save_figure(DRAWN["by_layer"](*CASES["few"]), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_matrices_are_images_and_the_rest_are_vectors(tmp_path: Path) -> None:
    with paper_style("column"):
        save_figure(draw_rdms(*CASES["few"]), tmp_path / "rdm.svg")
    svg = (tmp_path / "rdm.svg").read_text()
    assert svg.count("<image") >= 6
    assert "correlation distance</text>" in svg


@pytest.mark.parametrize(("values", "limits"), [([2.0] * 3, (1.9, 2.1)), ([0.0, 1e-16, 0.0], (-0.05, 0.05))])
def test_constant_curves_have_a_sensible_axis(values: list[float], limits: tuple[float, float]) -> None:
    table = pd.DataFrame({"curve": "a", "layer": ["x", "y", "z"], "depth": [1, 2, 3], "value": values})
    ax = plot_by_layer(table, "value", ylabel="", curve="curve")
    assert ax.get_ylim() == pytest.approx(limits)
    figure_of(ax).draw_without_rendering()
    assert ax.yaxis.get_offset_text().get_text() == ""


def test_values_that_differ_little_but_more_than_rounding_fill_the_axis() -> None:
    table = pd.DataFrame({"curve": "a", "layer": ["x", "y"], "depth": [1, 2], "value": [2.0, 2.001]})
    low, high = plot_by_layer(table, "value", ylabel="", curve="curve").get_ylim()
    assert high - low < 0.002
