"""E7 on tiny networks of a few rules."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.config.recording import RecordingConfig
from analysis.reproduction.claim import Part
from analysis.reproduction.claims import EXPERIMENTS, Plan, Results, Section
from analysis.reproduction.claims.rules import experiment as rules_module
from analysis.reproduction.claims.rules.experiment import RULES, parts_of
from analysis.reproduction.claims.rules.networks import (
    BACKPROP,
    CONTROLS,
    ENTRIES,
    FAMILIES,
    OUTPUT_ALONE,
    UNTRAINED,
    Study,
    describe,
)
from analysis.reproduction.claims.rules.tables import classical_scaling, summarise
from analysis.reproduction.parts import Assignment, perform, read_results
from repsim.learning import ESTIMATORS, TrainingConfig, catalogue
from repsim.similarity import linear_cka

PLAN = Plan(seeds=(0, 1, 2, 3))
FEW = (BACKPROP, "synthetic gradient", "Kickback", "noise", OUTPUT_ALONE, UNTRAINED)
TRAINING = TrainingConfig(data="digits", depth=2, width=16, epochs=1, batch_size=64)
RECORDING = RecordingConfig(steps="last", n_train=60, n_validation=30, n_test=40, diagnose="1,every:5,last")
STUDY = Study(
    training=TRAINING,
    recording=RECORDING,
    seeds=(0, 1),
    entries=tuple(entry for entry in ENTRIES if entry.name in FEW),
)
PROMISED = {
    "networks",
    "accuracy",
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


def done(study: Study, folder: Path) -> Results:
    parts = [shortened(part) for part in parts_of(study, PLAN)]
    for part in sorted(parts, key=lambda part: part.stage):
        perform(Assignment(part, folder))
    return read_results(parts, PLAN, folder)


def shortened(part: Part) -> Part:
    """Return a part that times less, if it does."""
    fewer = {"repeats": 2, "steps": 1} if "repeats" in part.settings else {}
    return replace(part, settings={**part.settings, **fewer})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return done(STUDY, folder)


@pytest.fixture(scope="module")
def section(results: Results) -> Section:
    return RULES.conclude(results)


# What is trained


def test_it_is_one_of_the_experiments() -> None:
    assert EXPERIMENTS["rules"] is RULES


def test_every_estimator_has_an_entry() -> None:
    used = {rule.name for entry in ENTRIES for rule in TrainingConfig(rule=entry.rule).rules.values()}
    assert used | {BACKPROP} == set(ESTIMATORS)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.rule != BACKPROP], ids=lambda entry: entry.name)
def test_a_rule_stands_at_every_boundary(entry: Any) -> None:
    rules = TrainingConfig(rule=entry.rule, depth=4).rules
    assert list(rules) == [1, 2, 3, 4]
    assert len({rule.name for rule in rules.values()}) == 1


def test_entries_have_names_of_their_own_and_a_family() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry.network for entry in ENTRIES if entry.is_trained}) == len(ENTRIES) - 1
    assert {entry.family for entry in ENTRIES} == set(FAMILIES)


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_parts_have_keys_of_their_own_and_settings_that_json_keeps(scale: str) -> None:
    parts = RULES.parts(Plan(scale=scale))
    assert len({part.key for part in parts}) == len(parts)
    for part in parts:
        assert json.loads(json.dumps(dict(part.settings))) == dict(part.settings)
    n_seeds = 3 if scale == "quick" else 5
    assert sum(part.stage == 0 for part in parts) == n_seeds * (len(ENTRIES) - 1)


def test_quick_scale_is_within_eight_minutes_and_no_part_above_one() -> None:
    costs = [part.cost for part in RULES.parts(Plan())]
    assert max(costs) <= 60
    assert sum(costs) <= 480


def test_a_study_is_read_back_from_its_settings() -> None:
    assert Study.from_dict(json.loads(json.dumps(STUDY.to_dict()))) == STUDY


def test_parts_differ_between_studies() -> None:
    wider = replace(STUDY, training=replace(TRAINING, width=17))
    assert not {part.key for part in parts_of(STUDY, PLAN)} & {part.key for part in parts_of(wider, PLAN)}


def test_locks_and_needs_follow_from_the_estimators() -> None:
    for known in catalogue():
        words = describe(known.name + ("@all" if known.name != BACKPROP else ""), depth=4)
        assert words["locks"] == (", ".join(known.locks) or "-")
        assert words["g"] == known.formula
    unlabelled = describe("synthetic-gradient:label_conditioned=false@all", depth=4)
    assert unlabelled["needs"] == "activation"
    assert unlabelled["options"] == "label_conditioned=False"


# What is found


def test_the_tables_are_there(results: Results, section: Section) -> None:
    assert set(section.tables) == PROMISED | {"timings"}
    table = section.tables["rules"].set_index("method")
    assert list(table.index) == list(FEW)
    by_layer = [
        f"{name}_{k}" for name in ("angle", "probe", "class_structure", "cka", "rsa", "distance") for k in (1, 2)
    ]
    assert set(by_layer) <= set(table.columns)
    assert table.loc[BACKPROP, by_layer].notna().all()
    (shown,) = section.shown.values()
    assert list(shown["rule"]) == list(FEW)


def test_the_untrained_networks_are_those_of_backprop_before_training(results: Results, folder: Path) -> None:
    views = STUDY.views(folder)
    untrained, trained = views[UNTRAINED, 0], views[BACKPROP, 0]
    assert untrained.run.path == trained.run.path
    assert (untrained.step, trained.step) == (0, trained.run.recorded_steps[-1])
    assert set(results["probes"]["method"]) == set(FEW)
    assert UNTRAINED not in set(results["gradients"]["method"])


def test_angles_are_those_of_the_last_step(results: Results, section: Section) -> None:
    table = section.tables["rules"].set_index("method")
    assert table.loc[BACKPROP, ["angle_1", "angle_2", "angle_over_training"]].tolist() == pytest.approx(
        [0, 0, 0], abs=0.1
    )
    assert table.loc[OUTPUT_ALONE, ["angle_1", "angle_2"]].isna().all()
    logged = results["gradients"]
    chosen = logged[(logged["method"] == "Kickback") & (logged["boundary"] == 2)]
    last = chosen[chosen["step"] == chosen["step"].max()]
    assert len(last) == len(STUDY.seeds)
    assert table.loc["Kickback", "angle_2"] == pytest.approx(last["angle"].mean())


def test_likeness_to_backprop_is_to_its_other_seeds(section: Section, folder: Path) -> None:
    views = STUDY.views(folder)
    rows = views[BACKPROP, 0].rows("test")
    layers = {key: view.activations["hidden.2"][rows] for key, view in views.items()}
    pairs = [linear_cka(layers["Kickback", seed], layers[BACKPROP, 1 - seed]) for seed in (0, 1)]
    table = section.tables["rules"].set_index("method")
    assert table.loc["Kickback", "cka_2"] == pytest.approx(np.mean(pairs))
    ceiling = linear_cka(layers[BACKPROP, 0], layers[BACKPROP, 1])
    assert table.loc[BACKPROP, "cka_2"] == pytest.approx(ceiling)


def test_equal_seeds_give_equal_bits_in_all_tables_but_the_timings(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_module, "draw", lambda *_: [])
    again = RULES.conclude(done(STUDY, tmp_path))
    for name in PROMISED:
        pd.testing.assert_frame_equal(section.tables[name], again.tables[name], check_exact=True, obj=name)
    assert list(section.findings) == list(again.findings)


def test_every_rule_is_timed(results: Results) -> None:
    timings = results["timings"].set_index("method")
    assert set(timings.index) == set(FEW) - {UNTRAINED}
    assert timings.loc[BACKPROP, "relative"] == 1
    assert (timings["milliseconds_a_step"] > 0).all()


def test_figures_say_what_they_show(section: Section) -> None:
    assert [drawing.name for drawing in section.drawings] == ["accuracy", "alignment", "layers", "relations", "map"]
    for drawing in section.drawings:
        axes = drawing.figure.axes
        assert axes
        assert all(ax.get_xlabel() for ax in axes)
        assert axes[0].get_ylabel()
        note = drawing.figure.get_supxlabel()
        assert "Seeds 0, 1" in note
        assert "n = " in note


def test_the_cells_of_the_heat_maps_hold_their_numbers(section: Section) -> None:
    figure = next(drawing.figure for drawing in section.drawings if drawing.name == "layers")
    probe = section.tables["rules"][["probe_1", "probe_2"]].to_numpy()
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{value:.2f}" for value in probe.ravel()]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(FEW)


# What follows


def with_accuracies(results: Results, **accuracies: float) -> Results:
    """Return results whose test accuracies are as given by rule, with a little to tell seeds apart."""
    names = {entry.network: entry.name for entry in ENTRIES if entry.is_trained}
    networks = results["networks"].copy()
    methods = networks["network"].map(names)
    networks["test_accuracy"] = methods.map(lambda name: accuracies.get(name, 0.9)) + 0.001 * networks["seed"]
    return replace(results, tables={**results.tables, "networks": networks})


@pytest.fixture
def concluded(results: Results, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rules_module, "draw", lambda *_: [])
    return lambda **accuracies: RULES.conclude(with_accuracies(results, **accuracies))


def test_the_claim_holds_if_all_rules_learn(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.4})
    assert section.verdict == "holds"
    assert "3 of 3 rules" in section.findings[0]
    assert "not so" not in section.findings[0]


def test_a_rule_that_does_not_learn_is_named(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "noise": 0.5, "Kickback": 0.3})
    assert section.verdict == "holds in part"
    assert "not so Kickback (-0.200" in section.findings[0]


def test_the_claim_does_not_hold_if_few_rules_learn(concluded: Any) -> None:
    section = concluded(**{OUTPUT_ALONE: 0.5, "Kickback": 0.3, "synthetic gradient": 0.4})
    assert section.verdict == "does not hold"


def test_a_gain_within_the_spread_of_seeds_is_none(results: Results) -> None:
    chosen = with_accuracies(results, **{OUTPUT_ALONE: 0.5})
    networks = chosen["networks"]
    networks.loc[networks["rule"] == "kickback", "test_accuracy"] = [0.4, 0.9]
    gains = summarise(chosen.tables)["gains"].set_index("method")
    assert gains.loc["Kickback", "mean"] > 0
    assert not gains.loc["Kickback", "learns"]


def test_a_training_that_diverged_counts_against_its_rule_and_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_module, "draw", lambda *_: [])
    wild = replace(next(entry for entry in ENTRIES if entry.name == "Kickback"), learning_rate=1e30)
    others = (entry for entry in ENTRIES if entry.name in (BACKPROP, "synthetic gradient", OUTPUT_ALONE, UNTRAINED))
    study = replace(STUDY, entries=(*others, wild))
    results = done(study, tmp_path)
    section = RULES.conclude(results)
    assert "Kickback" not in set(results["similarity"]["method_a"])
    assert "6 of 8 networks" in section.findings[0]
    assert "not so" in section.findings[0]
    assert not section.tables["gains"].set_index("method").loc["Kickback", "learns"]


def test_the_gradients_of_a_seed_that_is_left_alone_are_its_own(tmp_path: Path) -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "synthetic gradient")
    study = replace(STUDY, entries=(entry,))
    for part in study.parts(PLAN, cost=1.0):
        part.work(tmp_path, **part.settings)
    tables = rules_module._examine(tmp_path, **replace(study, seeds=STUDY.seeds[1:2]).to_dict())
    assert set(tables["gradients"]["seed"]) == {STUDY.seeds[1]}
    assert set(tables["gradients"]["method"]) == {"synthetic gradient"}


def test_relations_leave_out_rules_without_a_gradient(section: Section) -> None:
    relations = section.tables["relations"].set_index("among")
    rules = [name for name in FEW if name not in (OUTPUT_ALONE, UNTRAINED)]
    assert set(relations.loc["rules with a gradient", "n_rules"]) == {len(rules)}
    without = [name for name in rules if next(e for e in ENTRIES if e.name == name).family != CONTROLS]
    assert set(relations.loc["without controls", "n_rules"]) == {len(without)}


def test_classical_scaling_finds_a_plane_again() -> None:
    points = np.random.default_rng(0).normal(size=(12, 2)) * [3.0, 1.0]
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    found, shares = classical_scaling(distances)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=-1), distances, atol=1e-9)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > shares[1]
    centred = points - points.mean(axis=0)
    expected = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(shares, expected / expected.sum())
