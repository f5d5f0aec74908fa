from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.depth import CLAIM, DEPTHS, METHODS, SHIFTS

PLAN = Plan(seeds=(0, 1, 2, 3))


def made_up(lost: float = 0.0, at: tuple[int, ...] = DEPTHS, backprop: float = 0.95) -> Results:
    rows = [
        {
            "activation": activation,
            "depth": depth,
            "rule": rule,
            "seed": seed,
            "n_test": 1000,
            "train_accuracy": 0.99,
            "test_accuracy": backprop + 1e-3 * np.sin(seed + depth) - (lost if "@" in rule and depth in at else 0.0),
        }
        for activation, depth, rule, seed in product(SHIFTS, DEPTHS, METHODS.values(), range(3))
    ]
    return Results(plan=PLAN, folder=Path("nowhere"), tables={"networks": pd.DataFrame(rows)})


def test_every_depth_activation_and_method_is_trained_with_equal_seeds() -> None:
    trainings = [task.inputs["recipe"].training for task in CLAIM.parts(PLAN)]
    kinds = [(each.depth, each.activation, each.rule, each.seed) for each in trainings]
    assert kinds == list(product(DEPTHS, SHIFTS, METHODS.values(), (0, 1, 2)))
    backprop, synthetic = ([each for each in trainings if each.rule == rule] for rule in METHODS.values())
    assert [replace(each, rule="backprop") for each in synthetic] == backprop


@pytest.mark.parametrize(
    ("lost", "at", "verdict"),
    [
        (0.0, DEPTHS, "holds"),
        (0.019, DEPTHS, "holds"),
        (-0.3, DEPTHS, "holds"),
        (0.03, (50,), "holds in part"),
        (0.03, (3,), "holds"),  # a depth that the claim is not about
        (0.03, DEPTHS, "does not hold"),
    ],
)
def test_the_verdict_follows_from_the_numbers(lost: float, at: tuple[int, ...], verdict: str) -> None:
    assert CLAIM.conclude(made_up(lost, at)).verdict == verdict


def test_diverged_networks_are_counted_and_their_case_does_not_hold() -> None:
    results = made_up()
    table = results["networks"]
    lost = (table["depth"] == 50) & (table["seed"] == 1) & table["rule"].str.contains("@")
    table = table.assign(test_accuracy=table["test_accuracy"].mask(lost))
    section = CLAIM.conclude(Results(plan=PLAN, folder=results.folder, tables={"networks": table}))
    assert section.verdict == "holds in part"
    assert any(f"2 of {len(table)} networks diverged" in sentence for sentence in section.findings)


def test_cases_that_backprop_does_not_train_are_named_and_do_not_hold() -> None:
    section = CLAIM.conclude(made_up(backprop=0.4))
    assert section.verdict == "does not hold"
    findings = " ".join(section.findings)
    assert findings.count("reaches only") == len(DEPTHS) * len(SHIFTS)
    assert "reaches only" not in " ".join(CLAIM.conclude(made_up()).findings)


def test_the_section_can_be_shown(check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(made_up(0.01)))
