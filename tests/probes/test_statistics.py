from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from probes.statistics import example_interval, first_layer_reaching, seed_bands, seed_differences

LAYERS = ["conv1", "conv2", "fc1", "fc2"]
BOTH = pytest.mark.parametrize(("function", "extra"), [(seed_bands, {}), (seed_differences, {"reference": "bp"})])


def tidy(values: NDArray, group: str, seeds: list[int] | None = None, layers: list[str] | None = None) -> pd.DataFrame:
    """Return a table of values (n_seeds, n_layers)."""
    n_seeds, n_layers = values.shape
    index = pd.Index(seeds or range(n_seeds), name="seed")
    columns = pd.Index(layers or [f"h{k}" for k in range(n_layers)], name="layer")
    long = pd.DataFrame(values, index=index, columns=columns).reset_index().melt("seed", value_name="accuracy")
    return long.assign(method=group)


def two_groups(n_seeds: int = 5, seed: int = 0) -> tuple[NDArray, NDArray, pd.DataFrame]:
    """Return values of two groups (n_seeds, 4), alike where seeds are, and their table."""
    rng = np.random.default_rng(seed)
    start = rng.normal(scale=0.05, size=(n_seeds, 1))
    bp, sg = (mean + start + rng.normal(scale=0.02, size=(n_seeds, 4)) for mean in (0.7, 0.65))
    return bp, sg, pd.concat([tidy(bp, "bp", layers=LAYERS), tidy(sg, "sg", layers=LAYERS)], ignore_index=True)


def reach(row: pd.DataFrame) -> NDArray:
    """Return the half width of the band in standard errors."""
    return ((row["band_high"] - row["band_low"]) / 2 / row["standard_error"]).to_numpy()


def largest_t(normal: NDArray) -> NDArray:
    """Return the largest |t| of each sample (n_samples, n_seeds, n_layers): the slow twin."""
    return np.abs(stats.ttest_1samp(normal, 0.0, axis=1).statistic).max(axis=1)


# Differences


def test_differences_are_those_of_the_paired_t_test() -> None:
    bp, sg, table = two_groups()
    result = seed_differences(table, reference="bp", level=0.9)
    oracle = stats.ttest_rel(sg, bp)
    interval = oracle.confidence_interval(0.9)
    assert result["layer"].tolist() == LAYERS
    assert result["method"].unique().tolist() == ["sg"]
    assert result["n_seeds"].unique().tolist() == [5]
    np.testing.assert_allclose(result["difference"], (sg - bp).mean(axis=0))
    np.testing.assert_allclose(result["difference"] / result["standard_error"], oracle.statistic)
    np.testing.assert_allclose(result["p_value"], oracle.pvalue)
    np.testing.assert_allclose(result[["low", "high"]].T, [interval.low, interval.high])


def test_pairs_are_matched_by_seed_and_not_by_row() -> None:
    table = two_groups()[2]
    shuffled = table.sample(frac=1.0, random_state=1).sort_values(["layer"], kind="stable")
    straight, mixed = (
        seed_differences(each, reference="bp").set_index("layer").loc[LAYERS, "p_value"] for each in (table, shuffled)
    )
    np.testing.assert_allclose(mixed, straight)


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
def test_adjusted_p_values_count_all_sign_flips_of_seeds(n_seeds: int) -> None:
    bp, sg, table = two_groups(n_seeds)
    result = seed_differences(table, reference="bp", n_samples=1000)
    np.testing.assert_allclose(result["p_adjusted"], adjusted_by_hand(sg - bp))
    np.testing.assert_allclose(result["p_least"], 2.0 ** (1 - n_seeds))
    assert result["p_adjusted"].min() >= 2.0 ** (1 - n_seeds)
    if n_seeds > 3:
        assert result["p_adjusted"].nunique() > 1


def test_adjusted_p_value_of_three_seeds_on_paper() -> None:
    # Sums over flips with the first kept: 6, 0, 2, -4 of (1, 2, 3), all squares the same. Only the first is as large
    # as 6, and two of four are as large as 4, which is what (1, -2, -3) has.
    for differences, p in (([1.0, 2.0, 3.0], 1 / 4), ([1.0, -2.0, -3.0], 2 / 4), ([1.0, -2.0, 3.0], 3 / 4)):
        table = pd.concat([tidy(np.zeros((3, 1)), "bp"), tidy(np.array([differences]).T, "sg")])
        assert seed_differences(table, reference="bp")["p_adjusted"].tolist() == [p]


def test_drawn_sign_flips_agree_with_all_of_them() -> None:
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


def test_a_drawn_p_value_is_never_zero() -> None:
    table = pd.concat([tidy(np.zeros((60, 1)), "bp"), tidy(np.linspace(1.0, 2.0, 60)[:, np.newaxis], "sg")])
    assert seed_differences(table, reference="bp", n_samples=99)["p_adjusted"].tolist() == [0.01]


def test_each_group_is_a_family_of_its_own() -> None:
    bp, _, table = two_groups()
    other = tidy(bp + np.random.default_rng(9).normal(size=bp.shape), "dfa", layers=LAYERS)
    alone = seed_differences(table, reference="bp")
    both = seed_differences(pd.concat([other, table]), reference="bp")
    assert both["method"].tolist() == ["dfa"] * 4 + ["sg"] * 4
    pd.testing.assert_frame_equal(both.iloc[4:].reset_index(drop=True), alone)


@BOTH
def test_columns_may_have_other_names(function: Callable[..., pd.DataFrame], extra: dict[str, str]) -> None:
    table = two_groups()[2]
    renamed = table.rename(columns={"method": "rule", "seed": "replicate", "layer": "module", "accuracy": "loss"})
    names = {"group": "rule", "seed": "replicate", "layer": "module", "value": "loss"}
    plain, other = function(table, **extra), function(renamed, **extra, **names)
    pd.testing.assert_frame_equal(other.rename(columns={"rule": "method", "module": "layer"}), plain)


# Bands


def test_intervals_are_those_of_student() -> None:
    bp, sg, table = two_groups()
    result = seed_bands(table, level=0.8).set_index(["method", "layer"])
    for name, values in (("bp", bp), ("sg", sg)):
        low, high = stats.t.interval(0.8, df=4, loc=values.mean(axis=0), scale=stats.sem(values))
        rows = result.loc[name]
        assert rows.index.tolist() == LAYERS
        np.testing.assert_allclose(rows["mean"], values.mean(axis=0))
        np.testing.assert_allclose(rows[["low", "high"]].T, [low, high])
        assert (rows["band_low"] < rows["low"]).all()
        assert (rows["band_high"] > rows["high"]).all()


def test_band_of_one_layer_is_its_interval() -> None:
    result = seed_bands(tidy(np.random.default_rng(0).normal(size=(4, 1)), "bp"))
    np.testing.assert_allclose(result[["band_low", "band_high"]], result[["low", "high"]])


def test_band_of_independent_layers_has_the_quantile_of_their_largest_t() -> None:
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
def test_band_of_correlated_layers_has_the_quantile_of_a_slow_twin(n: int) -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 1)) + 0.2 * rng.normal(size=(n, 5))
    R = np.corrcoef(X.T) * (1 - 1 / (n - 1)) + np.eye(5) / (n - 1)
    twin = np.quantile(largest_t(rng.multivariate_normal(np.zeros(5), R, size=(40_000, n))), 0.9)
    q = reach(seed_bands(tidy(X, "bp"), level=0.9, n_samples=40_000))
    np.testing.assert_allclose(q, twin, rtol=0.03)


def test_band_of_two_seeds_takes_layers_for_unrelated() -> None:
    X = np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.3001]])
    np.testing.assert_allclose(reach(seed_bands(tidy(X, "bp"))), stats.t.ppf(0.5 + 0.95 ** (1 / 3) / 2, 1), rtol=0.1)


def test_alike_layers_have_a_narrower_band() -> None:
    rng = np.random.default_rng(4)
    common, own = rng.normal(size=(12, 1)), rng.normal(size=(12, 6))
    alike, unrelated = (reach(seed_bands(tidy(X, "bp")))[0] for X in (common + 0.1 * own, own))
    assert alike < 0.93 * unrelated


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_band_covers_all_layers_of_three_seeds_together(correlation: float) -> None:
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


def test_adjusted_p_values_keep_their_promise_over_all_layers() -> None:
    n_repeats = 200
    draws = np.random.default_rng(6).normal(size=(n_repeats, 6, 5))
    tables = [tidy(X, f"{k}") for k, X in enumerate(draws)] + [tidy(np.zeros((6, 5)), "zero")]
    result = seed_differences(pd.concat(tables, ignore_index=True), reference="zero", n_samples=200)
    least = result.groupby("method")[["p_value", "p_adjusted"]].min()
    # Six seeds have 32 flips: the probability of p <= 1/8 is 1/8.
    assert 0.06 < (least["p_adjusted"] <= 1 / 8).mean() < 0.19
    assert (least["p_value"] <= 1 / 8).mean() > 0.35


@BOTH
def test_draws_follow_from_their_seed(function: Callable[..., pd.DataFrame], extra: dict[str, str]) -> None:
    table = two_groups()[2]
    first, again, other = (function(table, rng_seed=rng_seed, **extra) for rng_seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.array_equal(first["band_low"], other["band_low"])
    np.testing.assert_allclose(reach(other), reach(first), rtol=0.03)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    result = seed_bands(tidy(np.array([[0.5, np.nan]]), "bp"))
    assert result["mean"].iloc[0] == 0.5
    assert result[["standard_error", "low", "high", "band_low", "band_high"]].isna().all(axis=None)
    assert result["status"].tolist() == ["no spread", "failed"]
    assert result["message"].tolist() == ["1 seed has no spread", "no value for seed 0"]


# Layers without a value, or without spread


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_failed_layer_keeps_its_row_and_leaves_the_others_as_they_are(bad: float) -> None:
    table = two_groups()[2]
    rest = seed_differences(table[table["layer"] != "conv2"], reference="bp")
    table.loc[(table["layer"] == "conv2") & (table["seed"].isin([1, 3])) & (table["method"] == "sg"), "accuracy"] = bad
    absent = (table["layer"] == "conv2") & (table["seed"] == 2) & (table["method"] == "bp")
    result = seed_differences(table[~absent], reference="bp").set_index("layer")
    row = result.loc["conv2"]
    assert row["status"] == "failed"
    assert row["message"] == "no value of 'sg' for seed 1, 3; no value of 'bp' for seed 2"
    assert row["difference":"p_least"].isna().all()
    pd.testing.assert_frame_equal(result.drop("conv2").reset_index(), rest[["layer", *rest.columns.drop("layer")]])


def test_layer_that_a_whole_group_lacks_keeps_its_row() -> None:
    table = pd.concat([tidy(np.eye(2), "bp", layers=["a", "b"]), tidy(np.eye(2)[:, :1], "sg", layers=["a"])])
    result = seed_bands(table)
    assert result[["method", "layer"]].to_numpy().tolist() == [["bp", "a"], ["bp", "b"], ["sg", "a"], ["sg", "b"]]
    assert result["message"].tolist() == ["", "", "", "no value for seed 0, 1"]
    assert result["status"].tolist() == ["ok", "ok", "ok", "failed"]


def test_equal_differences_are_no_certainty() -> None:
    bp, sg, _ = two_groups(4)
    bp[:, 2], sg[:, 2] = [0.2, 0.4, 0.7, 1.0], [0.1, 0.3, 0.6, 0.9]
    assert np.ptp(sg - bp, axis=0)[2] > 0  # by rounding
    table = pd.concat([tidy(bp, "bp"), tidy(sg, "sg")])
    result = seed_differences(table, reference="bp")
    row = result.iloc[2]
    assert row["difference"] == pytest.approx(-0.1)
    assert row["standard_error"] == 0.0
    assert row["low":"p_least"].isna().all()
    assert (row["status"], row["message"]) == ("no spread", "4 seeds are equal")
    rest = seed_differences(table[table["layer"] != "h2"], reference="bp")
    pd.testing.assert_frame_equal(result.drop(index=2).reset_index(drop=True), rest)


def test_all_layers_failing_is_a_table_of_failures() -> None:
    table = pd.concat([tidy(np.full((2, 2), np.nan), "bp"), tidy(np.ones((2, 2)), "sg")])
    assert seed_differences(table, reference="bp")["status"].tolist() == ["failed", "failed"]


def test_whole_numbers_and_nullable_ones_are_values() -> None:
    counts = tidy(np.array([[1, 2], [3, 5], [4, 4]]), "bp")
    expected = seed_bands(counts.astype({"accuracy": float}))
    pd.testing.assert_frame_equal(seed_bands(counts), expected)
    pd.testing.assert_frame_equal(seed_bands(counts.astype({"accuracy": "Float64"})), expected)
    lacking = counts.astype({"accuracy": "Int64"})
    lacking.loc[lacking["accuracy"] == 5, "accuracy"] = pd.NA
    assert seed_bands(lacking)["message"].tolist() == ["", "no value for seed 1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "loss"}, "The table has no column 'loss'; it has: seed, layer, accuracy, method"),
        ({"group": "rule", "seed": "run"}, "The table has no column 'rule', 'run'; it has"),
        ({"level": 1.0}, r"level is 1\.0; expected a number between 0 and 1"),
        ({"level": np.nan}, "level is nan; expected a number between 0 and 1"),
        ({"n_samples": 0}, "n_samples is 0; expected a positive integer"),
        ({"n_samples": 10.5}, r"n_samples is 10\.5; expected a positive integer"),
        ({"value": "method"}, "Column 'method' has dtype .*; expected real numbers"),
        ({"table": two_groups()[2].iloc[:0]}, "The table has no rows; expected one a network and layer"),
        (
            {"table": two_groups()[2].assign(layer=lambda table: table["layer"].where(table["layer"] != "fc1"))},
            "Column 'layer' has no entry in 10 of 40 rows; name every network",
        ),
        (
            {"table": pd.concat([two_groups()[2]] * 2)},
            "The table has several rows for method='bp', seed=0, layer='conv1'. Keep one step, target and run of each",
        ),
    ],
)
def test_unfit_table_or_number_is_an_error(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"table": two_groups()[2], **changes}
    with pytest.raises(ValueError, match=message):
        seed_bands(**arguments)
    with pytest.raises(ValueError, match=message):
        seed_differences(**arguments, reference="bp")


def test_unpaired_seeds_are_named() -> None:
    table = pd.concat([tidy(np.eye(3), "bp", seeds=[1, 2, 3]), tidy(np.eye(3), "sg", seeds=[2, 4, 5])])
    with pytest.raises(ValueError, match=r"Seeds without a pair: 4, 5 \(only 'sg'\); 1, 3 \(only 'bp'\). Probe both"):
        seed_differences(table, reference="bp")


@pytest.mark.parametrize(
    ("table", "reference", "message"),
    [
        (tidy(np.eye(3), "bp"), "sg", "There is no group 'sg'. Choose one of: 'bp'"),
        (tidy(np.eye(3), "bp"), "bp", "There is no group beside the reference 'bp'; a difference needs another"),
        (
            pd.concat([tidy(np.ones((1, 2)), "bp"), tidy(np.ones((1, 2)), "sg")]),
            "bp",
            "'sg' and 'bp' have 1 seed; a difference needs 2 or more to be judged",
        ),
    ],
)
def test_groups_that_cannot_be_compared_are_an_error(table: pd.DataFrame, reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seed_differences(table, reference=reference)


# Test examples


def slow_interval(hits: NDArray, n_samples: int) -> NDArray:
    """Return the percentile interval of accuracies of examples drawn one by one."""
    rng = np.random.default_rng(0)
    n = hits.shape[-1]
    return np.quantile([hits[..., rng.integers(n, size=n)].mean() for _ in range(n_samples)], [0.05, 0.95])


def test_example_interval_is_that_of_examples_drawn_one_by_one() -> None:
    rng = np.random.default_rng(1)
    ability = rng.random(300)  # of examples, which makes networks alike
    networks = rng.random((4, 300)) < ability
    for hits in (networks[0], networks):
        interval = example_interval(hits, level=0.9, n_samples=20_000)
        assert interval.mean == pytest.approx(hits.mean())
        np.testing.assert_allclose([interval.low, interval.high], slow_interval(hits, 4000), atol=0.004)


def test_networks_are_drawn_on_the_same_examples() -> None:
    hits = np.random.default_rng(2).random(200) < 0.6
    one, equal, opposite = (example_interval(each) for each in (hits, np.stack([hits, hits]), np.stack([hits, ~hits])))
    assert equal == pytest.approx(one)
    assert opposite == pytest.approx((0.5, 0.5, 0.5))


def test_example_interval_covers_the_accuracy_on_other_examples() -> None:
    hits = np.random.default_rng(3).random((400, 200)) < 0.7
    intervals = np.array([example_interval(each, n_samples=500) for each in hits])
    assert 0.9 < np.mean((intervals[:, 1] <= 0.7) & (intervals[:, 2] >= 0.7)) < 0.98


def test_example_interval_follows_from_its_seed() -> None:
    hits = np.random.default_rng(4).random((3, 1000)) < 0.5
    assert example_interval(hits, seed=1) == example_interval(hits, seed=1) != example_interval(hits, seed=2)


def test_faultless_network_has_an_interval_without_width() -> None:
    assert example_interval([True] * 5) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("hits", "changes", "message"),
    [
        ([0.5, 1.0], {}, r"hits has shape \(2,\) and dtype float64; expected bool of shape \(n,\) or"),
        (np.ones((2, 2, 2), dtype=bool), {}, r"hits has shape \(2, 2, 2\) and dtype bool; expected bool"),
        (np.ones((2, 0), dtype=bool), {}, r"hits has shape \(2, 0\) and dtype bool; expected bool"),
        ([True], {"level": 0.0}, r"level is 0\.0; expected a number between 0 and 1"),
        ([True], {"n_samples": 0}, "n_samples is 0; expected a positive integer"),
    ],
)
def test_unfit_hits_are_an_error(hits: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example_interval(hits, **changes)


# Depth


def by_depth(*networks: list[float], chance: float = 0.1) -> pd.DataFrame:
    tables = [tidy(np.array([values]), "bp", [seed], LAYERS[: len(values)]) for seed, values in enumerate(networks)]
    return pd.concat(tables, ignore_index=True).assign(chance=chance)


@pytest.mark.parametrize(
    ("fraction", "above_chance", "depth"),
    [(0.9, False, 2), (0.9, True, 3), (0.5, False, 1), (0.5, True, 2), (1.0, False, 3), (1.0, True, 3)],
)
def test_first_layer_reaches_a_fraction_from_zero_or_from_chance(
    fraction: float, above_chance: bool, depth: int
) -> None:
    # Of 0.30: 0.9 from zero is 0.27 and from chance 0.28; half is 0.15 and 0.20. The third reaches all of it by half.
    table = by_depth([0.16, 0.275, 0.31, 0.30])
    row = first_layer_reaching(table, fraction, above_chance=above_chance).iloc[0]
    assert (row["depth"], row["layer"], row["n_layers"]) == (depth, LAYERS[depth - 1], 4)
    assert (row["status"], row["message"], row["method"], row["seed"]) == ("ok", "", "bp", 0)


def test_layer_that_reaches_the_fraction_exactly_counts() -> None:
    assert 0.9 * 0.8 > 0.72  # in floating point
    for last, reached in ((0.8, 0.72), (0.4, 0.36), (0.3, 0.27)):
        assert first_layer_reaching(by_depth([reached, last]))["depth"].tolist() == [1]
        assert first_layer_reaching(by_depth([reached - 1e-6, last]))["depth"].tolist() == [2]


def test_chance_of_every_layer_is_its_own() -> None:
    table = by_depth([0.5, 0.5]).assign(chance=[0.45, 0.1])
    assert first_layer_reaching(table, above_chance=True)["depth"].tolist() == [2]


@pytest.mark.parametrize(
    ("values", "status", "message"),
    [
        ([0.5, 0.1], "at chance", "the last layer, 'conv2', does not exceed chance"),
        ([0.5, 0.05], "at chance", "the last layer, 'conv2', does not exceed chance"),
        ([0.5, np.nan], "failed", "no value for the last layer, 'conv2'"),
        ([np.nan, np.nan, 0.6, 0.6], "failed", "no value for 'conv1', 'conv2', before 'fc1'"),
        ([0.6, np.nan, np.inf, 0.6], "ok", ""),
    ],
)
def test_network_without_a_known_first_layer_says_why(values: list[float], status: str, message: str) -> None:
    result = first_layer_reaching(by_depth([0.2, 0.6], values))
    assert result["status"].tolist() == ["ok", status]
    row = result.iloc[1]
    assert row["message"] == message
    assert pd.isna(row["depth"]) == pd.isna(row["layer"]) == (status != "ok")
    assert row["n_layers"] == len(values)


def test_nothing_is_reached_from_below_zero() -> None:
    table = by_depth([-0.9, -0.5], chance=-1.0)
    assert first_layer_reaching(table)["status"].tolist() == ["at chance"]
    assert first_layer_reaching(table, above_chance=True)["depth"].tolist() == [2]


def test_depths_are_averaged_over_the_networks_that_have_one() -> None:
    table = pd.concat(
        [
            by_depth([0.2, 0.6], [0.6, 0.6], [0.6, 0.1], [0.1, 0.2, 0.6]),
            by_depth([0.6, 0.1]).assign(method="sg"),
        ]
    )
    result = first_layer_reaching(table, mean_over="seed")
    assert result.columns.tolist() == ["method", "depth", "standard_error", "n_networks", "n_reached"]
    assert result["method"].tolist() == ["bp", "sg"]
    assert result["depth"].iloc[0] == 2.0
    assert result["standard_error"].iloc[0] == pytest.approx(stats.sem([2, 1, 3]))
    assert result[["n_networks", "n_reached"]].to_numpy().tolist() == [[4, 3], [1, 0]]
    assert result.iloc[1][["depth", "standard_error"]].isna().all()


def test_network_may_be_named_by_one_column() -> None:
    table = by_depth([0.2, 0.6], [0.6, 0.6]).rename(columns={"seed": "view", "layer": "module"})
    result = first_layer_reaching(table, network="view", layer="module")
    assert result[["view", "depth", "module"]].to_numpy().tolist() == [[0, 2.0, "conv2"], [1, 1.0, "conv1"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0.0}, r"fraction is 0\.0; expected a number above 0 and at most 1"),
        ({"fraction": 1.1}, r"fraction is 1\.1; expected a number above 0 and at most 1"),
        ({"mean_over": "layer"}, "mean_over is 'layer'; expected one of two or more columns of network: .'method', 's"),
        ({"network": "seed", "mean_over": "seed"}, "mean_over is 'seed'; expected one of two or more columns"),
        ({"chance": "majority"}, "The table has no column 'majority'"),
        ({"network": "method"}, "The table has several rows for method='bp', layer='conv1'"),
    ],
)
def test_unfit_question_of_depth_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        first_layer_reaching(by_depth([0.2, 0.6], [0.6, 0.6]), **changes)
