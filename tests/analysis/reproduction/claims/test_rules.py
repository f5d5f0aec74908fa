"""The claim on all rules, on tiny networks of a few rules."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.config.recording import RecordingConfig
from analysis.execution import Task
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.rules import CLAIM
from analysis.reproduction.claims.rules.parts import examine, tasks_of
from analysis.reproduction.claims.rules.rule_comparison import RuleComparison
from analysis.reproduction.claims.rules.rule_entries import (
    BACKPROP,
    CONTROLS,
    ENTRIES,
    FAMILIES,
    FAMILY_OF,
    OUTPUT_ALONE,
    UNTRAINED,
    describe,
)
from analysis.reproduction.claims.rules.rule_tables import classical_scaling, summarise
from analysis.reproduction.kit.rule_tuning import RateGrid
from repsim.learning import ESTIMATORS, TrainingConfig, catalogue
from repsim.similarity import linear_cka

FEW = (BACKPROP, "synthetic gradient", "Kickback", "noise", OUTPUT_ALONE, UNTRAINED)
TRAINING = TrainingConfig(data="digits", depth=2, width=16, epochs=1, batch_size=64)
RECORDING = RecordingConfig(steps="last", n_train=60, n_validation=30, n_test=40, diagnose="1,every:5,last")
COMPARISON = RuleComparison(
    training=TRAINING,
    recording=RECORDING,
    grid=RateGrid(seeds=(100, 101), epochs=1, learning_rates=(1e-3, 1e-2)),
    seeds=(0, 1),
    entries=tuple(entry for entry in ENTRIES if entry.name in FEW),
)
PROMISED = {
    "networks",
    "tuning",
    "accuracy",
    "pairs",
    "gains",
    "profiles",
    "alignment",
    "relations",
    "rules",
    "embedding",
    "embedding_axes",
    "probes",
    "gradients",
    "similarity",
    "class_structure",
}


RunAll = Callable[[Sequence[Task], Path], Results]


def shortened(comparison: RuleComparison) -> list[Task]:
    """Return the tasks of a comparison, with few updates to time."""
    tasks = tasks_of(comparison)
    fewer = {"repeats": 2, "steps": 1}
    return [replace(task, inputs={**task.inputs, **fewer}) if "repeats" in task.inputs else task for task in tasks]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def results(folder: Path, run_all: RunAll) -> Results:
    return run_all(shortened(COMPARISON), folder)


@pytest.fixture(scope="module")
def section(results: Results) -> Section:
    return CLAIM.section(results)


# Tasks


def test_every_estimator_has_an_entry() -> None:
    used = {rule.name for entry in ENTRIES for rule in TrainingConfig(rule=entry.rule).rules.values()}
    of_other_networks = {"equilibrium-propagation", "truncated"}  # of one that relaxes, and of recurrent ones
    assert used | {BACKPROP} | of_other_networks == set(ESTIMATORS)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.rule != BACKPROP], ids=lambda entry: entry.name)
def test_rules_act_at_every_boundary(entry: Any) -> None:
    rules = TrainingConfig(rule=entry.rule, depth=4).rules
    assert list(rules) == [1, 2, 3, 4]
    assert len({rule.name for rule in rules.values()}) == 1


def test_entries_have_unique_names_and_cover_all_families() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry.network for entry in ENTRIES if entry.is_trained}) == len(ENTRIES) - 1
    assert list(dict.fromkeys(entry.family for entry in ENTRIES)) == list(FAMILIES)


def test_other_trainings_share_no_task() -> None:
    wider = replace(COMPARISON, training=replace(TRAINING, width=17))
    assert not {task.key for task in tasks_of(COMPARISON)} & {task.key for task in tasks_of(wider)}


def test_timing_waits_for_all_other_tasks() -> None:
    *others, timed = tasks_of(COMPARISON)
    assert timed.name == "rules-time-a-step"
    assert set(timed.after) == {task.key for task in others}


def test_locks_and_needs_follow_from_the_estimators() -> None:
    for known in catalogue():
        words = describe(known.name + ("@all" if known.name != BACKPROP else ""), depth=4)
        assert words["locks"] == (", ".join(known.locks) or "-")
        assert words["g"] == known.formula
    unlabelled = describe("synthetic-gradient:label_conditioned=false@all", depth=4)
    assert unlabelled["needs"] == "activation"
    assert unlabelled["options"] == "label_conditioned=False"


# Tables


def test_the_section_has_all_tables_with_a_row_per_rule(results: Results, section: Section) -> None:
    assert set(section.tables) == PROMISED | {"timings"}
    table = section.tables["rules"].set_index("method")
    assert list(table.index) == list(FEW)
    assert dict(table["family"]) == {name: FAMILY_OF[name] for name in FEW}
    by_layer = [
        f"{name}_{k}" for name in ("angle", "probe", "class_structure", "cka", "rsa", "distance") for k in (1, 2)
    ]
    assert set(by_layer) <= set(table.columns)
    assert table.loc[BACKPROP, by_layer].notna().all()
    shown, tuned = section.shown.values()
    assert list(shown["rule"]) == list(FEW)
    assert list(tuned["rule"]) == [name for name in FEW if name != UNTRAINED]
    assert (tuned.set_index("rule").map(str).apply(lambda row: row.str.contains("chosen").sum(), axis=1) == 1).all()


def test_networks_are_trained_at_the_rates_with_the_best_validation_accuracy(section: Section) -> None:
    tuning, networks = section.tables["tuning"], section.tables["networks"]
    assert (tuning.groupby("method").size() == COMPARISON.grid.n_trainings).all()
    for name, rows in tuning.groupby("method"):
        own = ["learning_rate", "estimator_learning_rate"]
        means = rows.groupby(own, dropna=False)["validation_accuracy"].mean()
        chosen = rows[rows["chosen"]]
        assert chosen["validation_accuracy"].mean() == pytest.approx(means.max())
        trained = networks[networks["method"] == name]
        assert set(trained["learning_rate"]) == set(chosen["learning_rate"])
        assert chosen["estimator_learning_rate"].notna().all() == (name == "synthetic gradient")
    assert not set(tuning["seed"]) & set(networks["seed"])


def test_rules_that_were_tuned_to_an_end_of_the_grid_are_named(section: Section) -> None:
    tuning = section.tables["tuning"]
    for end, rate in zip(("lowest", "highest"), COMPARISON.grid.learning_rates, strict=True):
        names = set(tuning.loc[tuning["chosen"] & (tuning["learning_rate"] == rate), "method"])
        told = [line for line in section.findings if line.startswith(f"Tuned to the {end} learning rate")]
        assert [set(line[line.rindex("(") + 1 : -2].split("; ")) for line in told] == ([names] if names else [])
    assert f"0 of {len(tuning)} tuning trainings diverged." in section.findings


def test_untrained_networks_are_those_of_backprop_before_training(results: Results, folder: Path) -> None:
    views = COMPARISON.views(folder)
    untrained, trained = views[UNTRAINED, 0], views[BACKPROP, 0]
    assert untrained.run.path == trained.run.path
    assert (untrained.step, trained.step) == (0, trained.run.recorded_steps[-1])
    assert set(results["probes"]["method"]) == set(FEW)
    assert UNTRAINED not in set(results["gradients"]["method"])


def test_angles_are_measured_at_the_last_step(results: Results, section: Section) -> None:
    table = section.tables["rules"].set_index("method")
    assert table.loc[BACKPROP, ["angle_1", "angle_2", "angle_over_training"]].tolist() == pytest.approx(
        [0, 0, 0], abs=0.1
    )
    assert table.loc[OUTPUT_ALONE, ["angle_1", "angle_2"]].isna().all()
    logged = results["gradients"]
    chosen = logged[(logged["method"] == "Kickback") & (logged["boundary"] == 2)]
    last = chosen[chosen["step"] == chosen["step"].max()]
    assert len(last) == len(COMPARISON.seeds)
    assert table.loc["Kickback", "angle_2"] == pytest.approx(last["angle"].mean())


def test_similarity_to_backprop_is_measured_across_seeds(section: Section, folder: Path) -> None:
    views = COMPARISON.views(folder)
    rows = views[BACKPROP, 0].rows("test")
    layers = {key: view.activations["hidden.2"][rows] for key, view in views.items()}
    pairs = [linear_cka(layers["Kickback", seed], layers[BACKPROP, 1 - seed]) for seed in (0, 1)]
    table = section.tables["rules"].set_index("method")
    assert table.loc["Kickback", "cka_2"] == pytest.approx(np.mean(pairs))
    ceiling = linear_cka(layers[BACKPROP, 0], layers[BACKPROP, 1])
    assert table.loc[BACKPROP, "cka_2"] == pytest.approx(ceiling)


def test_results_except_timings_are_reproducible(section: Section, tmp_path: Path, run_all: RunAll) -> None:
    again = CLAIM.conclude(run_all(shortened(COMPARISON), tmp_path))
    for name in PROMISED:
        pd.testing.assert_frame_equal(section.tables[name], again.tables[name], check_exact=True, obj=name)
    assert list(section.findings) == list(again.findings)


def test_every_rule_is_timed(results: Results) -> None:
    timings = results["timings"].set_index("method")
    assert set(timings.index) == set(FEW) - {UNTRAINED}
    assert timings.loc[BACKPROP, "relative"] == 1
    assert (timings["milliseconds_a_step"] > 0).all()


def test_figures_have_labels_and_notes(section: Section, check_section: Callable[..., None]) -> None:
    check_section(section)
    assert [drawing.name for drawing in section.drawings] == [
        "accuracy",
        "pairs",
        "tuning",
        "alignment",
        "layers",
        "relations",
        "map",
    ]
    for drawing in section.drawings:
        assert all(ax.get_xlabel() for ax in drawing.figure.axes)
        assert ("Seeds 100, 101" if drawing.name == "tuning" else "Seeds 0, 1") in drawing.figure.get_supxlabel()


def test_the_matrix_of_pairs_shows_each_difference_with_the_colour_of_its_verdict(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.8})
    figure = next(drawing.figure for drawing in section.drawings if drawing.name == "pairs")
    (ax,) = figure.axes
    rows = [each.get_text() for each in ax.get_yticklabels()]
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    colour = {(cell.get_x() + 0.5, cell.get_y() + 0.5): cell.get_facecolor() for cell in ax.patches}
    best, kickback, noise = (rows.index(name) for name in (BACKPROP, "Kickback", "noise"))
    assert cells[kickback, best] == "+10.0"
    assert cells[best, kickback] == "-10.0"
    assert colour[kickback, best] == colour[noise, kickback] != colour[best, kickback]
    assert cells[rows.index(OUTPUT_ALONE), noise] in ("+0.0", "-0.0")
    assert colour[rows.index(OUTPUT_ALONE), noise] not in (colour[kickback, best], colour[best, kickback])


def test_heat_maps_show_the_numbers_of_their_cells(section: Section) -> None:
    figure = next(drawing.figure for drawing in section.drawings if drawing.name == "layers")
    probe = section.tables["rules"][["probe_1", "probe_2"]].to_numpy()
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{value:.2f}" for value in probe.ravel()]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(FEW)


# Conclusion


def with_accuracies(results: Results, **accuracies: float) -> Results:
    """Return results whose test accuracies are as given by rule, with a little to tell seeds apart."""
    names = {entry.network: entry.name for entry in ENTRIES if entry.is_trained}
    networks = results["networks"].copy()
    methods = networks["network"].map(names)
    networks["test_accuracy"] = methods.map(lambda name: accuracies.get(name, 0.9)) + 0.001 * networks["seed"]
    return replace(results, tables={**results.tables, "networks": networks})


@pytest.fixture
def concluded(results: Results) -> Any:
    return lambda **accuracies: CLAIM.section(with_accuracies(results, **accuracies))


def test_the_claim_holds_if_all_rules_learn(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.4})
    assert section.verdict == "holds"
    assert "3 of 3 rules" in section.findings[0]
    assert "exceptions" not in section.findings[0]


def test_a_rule_that_does_not_learn_is_named(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.3})
    assert section.verdict == "holds in part"
    assert "exceptions: Kickback -0.200" in section.findings[0]
    assert "different)" in section.findings[0]


def test_a_gain_below_the_smallest_difference_of_interest_is_no_gain(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.51})
    assert "exceptions: Kickback +0.010" in section.findings[0]
    assert "equivalent)" in section.findings[0]
    assert not section.tables["gains"].set_index("method").loc["Kickback", "learns"]


def test_pairs_are_called_different_equivalent_or_undecided(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.8, "synthetic gradient": 0.91})
    (counted,) = (line for line in section.findings if line.startswith("Test accuracies in 3 pairs"))
    assert counted.endswith("2 are different, 1 are equivalent, 0 are undecided.")
    (beside,) = (line for line in section.findings if line.startswith("Test accuracy beside"))
    assert "equivalent: backprop (-0.010); lower: Kickback (-0.110)." in beside


def test_the_best_rule_under_a_lock_is_named_with_the_verdicts_beside_it(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.8})
    lines = [line for line in section.findings if line.startswith("Rules under")]
    assert len(lines) == section.tables["rules"].query("family != @CONTROLS")["locks"].nunique()
    assert all(", the only one." in line for line in lines)  # of this choice each rule has other locks


def test_the_claim_does_not_hold_if_few_rules_learn(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "Kickback": 0.3, "synthetic gradient": 0.4})
    assert section.verdict == "does not hold"


def test_a_gain_within_the_spread_over_seeds_does_not_count(results: Results) -> None:
    chosen = with_accuracies(results, **{OUTPUT_ALONE: 0.5})
    networks = chosen["networks"]
    networks.loc[networks["rule"] == "kickback", "test_accuracy"] = [0.4, 0.9]
    gains = summarise(chosen.tables)["gains"].set_index("method")
    assert gains.loc["Kickback", "mean"] > 0
    assert gains.loc["Kickback", "verdict"] == "undecided"
    assert not gains.loc["Kickback", "learns"]


def test_a_rule_with_one_network_that_diverged_has_no_verdict(results: Results) -> None:
    chosen = with_accuracies(results, **{OUTPUT_ALONE: 0.5})
    networks = chosen["networks"]
    is_lost = (networks["rule"] == "kickback") & (networks["seed"] == 0)
    networks.loc[is_lost, ["test_accuracy", "train_accuracy"]] = np.nan
    networks.loc[is_lost, "state"] = "diverged"
    section = CLAIM.section(chosen)
    assert "9 of 10 networks" in section.findings[0]
    assert "Kickback (training diverged)" in section.findings[0]
    assert not section.tables["gains"].set_index("method").loc["Kickback", "learns"]
    assert "nan" not in "\n".join(section.findings)


@pytest.fixture(scope="module")
def diverged_section(tmp_path_factory: pytest.TempPathFactory, run_all: RunAll) -> Section:
    """Section in which feedback of an enormous scale, under the name of Kickback, diverges at all rates."""
    wild = replace(next(entry for entry in ENTRIES if entry.name == "Kickback"), rule="feedback-alignment:scale=1e300")
    others = (entry for entry in COMPARISON.entries if entry.name != "Kickback")
    comparison = replace(COMPARISON, entries=(*others, wild))
    return CLAIM.section(run_all(shortened(comparison), tmp_path_factory.mktemp("diverged")))


def test_a_rule_that_diverges_at_all_rates_is_reported_and_not_compared(diverged_section: Section) -> None:
    section = diverged_section
    tuning, networks = section.tables["tuning"], section.tables["networks"].set_index("method")
    assert set(tuning.loc[tuning["method"] == "Kickback", "state"]) == {"diverged"}
    assert not tuning.loc[tuning["method"] == "Kickback", "chosen"].any()
    assert set(networks.loc["Kickback", "state"]) == {"diverged"}
    assert "Kickback" not in set(section.tables["similarity"]["method_a"])
    assert not section.tables["gains"].set_index("method").loc["Kickback", "learns"]
    assert "Kickback (training diverged)" in section.findings[0]
    assert "8 of 10 networks" in section.findings[0]
    assert any("all those of Kickback" in line for line in section.findings)
    of_kickback = section.tables["pairs"].query("method_a == 'Kickback' or method_b == 'Kickback'")
    assert set(of_kickback["verdict"]) == {""}
    assert "nan" not in "\n".join(section.findings)


def test_examine_returns_the_gradients_of_the_given_seeds(folder: Path, results: Results) -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "synthetic gradient")
    tables = examine(folder, comparison=replace(COMPARISON, entries=(entry,), seeds=COMPARISON.seeds[1:2]))
    assert set(tables["gradients"]["seed"]) == {COMPARISON.seeds[1]}
    assert set(tables["gradients"]["method"]) == {"synthetic gradient"}


def test_relations_leave_out_rules_without_a_gradient(section: Section) -> None:
    relations = section.tables["relations"].set_index("among")
    rules = [name for name in FEW if name not in (OUTPUT_ALONE, UNTRAINED)]
    assert set(relations.loc["rules with a gradient", "n_rules"]) == {len(rules)}
    without = [name for name in rules if next(e for e in ENTRIES if e.name == name).family != CONTROLS]
    assert set(relations.loc["without controls", "n_rules"]) == {len(without)}
    assert set(relations["n_families"]) == {3, 4}  # each of these rules is the only one of its family
    assert relations.loc["without controls", ["low", "least"]].isna().all(axis=None)  # three families are too few
    assert relations.loc["rules with a gradient", ["low", "least"]].notna().all(axis=None)


def test_classical_scaling_recovers_a_plane() -> None:
    points = np.random.default_rng(0).normal(size=(12, 2)) * [3.0, 1.0]
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    found, shares = classical_scaling(distances)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=-1), distances, atol=1e-9)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > shares[1]
    centred = points - points.mean(axis=0)
    expected = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(shares, expected / expected.sum())
