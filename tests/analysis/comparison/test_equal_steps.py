"""A fork beside its source, and other networks at several equal steps: similarities, figures, sentences."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import fork_run, train_run
from analysis.comparison.analysis_plan import AnalysisPlan
from analysis.comparison.equal_steps import Twins, equal_steps, is_over_steps, similarity_at_equal_steps, twins_of
from analysis.comparison.figures import draw_figures, possible_figures
from analysis.comparison.result import ComparisonResult
from analysis.comparison.summary import summarise
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View, views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.recording import RecordingConfig
from analysis.report.sections import TABLES_IN_SECTIONS
from analysis.workflows.assemble import write_tables
from repsim.learning import TrainingConfig
from repsim.similarity import linear_cka, procrustes

FORKED, AFTER, LAST = 4, 8, 12
TRAINING = TrainingConfig(
    data="digits", depth=3, width=8, activation="tanh", epochs=2, batch_size=200, learning_rate=0.01
)
RECORDING = RecordingConfig(steps=f"{FORKED},{AFTER},last", n_train=40, n_validation=20, n_test=30, diagnose="none")
LAYERS = ["hidden.1", "hidden.2", "hidden.3"]
Measured = Callable[..., Tables]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """A run that was trained by backprop, and its fork with noise at boundary 2."""
    folder = tmp_path_factory.mktemp("twins")
    train_run(folder / "source", TRAINING, RECORDING)
    fork_run(folder / "late", folder / "source", FORKED, {"rule": "noise:scale=1@2"})
    return folder / "source", folder / "late"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another seed, which has one layer less."""
    path = tmp_path_factory.mktemp("other") / "seed-1"
    return train_run(path, replace(TRAINING, seed=1, depth=2), RECORDING).path


@pytest.fixture
def measured(measure: Callable[..., ComparisonResult], tmp_path: Path) -> Measured:
    """Write the tables of runs at some steps."""

    def run(paths: Sequence[Path], steps: str, measure_name: str = "cka") -> Tables:
        return measure(views_of_runs(paths, steps), tmp_path, Cs=(0.1,), measures=(measure_name,)).tables

    return run


@pytest.fixture(scope="module")
def over_steps(twins: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of the twins at all steps."""
    folder = tmp_path_factory.mktemp("over-steps")
    plan = AnalysisPlan("Twins", tuple(views_of_runs(twins, "all")), folder, AnalysisConfig(Cs=(0.1,)), "")
    for task in plan.tasks:
        task.run()
    return write_tables(plan, folder)


def held_out(view: View, layer: str) -> np.ndarray:
    return np.asarray(view.activations[layer][view.rows("test")], dtype=np.float64)


# Steps and twins


def test_equal_steps_are_those_of_every_network(twins: Sequence[Path]) -> None:
    views = views_of_runs(twins, "all")
    assert equal_steps(views) == [FORKED, AFTER, LAST]
    without = [view for view in views if (view.network, view.step) != ("late", AFTER)]
    assert equal_steps(without) == [FORKED, LAST]
    assert equal_steps([view for view in views if view.network == "source"]) == []
    assert is_over_steps(without)
    assert not is_over_steps(views_of_runs(twins, "last"))


def test_a_fork_and_its_source_are_twins_in_either_order(twins: Sequence[Path], other: Path) -> None:
    source, fork = twins
    assert twins_of(views_of_runs([source, fork])) == {"late": Twins("late", "late", "source", FORKED)}
    assert twins_of(views_of_runs([fork, source])) == {"source": Twins("source", "late", "source", FORKED)}
    assert twins_of(views_of_runs([source, other])) == {}


# Similarities


@pytest.mark.parametrize(
    ("name", "function", "equal", "sign"), [("cka", linear_cka, 1, 1), ("procrustes", procrustes, 0, -1)]
)
def test_layers_are_compared_with_the_same_layer_of_the_reference_at_the_same_step(
    twins: Sequence[Path], measured: Measured, name: str, function: Callable[..., float], equal: float, sign: int
) -> None:
    tables = measured(twins, "all", name)
    source, fork = tables.views[:3], tables.views[3:]
    rows = similarity_at_equal_steps(tables)
    assert list(rows[["network", "step", "layer"]].itertuples(index=False, name=None)) == [
        ("late", step, layer) for step in (FORKED, AFTER, LAST) for layer in LAYERS
    ]
    expected = [
        function(held_out(a, layer), held_out(b, layer)) for a, b in zip(source, fork, strict=True) for layer in LAYERS
    ]
    np.testing.assert_allclose(rows["value"], expected, atol=1e-6)
    np.testing.assert_allclose(rows["change"], sign * (equal - np.array(expected)), atol=1e-6)
    assert (rows.loc[rows["step"] == FORKED, "change"].abs() < 1e-9).all()
    assert (rows.loc[rows["step"] == LAST, "change"] > 1e-3).any()


def test_layers_that_the_reference_lacks_are_left_out(twins: Sequence[Path], other: Path, measured: Measured) -> None:
    rows = similarity_at_equal_steps(measured([other, twins[0]], "last"))
    assert list(rows["layer"]) == LAYERS[:2]


# Sentences


def sentence_of(tables: Tables) -> str:
    (found,) = [each for each in summarise(tables) if "was forked from" in each]
    return found


def test_the_summary_says_where_a_fork_first_differs_and_where_most_at_the_end(over_steps: Tables) -> None:
    rows = similarity_at_equal_steps(over_steps).set_index(["step", "layer"])
    first, last = (rows.loc[step, "value"] for step in (AFTER, LAST))
    assert sentence_of(over_steps) == (
        f"late was forked from source at step {FORKED}; of the steps shown, it first differs at step {AFTER}, layer "
        f"{first.idxmin()} (CKA {first.min():.3f}), and at the end differs most at step {LAST}, layer {last.idxmin()} "
        f"(CKA {last.min():.3f}). This is one pair of networks, so that it allows no verdict."
    )
    lowest = rows["value"].idxmin()
    assert (
        f"Lowest CKA to the same layer of source at the same step: late {rows['value'].min():.2f} at {lowest[1]}, step "
        f"{lowest[0]}."
    ) in summarise(over_steps)
    assert not any("more than the rule" in each for each in summarise(over_steps))


def test_networks_over_steps_are_described_at_the_last_step_by_their_names(over_steps: Tables) -> None:
    first = over_steps["first_layers"].query("fraction == 0.9").set_index("view")
    places = {name: first.loc[f"{name}, step {LAST}"] for name in ("source", "late")}
    said = [f"{name} at {row['layer']} ({row['depth']:.0f} of {row['n_layers']})" for name, row in places.items()]
    assert (
        f"First layer whose probe reaches 90 % of the last layer's accuracy at the last step: {', '.join(said)}."
    ) in summarise(over_steps)


def test_a_fork_that_is_shown_at_its_end_only_is_described_there(twins: Sequence[Path], measured: Measured) -> None:
    said = sentence_of(measured(twins, "last"))
    assert f"it first differs at step {LAST}, layer" in said
    assert "at the end" not in said


def test_a_fork_that_has_not_changed_is_said_not_to_differ(twins: Sequence[Path], measured: Measured) -> None:
    said = sentence_of(measured(twins, str(FORKED)))
    assert said.endswith(f"; no layer differs at the steps shown, up to step {FORKED}.")


def test_without_a_step_in_common_there_is_nothing_to_say(
    twins: Sequence[Path], measure: Callable[..., ComparisonResult], tmp_path: Path
) -> None:
    views = views_of_runs(twins, "all")
    apart = [view for view in views if view.step == (LAST if view.network == "late" else AFTER)]
    said = sentence_of(measure(apart, tmp_path, Cs=(0.1,)).tables)
    assert said.endswith(
        "no layer of both is compared at one step. Choose steps that both recorded, such as --steps all."
    )


# Figures


def test_the_similarity_to_the_twin_is_drawn_by_step_and_layer(over_steps: Tables) -> None:
    drawn = {drawing.name: drawing for drawing in draw_figures(over_steps)}
    by_step = drawn["similarity_by_step"].figure
    expected = similarity_at_equal_steps(over_steps).pivot(index="depth", columns="step", values="value")
    np.testing.assert_array_equal(by_step.axes[0].images[0].get_array(), expected)
    assert by_step.axes[0].lines[0].get_xdata()[0] == 0.5  # between the step of the fork, the first, and the next
    assert "the same layer of source at the same step" in drawn["similarity_by_step"].caption
    assert f"at step {LAST}," in drawn["cka"].caption
    assert [ax.get_xlabel() for ax in drawn["cka"].figure.axes[2:4]] == [f"source, step {LAST}", f"late, step {LAST}"]


@pytest.mark.parametrize(("name", "n_rows"), [("probe_accuracy", 1), ("class_structure", 1), ("layer_quantities", 3)])
def test_curves_have_a_panel_per_step_and_a_colour_per_network(over_steps: Tables, name: str, n_rows: int) -> None:
    (drawing,) = draw_figures(over_steps, name)
    axes = drawing.figure.axes
    assert [ax.get_title() for ax in axes[:3]] == [f"step {step}" for step in (FORKED, AFTER, LAST)]
    assert len(axes) == 3 * n_rows
    assert drawing.caption.endswith("One panel per step.")
    for ax in axes:
        assert [line.get_label() for line in ax.get_lines()[:2]] == ["source", "late"]
    if name == "class_structure":
        table = over_steps[name].set_index(["view", "step"])
        for ax, step in zip(axes, (FORKED, AFTER, LAST), strict=True):
            for line in ax.get_lines():
                label = f"{line.get_label()}, step {step}"
                assert list(line.get_ydata()) == list(table.loc[(label, step), "class_structure"])


def test_training_is_drawn_over_steps_as_at_the_end(over_steps: Tables) -> None:
    """The table of training names networks, which have no steps."""
    (drawing,) = draw_figures(over_steps, "training")
    table = over_steps["training"]
    lines = {line.get_label(): line for line in drawing.figure.axes[0].get_lines()}
    assert list(lines) == ["source", "late"]
    for name, line in lines.items():
        assert list(line.get_ydata()) == list(table.loc[table["view"] == name, "loss"])


def test_probes_of_seeds_over_steps_have_their_differences_at_the_last_step(over_steps: Tables) -> None:
    rows = [(f"sg, step {FORKED}", "h", 1, 0.0), (f"sg, step {LAST}", "h", 1, 0.5)]
    of_label = {"target": "label", "band_low": -1.0, "band_high": 1.0, "n_seeds": 2, "p_value": 0.5}
    differences = pd.DataFrame(rows, columns=["method", "layer", "depth", "difference"]).assign(
        **of_label, p_adjusted=0.5, p_least=0.5
    )
    named = {"source": "bp", "late": "sg"}
    methods = {view.label: f"{named[view.network]}, step {view.step}" for view in over_steps.views}
    probes = over_steps["probes"].assign(method=lambda table: table["view"].map(methods))
    tables = replace(over_steps, frames={**over_steps, "probes": probes, "probe_differences": differences})
    (drawing,) = draw_figures(tables, "probe_differences")
    assert [(line.get_label(), list(line.get_ydata())) for line in drawing.figure.axes[0].get_lines()[:1]] == [
        ("sg", [0.5])
    ]
    assert f"less that of bp, mean of pairs of networks of equal seed, at step {LAST}," in drawing.caption
    assert TABLES_IN_SECTIONS["differences"](tables)["method"].tolist() == [f"sg, step {LAST}"]


def test_training_of_one_network_over_its_steps_is_one_curve(over_steps: Tables) -> None:
    views = [view for view in over_steps.views if view.network == "source"]
    frames = {**over_steps, "training": over_steps["training"].query("view == 'source'")}
    (drawing,) = draw_figures(replace(over_steps, views=views, frames=frames), "training")
    assert [line.get_label() for line in drawing.figure.axes[0].get_lines()] == ["source"]


def test_networks_at_one_step_are_drawn_as_before(twins: Sequence[Path], measured: Measured) -> None:
    tables = measured(twins, "last")
    assert "similarity_by_step" not in possible_figures(tables)
    (drawing,) = draw_figures(tables, "class_structure")
    assert len(drawing.figure.axes) == 1
    assert isinstance(similarity_at_equal_steps(tables), pd.DataFrame)
