from collections.abc import Callable

import pytest

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims import load_claim
from analysis.reproduction.kit import deep_networks
from analysis.reproduction.kit.deep_networks import METHODS, method_of, network_tasks, recipes, view_of

PLAN = Plan(seeds=(0, 1, 2, 3))


def test_methods_share_seeds_and_reference_networks_have_other_seeds() -> None:
    every = recipes(PLAN)
    assert len({(recipe.name, recipe.seed) for recipe in every}) == len(every) == 4 * len(PLAN.seeds)
    assert {recipe.seed for recipe in every if recipe.name in list(METHODS)[1:]} == set(PLAN.seeds)
    assert [method_of(recipe) for recipe in every].count("backprop") == len(PLAN.seeds)


def test_rdm_and_probes_share_their_networks() -> None:
    trained = {task.key for task in network_tasks(PLAN).values()}
    assert len(trained) == len(recipes(PLAN))
    for name in ("rdm", "probes"):
        assert {task.key for task in load_claim(name).parts(PLAN) if task.name.startswith("networks")} == trained


@pytest.mark.parametrize("name", ["rdm", "probes"])
def test_results_are_stale_if_the_training_changes(
    name: str, monkeypatch: pytest.MonkeyPatch, tiny_networks: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = {task.key for task in load_claim(name).parts(PLAN)}
    tiny_networks(monkeypatch)
    assert before.isdisjoint(task.key for task in load_claim(name).parts(PLAN))


def test_view_of_an_unfinished_network_names_it(
    on_tiny_networks: dict[str, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_networks, "FRACTIONS", (0.0, 0.5, 1.0))
    folder = on_tiny_networks["rdm"].folder
    with pytest.raises(ValueError, match=r"backprop, seed 0, ended with state 'finished' before all 3 steps"):
        view_of(folder, recipes(PLAN)[0])
