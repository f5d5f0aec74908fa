"""Pictures of an attribution: panels, hatched cells, marks and bands are those of the table."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from analysis.comparison.attribution.answer import contrast_titles, without_controls_alone
from analysis.comparison.figures import FIGURES, draw_figures
from analysis.comparison.result import ComparisonResult
from analysis.plots.attribution import plot_attribution, plot_effects_by_layer
from analysis.plots.drawing import Drawing
from analysis.plots.styles import method_styles

TITLES = {("sg", ""): "total", ("sg", "slow"): "beyond schedule (slow)", ("dfa", ""): "total"}


@pytest.fixture
def table() -> pd.DataFrame:
    """One quantity of two methods, of which one has a control, at two steps and three layers."""
    verdicts = itertools.cycle(["different", "undecided", "equivalent", "undecided", ""])
    rows = [
        (method, control, at, f"hidden.{depth}", depth, 0.1 * depth - 0.2 * (at == "50 %"), next(verdicts))
        for method, control in TITLES
        for at in ("50 %", "100 %")
        for depth in (1, 2, 3)
    ]
    columns = ["method", "control", "at", "layer", "depth", "difference", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[table["verdict"] == "", "difference"] = np.nan
    table["base"] = table["control"].replace("", "bp")
    return table.assign(band_low=table["difference"] - 0.05, band_high=table["difference"] + 0.05, smallest=0.04)


def rows_of(table: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
    return table[(table["method"] == key[0]) & (table["control"].fillna("") == key[1])]


def panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.images]


def hatched(ax: Axes) -> set[tuple[int, int]]:
    """Return the cells (column, row) that are hatched."""
    collections = [each for each in ax.collections if isinstance(each, PolyCollection)]
    boxes = [path.get_extents() for each in collections for path in each.get_paths()]
    assert all(each.get_hatch() == "///" for each in ax.collections)
    return {(round((box.x0 + box.x1) / 2), round((box.y0 + box.y1) / 2)) for box in boxes}


def marks(ax: Axes) -> dict[tuple[int, int], str]:
    shown = {"o": "different", "$=$": "equivalent"}
    return {(int(x), int(y)): shown[line.get_marker()] for line in ax.lines for x, y in line.get_xydata()}


def check_panel(ax: Axes, rows: pd.DataFrame, steps: list[str]) -> None:
    values = np.asarray(ax.images[0].get_array().filled(np.nan))
    cells = {(steps.index(row.at), row.depth - 1): row for row in rows.itertuples()}
    for (x, y), row in cells.items():
        np.testing.assert_equal(values[y, x], row.difference)
    assert np.isfinite(values).sum() == rows["difference"].notna().sum()
    assert hatched(ax) == {place for place, row in cells.items() if row.verdict == "undecided"}
    signs = ("different", "equivalent")
    assert marks(ax) == {place: row.verdict for place, row in cells.items() if row.verdict in signs}


def test_cells_are_the_differences_and_undecided_ones_are_hatched(table: pd.DataFrame) -> None:
    figure = plot_attribution(table, TITLES, label="CKA lost")
    shown = panels(figure)
    assert len(shown) == len(TITLES)
    for ax, key in zip(shown, TITLES, strict=True):
        check_panel(ax, rows_of(table, key), ["50 %", "100 %"])
        assert [label.get_text() for label in ax.get_xticklabels()] == ["50 %", "100 %"]
    assert shown[0].get_title() == "total"
    assert shown[1].get_title() == "beyond schedule\n(slow)"
    assert shown[2].get_ylabel().startswith("dfa\n")
    limits = {ax.images[0].get_clim() for ax in shown}
    most = max(table["difference"].abs().max(), 2 * table["smallest"].max())
    assert limits == {(-most, most)}
    assert figure.axes[-1].get_ylabel() == "CKA lost"


def test_without_controls_a_panel_is_named_like_its_method(table: pd.DataFrame) -> None:
    totals = {key: title for key, title in TITLES.items() if not key[1]}
    shown = panels(plot_attribution(table, totals, label="CKA lost"))
    assert [(ax.get_title(), ax.get_ylabel()) for ax in shown] == [("sg", "hidden layer"), ("dfa", "hidden layer")]


def test_steps_at_which_a_control_is_not_matched_say_so(table: pd.DataFrame) -> None:
    figure = plot_attribution(table, TITLES, label="CKA lost", unmatched={("slow", "50 %"), ("bp", "10 %")})
    ticks = [[label.get_text() for label in ax.get_xticklabels()] for ax in panels(figure)]
    assert ticks == [["50 %", "100 %"], ["50 % ≠", "100 %"], ["50 %", "100 %"]]


def test_curves_have_their_bands_and_the_range_of_small_differences(table: pd.DataFrame) -> None:
    last = table[table["at"] == "100 %"]
    figure = plot_effects_by_layer(last, TITLES, label="CKA lost", smallest=0.04)
    sg, dfa = figure.axes
    assert (sg.get_title(), dfa.get_title(), sg.get_ylabel()) == ("sg", "dfa", "CKA lost")
    for ax, keys in ((sg, list(TITLES)[:2]), (dfa, list(TITLES)[2:])):
        assert len(ax.containers) == len(keys)
        for container, key in zip(ax.containers, keys, strict=True):
            rows = rows_of(last, key)
            curve, _, (bars,) = container
            np.testing.assert_array_equal(np.asarray(curve.get_ydata(), dtype=float), rows["difference"])
            ends = [segment[:, 1] for segment in bars.get_segments() if len(segment)]
            known = rows.dropna(subset="difference")
            np.testing.assert_allclose([end.min() for end in ends if np.isfinite(end).all()], known["band_low"])
            np.testing.assert_allclose([end.max() for end in ends if np.isfinite(end).all()], known["band_high"])
        span = next(patch for patch in ax.patches if patch.get_height() > 0)
        assert (span.get_y(), span.get_height()) == pytest.approx((-0.04, 0.08))


def test_differences_far_below_the_smallest_of_interest_are_pale(table: pd.DataFrame) -> None:
    small = table.assign(difference=1e-6, smallest=0.05)
    figure = plot_attribution(small, TITLES, label="CKA lost")
    assert {ax.images[0].get_clim() for ax in panels(figure)} == {(-0.1, 0.1)}


def test_a_total_has_the_style_of_its_method_unless_controls_have_theirs(table: pd.DataFrame) -> None:
    last, styles = table[table["at"] == "100 %"], method_styles(["bp", "sg", "dfa", "slow"])

    def colours_in(titles: dict[tuple[str, str], str]) -> list[list[str]]:
        figure = plot_effects_by_layer(last, titles, label="CKA lost", smallest=0.04, among=list(styles))
        return [[each[0].get_color() for each in ax.containers] for ax in figure.axes]

    totals = {key: title for key, title in TITLES.items() if not key[1]}
    assert colours_in(totals) == [[styles["sg"].colour], [styles["dfa"].colour]]
    (total, slow), (other,) = colours_in(TITLES)
    assert slow == styles["slow"].colour
    assert total == other not in {style.colour for style in styles.values()}


# Of a comparison


@pytest.fixture(scope="module")
def drawings(arm_comparison: ComparisonResult) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in draw_figures(arm_comparison.tables)}


def test_the_figures_of_arms_come_first_and_are_written(
    arm_comparison: ComparisonResult, drawings: dict[str, Drawing]
) -> None:
    others = [f"attribution_{name}" for name in ("class_structure", "accuracy", "log_dimension")]
    assert list(drawings)[:5] == ["attribution", *others, "attribution_by_layer"]
    for name in list(drawings)[:2]:
        assert (arm_comparison.tables.folder / "figures" / f"{name}.png").is_file()
        assert "What the methods changed" in drawings[name].heading
    report = (arm_comparison.tables.folder / "report.html").read_text()
    assert "What the methods changed" in report
    assert "attribution.csv" in report


def test_the_picture_of_a_comparison_is_its_table(
    arm_comparison: ComparisonResult, drawings: dict[str, Drawing]
) -> None:
    effects = without_controls_alone(arm_comparison.tables["attribution"])
    effects = effects[effects["quantity"] == "cka"]
    titles = contrast_titles(arm_comparison.tables)
    shown = panels(drawings["attribution"].figure)
    assert len(shown) == len(titles) == 5
    for ax, key in zip(shown, titles, strict=True):
        check_panel(ax, rows_of(effects, key), ["50 %", "100 %"])
    undecided = sum(len(hatched(ax)) for ax in shown)
    assert undecided == (effects["verdict"] == "undecided").sum()
    n = len(arm_comparison.tables["attribution"])
    assert f"cover all {n} differences at once" in drawings["attribution"].caption
    assert "Smallest difference of interest: 0.05." in drawings["attribution"].caption


@pytest.mark.parametrize("gap", [0.01, -0.3])
def test_the_caption_explains_marks_that_there_are(arm_comparison: ComparisonResult, gap: float) -> None:
    arms = arm_comparison.tables["arms"]
    tables = {**arm_comparison.tables, "arms": arms.assign(accuracy_gap=arms["accuracy_gap"] * 0 + gap)}
    assert ("Steps with ≠" in FIGURES["attribution"].caption(tables)) == (abs(gap) > 0.02)


def test_titles_of_panels_do_not_overlap(drawings: dict[str, Drawing]) -> None:
    figure = drawings["attribution"].figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [ax.title.get_window_extent(canvas.get_renderer()) for ax in panels(figure)]
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    label = figure.axes[-1].yaxis.label.get_window_extent(canvas.get_renderer())
    assert figure.axes[-1].get_ylabel().split() == ["CKA", "lost", "between", "arms"]
    assert label.y0 >= 0
    assert label.y1 <= figure.bbox.y1


def test_long_names_of_arms_fit_too(table: pd.DataFrame) -> None:
    long = {name: f"beyond schedule (backprop-at-the-schedule-of-{name})" for name in ("slow", "everywhere", "nowhere")}
    titles = {("sg", ""): "total"} | {("sg", name): title for name, title in long.items()}
    more = [table, *(rows_of(table, ("sg", "slow")).assign(control=name) for name in ("everywhere", "nowhere"))]
    figure = plot_attribution(pd.concat(more), titles, label="CKA lost")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [ax.title.get_window_extent(renderer) for ax in panels(figure)]
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    assert len({ax.get_title() for ax in panels(figure)}) == len(titles)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_comparison_without_arms_has_no_such_figure(comparison: ComparisonResult) -> None:
    names = {path.stem for path in (comparison.tables.folder / "figures").iterdir()}
    assert not [name for name in names if name.startswith("attribution")]
