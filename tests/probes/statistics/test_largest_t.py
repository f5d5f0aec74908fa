from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from probes.statistics import seed_bands, seed_differences

Tidy = Callable[..., pd.DataFrame]
TwoGroups = Callable[..., tuple[NDArray, NDArray, pd.DataFrame]]
BOTH = pytest.mark.parametrize(("function", "extra"), [(seed_bands, {}), (seed_differences, {"reference": "bp"})])


def reach(row: pd.DataFrame) -> NDArray:
    """Return the half width of the band in standard errors."""
    return ((row["band_high"] - row["band_low"]) / 2 / row["standard_error"]).to_numpy()


def largest_t(normal: NDArray) -> NDArray:
    """Return the largest |t| of each sample (n_samples, n_seeds, n_layers): the slow twin."""
    return np.abs(stats.ttest_1samp(normal, 0.0, axis=1).statistic).max(axis=1)


def test_band_of_independent_layers_has_the_quantile_of_their_largest_t(tidy: Tidy) -> None:
    # P(max |t| <= q) = P(|t| <= q)^L; orthogonal columns have no sample correlation.
    n, L = 9, 4
    orthogonal = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(0).normal(size=(n, L))]))[0][:, 1:]
    known = stats.t.ppf(0.5 + 0.95 ** (1 / L) / 2, n - 1)
    twin = np.quantile(largest_t(np.random.default_rng(1).normal(size=(20_000, n, L))), 0.95)
    q = reach(seed_bands(tidy(orthogonal, "bp"), n_samples=50_000))
    np.testing.assert_allclose(q, known, rtol=0.02)
    np.testing.assert_allclose(q, twin, rtol=0.03)
    assert stats.t.ppf(0.975, n - 1) < 0.8 * known


@pytest.mark.parametrize("n", [3, 6])
def test_band_of_correlated_layers_has_the_quantile_of_a_slow_simulation(n: int, tidy: Tidy) -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 1)) + 0.2 * rng.normal(size=(n, 5))
    R = np.corrcoef(X.T) * (1 - 1 / (n - 1)) + np.eye(5) / (n - 1)
    twin = np.quantile(largest_t(rng.multivariate_normal(np.zeros(5), R, size=(40_000, n))), 0.9)
    q = reach(seed_bands(tidy(X, "bp"), level=0.9, n_samples=40_000))
    np.testing.assert_allclose(q, twin, rtol=0.03)


def test_band_of_two_seeds_treats_layers_as_unrelated(tidy: Tidy) -> None:
    X = np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.3001]])
    np.testing.assert_allclose(reach(seed_bands(tidy(X, "bp"))), stats.t.ppf(0.5 + 0.95 ** (1 / 3) / 2, 1), rtol=0.1)


def test_alike_layers_have_a_narrower_band(tidy: Tidy) -> None:
    rng = np.random.default_rng(4)
    common, own = rng.normal(size=(12, 1)), rng.normal(size=(12, 6))
    alike, unrelated = (reach(seed_bands(tidy(X, "bp")))[0] for X in (common + 0.1 * own, own))
    assert alike < 0.93 * unrelated


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_band_covers_all_layers_of_three_seeds_together(correlation: float, tidy: Tidy) -> None:
    # One denominator for all layers would have the band cover 74% of unrelated layers, intervals cover 59%.
    n_repeats, L = 200, 10
    R = correlation + (1 - correlation) * np.eye(L)
    draws = np.random.default_rng(5).multivariate_normal(np.zeros(L), R, size=(n_repeats, 3))
    table = pd.concat([tidy(X, f"{k}") for k, X in enumerate(draws)], ignore_index=True)
    result = seed_bands(table, n_samples=1000)
    covered = (result["band_low"] <= 0) & (result["band_high"] >= 0)
    assert 0.9 < covered.groupby(result["method"]).all().mean() < 0.99
    one = (result["low"] <= 0) & (result["high"] >= 0)
    assert 0.92 < one.mean() < 0.98


@BOTH
def test_draws_follow_from_their_seed(
    function: Callable[..., pd.DataFrame], extra: dict[str, str], two_groups: TwoGroups
) -> None:
    table = two_groups()[2]
    first, again, other = (function(table, rng_seed=rng_seed, **extra) for rng_seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.array_equal(first["band_low"], other["band_low"])
    np.testing.assert_allclose(reach(other), reach(first), rtol=0.03)


def adjusted_by_hand(D: NDArray) -> NDArray:
    """Return single-step max-T p-values by all sign flips, one by one."""
    with np.errstate(divide="ignore"):
        observed, *flips = (
            np.abs(flipped.mean(axis=0) / flipped.std(axis=0, ddof=1))
            for signs in product([1.0, -1.0], repeat=len(D))
            for flipped in [np.array(signs)[:, np.newaxis] * D]
        )
    return np.mean([flip.max() >= observed * (1 - 1e-9) for flip in (observed, *flips)], axis=0)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_adjusted_p_values_count_all_sign_flips_of_seeds(n_seeds: int, two_groups: TwoGroups) -> None:
    bp, sg, table = two_groups(n_seeds)
    result = seed_differences(table, reference="bp", n_samples=1000)
    np.testing.assert_allclose(result["p_adjusted"], adjusted_by_hand(sg - bp))
    np.testing.assert_allclose(result["p_least"], 2.0 ** (1 - n_seeds))
    assert result["p_adjusted"].min() >= 2.0 ** (1 - n_seeds)
    if n_seeds > 3:
        assert result["p_adjusted"].nunique() > 1


def test_adjusted_p_value_of_three_seeds_equals_a_hand_computation(tidy: Tidy) -> None:
    # Sums over flips with the first kept: 6, 0, 2, -4 of (1, 2, 3), all squares the same. Only the first is as large
    # as 6, and two of four are as large as 4, which is what (1, -2, -3) has.
    for differences, p in (([1.0, 2.0, 3.0], 1 / 4), ([1.0, -2.0, -3.0], 2 / 4), ([1.0, -2.0, 3.0], 3 / 4)):
        table = pd.concat([tidy(np.zeros((3, 1)), "bp"), tidy(np.array([differences]).T, "sg")])
        assert seed_differences(table, reference="bp")["p_adjusted"].tolist() == [p]


def test_drawn_sign_flips_agree_with_all_of_them(tidy: Tidy, two_groups: TwoGroups) -> None:
    bp, sg, _ = two_groups(n_seeds=10, seed=3)
    sg += np.array([0.04, 0.0, 0.03, 0.02])
    table = pd.concat([tidy(bp, "bp"), tidy(sg, "sg")])
    exact = seed_differences(table, reference="bp", n_samples=512)
    drawn = seed_differences(table, reference="bp", n_samples=511)
    assert exact["p_least"].tolist() == [1 / 512] * 4
    assert drawn["p_least"].tolist() == [1 / 512] * 4
    np.testing.assert_allclose(drawn["p_adjusted"] * 512 % 1, 0.0, atol=1e-9)
    np.testing.assert_allclose(drawn["p_adjusted"], exact["p_adjusted"], atol=0.08)
    assert 0.02 < exact["p_adjusted"].max() < 0.98


def test_a_drawn_p_value_is_never_zero(tidy: Tidy) -> None:
    table = pd.concat([tidy(np.zeros((60, 1)), "bp"), tidy(np.linspace(1.0, 2.0, 60)[:, np.newaxis], "sg")])
    assert seed_differences(table, reference="bp", n_samples=99)["p_adjusted"].tolist() == [0.01]


def test_adjusted_p_values_control_the_error_rate_over_all_layers(tidy: Tidy) -> None:
    n_repeats = 200
    draws = np.random.default_rng(6).normal(size=(n_repeats, 6, 5))
    tables = [tidy(X, f"{k}") for k, X in enumerate(draws)] + [tidy(np.zeros((6, 5)), "zero")]
    result = seed_differences(pd.concat(tables, ignore_index=True), reference="zero", n_samples=200)
    least = result.groupby("method")[["p_value", "p_adjusted"]].min()
    # Six seeds have 32 flips: the probability of p <= 1/8 is 1/8.
    assert 0.06 < (least["p_adjusted"] <= 1 / 8).mean() < 0.19
    assert (least["p_value"] <= 1 / 8).mean() > 0.35
