from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.execution import Cache
from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.depth import CLAIM
from analysis.reproduction.claims.depth.conclude import CLOSE
from analysis.reproduction.claims.depth.parts import (
    DEPTHS,
    METHODS,
    SHIFTS,
    SYNTHETIC,
    TRAINED,
    DeepCase,
    grid_of,
    train_tuned,
)
from analysis.reproduction.kit.in_memory import InMemoryTraining
from analysis.reproduction.kit.rule_tuning import RateGrid
from repsim.learning import TrainingConfig

PLAN = Plan(seeds=(0, 1, 2, 3))


def made_up(
    lost: float = 0.0, at: tuple[int, ...] = DEPTHS, backprop: float = 0.95, spread: float = 1e-3, slower: float = 0.0
) -> Results:
    networks = [
        {
            "activation": activation,
            "depth": depth,
            "rule": rule,
            "seed": seed,
            "n_test": 1000,
            "train_accuracy": 0.99,
            "test_accuracy": backprop + spread * np.sin(7 * seed + depth + len(rule)) - (lost if is_lost else 0.0),
            "epochs_to_trained": 10.0 + 0.1 * np.sin(seed + depth) + (slower if method == SYNTHETIC else 0.0),
        }
        for activation, depth, (method, rule), seed in product(SHIFTS, DEPTHS, METHODS.items(), range(3))
        for is_lost in [method == SYNTHETIC and depth in at]
    ]
    weights = [
        {
            **{"activation": activation, "depth": depth, "method": method, "seed": seed},
            **{"layer": layer, "below": 2 * layer <= depth, "start": 16.0, "end": 17.0 + 0.1 * layer},
        }
        for activation, depth, method, seed in product(SHIFTS, DEPTHS, METHODS, range(3))
        for layer in range(1, depth + 1)
    ]
    grid = grid_of(PLAN)
    tuning = [
        {
            **{"network": f"depth-{activation}-{method}", **rates._asdict(), "seed": seed, "n_validation": 500},
            **{"validation_accuracy": 0.9 - rates.learning_rate, "validation_loss": 0.3},
        }
        for activation, method in product(SHIFTS, METHODS)
        for rates, seed in grid.points(learns=method == SYNTHETIC)
    ]
    tables = {"networks": networks, "weights": weights, "tuning": tuning}
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return Results(plan=PLAN, folder=Path("nowhere"), tables=frames)


def tiny_case(method: str) -> DeepCase:
    training = TrainingConfig(
        data="digits", depth=4, width=16, rule=METHODS[method], epochs=2, batch_size=64, schedule="cosine"
    )
    grid = RateGrid(seeds=(8, 9), epochs=1, learning_rates=(1e-3, 1e-2), estimator_learning_rates=(5e-3, 1e-2))
    return DeepCase(training=training, grid=grid)


def test_every_depth_activation_and_method_is_trained_with_equal_seeds_after_its_tuning() -> None:
    tuning, networks = CLAIM.parts(PLAN)[:4], CLAIM.parts(PLAN)[4:]
    kinds = [
        (task.inputs["depth"], task.inputs["case"].training.activation, task.inputs["case"].method, task.inputs["seed"])
        for task in networks
    ]
    assert kinds == list(product(DEPTHS, SHIFTS, METHODS, (0, 1, 2)))
    for task in networks:
        assert task.after == (task.inputs["case"].tuning().key,)
    assert {task.key for task in tuning} == {key for task in networks for key in task.after}


def test_both_methods_are_tuned_over_one_grid_with_one_budget_and_other_seeds() -> None:
    backprop, synthetic = (task.inputs for task in CLAIM.parts(PLAN)[:2])
    assert backprop["grid"] == synthetic["grid"]
    assert replace(synthetic["training"], rule="backprop") == backprop["training"]
    assert backprop["training"].depth == max(DEPTHS)
    points = [inputs["grid"].points(inputs["learns"]) for inputs in (backprop, synthetic)]
    assert len(points[0]) == len(points[1])
    assert not {*backprop["grid"].seeds} & {*PLAN.seeds}


@pytest.mark.parametrize("method", METHODS)
def test_networks_are_trained_at_the_rates_of_the_tuning(method: str, tmp_path: Path) -> None:
    case = tiny_case(method)
    replace(case.tuning(), cache=Cache(tmp_path)).run()
    rates = case.rates(tmp_path)
    assert rates is not None
    found = train_tuned(tmp_path, case=case, depth=3, seed=1)
    (network,) = found["networks"].to_dict("records")
    assert network["learning_rate"] == rates.learning_rate
    assert network["depth"] == 3 and network["seed"] == 1
    run = case.recipe(3, 1, rates).open(tmp_path)
    validation = [row["validation_accuracy"] for row in run.metrics() if "validation_accuracy" in row]
    assert len(validation) == 2
    first = next((epoch for epoch, value in enumerate(validation, start=1) if value >= TRAINED), np.nan)
    assert network["epochs_to_trained"] == pytest.approx(first, nan_ok=True)
    weights = found["weights"].set_index("layer")
    learner = InMemoryTraining.of(case.recipe(3, 1, rates).training, None).learner
    for layer, segment in enumerate(learner.network.hidden.values(), start=1):
        assert weights["start"][layer] == pytest.approx(float(segment.affine.weight.detach().norm()), rel=1e-6)
        final = run.last().weights()[f"network.hidden.{layer}.affine.weight"]
        assert weights["end"][layer] == pytest.approx(float(final.norm()), rel=1e-6)
    assert weights["below"].tolist() == [True, False, False]
    assert weights["end"][2] != weights["start"][2]


def test_a_method_that_diverges_at_all_rates_counts_as_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeepCase, "rates", lambda self, folder: None)
    found = train_tuned(tmp_path, case=tiny_case(SYNTHETIC), depth=3, seed=1)
    assert found["networks"]["state"].tolist() == ["diverged"]


@pytest.mark.parametrize(
    ("lost", "at", "verdict"),
    [
        (0.0, DEPTHS, "holds"),
        (0.015, DEPTHS, "holds"),
        (-0.3, DEPTHS, "holds"),
        (0.03, (50,), "holds in part"),
        (0.03, (3,), "holds"),  # a depth that the claim is not about
        (0.03, DEPTHS, "does not hold"),
    ],
)
def test_the_verdict_follows_from_the_numbers(lost: float, at: tuple[int, ...], verdict: str) -> None:
    assert CLAIM.conclude(made_up(lost, at)).verdict == verdict


@pytest.mark.parametrize(
    ("lost", "spread", "verdict"),
    [(0.0, 1e-3, "equivalent"), (0.1, 1e-3, "different"), (0.0, 0.03, "undecided"), (-0.1, 1e-3, "different")],
)
def test_equal_means_are_undecided_unless_their_limits_are_close(lost: float, spread: float, verdict: str) -> None:
    gaps = CLAIM.conclude(made_up(lost, spread=spread)).tables["gaps"]
    assert set(gaps["verdict"]) == {verdict}
    assert (gaps["lower"] < gaps["mean"]).all() and (gaps["mean"] < gaps["upper"]).all()
    assert ((gaps["lower"] > -CLOSE) & (gaps["upper"] < CLOSE) == (gaps["verdict"] == "equivalent")).all()


def test_an_undecided_case_does_not_count_as_one_that_holds() -> None:
    section = CLAIM.conclude(made_up(spread=0.03))
    gaps = section.tables["gaps"]
    assert (gaps["mean"] > -CLOSE).all()
    assert section.verdict == "holds in part"
    assert "6 undecided" in section.findings[0]
    assert f"In {(gaps['lower'][gaps['depth'] >= 10] > -CLOSE).sum()} of 6 cases" in section.findings[0]


@pytest.mark.parametrize(("slower", "verdict"), [(0.0, "equivalent"), (3.0, "different")])
def test_speed_is_compared_in_epochs(slower: float, verdict: str) -> None:
    section = CLAIM.conclude(made_up(slower=slower))
    assert set(section.tables["speed"]["verdict"]) == {verdict}
    (speed,) = [each for each in section.findings if each.startswith("Epochs until")]
    assert f"10.0 with backprop and {10 + slower:.1f} with an SG; {verdict}" in speed


def test_networks_that_never_train_leave_the_speed_undecided() -> None:
    results = made_up()
    networks = results["networks"]
    never = (networks["depth"] == 50) & (networks["seed"] == 1) & networks["rule"].str.contains("@")
    networks = networks.assign(epochs_to_trained=networks["epochs_to_trained"].mask(never))
    section = CLAIM.conclude(replace(results, tables=results.tables | {"networks": networks}))
    speed = section.tables["speed"].set_index(["activation", "depth"])["verdict"]
    assert speed["relu", 50] == "undecided" and speed["relu", 20] == "equivalent"
    assert any("(1 of 3 never)" in sentence for sentence in section.findings)


def test_weights_are_described_below_and_above_the_middle() -> None:
    results = made_up()
    weights = results["weights"]
    is_grown = (weights["method"] == SYNTHETIC) & weights["below"]
    weights = weights.assign(end=weights["end"] + 2.0 * is_grown)
    section = CLAIM.conclude(replace(results, tables=results.tables | {"weights": weights}))
    words = [each for each in section.findings if each.startswith("Norms of the weights")]
    assert len(words) == len(SHIFTS)
    below = "below the middle 18.30 with backprop and 20.30 with an SG, a difference of +2.00"  # of layers 1 to 25
    assert below in words[0] and "(16.00 before)" in words[0]
    assert "above it 20.80 with backprop and 20.80 with an SG, a difference of +0.00" in words[0]
    assert "+0.100 per layer with backprop" in words[0]


def test_the_chosen_rates_and_edges_of_the_grid_are_named() -> None:
    section = CLAIM.conclude(made_up())
    (sentence,) = [each for each in section.findings if "chosen on the validation digits" in each]
    assert sentence.count("0.0005 (the edge of the grid)") == 4  # the lowest rate is best in these numbers
    assert len(section.shown["Rates tried: validation accuracy"]) == 2 * 4 + 2 * 8


def test_diverged_networks_are_counted_and_their_case_does_not_hold() -> None:
    results = made_up()
    table = results["networks"]
    lost = (table["depth"] == 50) & (table["seed"] == 1) & table["rule"].str.contains("@")
    table = table.assign(test_accuracy=table["test_accuracy"].mask(lost))
    section = CLAIM.conclude(replace(results, tables=results.tables | {"networks": table}))
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
