from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.critical_points import CLAIM, parts
from analysis.reproduction.claims.critical_points.parts import PROBLEMS, data_of, network_of
from analysis.reproduction.claims.critical_points.starts import (
    FEW_EXAMPLES,
    START_PROBLEMS,
    TRAININGS,
    JointTraining,
    Start,
    train_starts,
    train_together,
)
from repsim.learning import Learner, SyntheticGradient, site_of, stream
from repsim.theory.critical_points import Objective

PLAN = Plan(seeds=(0, 1, 2, 3))
FEW = ("constant", "linear", "linear-labels", "relu-64")


def find(folder: Path, problem: str) -> dict[str, pd.DataFrame]:
    """Find the points of one problem, with few examples and families."""
    families = tuple(family for family in PROBLEMS[problem].families if family in FEW)
    small = replace(PROBLEMS[problem], n_examples=16, n_test=50, families=families)
    return parts.find(folder, name=problem, problem=small, seed=0)


def from_starts(folder: Path, problem: str, *, n_starts: int = 2, n_steps: int = 200) -> dict[str, pd.DataFrame]:
    """Train from few starts of one seed, with few examples and families."""
    few = START_PROBLEMS[problem]
    families = tuple(family for family in few.families if family in FEW)
    small = replace(few, n_examples=min(few.n_examples, 16), families=families)
    training = replace(TRAININGS[problem], n_steps=n_steps)
    return train_starts(folder, name=problem, problem=small, training=training, seeds=[0], n_starts=n_starts)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("reproduction")
    every = [find(folder, problem) for problem in PROBLEMS]
    started = [from_starts(folder, problem) for problem in START_PROBLEMS if problem != "tanh, mse"]
    tables = {
        name: pd.concat([each[name] for each in found], ignore_index=True)
        for found in (every, started)
        for name in found[0]
    }
    return Results(plan=PLAN, folder=folder, tables=tables)


def of(results: Results, problem: str, family: str) -> pd.DataFrame:
    points = results["points"]
    return points[(points["problem"] == problem) & (points["family"] == family)]


def test_backprop_and_the_exact_module_find_the_known_optimum(results: Results) -> None:
    for family in ("backprop", "linear-labels"):
        points = of(results, "deep linear", family)
        np.testing.assert_allclose(points["loss"], points["best"], rtol=1e-12)


def test_an_exact_module_has_the_stationary_point_of_backprop(results: Results) -> None:
    for problem in ("deep linear", "tanh, mse"):
        points = of(results, problem, "linear-labels")
        assert (points["distance"] < 1e-6).all()
        assert (points["field_at_backprop"] < 1e-8).all()


def test_another_module_has_other_stationary_points(results: Results) -> None:
    assert (of(results, "deep linear", "linear")["true_gradient_norm"] > 0.1).all()
    log_loss = of(results, "tanh, log loss", "linear-labels")
    assert (log_loss["true_gradient_norm"] > 1e-4).all()
    assert (log_loss["field_at_backprop"] > 1e-4).all()


def test_results_are_reproducible(tmp_path: Path, check_reproducible: Callable[..., None]) -> None:
    check_reproducible(lambda: find(tmp_path, "deep linear"))


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))


@pytest.mark.parametrize(
    ("table", "change", "verdict"),
    [
        ("points", {}, "holds in part"),
        ("points", {"distance": 1.0}, "does not hold"),
        ("starts", {"true_gradient_norm": 1.0}, "does not hold"),  # also where the module holds the gradient
        ("kept", {"field_at_backprop": 1.0}, "does not hold"),
    ],
)
def test_the_verdict_follows_from_the_numbers(
    results: Results, table: str, change: dict[str, float], verdict: str
) -> None:
    changed = replace(results, tables=results.tables | {table: results[table].assign(**change)})
    assert CLAIM.conclude(changed).verdict == verdict


def test_the_claim_holds_if_no_point_is_lost_or_added(results: Results) -> None:
    clean = {
        "starts": results["starts"].assign(true_gradient_norm=0.0),
        "kept": results["kept"].assign(field_at_backprop=0.0),
    }
    assert CLAIM.conclude(replace(results, tables=results.tables | clean)).verdict == "holds"


# Many starts


def test_networks_and_modules_learn_together_as_in_a_training_of_one_start() -> None:
    problem, training = PROBLEMS["tanh, log loss"], JointTraining(rate=0.1, module_rate=0.2, n_steps=20)

    def draw(purpose: str) -> torch.Generator:
        return stream(7, purpose, 1)

    network, (X, y) = network_of(problem, draw), data_of(problem, problem.n_examples, draw, "train")
    module = SyntheticGradient(site_of(network, 1, n_outputs=problem.n_outputs))
    learner = Learner(network, {1: module}).double()
    groups = [
        {"params": [*learner.network.parameters()], "lr": training.rate, "weight_decay": problem.weight_decay},
        {"params": [*learner.estimators.parameters()], "lr": training.module_rate},
    ]
    optimizer = torch.optim.SGD(groups)
    for _ in range(training.n_steps):
        optimizer.zero_grad()
        learner.compute_gradients(X, y)
        optimizer.step()
    starts = [Start(7, number, problem) for number in (0, 1)]
    ends = train_together(starts, "linear-labels", training)
    expected = torch.nn.utils.parameters_to_vector(learner.network.parameters()).detach()
    torch.testing.assert_close(ends[1], expected, rtol=1e-9, atol=1e-12)
    assert (ends[0] - ends[1]).norm() > 0.1  # every start has its own weights and examples
    assert (expected - Objective(network_of(problem, draw), X, y).start).norm() > 0.1


def test_points_of_training_are_stationary_and_those_of_a_module_without_labels_are_not_backprops(
    results: Results,
) -> None:
    starts = results["starts"]
    rest = starts[starts["at_rest"]]
    assert len(rest) > len(starts) / 2
    assert (rest.loc[rest["family"] == "backprop", "true_gradient_norm"] < 1e-8).all()
    linear = rest[(rest["family"] == "linear") & (rest["problem"] == "deep linear")]
    assert (linear["true_gradient_norm"] > 0.1).all() and len(linear)
    exact = rest[(rest["family"] == "linear-labels") & (rest["problem"] != "tanh, log loss")]
    assert (exact["true_gradient_norm"] < 1e-8).all()


def test_zero_loss_points_are_stationary_with_every_family(results: Results) -> None:
    kept = results["kept"]
    few = kept[(kept["problem"] == FEW_EXAMPLES) & (kept["loss"] < 1e-12)]
    assert set(few["family"]) == set(FEW)
    assert (few["field_at_backprop"] < 1e-8).all()


def test_lost_and_added_points_are_counted_apart_with_intervals(results: Results) -> None:
    starts, kept = results["starts"].copy(), results["kept"].copy()
    case = (starts["problem"] == "tanh, log loss") & (starts["family"] == "linear")
    starts.loc[case, ["at_rest", "true_gradient_norm"]] = [[True, 0.0], [True, 1.0]]
    lost = (kept["problem"] == "tanh, log loss") & (kept["family"] == "linear")
    kept.loc[lost, "field_at_backprop"] = 1.0
    section = CLAIM.conclude(replace(results, tables=results.tables | {"starts": starts, "kept": kept}))
    counts = section.tables["counts"].set_index(["what", "problem", "family"])
    added, gone = (counts.loc[(what, "tanh, log loss", "linear")] for what in ("added", "lost"))
    assert (added["count"], added["n"]) == (1, 2)
    assert gone["count"] == gone["n"] == lost.sum() > 0
    assert added["low"] == pytest.approx(0.0945, abs=1e-4)  # Wilson, 1 of 2
    assert "1 of 2 (95 % interval 0.09 to 0.91; linear, no labels)" in section.findings[1]


def test_what_holds_by_construction_is_called_a_check_of_the_code(results: Results) -> None:
    section = CLAIM.conclude(results)
    (check,) = [each for each in section.findings if "check of the code" in each]
    assert "by construction" in check
    counted = section.findings[0].split("tanh units, log loss")[0]
    assert "no labels" in counted and "with labels" not in counted and "relu" not in counted  # squared error


def test_enough_features_hold_every_gradient_and_few_do_not(results: Results) -> None:
    kept = results["kept"]
    field = kept[kept["problem"] == "tanh, log loss"].groupby("family")["field_at_backprop"].max()
    assert field["relu-64"] < 1e-8 < 1e-4 < field["linear-labels"]  # 71 features of 24 examples


def test_a_training_that_diverged_has_no_point(tmp_path: Path) -> None:
    problem = replace(PROBLEMS["deep linear"], n_examples=24)
    training = JointTraining(rate=10.0, module_rate=10.0, n_steps=200)
    found = train_starts(tmp_path, name="deep linear", problem=problem, training=training, seeds=[0], n_starts=1)
    assert found["starts"]["diverged"].all()
    assert not found["starts"]["at_rest"].any()
    assert found["kept"].empty
