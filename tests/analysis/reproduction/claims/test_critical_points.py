from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.critical_points import CLAIM, parts
from analysis.reproduction.claims.critical_points.parts import PROBLEMS

PLAN = Plan(seeds=(0, 1, 2, 3))
FEW = ("constant", "linear", "linear-labels", "relu-64")


def find(folder: Path, problem: str) -> dict[str, pd.DataFrame]:
    """Find the points of one problem, with few examples and families."""
    families = tuple(family for family in PROBLEMS[problem].families if family in FEW)
    small = replace(PROBLEMS[problem], n_examples=24, n_test=50, families=families)
    return parts.find(folder, name=problem, problem=small, seed=0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("reproduction")
    every = [find(folder, problem) for problem in PROBLEMS]
    tables = {name: pd.concat([each[name] for each in every], ignore_index=True) for name in every[0]}
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
    ("change", "verdict"),
    [({}, "holds in part"), ({"true_gradient_norm": 0.0}, "holds"), ({"distance": 1.0}, "does not hold")],
)
def test_the_verdict_follows_from_the_numbers(results: Results, change: dict[str, float], verdict: str) -> None:
    points = results["points"].assign(**change)
    changed = replace(results, tables=results.tables | {"points": points})
    assert CLAIM.conclude(changed).verdict == verdict
