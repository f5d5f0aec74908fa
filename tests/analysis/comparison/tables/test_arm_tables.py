"""Tables of a comparison of arms, against loops over the recorded activations."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisConfig, train_seeds
from analysis.comparison.analysis_plan import plan_tasks
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.design import Design, open_design
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.arm_tables import ATTRIBUTION, SIMILARITY_TESTS
from analysis.comparison.tasks import AnalysisCache
from analysis.comparison.view import View
from analysis.config.comparison_design import DesignConfig
from analysis.training.setup import configurations
from checkpoints import Run
from probes import ProbeConfig, probe_layers
from repsim.similarity import class_structure, compare_groups, linear_cka, participation_ratio, procrustes, rdm
from repsim.similarity import linear_regression as r2

Paths = Mapping[str, tuple[Path, ...]]
PENALTIES = (0.1, 1.0)


@cache
def held_out(path: Path, step: int, layer: str) -> np.ndarray:
    run = Run.open(path)
    return run[step].activations[layer][run.stimuli.split == "test"]


@cache
def accuracies(path: Path, step: int) -> Mapping[str, float]:
    run = Run.open(path)
    stimuli = run.stimuli
    table = probe_layers(
        run[step].activations, stimuli.labels, split=stimuli.split, config=ProbeConfig(Cs=list(PENALTIES))
    )
    return dict(zip(table["layer"], table["accuracy"], strict=True))


def number(path: Path, step: int, layer: str, quantity: str) -> float:
    if quantity == "accuracy":
        return accuracies(path, step)[layer]
    X = held_out(path, step, layer)
    if quantity == "log_dimension":
        return math.log(participation_ratio(X))
    stimuli = Run.open(path).stimuli
    return class_structure(rdm(X), stimuli.labels[stimuli.split == "test"])


def mean_similarity(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], measure: Callable[..., float] = linear_cka
) -> float:
    """Mean over the pairs of different seeds, which are the positions."""
    return float(
        np.mean([measure(X, Y) for (i, X), (j, Y) in itertools.product(enumerate(first), enumerate(second)) if i != j])
    )


def test_every_row_is_what_loops_over_the_activations_give(arm_comparison: ComparisonResult, arm_runs: Paths) -> None:
    tables = arm_comparison.tables
    table = tables["attribution"]
    steps = {(row.arm, row.at): row.step for row in tables["arms"].itertuples()}
    paths = {**arm_runs, "bp at": arm_runs["bp"]}

    def steps_of(arm: str, at: str) -> list[int]:
        if arm != "bp at":
            return [steps[arm, at]] * 3
        return [matched_step(path, paths["sg"], steps["sg", at]) for path in paths["bp"]]

    assert (table["status"] == "ok").all()
    for row in table.itertuples():
        arm, base = (
            [(path, step) for path, step in zip(paths[name], steps_of(name, row.at), strict=True)]
            for name in (row.arm, row.base)
        )
        if row.quantity == "cka":
            X, Y = ([held_out(path, step, row.layer) for path, step in side] for side in (arm, base))
            value, base_value, between = mean_similarity(X, X), mean_similarity(Y, Y), mean_similarity(X, Y)
            assert row.between == pytest.approx(between, abs=1e-6)
            difference = (value + base_value) / 2 - between
        else:
            value, base_value = (
                float(np.mean([number(path, step, row.layer, row.quantity) for path, step in side]))
                for side in (arm, base)
            )
            assert np.isnan(row.between)
            difference = value - base_value
        assert (row.value, row.base_value, row.difference) == pytest.approx((value, base_value, difference), abs=1e-6)
        assert row.n_seeds == 3


def matched_step(path: Path, method: Sequence[Path], step: int) -> int:
    """The recorded step at which a network is nearest to the mean accuracy of the method at its step."""

    def accuracy(path: Path, step: int) -> float:
        logged = [each for each in Run.open(path).metrics() if "validation_accuracy" in each and each["step"] <= step]
        return float(logged[-1]["validation_accuracy"]) if logged else math.inf

    goal = np.mean([accuracy(each, step) for each in method])
    recorded = [each for each in Run.open(path).recorded_steps if each > 0]
    return min(recorded, key=lambda each: abs(accuracy(path, each) - goal))


def test_the_rows_are_all_contrasts_quantities_steps_and_layers(arm_comparison: ComparisonResult) -> None:
    table = arm_comparison.tables["attribution"]
    assert list(table) == list(ATTRIBUTION.columns)
    per_contrast = {"": 3, "slow": 3, "greedy": 3, "short": 1, "bp at": 3}  # layers that both arms have
    rows = table.fillna({"control": ""}).groupby(["control", "contrast"], sort=False).size()
    expected = {("", "total"): 24}
    for control in ("slow", "greedy", "short", "bp at"):
        expected |= {(control, kind): 4 * 2 * per_contrast[control] for kind in ("beyond", "alone")}
    assert rows.to_dict() == expected
    assert set(table.loc[table["control"] == "short", "layer"]) == {"hidden.1"}
    assert set(table["at"]) == {"50 %", "100 %"}


def test_verdicts_follow_from_the_bands(arm_comparison: ComparisonResult) -> None:
    for row in arm_comparison.tables["attribution"].itertuples():
        assert row.band_low < row.low < row.difference < row.high < row.band_high
        assert row.difference - row.low == pytest.approx(row.high - row.difference)
        beyond = row.band_low > row.smallest or row.band_high < -row.smallest
        within = -row.smallest < row.band_low and row.band_high < row.smallest
        assert row.verdict == ("different" if beyond else "equivalent" if within else "undecided")
        assert (row.split_low, row.split_high) == pytest.approx((row.difference, row.difference))


def test_the_table_of_arms_has_steps_accuracies_and_settings(arm_comparison: ComparisonResult, arm_runs: Paths) -> None:
    arms = arm_comparison.tables["arms"].fillna({"differs": "", "method": ""}).set_index(["arm", "at"])
    assert len(arms) == 6 * 2
    assert set(arms["seeds"]) == {"0 1 2"}
    assert arms.loc[("slow", "100 %"), "differs"] == "epochs 3 (2), learning_rate 0.003 (0.01)"
    assert arms.loc[("bp", "100 %"), "differs"] == ""
    runs = [Run.open(path) for path in arm_runs["sg"]]
    row = arms.loc[("sg", "100 %")]
    assert row["step"] == runs[0].last().step
    assert row["test_accuracy"] == pytest.approx(np.mean([run.status["test_accuracy"] for run in runs]))
    ends = [[each["validation_accuracy"] for each in run.metrics() if "validation_accuracy" in each] for run in runs]
    assert row["validation_accuracy"] == pytest.approx(np.mean([each[-1] for each in ends]))
    gaps = arms["accuracy_gap"].dropna()
    assert list(gaps.index) == [("bp at", "50 %"), ("bp at", "100 %")]
    for at, gap in zip(("50 %", "100 %"), gaps, strict=True):
        difference = arms.loc[("bp at", at), "validation_accuracy"] - arms.loc[("sg", at), "validation_accuracy"]
        assert gap == pytest.approx(difference)


def test_permutation_tests_are_those_of_compare_groups(arm_comparison: ComparisonResult, arm_runs: Paths) -> None:
    tests = arm_comparison.tables["similarity_tests"]
    assert list(tests) == list(SIMILARITY_TESTS.columns)
    rows = tests[(tests["arm"] == "sg") & (tests["base"] == "slow") & (tests["at"] == "100 %")]
    assert list(rows["layer"]) == ["hidden.1", "hidden.2", "hidden.3"]
    for row in rows.itertuples():
        last = [Run.open(path).last().step for name in ("slow", "sg") for path in arm_runs[name]]
        layers = [
            held_out(path, step, row.layer)
            for path, step in zip((*arm_runs["slow"], *arm_runs["sg"]), last, strict=True)
        ]
        S = np.array([[linear_cka(X, Y) for Y in layers] for X in layers])
        with pytest.warns(RuntimeWarning, match="no p-value can be below"):
            expected = compare_groups(S, ["slow"] * 3 + ["sg"] * 3, reference="slow", seeds=[0, 1, 2] * 2)
        assert row.p == pytest.approx(expected.p[0])
        assert (row.within, row.between) == pytest.approx((expected.within[0], expected.between[0]), abs=1e-6)
        assert row.difference == pytest.approx(row.within - row.between)
        assert row.p <= row.p_max
        assert row.p_least == expected.p_least


def test_a_comparison_without_arms_of_three_seeds_has_empty_tables(comparison: ComparisonResult) -> None:
    for name in ("attribution", "arms", "similarity_tests"):
        assert comparison.tables[name].empty
    assert "attribution.csv" in {path.name for path in comparison.tables.folder.iterdir()}


# Networks whose activations are known


@pytest.fixture
def known_arms(known_view: Callable[..., View]) -> Callable[..., list[Arm]]:
    """Record arms of three networks each; ``change`` may change the maps of a network."""

    def record(change: Callable[[str, int, list[np.ndarray]], Any] = lambda *_: None) -> list[Arm]:
        rng = np.random.default_rng(0)
        inputs, labels = rng.normal(size=(60, 6)), np.arange(60) % 3
        split = ["train", "validation", "test", "test"] * 15
        arms = []
        for arm, role in (("bp", "reference"), ("sg", "method")):
            paths = []
            for seed in range(3):
                maps = [rng.normal(size=(6, 5)) + (arm == "sg") * np.eye(6, 5) * 4 for _ in range(2)]
                change(arm, seed, maps)
                paths.append(known_view(f"{arm}{seed}", inputs, labels, maps, split=split).run.path)
            arms.append(Arm(arm, role, tuple(paths)))
        return arms

    return record


@pytest.fixture
def measured_design(tmp_path: Path) -> Callable[..., tuple[Design, pd.DataFrame]]:
    """Compare arms without figures and report."""

    def measure(arms: Sequence[Arm], smallest: Sequence[str], **config: Any) -> tuple[Design, pd.DataFrame]:
        analysis = AnalysisConfig(Cs=PENALTIES, **config)
        design = open_design(arms, DesignConfig(smallest_effects=tuple(smallest)), analysis)
        tasks = plan_tasks(design.shown(), analysis, AnalysisCache(tmp_path), design)
        for task in tasks.by_table["attribution"]:
            task.run()
        return design, ATTRIBUTION.build(tasks, {})

    return measure


def test_runs_that_were_trained_elsewhere_are_compared(known_arms: Any, measured_design: Any) -> None:
    arms = known_arms()
    _, table = measured_design(arms, ["cka=0.05", "class_structure=0.1"])
    assert len(table) == 2 * 2
    row = table[(table["quantity"] == "cka") & (table["layer"] == "hidden.2")].iloc[0]
    X, Y = ([held_out(path, 7, "hidden.2") for path in arm.paths] for arm in reversed(arms))
    expected = (mean_similarity(X, X) + mean_similarity(Y, Y)) / 2 - mean_similarity(X, Y)
    assert row["difference"] == pytest.approx(expected, abs=1e-6)


def test_a_distance_grows_where_a_similarity_is_lost(known_arms: Any, measured_design: Any) -> None:
    arms = known_arms()
    _, table = measured_design(arms, ["cka=0.05", "procrustes=0.1"], measures=("cka", "procrustes"))
    cka, distance = (table[table["quantity"] == name] for name in ("cka", "procrustes"))
    assert (cka["difference"] > 0).all()
    assert (distance["difference"] > 0).all()
    X, Y = ([held_out(path, 7, "hidden.1") for path in arm.paths] for arm in reversed(arms))
    within = (mean_similarity(X, X, procrustes) + mean_similarity(Y, Y, procrustes)) / 2
    assert distance["difference"].iloc[0] == pytest.approx(mean_similarity(X, Y, procrustes) - within, abs=1e-6)


def test_an_asymmetric_measure_is_the_mean_of_both_directions(known_arms: Any, measured_design: Any) -> None:
    arms = known_arms()
    _, table = measured_design(arms, ["linear_regression=0.05"], measures=("linear_regression",))

    def both(X: np.ndarray, Y: np.ndarray) -> float:
        return (r2(X, Y) + r2(Y, X)) / 2

    X, Y = ([held_out(path, 7, "hidden.1") for path in arm.paths] for arm in reversed(arms))
    assert table["between"].iloc[0] == pytest.approx(mean_similarity(X, Y, both), abs=1e-6)


def test_a_dead_layer_of_one_network_is_named(known_arms: Any, measured_design: Any) -> None:
    def die(arm: str, seed: int, maps: list[np.ndarray]) -> None:
        if (arm, seed) == ("sg", 1):
            maps[0][:] = 0

    smallest = ["cka=0.05", "class_structure=0.1", "log_dimension=0.1", "accuracy=0.02"]
    _, table = measured_design(known_arms(die), smallest)
    dead, alive = table[table["layer"] == "hidden.1"], table[table["layer"] == "hidden.2"]
    undefined = dead[dead["quantity"] != "accuracy"]  # a probe of a constant layer is defined: it answers one class
    assert (undefined["status"] == "failed").all()
    assert undefined["message"].str.startswith("sg, seed 1: ").all()
    assert undefined["message"].str.contains("constant|no variance|zero", regex=True).all()
    assert undefined[["difference", "band_low", "band_high"]].isna().all(axis=None)
    assert (undefined["verdict"] == "").all()
    assert (alive["status"] == "ok").all()
    assert alive["band_low"].notna().all()


def test_two_splits_of_the_data_are_averaged(arm_runs: Paths, tmp_path: Path, measured_design: Any) -> None:
    arms, parts = [], []
    for name, role in (("bp", "reference"), ("sg", "method")):
        training, recording = configurations(Run.open(arm_runs[name][0]))
        others = train_seeds(tmp_path / name, replace(training, split_seed=1), recording, seeds=[0, 1, 2])
        arms.append(Arm(name, role, (*arm_runs[name], *(run.path for run in others))))
        parts.append([arm_runs[name], tuple(run.path for run in others)])
    design, table = measured_design(arms, ["cka=0.05", "class_structure=0.1"], steps="last")
    assert {cell.split for cell in design.cells()} == {0, 1}
    assert all(len(cell.members) == 6 for cell in design.cells())
    assert (table["n_seeds"] == 6).all()
    row = table[(table["quantity"] == "cka") & (table["layer"] == "hidden.2")].iloc[0]
    each = []
    for k in (0, 1):
        Y, X = ([held_out(path, Run.open(path).last().step, "hidden.2") for path in side[k]] for side in parts)
        each.append((mean_similarity(X, X) + mean_similarity(Y, Y)) / 2 - mean_similarity(X, Y))
    assert row["difference"] == pytest.approx(np.mean(each), abs=1e-6)
    assert (row["split_low"], row["split_high"]) == pytest.approx((min(each), max(each)), abs=1e-6)
