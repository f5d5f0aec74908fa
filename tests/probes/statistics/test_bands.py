from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from probes.statistics import seed_bands

Tidy = Callable[..., pd.DataFrame]
TwoGroups = Callable[..., tuple[NDArray, NDArray, pd.DataFrame]]
LAYERS = ["conv1", "conv2", "fc1", "fc2"]


def test_intervals_are_those_of_student(two_groups: TwoGroups) -> None:
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


def test_band_of_one_layer_is_its_interval(tidy: Tidy) -> None:
    result = seed_bands(tidy(np.random.default_rng(0).normal(size=(4, 1)), "bp"))
    np.testing.assert_allclose(result[["band_low", "band_high"]], result[["low", "high"]])


def test_one_seed_has_a_mean_and_no_interval(tidy: Tidy) -> None:
    result = seed_bands(tidy(np.array([[0.5, np.nan]]), "bp"))
    assert result["mean"].iloc[0] == 0.5
    assert result[["standard_error", "low", "high", "band_low", "band_high"]].isna().all(axis=None)
    assert result["status"].tolist() == ["no spread", "failed"]
    assert result["message"].tolist() == ["1 seed has no spread", "no value for seed 0"]


def test_layer_that_is_missing_in_a_whole_group_keeps_its_row(tidy: Tidy) -> None:
    table = pd.concat([tidy(np.eye(2), "bp", layers=["a", "b"]), tidy(np.eye(2)[:, :1], "sg", layers=["a"])])
    result = seed_bands(table)
    assert result[["method", "layer"]].to_numpy().tolist() == [["bp", "a"], ["bp", "b"], ["sg", "a"], ["sg", "b"]]
    assert result["message"].tolist() == ["", "", "", "no value for seed 0, 1"]
    assert result["status"].tolist() == ["ok", "ok", "ok", "failed"]
