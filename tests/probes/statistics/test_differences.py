from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from probes.statistics import seed_differences

Tidy = Callable[..., pd.DataFrame]
TwoGroups = Callable[..., tuple[NDArray, NDArray, pd.DataFrame]]
LAYERS = ["conv1", "conv2", "fc1", "fc2"]


def test_differences_are_those_of_the_paired_t_test(two_groups: TwoGroups) -> None:
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


def test_pairs_are_matched_by_seed_and_not_by_row(two_groups: TwoGroups) -> None:
    table = two_groups()[2]
    shuffled = table.sample(frac=1.0, random_state=1).sort_values(["layer"], kind="stable")
    straight, mixed = (
        seed_differences(each, reference="bp").set_index("layer").loc[LAYERS, "p_value"] for each in (table, shuffled)
    )
    np.testing.assert_allclose(mixed, straight)


def test_each_group_is_a_family_of_its_own(tidy: Tidy, two_groups: TwoGroups) -> None:
    bp, _, table = two_groups()
    other = tidy(bp + np.random.default_rng(9).normal(size=bp.shape), "dfa", layers=LAYERS)
    alone = seed_differences(table, reference="bp")
    both = seed_differences(pd.concat([other, table]), reference="bp")
    assert both["method"].tolist() == ["dfa"] * 4 + ["sg"] * 4
    pd.testing.assert_frame_equal(both.iloc[4:].reset_index(drop=True), alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_failed_layer_keeps_its_row_and_leaves_the_others_as_they_are(bad: float, two_groups: TwoGroups) -> None:
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


def test_equal_differences_have_no_interval_and_no_p_value(tidy: Tidy, two_groups: TwoGroups) -> None:
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


def test_all_layers_failing_is_a_table_of_failures(tidy: Tidy) -> None:
    table = pd.concat([tidy(np.full((2, 2), np.nan), "bp"), tidy(np.ones((2, 2)), "sg")])
    assert seed_differences(table, reference="bp")["status"].tolist() == ["failed", "failed"]


def test_unpaired_seeds_are_named(tidy: Tidy) -> None:
    table = pd.concat([tidy(np.eye(3), "bp", seeds=[1, 2, 3]), tidy(np.eye(3), "sg", seeds=[2, 4, 5])])
    with pytest.raises(ValueError, match=r"Seeds without a pair: 4, 5 \(only 'sg'\); 1, 3 \(only 'bp'\). Probe both"):
        seed_differences(table, reference="bp")


@pytest.mark.parametrize(
    ("groups", "reference", "message"),
    [
        ({"bp": np.eye(3)}, "sg", "There is no group 'sg'. Choose one of: 'bp'"),
        ({"bp": np.eye(3)}, "bp", "There is no group besides the reference 'bp'; a difference needs two"),
        (
            {"bp": np.ones((1, 2)), "sg": np.ones((1, 2))},
            "bp",
            "'sg' and 'bp' have 1 seed; a test of the difference needs 2 or more",
        ),
    ],
)
def test_groups_that_cannot_be_compared_are_an_error(
    tidy: Tidy, groups: dict[str, NDArray], reference: str, message: str
) -> None:
    table = pd.concat([tidy(values, name) for name, values in groups.items()])
    with pytest.raises(ValueError, match=message):
        seed_differences(table, reference=reference)
