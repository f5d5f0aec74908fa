"""The claim on RDMs, on networks so small that they train in a moment."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.rdm import CLAIM
from analysis.reproduction.claims.rdm.conclude import group_tests
from analysis.reproduction.kit import deep_networks
from analysis.reproduction.kit.deep_networks import METHODS, OTHERS, recipes

PLAN = Plan(seeds=(0, 1, 2, 3))
N_LAYERS, N_FRACTIONS = 3, 2


@pytest.fixture
def results(on_tiny_networks: dict[str, Results]) -> Results:
    return on_tiny_networks["rdm"]


def test_all_pairs_of_networks_are_compared_at_each_layer_and_fraction(results: Results) -> None:
    table = results["similarity"]
    n = len(recipes(PLAN))
    assert len(table) == N_FRACTIONS * N_LAYERS * n * (n - 1) // 2
    assert np.isfinite(table[["cka", "rsa"]].to_numpy()).all()
    assert (table["cka"] <= 1 + 1e-9).all()


def test_networks_of_equal_seeds_have_equal_representations_before_training(results: Results) -> None:
    """Networks of one seed have equal initial weights whatever their rule, so seeds and layers are not mixed up."""
    table = results["similarity"]
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
def test_only_methods_less_similar_than_backprop_to_itself_differ(between: float, differs: bool) -> None:
    table = group_tests(made_up(between), "cka", 1.0)
    by_method = table.groupby("method", sort=False)["differs"].all()
    backprop, *synthetic = METHODS.values()
    assert not by_method[backprop]
    assert [by_method[name] for name in synthetic] == [differs] * 2
    np.testing.assert_allclose(table["ceiling"], 0.9, atol=2e-3)


@pytest.mark.parametrize(("between", "verdict"), [(0.4, "holds"), (0.9, "does not hold")])
def test_the_verdict_follows_from_the_tests(
    results: Results, monkeypatch: pytest.MonkeyPatch, between: float, verdict: str
) -> None:
    monkeypatch.setattr(deep_networks, "FRACTIONS", (1.0,))
    tables = results.tables | {"similarity": made_up(between)}
    assert CLAIM.conclude(replace(results, tables=tables)).verdict == verdict


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))
