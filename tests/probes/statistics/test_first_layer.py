from typing import Any

import numpy as np
import pandas as pd
import pytest

from probes.statistics import first_layer_reaching

LAYERS = ["conv1", "conv2", "fc1", "fc2"]


def by_depth(*networks: list[float], chance: float = 0.1) -> pd.DataFrame:
    """Return a table of networks, each given by the values of its layers; the number of a network is its seed."""
    rows = [
        {"method": "bp", "seed": seed, "layer": layer, "accuracy": value, "chance": chance}
        for seed, values in enumerate(networks)
        for layer, value in zip(LAYERS[: len(values)], values, strict=True)
    ]
    return pd.DataFrame(rows)


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


def test_network_may_be_named_by_one_column() -> None:
    table = by_depth([0.2, 0.6], [0.6, 0.6]).rename(columns={"seed": "view"})
    result = first_layer_reaching(table, network="view")
    assert result[["view", "depth", "layer"]].to_numpy().tolist() == [[0, 2.0, "conv2"], [1, 1.0, "conv1"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0.0}, r"fraction is 0\.0; expected a number above 0 and at most 1"),
        ({"fraction": 1.1}, r"fraction is 1\.1; expected a number above 0 and at most 1"),
        ({"chance": "majority"}, "The table has no column 'majority'"),
        ({"network": "method"}, "The table has several rows for method='bp', layer='conv1'"),
    ],
)
def test_invalid_arguments_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        first_layer_reaching(by_depth([0.2, 0.6], [0.6, 0.6]), **changes)
