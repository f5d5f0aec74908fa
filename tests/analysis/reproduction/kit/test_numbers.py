import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.kit.numbers import (
    formatted,
    proportion,
    proportion_interval,
    rows_of,
    seed_intervals,
    value_range,
    with_interval,
)


def test_seed_intervals_are_t_intervals() -> None:
    table = pd.DataFrame({"rule": ["a"] * 3 + ["b"], "value": [1.0, 2.0, 3.0, 5.0]})
    a, b = seed_intervals(table, ["rule"], "value").to_dict("records")
    half = 4.302652729911275 / np.sqrt(3)  # t of 2 degrees of freedom at 0.975, times the standard error
    assert (a["mean"], a["n_seeds"], a["least"], a["most"]) == (2.0, 3, 1.0, 3.0)
    np.testing.assert_allclose([a["low"], a["high"]], [2 - half, 2 + half])
    assert b["mean"] == 5.0
    assert np.isnan(b["low"])


def test_rows_of_matches_all_values_and_keeps_the_index() -> None:
    table = pd.DataFrame({"loss": ["mse", "mse", "log_loss"], "seed": [0, 1, 1], "x": [1.0, 2.0, 3.0]}, index=[5, 6, 7])
    assert rows_of(table, loss="mse", seed=1).index.tolist() == [6]
    assert rows_of(table).equals(table)


def test_numbers_are_formatted_for_sentences_and_tables() -> None:
    row = next(pd.DataFrame({"mean": [0.5], "low": [0.25], "high": [0.75]}).itertuples())
    assert with_interval(row, "+.2f") == "+0.50 (95 % interval +0.25 to +0.75)"
    assert value_range(pd.Series([0.1, 0.1])) == "0.1"
    shown = formatted(pd.DataFrame({"x": [0.12345], "y": [1.0]}), ".2g", ["x"])
    assert shown.iloc[0].tolist() == ["0.12", 1.0]


@pytest.mark.parametrize(("count", "n"), [(0, 40), (3, 40), (40, 40)])
def test_intervals_of_proportions_are_wilsons(count: int, n: int) -> None:
    z, share = 1.959963984540054, count / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(proportion_interval(count, n), (centre - half, centre + half), atol=1e-12)
    assert proportion(count, n) == f"95 % interval {abs(centre - half):.2f} to {centre + half:.2f}"
