from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from probes.statistics import seed_bands, seed_differences

Tidy = Callable[..., pd.DataFrame]
TwoGroups = Callable[..., tuple[NDArray, NDArray, pd.DataFrame]]
Function = Callable[..., pd.DataFrame]

BOTH = pytest.mark.parametrize(("function", "extra"), [(seed_bands, {}), (seed_differences, {"reference": "bp"})])


@BOTH
def test_value_and_group_may_have_other_names(function: Function, extra: dict[str, str], two_groups: TwoGroups) -> None:
    table = two_groups()[2]
    renamed = table.rename(columns={"method": "rule", "accuracy": "loss"})
    plain, other = function(table, **extra), function(renamed, **extra, group="rule", value="loss")
    pd.testing.assert_frame_equal(other.rename(columns={"rule": "method"}), plain)


def test_whole_numbers_and_nullable_ones_are_values(tidy: Tidy) -> None:
    counts = tidy(np.array([[1, 2], [3, 5], [4, 4]]), "bp")
    expected = seed_bands(counts.astype({"accuracy": float}))
    pd.testing.assert_frame_equal(seed_bands(counts), expected)
    pd.testing.assert_frame_equal(seed_bands(counts.astype({"accuracy": "Float64"})), expected)
    lacking = counts.astype({"accuracy": "Int64"})
    lacking.loc[lacking["accuracy"] == 5, "accuracy"] = pd.NA
    assert seed_bands(lacking)["message"].tolist() == ["", "no value for seed 1"]


@BOTH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "loss"}, "The table has no column 'loss'; it has: seed, layer, accuracy, method"),
        ({"group": "rule", "value": "loss"}, "The table has no column 'rule', 'loss'; it has"),
        ({"value": "method"}, "Column 'method' has dtype .*; expected real numbers"),
        ({"level": 1.0}, r"level is 1\.0; expected a number between 0 and 1"),
        ({"level": np.nan}, "level is nan; expected a number between 0 and 1"),
        ({"n_samples": 0}, "n_samples is 0; expected a positive integer"),
        ({"n_samples": 10.5}, r"n_samples is 10\.5; expected a positive integer"),
    ],
)
def test_invalid_column_or_number_is_an_error(
    two_groups: TwoGroups, function: Function, extra: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(two_groups()[2], **extra, **changes)


@BOTH
@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (lambda table: table.iloc[:0], "The table has no rows; expected one per network and layer"),
        (
            lambda table: table.assign(layer=table["layer"].where(table["layer"] != "fc1")),
            "Column 'layer' is empty in 10 of 40 rows; give every row a value",
        ),
        (
            lambda table: pd.concat([table] * 2),
            "The table has several rows for method='bp', seed=0, layer='conv1'. Keep one step, target and run of each",
        ),
    ],
)
def test_invalid_table_is_an_error(
    two_groups: TwoGroups,
    function: Function,
    extra: dict[str, str],
    spoiled: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        function(spoiled(two_groups()[2]), **extra)
