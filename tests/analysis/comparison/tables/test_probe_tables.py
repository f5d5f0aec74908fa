import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from analysis import AnalysisConfig, analyze_run, compare_runs, train_seeds
from analysis.comparison.figures import draw_figures
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.probe_tables import (
    FRACTIONS,
    first_layer_table,
    probe_band_table,
    probe_difference_table,
    probe_table,
)
from analysis.comparison.view import View, views_of_run, views_of_runs
from analysis.config.recording import RecordingConfig
from analysis.workflows.analyze import plan_run
from checkpoints import Run
from probes import probe_layers, seed_bands, seed_differences
from repsim.learning import TrainingConfig

KEYS = ["view", "run", "step"]


def test_probes_are_accurate_on_pixels_and_fail_on_constants(
    measure: Any, known_view: Callable[..., View], tmp_path: Path
) -> None:
    X, y = load_digits(return_X_y=True)
    split = np.resize(["train", "train", "validation", "test"], 400)
    views = [known_view("pixels", X[:400], y[:400], [np.eye(64), np.zeros((64, 2))], split=split)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the layer that does not vary
        table = measure(views, tmp_path).tables["probes"]
    assert list(table["status"]) == ["ok", "failed"]
    assert table["accuracy"][0] > 0.85
    assert np.isnan(table["accuracy"][1])
    assert "constant" in table["message"][1]


def test_the_probe_table_has_one_row_per_network_and_layer(
    measure: Any, runs: Mapping[str, Path], tmp_path: Path
) -> None:
    views = views_of_runs(list(runs.values())[:2])
    table = measure(views, tmp_path).tables["probes"]
    assert list(table.columns[:8]) == [*KEYS, "layer", "depth", "d", "method", "seed"]
    assert list(table["view"]) == list(table["method"]) == ["backprop"] * 3 + ["synthetic"] * 3
    assert list(table["layer"]) == ["hidden.1", "hidden.2", "hidden.3"] * 2
    assert list(table["depth"]) == [1, 2, 3] * 2
    assert set(table["run"]) == {str(path) for path in list(runs.values())[:2]}
    assert (table[["step", "d", "n_train", "n_validation", "n_test"]] == [38, 16, 200, 60, 60]).all(axis=None)


def test_probes_are_those_of_the_recorded_arrays(measure: Any, runs: Mapping[str, Path], tmp_path: Path) -> None:
    view = views_of_run(runs["backprop"], "last")[0]
    stimuli = view.run.stimuli
    expected = probe_layers({n: a[:] for n, a in view.activations.items()}, stimuli.labels, split=stimuli.split)
    table = measure([view], tmp_path).tables["probes"]
    columns = [name for name in expected if name in table and name != "seed"]
    assert {"accuracy", "C", "n_constant", "v_information", "relative_gap", "message"} <= set(columns)
    pd.testing.assert_frame_equal(table[columns], expected[columns])


# Over seeds


@pytest.fixture(scope="module")
def seeds(
    tmp_path_factory: pytest.TempPathFactory, tiny: TrainingConfig, few: RecordingConfig
) -> dict[str, list[Path]]:
    """Three seeds of two methods."""
    folder = tmp_path_factory.mktemp("seeds")
    rules = {"bp": {}, "sg": {"rule": "synthetic-gradient"}}
    for name, changes in rules.items():
        train_seeds(folder / name, replace(tiny, epochs=1, **changes), few, seeds="0-2")
    return {name: [folder / name / f"seed-{seed}" for seed in range(3)] for name in rules}


@pytest.fixture(scope="module")
def result(
    seeds: dict[str, list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
    without_figures: Callable[[], AbstractContextManager[None]],
) -> ComparisonResult:
    with without_figures():
        return compare_runs([*seeds["bp"], *seeds["sg"]], output=tmp_path_factory.mktemp("out") / "cmp")


def named(views: Sequence[View]) -> pd.DataFrame:
    """Return the table of probes with made-up accuracies, for the methods of the views."""
    row = {"d": 16, "status": "ok", "message": "", "accuracy": 0.5}
    return probe_table(views, [pd.DataFrame([{"layer": layer, **row} for layer in view.activations]) for view in views])


def test_networks_that_differ_in_their_seed_alone_are_one_method(result: ComparisonResult) -> None:
    probes = result.tables["probes"].drop_duplicates("view")
    assert probes["method"].tolist() == ["bp"] * 3 + ["sg"] * 3
    assert probes["seed"].tolist() == [0, 1, 2] * 2


def test_a_seed_alone_and_steps_of_a_network_are_methods_of_their_own(
    seeds: dict[str, list[Path]], runs: Mapping[str, Path]
) -> None:
    table = named(views_of_runs([*seeds["bp"][:2], seeds["sg"][2], runs["backprop"]]))
    networks = table.drop_duplicates("view")
    assert networks["method"].tolist() == ["bp", "bp", "sg/seed-2", "backprop"]
    assert networks["seed"].tolist() == [0, 1, 0, 0]
    over_time = named(views_of_run(runs["backprop"], "first,last")).drop_duplicates("view")
    assert over_time["method"].tolist() == over_time["view"].tolist() == ["untrained", "step 38"]


def test_the_steps_of_a_method_are_told_apart(seeds: dict[str, list[Path]]) -> None:
    table = named(views_of_runs(seeds["bp"], "first,last")).drop_duplicates("view")
    assert table["method"].tolist() == ["bp, step 0", "bp, step 19"] * 3
    assert table["seed"].tolist() == [0, 0, 1, 1, 2, 2]


def test_methods_in_folders_of_one_name_are_told_apart(
    seeds: dict[str, list[Path]], tmp_path: Path, tiny: TrainingConfig, few: RecordingConfig
) -> None:
    train_seeds(tmp_path / "bp", replace(tiny, epochs=1, width=8), few, seeds="0-1")
    others = [tmp_path / "bp" / f"seed-{seed}" for seed in (0, 1)]
    networks = named(views_of_runs([*seeds["bp"][:2], *others])).drop_duplicates("view")
    methods = networks["method"].tolist()
    assert methods[0] == methods[1] != methods[2] == methods[3]
    assert all(name.endswith("/bp") for name in methods)
    alone = networks.assign(method="x").drop_duplicates("seed")
    assert alone["seed"].tolist() == [0, 1]


def test_bands_and_differences_are_those_of_the_probes(result: ComparisonResult) -> None:
    bands = seed_bands(result.tables["probes"])
    columns = ["method", "layer", "n_seeds", "mean", "low", "high", "band_low", "band_high", "status"]
    pd.testing.assert_frame_equal(result.tables["probe_bands"][columns], bands[columns])
    assert result.tables["probe_bands"]["depth"].tolist() == [1, 2, 3] * 2
    expected = seed_differences(result.tables["probes"], reference="bp")
    assert result.tables["probe_differences"]["depth"].tolist() == [1, 2, 3]
    pd.testing.assert_frame_equal(result.tables["probe_differences"].drop(columns=["depth", "target"]), expected)


def probed(method: str, values: NDArray, seeds: list[int], layers: list[str]) -> pd.DataFrame:
    rows = [
        {"view": f"{method}/{seed}", "method": method, "seed": seed, "layer": layer, "depth": depth, "accuracy": value}
        for seed, of_seed in zip(seeds, values, strict=True)
        for depth, (layer, value) in enumerate(zip(layers, of_seed, strict=True), start=1)
    ]
    return pd.DataFrame(rows).assign(step=9, chance=0.1, target="label", kind="categorical")


def test_differences_are_of_equal_seeds_and_of_layers_that_both_have() -> None:
    rng = np.random.default_rng(0)
    deep = probed("deep", rng.uniform(0.5, 0.9, (3, 3)), [0, 1, 2], ["h1", "h2", "h3"])
    flat = probed("flat", rng.uniform(0.5, 0.9, (3, 2)), [0, 1, 2], ["h1", "h2"])
    other = probed("other seeds", rng.uniform(0.5, 0.9, (3, 3)), [0, 1, 3], ["h1", "h2", "h3"])
    single = probed("single", rng.uniform(0.5, 0.9, (1, 3)), [0], ["h1", "h2", "h3"])
    table = probe_difference_table(pd.concat([deep, flat, other, single]))
    assert table[["method", "layer"]].to_numpy().tolist() == [["flat", "h1"], ["flat", "h2"]]
    assert probe_difference_table(single).empty
    bands = probe_band_table(pd.concat([deep, flat, single]))
    assert bands.groupby("method", sort=False)["layer"].size().to_dict() == {"deep": 3, "flat": 2, "single": 3}
    assert set(bands.loc[bands["method"] == "single", "status"]) == {"no spread"}


def test_differences_over_steps_are_to_the_first_method_at_the_same_step() -> None:
    rng = np.random.default_rng(0)
    places = [("bp", 0), ("bp", 9), ("sg", 0), ("sg", 9), ("sg", 7)]
    values = {place: rng.uniform(0.5, 0.9, (3, 2)) for place in places}
    parts = [
        probed(f"{name}, step {step}", of_step, [0, 1, 2], ["h1", "h2"]).assign(step=step)
        for (name, step), of_step in values.items()
    ]
    table = probe_difference_table(pd.concat(parts)).set_index("method")["difference"]
    assert list(dict.fromkeys(table.index)) == ["sg, step 0", "sg, step 9"]
    for step in (0, 9):
        expected = (values["sg", step] - values["bp", step]).mean(axis=0)
        np.testing.assert_allclose(table[f"sg, step {step}"], expected)


def test_methods_with_one_step_each_are_compared_whatever_their_steps() -> None:
    parts = [
        probed(name, np.full((2, 1), 0.5), [0, 1], ["h1"]).assign(step=step) for name, step in [("bp", 3), ("sg", 9)]
    ]
    assert probe_difference_table(pd.concat(parts))["method"].tolist() == ["sg"]


def test_first_layers_are_where_a_share_of_the_last_accuracy_is_reached() -> None:
    table = first_layer_table(probed("bp", np.array([[0.45, 0.81, 0.7, 0.9]]), [0], ["h1", "h2", "h3", "h4"]))
    assert table["fraction"].tolist() == list(FRACTIONS) == [0.5, 0.8, 0.9, 0.95, 0.99]
    assert table["layer"].tolist() == ["h1", "h2", "h2", "h4", "h4"]
    assert table["depth"].tolist() == [1, 2, 2, 4, 4]


def test_figures_over_seeds_have_one_curve_and_band_per_method(result: ComparisonResult) -> None:
    drawings = {drawing.name: drawing for drawing in draw_figures(result.tables)}
    probes, differences = drawings["probe_accuracy"], drawings["probe_differences"]
    ax = probes.figure.axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["bp", "sg"]
    bands = result.tables["probe_bands"]
    for curve, (_, rows) in zip(ax.get_lines(), bands.groupby("method", sort=False), strict=False):
        assert list(curve.get_ydata()) == list(rows["mean"])
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    of_bp = bands[bands["method"] == "bp"]
    assert corners.min() == pytest.approx(max(0.0, of_bp["band_low"].min()))
    assert corners.max() == pytest.approx(min(1.0, of_bp["band_high"].max()))
    assert "several seeds (bp 3, sg 3)" in probes.caption
    curve = differences.figure.axes[0].get_lines()[0]
    assert list(curve.get_ydata()) == list(result.tables["probe_differences"]["difference"])
    assert curve.get_color() == ax.get_lines()[1].get_color()


def test_the_page_has_the_first_layers(result: ComparisonResult) -> None:
    page = (result.tables.folder / "report.html").read_text()
    section = page[page.index('id="first-layers"') : page.index('id="networks"')]
    first = result.tables["first_layers"]
    row = first[(first["view"] == "bp/seed-1") & (first["fraction"] == 0.9)].iloc[0]
    assert f"{row['layer']} ({row['depth']:.0f} of 3)" in section.replace("\u00a0", " ")
    assert all(f"<th>{share} %</th>" in section for share in ("50", "80", "90", "95", "99"))


# Several targets


@pytest.fixture(scope="module")
def of_targets(
    seeds: dict[str, list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
    without_figures: Callable[[], AbstractContextManager[None]],
) -> ComparisonResult:
    """A comparison of two seeds of two methods at two steps, with a table of two targets and groups."""
    folder = tmp_path_factory.mktemp("targets")
    stimuli = Run.open(seeds["bp"][0]).stimuli
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": stimuli.ids, "parity": np.where(stimuli.labels % 2, "odd", "even")})
    table["size"] = stimuli.labels + 0.1 * rng.normal(size=len(table))
    table["group"] = [f"{part} {k % 5}" for k, part in enumerate(stimuli.split)]
    table.sample(frac=1.0, random_state=0).to_csv(folder / "targets.csv", index=False)
    config = AnalysisConfig(
        steps="first,last", layers=("hidden.1", "hidden.3"), targets=str(folder / "targets.csv"), groups="group"
    )
    runs = [*seeds["bp"][:2], *seeds["sg"][:2]]
    with warnings.catch_warnings(), without_figures():
        warnings.simplefilter("ignore", RuntimeWarning)
        return compare_runs(runs, config=config, output=folder / "cmp")


def test_each_target_has_rows_bands_differences_and_first_layers(of_targets: ComparisonResult) -> None:
    probes = of_targets.tables["probes"]
    targets = ["label", "parity", "size"]
    assert probes["target"].tolist() == targets * 16
    assert probes.groupby("layer")["depth"].unique().map(list).to_dict() == {"hidden.1": [1], "hidden.3": [2]}
    for target, score in zip(targets, ["accuracy", "accuracy", "r2"], strict=True):
        rows = probes[probes["target"] == target]
        bands = of_targets.tables["probe_bands"]
        columns = ["method", "layer", "n_seeds", "mean", "band_low", "band_high", "status"]
        own = bands[bands["target"] == target]
        expected = pd.concat([seed_bands(each, value=score) for _, each in rows.groupby("method", sort=False)])
        pd.testing.assert_frame_equal(own[columns].reset_index(drop=True), expected[columns].reset_index(drop=True))
        first = of_targets.tables["first_layers"]
        last = rows[rows["depth"] == 2].set_index("view")[score]
        reached = first[(first["target"] == target) & (first["fraction"] == 0.99)].set_index("view")
        ok = reached["status"] == "ok"
        assert (reached["status"][last > rows.set_index("view")["chance"].groupby("view").first()] == "ok").all()
        assert ok.any()
        differences = of_targets.tables["probe_differences"]
        assert (differences["target"] == target).sum() == 4  # of sg at two steps, in two layers
    labels = probes[probes["target"] == "label"].drop(columns=["target", "kind"])
    assert labels["accuracy"].notna().all()
    assert labels["r2"].isna().all()


def test_targets_are_in_the_figures_and_sentences(of_targets: ComparisonResult) -> None:
    drawn = {each.name: each for each in draw_figures(of_targets.tables)}
    axes = drawn["probe_targets"].figure.axes
    assert [ax.get_ylabel() for ax in axes] == ["parity: accuracy", "", "size: R²", ""]
    assert [ax.get_title() for ax in axes] == ["step 0", "step 19", "", ""]
    assert all(len(ax.lines) == 3 for ax in axes)  # two methods, and chance
    assert "probe_accuracy" in drawn
    assert any(each.startswith("Best probe of size, R² on test: ") for each in of_targets.summary())
    assert any("probe of parity reaches 90 % of the last layer's accuracy" in each for each in of_targets.summary())


def test_the_table_of_targets_is_part_of_what_identifies_an_analysis(
    of_targets: ComparisonResult, seeds: dict[str, list[Path]], tmp_path: Path
) -> None:
    config = of_targets.tables.config
    assert config.targets is not None

    def identity(**changes: Any) -> str:
        return plan_run(seeds["bp"][0], replace(config, **changes)).identity

    shutil.copyfile(config.targets, tmp_path / "copy.csv")
    assert identity(targets=str(tmp_path / "copy.csv")) == identity()
    assert len({identity(), identity(groups=None), identity(targets=None, groups=None)}) == 3
    (tmp_path / "copy.csv").write_text(Path(config.targets).read_text().replace("odd", "uneven"))
    assert identity(targets=str(tmp_path / "copy.csv")) != identity()


@pytest.mark.parametrize(
    ("cells", "changes", "message"),
    [
        ("rank", {}, "Target 'rank': .* If whole numbers are quantities, end the name of the column in ':continuous'"),
        ("half", {"groups": "half"}, "The split divides 2 of 2 groups, such as '0', which is in test and train and"),
        ("rank", {"groups": "other"}, "has no column 'other' of groups. Choose one of: rank"),
        ("rank", {"targets": None, "groups": "rank"}, "groups is 'rank', a column of the table of targets; give the"),
    ],
)
def test_targets_that_cannot_be_probed_are_refused_before_anything_is_computed(
    seeds: dict[str, list[Path]], tmp_path: Path, cells: str, changes: dict[str, Any], message: str
) -> None:
    ids = Run.open(seeds["bp"][0]).stimuli.ids
    values = {"rank": range(len(ids)), "half": np.arange(len(ids)) % 2}
    pd.DataFrame({"id": ids, cells: values[cells]}).to_csv(tmp_path / "t.csv", index=False)
    config = AnalysisConfig(**{"targets": str(tmp_path / "t.csv"), **changes})
    with pytest.raises(ValueError, match=message):
        analyze_run(seeds["bp"][0], config=config, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
