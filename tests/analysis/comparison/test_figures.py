import base64
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from analysis import compare_runs, train_run
from analysis.comparison.figures import FIGURES, ComparisonFigure, draw_figures, possible_figures
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.plots import plot_rdm_grid, plot_similarity_grid
from analysis.plots.axes import figure_of, new_axes, verbatim
from analysis.plots.drawing import Drawing, save_figures
from analysis.report import write_report
from analysis.report.content import page_content
from analysis.report.print_figures import embed_figure
from checkpoints import Capture, Run, Stimuli
from repsim.learning import TrainingConfig

ODD_NAMES = [
    "cost$_$in",
    "_hidden",
    "a\\b^{2}%",
    "two\nlines",
    "\u4e2d\u6587",
    "\U0001f680",
    "<i>&amp;",
    "x" * 120,
    "fc",
]


@pytest.fixture(scope="module")
def tables(comparison: ComparisonResult) -> Tables:
    return comparison.tables


@pytest.fixture(scope="module")
def drawings(tables: Tables) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in draw_figures(tables)}


def replaced(tables: Tables, **frames: pd.DataFrame) -> Tables:
    return replace(tables, frames={**tables.frames, **frames})


def test_the_main_figures_come_first(drawings: dict[str, Drawing]) -> None:
    assert list(drawings) == [
        *("probe_accuracy", "rdm_grid", "cka", "class_structure", "layer_quantities", "training", "alignment"),
        "signals",
    ]


def test_every_figure_says_what_it_shows(drawings: dict[str, Drawing]) -> None:
    for drawing in drawings.values():
        assert drawing.heading
        assert drawing.caption.endswith(".")


def test_probes_are_drawn_with_their_chance(drawings: dict[str, Drawing], tables: Tables) -> None:
    *curves, chance = drawings["probe_accuracy"].figure.axes[0].get_lines()
    for curve, (_, rows) in zip(curves, tables["probes"].groupby("view", sort=False), strict=True):
        assert list(curve.get_ydata()) == list(rows["accuracy"])
    assert list(chance.get_ydata()) == [tables["probes"]["chance"][0]] * 2
    assert chance.get_linestyle() == ":"
    assert f"is {tables['probes']['chance'][0]:.3f} (dotted" in drawings["probe_accuracy"].caption


def test_probes_have_a_band_of_one_standard_error(drawings: dict[str, Drawing], tables: Tables) -> None:
    band = drawings["probe_accuracy"].figure.axes[0].collections[0].get_paths()[0].vertices
    accuracy, n = tables["probes"]["accuracy"][0], tables["probes"]["n_test"][0]
    heights = band[band[:, 0] == 1.0, 1]
    assert heights.max() - heights.min() == pytest.approx(2 * np.sqrt(accuracy * (1 - accuracy) / n))


def test_the_axis_of_accuracies_spans_at_least_a_tenth(tables: Tables) -> None:
    probes = tables["probes"].assign(accuracy=0.95, n_test=10**9)
    low, high = next(draw_figures(replaced(tables, probes=probes))).figure.axes[0].get_ylim()
    assert high - low == pytest.approx(0.1)


def test_chance_far_away_does_not_flatten_the_curves(tables: Tables) -> None:
    probes = tables["probes"].assign(accuracy=np.linspace(0.9, 1.0, len(tables["probes"])))
    low, high = next(draw_figures(replaced(tables, probes=probes))).figure.axes[0].get_ylim()
    assert 0.85 < low < 0.9 < 1.0 < high < 1.05


def legend_of(ax: Axes) -> list[str]:
    """Return the entries of the legend of axes, or where it needs much room that of their figure."""
    legend = ax.get_legend() or ax.get_figure().legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_rdms_are_those_of_the_file(drawings: dict[str, Drawing], tables: Tables) -> None:
    figure = drawings["rdm_grid"].figure
    panels = np.array(figure.axes[:9], dtype=object).reshape(3, 3)  # a row a network, a column a layer
    for index, view in enumerate(tables.views):
        label = panels[index, 0].get_ylabel()
        assert label == verbatim(view.label) if len(view.label) < 15 else label.startswith("<img")
        for column, layer in enumerate(view.activations):
            expected = squareform(tables.rdm(index, layer))
            np.testing.assert_array_equal(panels[index, column].images[0].get_array(), expected)
    assert figure.axes[9].get_ylabel() == "correlation distance"
    assert [label.get_text() for label in panels[2, 0].get_xticklabels()] == list("13579")  # as many as fit


def test_rdms_of_tokens_are_drawn_in_the_order_of_their_labels(
    measure: Callable[..., ComparisonResult], tmp_path: Path
) -> None:
    """Rows that are tokens are in the order of sequences, whose labels alternate."""
    rng = np.random.default_rng(0)
    labels, parts = rng.integers(0, 3, (12, 4)), ["train", "test", "validation"] * 4
    labels[:2] = [0, 1, 2, 1]
    stimuli = Stimuli.of_tokens(range(12), labels, parts, rng.normal(size=(12, 4, 5)))
    model = nn.Sequential(nn.Linear(5, 6))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=Capture(model, "0"))
    tables = measure([View("tokens", Run.open(tmp_path / "run"), 0)], tmp_path / "out", Cs=(1.0,)).tables
    figure = next(drawing for drawing in draw_figures(tables) if drawing.name == "rdm_grid").figure
    test = stimuli.labels[stimuli.split == "test"]
    order = np.argsort(test, kind="stable")
    expected = squareform(tables.rdm(0, "0"))[np.ix_(order, order)]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), expected)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "1", "2"]
    content, arrays = page_content(tables)
    assert content["stimuli"]["labels"] == sorted(test.tolist())
    assert content["stimuli"]["ids"] == stimuli.ids[stimuli.split == "test"][order].tolist()
    assert "the stimuli are tokens of sequences and not images" in content["stimuli"]["why_not"]
    packed = content["arrays"]["rdm-0-0"]
    upper = expected[np.triu_indices(len(order), 1)]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(arrays["rdm-0-0"])), "<u2")
    np.testing.assert_allclose(packed["low"] + codes / 65534 * (packed["high"] - packed["low"]), upper, atol=1e-3)


def test_class_structure_and_training_are_those_of_the_tables(drawings: dict[str, Drawing], tables: Tables) -> None:
    structure = drawings["class_structure"].figure.axes[0].get_lines()
    assert np.concatenate([line.get_ydata() for line in structure]).tolist() == list(
        tables["class_structure"]["class_structure"]
    )
    loss, validation_loss, accuracy, validation_accuracy = drawings["training"].figure.axes
    assert [ax.get_yscale() for ax in (loss, validation_loss, accuracy)] == ["log", "log", "linear"]
    assert len(legend_of(loss)) == len(tables.views)
    for ax, name in ((accuracy, "accuracy"), (validation_accuracy, "validation_accuracy")):
        assert ax.get_legend() is None
        assert list(ax.get_lines()[0].get_ydata()) == list(tables["training"][name][:2])


def test_alignment_is_that_of_the_table_by_boundary_and_over_training(
    drawings: dict[str, Drawing], tables: Tables
) -> None:
    left, right = drawings["alignment"].figure.axes
    table = tables["gradients"]
    for ax, last in ((left, True), (right, False)):
        *curves, right_angle = ax.get_lines()
        assert list(right_angle.get_ydata()) == [90.0, 90.0]
        for curve, (_, rows) in zip(curves, table.groupby("view", sort=False), strict=True):
            acting = rows if last or (rows["rule"] == "backprop").all() else rows[rows["rule"] != "backprop"]
            angles = acting.pivot(index="step", columns="boundary", values="angle").dropna()
            expected = angles.iloc[-1] if last else angles.mean(axis=1)
            np.testing.assert_allclose(curve.get_ydata(), expected)
            assert curve.get_xdata().tolist() == expected.index.tolist()
    assert legend_of(left) == [verbatim(view.label) for view in tables.views]
    assert right.get_legend() is None
    assert (left.get_xlabel(), right.get_xlabel()) == ("boundary", "step")


NAMES = ["view", "step", "boundary", "angle"]


@pytest.mark.parametrize(
    "gradients",
    [
        pd.DataFrame(columns=NAMES),
        pd.DataFrame([["a", 1, 1, 0.02], ["a", 1, 2, 0.0]], columns=NAMES),
        pd.DataFrame([["a", 1, 1, np.nan]], columns=NAMES),
        pd.DataFrame([["a", 1, 1, None]], columns=NAMES),
    ],
    ids=["nothing diagnosed", "backprop", "no angle", "no angle, as read"],
)
def test_alignment_is_drawn_only_if_an_angle_is_visible(tables: Tables, gradients: pd.DataFrame) -> None:
    assert "alignment" not in [drawing.name for drawing in draw_figures(replaced(tables, gradients=gradients))]


def test_the_loss_has_its_unit_where_all_runs_have_it(
    runs: Mapping[str, Path], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig, tables: Tables
) -> None:
    squared = train_run(tmp_path / "squared", replace(tiny, loss="mse"), few)
    views = [tables.views[0], View("squared", squared, squared.last().step)]
    for seen, label in ((views[:1], "cross-entropy (nats)"), (views[1:], "loss"), (views, "loss")):
        (drawing,) = draw_figures(replace(tables, views=seen), "training")
        assert drawing.figure.axes[0].get_ylabel().replace("\n", " ") == label


@pytest.mark.parametrize(
    "training",
    [
        pd.DataFrame(),
        pd.DataFrame({"view": ["a"], "epoch": [1], "loss": [1.0], "accuracy": [0.5]}),
        pd.DataFrame({"view": ["a"], "epoch": [1], "loss": [1.0], "accuracy": [0.5], "validation_accuracy": [0.5]}),
    ],
    ids=["other trainer", "no whole epoch", "no validation loss"],
)
def test_no_training_curve_without_validation(tables: Tables, training: pd.DataFrame) -> None:
    assert "training" not in possible_figures(replaced(tables, training=training))


def test_ten_layers_of_a_deep_network_are_shown(measure: Any, known_view: Callable[..., View], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inputs, labels, split = rng.normal(size=(18, 4)), np.arange(18) % 2, np.repeat(["train", "validation", "test"], 6)
    views = [known_view("deep", inputs, labels, list(rng.normal(size=(23, 4, 3))), split=split)]
    result = measure(views, tmp_path, distance="euclidean")
    grid = next(drawing for drawing in draw_figures(result.tables) if drawing.name == "rdm_grid").figure
    titles = [ax.get_title() for ax in grid.axes[:-1]]
    assert len(titles) == 10
    assert (titles[0], titles[-1]) == ("1", "23")
    assert set(np.diff([int(title) for title in titles])) <= {2, 3}


def test_a_failed_probe_does_not_move_the_others(tables: Tables) -> None:
    probes = tables["probes"].copy()
    probes.loc[probes["depth"] == 1, ["status", "accuracy"]] = ["failed", np.nan]
    ax = next(draw_figures(replaced(tables, probes=probes))).figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3"]
    assert list(ax.get_xticks()) == [1.0, 2.0, 3.0]
    assert ax.get_lines()[0].get_xdata().tolist() == [1, 2, 3]


def test_an_axis_of_losses_has_plain_numbers(drawings: dict[str, Drawing]) -> None:
    axis = drawings["training"].figure.axes[0].yaxis
    assert [axis.get_major_formatter()(value, 0) for value in (0.05, 2.0, 10.0)] == ["0.05", "2", "10"]
    assert axis.get_minor_formatter()(3.0, 0) == ""


def test_names_below_a_row_of_many_networks_are_within_the_figure() -> None:
    names = [f"network-{k}" for k in range(6)]
    places = [(name, f"hidden.{depth}", depth) for name in names for depth in (1, 2, 3, 4)]
    columns = ["view_a", "layer_a", "depth_a", "view_b", "layer_b", "depth_b", "cka"]
    figure = plot_similarity_grid(pd.DataFrame([(*a, *b, 0.5) for a in places for b in places], columns=columns))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert all(ax.get_tightbbox(canvas.get_renderer()).y0 >= 0 for ax in figure.axes)


def test_long_names_of_classes_are_the_same_on_both_axes() -> None:
    labels = np.arange(12) // 4
    classes = {k: f"a class with the very long name number {k}" for k in range(3)}
    rdm = np.linspace(0, 1, 66)
    axes = plot_rdm_grid({"a": {"h.1": rdm}}, labels, classes).axes[0]
    x, y = ([label.get_text() for label in axis.get_majorticklabels()] for axis in (axes.xaxis, axes.yaxis))
    assert set(x) <= set(y)


def test_a_figure_of_a_script_is_in_the_result_and_in_the_report(
    comparison: ComparisonResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def draw(tables: Tables) -> Figure:
        ax = new_axes()
        ax.plot(tables["probes"]["log_loss"])
        return figure_of(ax)

    mine = ComparisonFigure(heading="Log loss", table="probes", caption=lambda tables: "Of probes.", draw=draw)
    monkeypatch.setitem(FIGURES, "log_loss", mine)
    assert len(comparison.plot("log_loss").lines) == 1
    drawings = list(draw_figures(comparison.tables, "log_loss"))
    save_figures(drawings, tmp_path / "figures")
    pictures = [embed_figure(drawing, tmp_path / "figures") for drawing in drawings]
    write_report(tmp_path / "a.html", comparison.tables, pictures, command="mine")
    assert '<figure id="log_loss" class="printed" data-table="probes">' in (tmp_path / "a.html").read_text()
    with pytest.raises(ValueError, match=r"Choose one of: .*signals, log_loss"):
        comparison.plot("umap")


# Networks that are not alike, drawn to the end


def test_networks_of_different_depth_are_drawn(
    runs: Mapping[str, Path], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    train_run(tmp_path / "deeper", replace(tiny, depth=5, width=8), few)
    result = compare_runs([runs["backprop"], tmp_path / "deeper"], output=tmp_path / "out")
    assert result.tables["rdm_similarity"]["depth"].tolist() == [1, 2, 3]
    assert len(result.tables["similarity"]) == 8**2
    assert (tmp_path / "out/report.html").is_file()


def test_a_dead_network_is_drawn_and_named(
    runs: Mapping[str, Path], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    train_run(tmp_path / "dead", replace(tiny, norm="none", learning_rate=30.0), few)
    with pytest.warns(RuntimeWarning) as caught:
        result = compare_runs([tmp_path / "dead", runs["backprop"]], output=tmp_path / "out")
    warned = [str(warning.message) for warning in caught]
    (text,) = [text for text in warned if "layer 'hidden.3'" in text]
    assert text.startswith(
        "dead, step 38, layer 'hidden.3' has no results. Layer 'hidden.3': 60 of 60 stimuli have zero"
    )
    assert any(text.startswith("Where class structure arises in dead is not known") for text in result.summary())
    assert np.isfinite(result.tables["probes"].loc[result.tables["probes"]["view"] == "backprop", "accuracy"]).all()
    assert "Results that are not defined" in (tmp_path / "out/report.html").read_text()


class Odd(nn.Module):
    """Random maps of the input, with names that are hard to show; one of them NaN if it is asked for."""

    def __init__(self, seed: int, undefined: str = "") -> None:
        super().__init__()
        self.generator, self.undefined = seed, undefined
        self.layers = nn.ModuleDict({name: nn.Identity() for name in ODD_NAMES})

    def forward(self, X: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.generator)
        for name, layer in self.layers.items():
            h = X @ torch.randn(X.shape[1], 4, generator=generator)
            layer(h * torch.nan if name == self.undefined else h)
        return X


def test_names_of_every_kind_are_drawn_and_reported(tmp_path: Path) -> None:
    n = 48
    labels, split = np.arange(n) % 4, np.repeat(["train", "validation", "test"], n // 3)
    inputs = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32) + labels[:, None]
    stimuli = Stimuli.of([f"s{k:02d}" for k in range(n)], labels, split, inputs)
    classes = ["$a$", "_b", "<script>alert(1)</script>", "\u72ac" * 40]
    paths = [tmp_path / "_run $x$", tmp_path / ("<b>&amp; " + "z" * 100)]
    for seed, path in enumerate(paths):
        model = Odd(seed, "_hidden" if seed else "")
        with Run.create(path, {"data": {"classes": classes}}, stimuli) as run:
            run.checkpoint(1, model, capture=Capture(model, ["layers.*"]))
    with pytest.warns(RuntimeWarning) as caught:
        result = compare_runs(paths, output=tmp_path / "out")
    assert ["layers._hidden" in str(each.message) for each in caught] == [True]
    for drawing in draw_figures(result.tables):
        assert (tmp_path / "out" / "figures" / f"{drawing.name}.pdf").stat().st_size > 0
        assert drawing.figure.get_supxlabel() != "" or drawing.name == "training"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;b&gt;&amp;amp; zzz" in page


def test_figures_are_saved_as_png_and_pdf(tmp_path: Path) -> None:
    drawing = Drawing("one", "One", "One.", new_axes(2.0, 1.0).get_figure())
    save_figures([drawing], tmp_path / "figures")
    assert {path.name: path.read_bytes()[:4] for path in (tmp_path / "figures").iterdir()} == {
        "one.png": b"\x89PNG",
        "one.pdf": b"%PDF",
    }


def test_teaching_signals_have_a_panel_for_each_quantity_with_values(
    drawings: dict[str, Drawing], tables: Tables
) -> None:
    """Gradients were not recorded, so that nothing is known of their geometry."""
    panels = [ax for ax in drawings["signals"].figure.axes if ax.get_visible()]
    columns = ["angle", "squared_bias", "variance", "implied_correlation"]
    labels = ["angle to true gradient (°)", "squared bias (relative)"]
    assert [ax.get_ylabel().replace("\n", " ") for ax in panels[:2]] == labels
    assert len(panels) == 4
    for ax, column in zip(panels, columns, strict=True):
        for curve, (_, rows) in zip(ax.get_lines(), tables["signals"].groupby("view", sort=False), strict=False):
            np.testing.assert_array_equal(curve.get_xdata(), rows["boundary"])
            np.testing.assert_array_equal(curve.get_ydata(), rows[column])


def test_teaching_signals_without_rows_have_no_figure(tables: Tables) -> None:
    assert "signals" in possible_figures(tables)
    assert "signals" not in possible_figures(replaced(tables, signals=tables["signals"].iloc[:0]))
