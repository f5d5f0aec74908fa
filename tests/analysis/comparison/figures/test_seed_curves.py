"""Curves of methods: means over seeds with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from analysis.comparison.figures.seed_curves import curve_styles, curves_of, seeds_caption
from analysis.comparison.tables.result_tables import Tables
from analysis.config.analysis import AnalysisConfig
from analysis.plots.styles import method_styles, step_styles

VALUES = {"a/0": 0.1, "a/1": 0.4, "a/2": 0.3, "b/0": 0.5, "b/1": 0.7}


def tables_of(*views: tuple[str, str, int], methods: Sequence[str] = ()) -> Tables:
    """Return tables of views, each a label, a network and a step; a method is named like its network by default."""
    shown = [
        SimpleNamespace(
            label=label, network=network, run_name=network, step=step, run=SimpleNamespace(path=Path(network))
        )
        for label, network, step in views
    ]
    named = list(methods) or [label for label, _, _ in views]
    probes = pd.DataFrame({"view": [view.label for view in shown], "method": named})
    return Tables(shown, AnalysisConfig(), Path(), {"probes": probes, "arms": pd.DataFrame({"arm": []})})


@pytest.fixture
def tables() -> Tables:
    """Three networks of method a and two of b, with one layer."""
    return tables_of(*((name, name, 1) for name in VALUES), methods=[name[0] for name in VALUES])


def drawn(tables: Tables, values: dict[str, float]) -> pd.DataFrame:
    table = pd.DataFrame({"view": list(values), "layer": "h", "depth": 1, "x": list(values.values())})
    return curves_of(tables, table, ["x"], ["depth"], seeds=False).table.set_index("curve")


def test_the_band_of_three_seeds_is_the_interval_of_their_mean(tables: Tables) -> None:
    row = drawn(tables, VALUES).loc["a"]
    interval = ttest_1samp([0.1, 0.4, 0.3], 0).confidence_interval(0.95)
    np.testing.assert_allclose([row["x"], row["x_low"], row["x_high"]], [0.8 / 3, interval.low, interval.high])


def test_two_seeds_and_places_that_lack_a_seed_have_no_band(tables: Tables) -> None:
    assert np.isnan(drawn(tables, VALUES).loc["b", ["x_low", "x_high"]].astype(float)).all()
    lacking = drawn(tables, VALUES | {"a/1": float("nan")}).loc["a"]
    assert lacking["x"] == pytest.approx(0.2)
    assert np.isnan([lacking["x_low"], lacking["x_high"]]).all()


def test_the_caption_says_what_bands_are(tables: Tables) -> None:
    assert "(a 3, b 2), and bands their 95 % intervals" in seeds_caption(tables, seeds=False)
    assert "One line per network" in seeds_caption(tables, seeds=True)


STEPS = [("untrained", "net", 0), ("step 5", "net", 5)]


def test_tables_of_runs_name_networks_which_are_in_the_curve_of_their_method() -> None:
    """The tables of training and of gradients have no view per step."""
    over_steps = tables_of(
        *((f"{name}, step {step}", name, step) for name in ("a/0", "b/0") for step in (1, 2)),
        methods=["a, step 1", "a, step 2", "b, step 1", "b, step 2"],
    )
    table = pd.DataFrame({"view": ["a/0", "b/0"], "epoch": 1, "loss": [0.5, 0.7]})
    assert curves_of(over_steps, table, ["loss"], ["epoch"], seeds=False).table["curve"].tolist() == ["a", "b"]
    alone = curves_of(tables_of(*STEPS), table.assign(view="net"), ["loss"], ["epoch"], seeds=False)
    assert alone.table["curve"].tolist() == ["net", "net"]


def test_steps_of_one_network_are_curves_in_colours_from_the_first_to_the_last() -> None:
    tables = tables_of(*STEPS)
    table = pd.DataFrame({"view": ["untrained", "step 5"], "depth": 1, "x": [0.1, 0.2]})
    curves = curves_of(tables, table, ["x"], ["depth"], seeds=False)
    assert curves.table["curve"].tolist() == ["untrained", "step 5"]
    assert curves.styles == method_styles(["net"]) | step_styles(["untrained", "step 5"])
    assert curve_styles(tables_of(STEPS[1]))["step 5"] == method_styles(["net"])["net"]
