"""Bands of accuracies over seeds, and verdicts on pairs of rules."""

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claims.rules.rule_pairs import SMALLEST, differences_from, pair_table, rule_bands


def accuracies(means: dict[str, float], spread: float, n_seeds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Return normal accuracies (n_seeds, n_rules) with the given expectations."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: mean + spread * rng.standard_normal(n_seeds) for name, mean in means.items()})


def test_verdicts_depend_on_the_smallest_difference_of_interest() -> None:
    by_seed = accuracies({"a": 0.95, "b": 0.949, "c": 0.80, "d": 0.93}, spread=0.001)
    verdicts = pair_table(by_seed).set_index(["method_a", "method_b"])["verdict"]
    assert verdicts["a", "b"] == "equivalent"
    assert verdicts["a", "c"] == "different"
    assert verdicts["a", "d"] == "undecided"  # the difference is the smallest one itself
    assert set(pair_table(by_seed, smallest=0.005)["verdict"]) == {"equivalent", "different"}


def test_a_large_spread_over_seeds_leaves_equal_rules_undecided() -> None:
    assert set(pair_table(accuracies({"a": 0.9, "b": 0.9, "c": 0.9}, spread=0.05))["verdict"]) == {"undecided"}


def test_bands_over_all_rules_cover_all_true_means_at_once() -> None:
    names = [f"rule {i}" for i in range(15)]
    covered = []
    for seed in range(60):
        bands = rule_bands(accuracies(dict.fromkeys(names, 0.9), spread=0.01, seed=seed))
        covered.append(bool(((bands["band_low"] < 0.9) & (bands["band_high"] > 0.9)).all()))
        assert (bands["band_low"] < bands["low"]).all()
    assert np.mean(covered) >= 0.88  # 95 % up to chance: three standard errors of 60 trials


def test_rules_are_compared_in_pairs_of_equal_seeds() -> None:
    rng = np.random.default_rng(0)
    shared = 0.1 * rng.standard_normal(5)  # luck of the seed, which the difference leaves out
    by_seed = accuracies({"a": 0.8, "b": 0.7, "c": 0.7}, spread=0.001).add(shared, axis=0)
    assert pair_table(by_seed).set_index(["method_a", "method_b"])["verdict"]["a", "b"] == "different"


def test_a_rule_with_a_network_that_diverged_has_no_verdict() -> None:
    by_seed = accuracies({"a": 0.9, "b": 0.8, "c": 0.7}, spread=0.001)
    by_seed.loc[2, "b"] = np.nan
    pairs = pair_table(by_seed).set_index(["method_a", "method_b"])
    assert list(pairs["verdict"]) == ["", "different", ""]
    assert rule_bands(by_seed).loc["b"].isna().all()


def test_differences_from_a_rule_change_sign_with_their_ends() -> None:
    pairs = pair_table(accuracies({"a": 0.9, "b": 0.8, "c": 0.7}, spread=0.01))
    of_b = differences_from(pairs, "b").set_index("method")
    assert of_b.loc["a", "mean"] == pairs["mean"][0] > 0
    assert of_b.loc["c", "mean"] == -pairs["mean"][2] < 0
    assert of_b.loc["c", "band_low"] == -pairs["band_high"][2]
    assert (of_b["band_low"] < of_b["band_high"]).all()
    assert set(of_b["smallest"]) == {SMALLEST}


def test_impossible_requests_are_rejected() -> None:
    by_seed = accuracies({"a": 0.9, "b": 0.8}, spread=0.01)
    with pytest.raises(ValueError, match="smallest is 0; expected a difference"):
        pair_table(by_seed, smallest=0)
    with pytest.raises(ValueError, match="There are 1 seeds; a difference between rules needs 2"):
        pair_table(by_seed[:1])
