from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.config.sweep_file import read_design
from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims import load_claim
from analysis.reproduction.kit import deep_networks
from analysis.reproduction.kit.deep_networks import ARMS, compared_tasks, network_seeds, recipes
from repsim.learning import TrainingConfig

PLAN = Plan(seeds=(0, 1, 2, 3))
EXAMPLE = Path(__file__).parents[4] / "examples" / "attribution.toml"
N_ARMS, N_SEEDS, N_LAYERS, N_STEPS = 7, 3, 3, 2  # of the tiny networks; one arm is the reference at other steps


def test_arms_are_those_of_the_example() -> None:
    """The claims and the example are one design, so that their numbers can be compared."""
    design = read_design(EXAMPLE, None, Path("runs"))
    example = {arm.name: (arm.role, arm.method) for arm in design.arms}
    trained = {name: (arm.role, arm.method) for name, arm in ARMS.items()}
    assert trained | {"backprop-at-accuracy": ("accuracy-matched", "sg-every-boundary")} == example
    smallest = design.design.smallest_of(("cka", "rsa"))
    assert smallest == deep_networks._DESIGN.smallest_of(("cka", "rsa"))


def test_trainings_are_those_of_the_example() -> None:
    text = EXAMPLE.read_text()
    common = {"data": "mnist5k", "depth": 20, "width": 128}
    for name, arm in ARMS.items():
        table = text.partition(f"[arms.{name}]")[2].partition("[")[0]
        assert f"epochs = {arm.training.epochs}" in table or arm.training.epochs == 40, name
        assert f"learning_rate = {arm.training.learning_rate:.0e}".replace("e-0", "e-") in table or (
            arm.training.learning_rate == 3e-3
        ), name
        expected = common | ({"depth": 10} if name == "backprop-10" else {})
        usual = TrainingConfig(**expected)
        assert {key: getattr(arm.training, key) for key in expected} == {key: getattr(usual, key) for key in expected}


@pytest.mark.parametrize(("n", "sizes"), [(4, [4]), (5, [5]), (6, [3, 3]), (10, [4, 3, 3]), (20, [7, 7, 6])])
def test_seeds_lie_in_up_to_three_splits_of_three_or_more(n: int, sizes: list[int]) -> None:
    splits = network_seeds(Plan(seeds=tuple(range(n))))
    assert list(splits) == list(range(n))
    assert np.bincount(list(splits.values())).tolist() == sizes


def test_arms_share_their_seeds_and_splits() -> None:
    every = recipes(PLAN)
    pairs = {name: {(r.seed, r.training.split_seed) for r in every if r.name == name} for name in ARMS}
    assert len(every) == len(ARMS) * len(PLAN.seeds)
    assert all(each == set(network_seeds(PLAN).items()) for each in pairs.values())


def test_rdm_and_probes_share_all_tasks() -> None:
    tasks = [[task.key for task in load_claim(name).parts(PLAN)] for name in ("rdm", "probes")]
    assert tasks[0] == tasks[1]


def test_a_network_that_imitates_waits_for_its_own_model() -> None:
    tasks = {task.key: task for task in compared_tasks(PLAN)}
    waiting = [task for task in tasks.values() if "disturbed" in task.name]
    assert len(waiting) == 2 * len(PLAN.seeds)
    for task in waiting:
        (model,) = task.after
        assert tasks[model].inputs["recipe"] == task.inputs["recipe"].like
        assert tasks[model].inputs["recipe"].seed == task.inputs["recipe"].seed


def test_an_imitation_has_another_folder_if_its_model_changes(tmp_path: Path) -> None:
    recipe = next(each for each in recipes(PLAN) if each.like)
    assert recipe.like is not None
    changed = replace(recipe, like=replace(recipe.like, training=replace(recipe.like.training, epochs=7)))
    assert changed.path(tmp_path) != recipe.path(tmp_path)


@pytest.mark.parametrize("name", ["rdm", "probes"])
def test_results_are_stale_if_the_training_changes(
    name: str, monkeypatch: pytest.MonkeyPatch, tiny_networks: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = {task.key for task in load_claim(name).parts(PLAN)}
    tiny_networks(monkeypatch)
    assert before.isdisjoint(task.key for task in load_claim(name).parts(PLAN))


def test_every_network_is_measured_at_every_layer_and_step(on_tiny_networks: dict[str, Results]) -> None:
    layers = on_tiny_networks["rdm"]["layers"]
    assert len(layers) == N_ARMS * N_SEEDS * N_STEPS * N_LAYERS
    assert np.isfinite(layers[["class_structure", "accuracy"]].to_numpy()).all()
    assert layers["accuracy"].between(0, 1).all()
    means = layers.groupby(["arm", "at", "depth"])["accuracy"].mean()
    effects = on_tiny_networks["rdm"]["attribution"]
    for row in effects[effects["quantity"] == "accuracy"].itertuples():
        assert row.value == pytest.approx(means[row.arm, row.at, row.depth])
        assert row.base_value == pytest.approx(means[row.base, row.at, row.depth])


def test_an_unfinished_network_is_named(on_tiny_networks: dict[str, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_networks, "FRACTIONS", (0.0, 0.5, 1.0))
    folder = on_tiny_networks["rdm"].folder
    monkeypatch.setattr(deep_networks.Recipe, "path", lambda self, folder: next(folder.glob("networks/backprop-*/*-0")))
    with pytest.raises(ValueError, match=r"backprop, seed 0, ended with state 'finished' before all 3 steps"):
        list(deep_networks._arms(folder, deep_networks.recipes(PLAN)))
