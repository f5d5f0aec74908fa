"""E4 and E5 on networks so small that they take a moment."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.config.recording import RecordingConfig
from analysis.reproduction.claims import EXPERIMENTS, Plan, Results, Section, representations
from analysis.reproduction.claims.rdm import _tests
from analysis.reproduction.networks import Recipe
from analysis.reproduction.parts import Assignment, perform, read_results
from analysis.reproduction.representations import METHODS, OTHERS, recipes
from analysis.workflows.demo import DEMO_RUNS

PLAN = Plan(seeds=(0, 1, 2, 3))
FRACTIONS = (0.0, 1.0)
DEPTH = 3


def tiny_recipe(plan: Plan, name: str, seed: int) -> Recipe:
    training = replace(DEMO_RUNS[name], data="digits", seed=seed, depth=DEPTH, width=24, epochs=2, batch_size=64)
    steps = ",".join(f"{100 * fraction:g}%" for fraction in FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=60, n_validation=20, n_test=40, diagnose="none")
    return Recipe(name=name, training=training, recording=recording)


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(representations, "recipe_of", tiny_recipe)
    patch.setattr("analysis.reproduction.claims.probes.recipe_of", tiny_recipe)
    patch.setattr("analysis.reproduction.claims.rdm.recipe_of", tiny_recipe)
    for module in ("representations", "rdm", "probes"):
        patch.setattr(f"analysis.reproduction.claims.{module}.FRACTIONS", FRACTIONS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    folder = tmp_path_factory.mktemp("reproduction")
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        found = {}
        for name in ("rdm", "probes"):
            parts = sorted(EXPERIMENTS[name].parts(PLAN), key=lambda part: part.stage)
            for part in parts:
                perform(Assignment(part, folder))
            found[name] = read_results(parts, PLAN, folder)
    return found


@pytest.fixture(scope="module")
def sections(results: dict[str, Results]) -> dict[str, Section]:
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        return {name: EXPERIMENTS[name].conclude(each) for name, each in results.items()}


def test_methods_have_equal_seeds_and_the_ceiling_has_others() -> None:
    every = recipes(PLAN)
    assert len({(recipe.name, recipe.seed) for recipe in every}) == len(every) == 4 * len(PLAN.seeds)
    assert {recipe.seed for recipe in every if recipe.name in list(METHODS)[1:]} == set(PLAN.seeds)


def test_both_experiments_ask_for_the_same_networks() -> None:
    keys = [{part.key for part in EXPERIMENTS[name].parts(PLAN) if part.stage == 0} for name in ("rdm", "probes")]
    assert keys[0] == keys[1]
    assert len(keys[0]) == len(recipes(PLAN))


def test_all_pairs_of_networks_are_compared_at_each_layer_and_fraction(results: dict[str, Results]) -> None:
    table = results["rdm"]["similarity"]
    n = len(recipes(PLAN))
    assert len(table) == len(FRACTIONS) * DEPTH * n * (n - 1) // 2
    assert np.isfinite(table[["cka", "rsa"]].to_numpy()).all()
    assert (table["cka"] <= 1 + 1e-9).all()


def test_equal_weights_are_equal_representations_before_training(results: dict[str, Results]) -> None:
    """Networks of one seed start alike whatever their rule, which shows that seeds and layers are not mixed up."""
    table = results["rdm"]["similarity"]
    start = table[table["fraction"] == 0.0]
    same = start["network_a"].str.rpartition("/")[2] == start["network_b"].str.rpartition("/")[2]
    np.testing.assert_allclose(start.loc[same, "cka"], 1.0, atol=1e-6)
    assert (start.loc[~same, "cka"] < 0.999).all()


def made_up(between: float) -> pd.DataFrame:
    """Return similarities of .9 within all methods, and of another value between synthetic gradients and backprop."""
    names = [f"{method}/{seed}" for method in (*METHODS.values(), OTHERS) for seed in range(4)]
    synthetic = set(list(METHODS.values())[1:])
    rows = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            across = (a.partition("/")[0] in synthetic) != (b.partition("/")[0] in synthetic)
            value = (between if across else 0.9) + 1e-3 * np.sin(len(rows))
            for depth in (1, 2, 3):
                place = {"fraction": 1.0, "layer": f"hidden.{depth}", "depth": depth}
                rows.append({**place, "network_a": a, "network_b": b, "cka": value, "rsa": value})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("between", "differs"), [(0.4, True), (0.9, False)])
def test_less_similar_networks_are_found_and_backprop_is_not_among_them(between: float, differs: bool) -> None:
    table = _tests(made_up(between), "cka", 1.0)
    by_method = table.groupby("method", sort=False)["differs"].all()
    backprop, *synthetic = METHODS.values()
    assert not by_method[backprop]
    assert [by_method[name] for name in synthetic] == [differs] * 2
    np.testing.assert_allclose(table["ceiling"], 0.9, atol=2e-3)


def test_the_verdict_on_representations_follows_the_tests(
    results: dict[str, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny(monkeypatch)
    monkeypatch.setattr("analysis.reproduction.claims.rdm.FRACTIONS", (1.0,))
    monkeypatch.setattr("analysis.reproduction.claims.rdm._drawings", lambda *_: [])
    found = results["rdm"]
    for between, verdict in ((0.4, "holds"), (0.9, "does not hold")):
        tables = found.tables | {"similarity": made_up(between)}
        assert EXPERIMENTS["rdm"].conclude(replace(found, tables=tables)).verdict == verdict


def test_every_network_is_probed_at_every_step(results: dict[str, Results]) -> None:
    table = results["probes"]["probes"]
    assert len(table) == 3 * len(PLAN.seeds) * len(FRACTIONS) * DEPTH
    assert set(table["method"]) == set(METHODS.values())
    assert (table["status"] == "ok").all()
    counts = table.groupby(["method", "seed", "fraction"])["depth"].apply(list)
    assert all(depths == [1, 2, 3] for depths in counts)


def test_the_verdict_on_probes_follows_the_differences(results: dict[str, Results]) -> None:
    found = results["probes"]
    probes = found["probes"]
    noise = np.random.default_rng(0).normal(scale=1e-2, size=len(probes))
    shift = np.where(probes["method"] == METHODS["backprop"], 0.0, 0.3)
    for by, verdict in ((shift + noise, "holds"), (noise, "does not hold")):
        tables = {"probes": probes.assign(accuracy=0.5 + by)}
        assert EXPERIMENTS["probes"].conclude(replace(found, tables=tables)).verdict == verdict


@pytest.mark.parametrize("name", ["rdm", "probes"])
def test_a_section_has_figures_with_named_axes_and_sentences(sections: dict[str, Section], name: str) -> None:
    section = sections[name]
    assert all(sentence.endswith(".") for sentence in section.findings)
    assert "nan" not in " ".join(section.findings)
    for drawing in section.drawings:
        assert drawing.caption.endswith(".")
        labels = [ax.get_xlabel() or ax.get_ylabel() for ax in drawing.figure.axes]
        assert any(labels) or drawing.figure.get_suptitle(), drawing.name
        assert "n = " in drawing.figure.get_supxlabel(), drawing.name


def test_networks_of_other_settings_have_other_places(tmp_path: Path) -> None:
    recipe = tiny_recipe(PLAN, "backprop", 0)
    other, wider = (
        replace(recipe, training=replace(recipe.training, **change)) for change in ({"seed": 3}, {"width": 9})
    )
    assert recipe.path(tmp_path).parent == other.path(tmp_path).parent != wider.path(tmp_path).parent


@pytest.mark.parametrize("name", ["rdm", "probes"])
def test_what_is_found_of_networks_is_found_again_when_their_training_changes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny(monkeypatch)
    before = {part.key for part in EXPERIMENTS[name].parts(PLAN)}
    monkeypatch.setattr(sys.modules[__name__], "DEPTH", DEPTH + 1)
    assert before.isdisjoint(part.key for part in EXPERIMENTS[name].parts(PLAN))


def test_a_recipe_survives_json() -> None:
    recipe = tiny_recipe(PLAN, "backprop", 0)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
