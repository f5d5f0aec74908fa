"""Rank correlations over rules with families as the unit."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from analysis.reproduction.claims.rules.family_relations import correlate_over_families

FAMILIES = [*"aaaa", *"bbb", *"cc", "d", "e"]


def rules(seed: int = 0, slope: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=len(FAMILIES)).round(1)  # with ties
    return pd.DataFrame({"x": x, "y": slope * x + rng.normal(size=len(FAMILIES)), "family": FAMILIES})


def test_the_correlation_is_that_of_spearman() -> None:
    table = rules()
    assert correlate_over_families(table, "x", "y")["spearman"] == pytest.approx(spearmanr(table["x"], table["y"])[0])


def test_the_interval_is_that_of_all_samples_of_whole_families() -> None:
    table = rules(1)
    names = sorted(set(FAMILIES))
    points = {name: table.loc[table["family"] == name, ["x", "y"]].to_numpy() for name in names}
    drawn = []
    for sample in itertools.product(names, repeat=len(names)):
        x, y = np.concatenate([points[name] for name in sample]).T
        if np.ptp(x) > 0:
            drawn.append(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    found = correlate_over_families(table, "x", "y")
    low, high = np.quantile(np.array(drawn).round(12), [0.025, 0.975], method="inverted_cdf")
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_the_range_leaves_out_one_family_at_a_time() -> None:
    table = rules(2)
    each = [spearmanr(*table.loc[table["family"] != name, ["x", "y"]].to_numpy().T)[0] for name in "abcde"]
    found = correlate_over_families(table, "x", "y")
    assert (found["least"], found["most"]) == pytest.approx((min(each), max(each)))


def test_a_direction_that_one_family_makes_alone_is_undecided() -> None:
    x = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15]  # the last family is far from the others, among which nothing falls
    table = pd.DataFrame({"x": x, "y": [3, 4, 5, 6, 0, -1, -2, -3, -4, -5], "family": [*"abcd", *"eeeeee"]})
    found = correlate_over_families(table, "x", "y")
    assert found["spearman"] < -0.7
    assert found["most"] > 0
    assert found["direction"] == "undecided"


@pytest.mark.parametrize(("slope", "direction"), [(50.0, "rises"), (-50.0, "falls")])
def test_a_direction_that_all_families_share_is_stated(slope: float, direction: str) -> None:
    assert correlate_over_families(rules(3, slope), "x", "y")["direction"] == direction


def test_many_rules_of_one_family_narrow_no_interval() -> None:
    table = rules(4)
    copies = pd.concat([table, *[table[table["family"] == "a"].assign(family="a")] * 20], ignore_index=True)
    found, more = (correlate_over_families(each, "x", "y") for each in (table, copies))
    assert more["high"] - more["low"] > 0.5 * (found["high"] - found["low"])
    assert more["n_families"] == found["n_families"]


def test_families_of_one_rule_are_units_like_others() -> None:
    table = pd.DataFrame({"x": [1, 2, 3, 4], "y": [4, 3, 2, 1], "family": list("abcd")})
    found = correlate_over_families(table, "x", "y")
    assert found["n_families"] == found["n_rules"] == 4
    assert (found["low"], found["high"]) == pytest.approx((-1.0, -1.0))


def test_fewer_than_four_families_give_no_interval() -> None:
    found = correlate_over_families(rules()[:9], "x", "y")
    assert found["n_families"] == 3
    assert all(math.isnan(found[name]) for name in ("low", "high", "least", "most"))
    assert found["direction"] == "undecided"


def test_equal_values_have_no_correlation() -> None:
    found = correlate_over_families(rules().assign(y=1.0), "x", "y")
    assert math.isnan(found["spearman"])
    assert found["direction"] == "undecided"


def test_too_many_families_are_rejected() -> None:
    table = pd.DataFrame({"x": range(10), "y": range(10), "family": list("abcdefghij")})
    with pytest.raises(ValueError, match="There are 10 families; expected 9 or fewer"):
        correlate_over_families(table, "x", "y")
