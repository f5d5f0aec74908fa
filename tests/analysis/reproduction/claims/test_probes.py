"""The claim on probes, on networks so small that they train in a moment."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.probes import CLAIM
from analysis.reproduction.kit.deep_networks import METHODS

PLAN = Plan(seeds=(0, 1, 2, 3))


@pytest.fixture
def results(on_tiny_networks: dict[str, Results]) -> Results:
    return on_tiny_networks["probes"]


def test_every_network_is_probed_at_every_step(results: Results) -> None:
    table = results["probes"]
    assert len(table) == 3 * len(PLAN.seeds) * 2 * 3  # methods, seeds, fractions, layers
    assert set(table["method"]) == set(METHODS.values())
    assert (table["status"] == "ok").all()
    counts = table.groupby(["method", "seed", "fraction"])["depth"].apply(list)
    assert all(depths == [1, 2, 3] for depths in counts)


def test_probes_wait_for_their_own_network_only() -> None:
    tasks = {task.key: task for task in CLAIM.parts(PLAN)}
    probes = [task for task in tasks.values() if task.name.startswith("probes")]
    assert len(probes) == 3 * len(PLAN.seeds)
    for task in probes:
        (trained,) = task.after
        assert tasks[trained].inputs["recipe"] == task.inputs["recipe"]


@pytest.mark.parametrize(("shift", "verdict"), [(0.3, "holds"), (0.0, "does not hold")])
def test_the_verdict_follows_from_the_differences(results: Results, shift: float, verdict: str) -> None:
    probes = results["probes"]
    noise = np.random.default_rng(0).normal(scale=1e-2, size=len(probes))
    accuracy = 0.5 + noise + np.where(probes["method"] == METHODS["backprop"], 0.0, shift)
    tables = {"probes": probes.assign(accuracy=accuracy)}
    assert CLAIM.conclude(replace(results, tables=tables)).verdict == verdict


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))
