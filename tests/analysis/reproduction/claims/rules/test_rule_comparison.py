"""Comparison of rules at the scale of a plan, and comparisons that cannot be made."""

from dataclasses import replace

import pytest

from analysis.reproduction.claim import Plan
from analysis.reproduction.claims.rules.parts import tasks_of
from analysis.reproduction.claims.rules.rule_comparison import comparison_of
from analysis.reproduction.claims.rules.rule_entries import BACKPROP, OUTPUT_ALONE, UNTRAINED

COMPARISON = comparison_of(Plan())


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_no_seed_is_used_both_to_tune_and_to_test(scale: str) -> None:
    plan = Plan(scale=scale, seeds=(3, 4, 5, 6))
    comparison = comparison_of(plan)
    assert comparison.seeds == plan.seeds
    assert not set(comparison.grid.seeds) & set(plan.seeds)
    with pytest.raises(ValueError, match="Seed 4 is used to tune and to test"):
        replace(comparison, grid=replace(comparison.grid, seeds=(100, 4)))


@pytest.mark.parametrize("missing", [BACKPROP, OUTPUT_ALONE])
def test_comparisons_need_the_rules_that_all_others_are_compared_with(missing: str) -> None:
    entries = tuple(entry for entry in COMPARISON.entries if entry.name != missing)
    with pytest.raises(ValueError, match=f"No entry has the name '{missing}'"):
        tasks_of(replace(COMPARISON, entries=entries))


def test_every_rule_is_tuned_on_the_same_grid_of_the_same_length() -> None:
    tasks = [COMPARISON.tuning(entry) for entry in COMPARISON.trained]
    assert {id(task.inputs["grid"]) for task in tasks} == {id(COMPARISON.grid)}
    bases = {replace(task.inputs["training"], rule="backprop") for task in tasks}
    assert bases == {COMPARISON.training}


def test_untrained_networks_are_of_the_training_that_backprop_was_tuned_for() -> None:
    by_name = {entry.name: entry for entry in COMPARISON.entries}
    assert COMPARISON.tuning(by_name[UNTRAINED]).key == COMPARISON.tuning(by_name[BACKPROP]).key


def test_another_grid_trains_every_network_anew() -> None:
    wider = replace(COMPARISON, grid=replace(COMPARISON.grid, learning_rates=(1e-4, 1e-3)))
    assert not {task.key for task in tasks_of(COMPARISON)} & {task.key for task in tasks_of(wider)}
