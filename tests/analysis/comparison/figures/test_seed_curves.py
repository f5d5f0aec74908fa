"""Curves of methods: means over seeds with their intervals."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from analysis.comparison.figures.seed_curves import curves_of, seeds_caption

VALUES = {"a/0": 0.1, "a/1": 0.4, "a/2": 0.3, "b/0": 0.5, "b/1": 0.7}


class FewTables(dict[str, pd.DataFrame]):
    """Three networks of method a and two of b, with one layer."""

    views = tuple(
        SimpleNamespace(label=name, network=name, step=1, run=SimpleNamespace(path=Path(name))) for name in VALUES
    )


@pytest.fixture
def tables() -> Any:
    return FewTables(probes=pd.DataFrame({"view": list(VALUES), "method": [name[0] for name in VALUES]}))


def drawn(tables: Any, values: dict[str, float]) -> pd.DataFrame:
    table = pd.DataFrame({"view": list(values), "layer": "h", "depth": 1, "x": list(values.values())})
    return curves_of(tables, table, ["x"], ["depth"], seeds=False).table.set_index("curve")


def test_the_band_of_three_seeds_is_the_interval_of_their_mean(tables: Any) -> None:
    row = drawn(tables, VALUES).loc["a"]
    interval = ttest_1samp([0.1, 0.4, 0.3], 0).confidence_interval(0.95)
    np.testing.assert_allclose([row["x"], row["x_low"], row["x_high"]], [0.8 / 3, interval.low, interval.high])


def test_two_seeds_and_places_that_lack_a_seed_have_no_band(tables: Any) -> None:
    assert np.isnan(drawn(tables, VALUES).loc["b", ["x_low", "x_high"]].astype(float)).all()
    lacking = drawn(tables, VALUES | {"a/1": float("nan")}).loc["a"]
    assert lacking["x"] == pytest.approx(0.2)
    assert np.isnan([lacking["x_low"], lacking["x_high"]]).all()


def test_the_caption_says_what_bands_are(tables: Any) -> None:
    assert "(a 3, b 2), and bands their 95 % intervals" in seeds_caption(tables, seeds=False)
    assert "One line per network" in seeds_caption(tables, seeds=True)
