from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claims import EXPERIMENTS, Plan, Results, Section
from analysis.reproduction.claims.critical_points import _PROBLEMS

PLAN = Plan(seeds=(0, 1, 2, 3))
EXPERIMENT = EXPERIMENTS["critical-points"]
FEW = ("constant", "linear", "linear-labels", "relu-64")


def find(folder: Path, problem: str) -> dict[str, pd.DataFrame]:
    """Do one part with few examples and families."""
    part = next(part for part in EXPERIMENT.parts(PLAN) if part.settings["problem"] == problem)
    families = [family for family in part.settings["families"] if family in FEW]
    return part.work(folder, **{**part.settings, "n": 24, "n_test": 50, "families": families})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("reproduction")
    found = [find(folder, problem) for problem in _PROBLEMS]
    tables = {name: pd.concat([each[name] for each in found], ignore_index=True) for name in found[0]}
    return Results(plan=PLAN, folder=folder, tables=tables)


def of(results: Results, problem: str, family: str) -> pd.DataFrame:
    points = results["points"]
    return points[(points["problem"] == problem) & (points["family"] == family)]


def test_backprop_and_the_exact_module_find_the_known_optimum(results: Results) -> None:
    for family in ("backprop", "linear-labels"):
        points = of(results, "deep linear", family)
        np.testing.assert_allclose(points["loss"], points["best"], rtol=1e-12)


def test_where_the_module_is_exact_it_rests_where_backprop_does(results: Results) -> None:
    for problem in ("deep linear", "tanh, mse"):
        points = of(results, problem, "linear-labels")
        assert (points["distance"] < 1e-6).all()
        assert (points["field_at_backprop"] < 1e-8).all()


def test_where_it_is_not_it_rests_elsewhere(results: Results) -> None:
    assert (of(results, "deep linear", "linear")["true_gradient_norm"] > 0.1).all()
    log_loss = of(results, "tanh, log loss", "linear-labels")
    assert (log_loss["true_gradient_norm"] > 1e-4).all()
    assert (log_loss["field_at_backprop"] > 1e-4).all()


def test_a_part_is_the_same_bits_twice(tmp_path: Path) -> None:
    first, again = (find(tmp_path, "deep linear") for _ in range(2))
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)


def test_the_section_is_fit_to_be_shown(results: Results, check_section: Callable[[Section], None]) -> None:
    check_section(EXPERIMENT.conclude(results))


@pytest.mark.parametrize(
    ("change", "verdict"),
    [({}, "holds in part"), ({"true_gradient_norm": 0.0}, "holds"), ({"distance": 1.0}, "does not hold")],
)
def test_the_verdict_follows_the_numbers(results: Results, change: dict[str, float], verdict: str) -> None:
    points = results["points"].assign(**change)
    changed = replace(results, tables=results.tables | {"points": points})
    assert EXPERIMENT.conclude(changed).verdict == verdict
