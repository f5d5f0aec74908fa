import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.reproduction.claim import Plan, Results, Section
from analysis.reproduction.claims.implied_loss import CLAIM
from analysis.reproduction.claims.implied_loss.correlation_trends import correlation_trends
from analysis.reproduction.claims.implied_loss.deep_network import (
    WHERE,
    Measurement,
    _fit_linear,
    imply_in_a_network,
)
from analysis.reproduction.claims.implied_loss.line import (
    DATA,
    LINE_LOSSES,
    MODULES,
    LineGrid,
    LineTraining,
    imply_on_a_line,
)
from repsim.learning import TrainingConfig

PLAN = Plan(seeds=(0, 1, 2, 3))
Tables = Mapping[str, pd.DataFrame]


def on_a_line(loss: str, module: str) -> dict[str, pd.DataFrame]:
    training = LineTraining(loss=loss, module=module, n_points=16, n_steps=200, rates=(0.05, 0.1), hidden_width=8)
    grid = LineGrid(h_limit=4.0, w_limits=(-2.0, 4.0), b_limit=2.0, n_grid=21, n_side=5)
    return imply_on_a_line(Path(), training=training, grid=grid, seeds=[0, 1])


def in_a_network(hidden_layers: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    training = TrainingConfig(
        data="digits",
        seed=seed,
        depth=2,
        width=8,
        rule=f"synthetic-gradient:hidden_layers={hidden_layers}@all",
        epochs=2,
        batch_size=100,
    )
    measurement = Measurement(epochs=(1, 2), n_points=40, n_curls=5, n_paths=3, n_components=2, share=0.9)
    return imply_in_a_network(Path(), training=training, measurement=measurement, data_dir=None)


@cache
def line_tables(loss: str, module: str) -> dict[str, pd.DataFrame]:
    return on_a_line(loss, module)


@cache
def network_tables(hidden_layers: int) -> dict[str, pd.DataFrame]:
    return in_a_network(hidden_layers)


@cache
def all_tables() -> dict[str, pd.DataFrame]:
    """Return the tables of all tiny tasks, those of networks twice, as of two seeds."""
    tables: list[Tables] = [line_tables(loss, module) for loss in LINE_LOSSES for module in MODULES]
    networks = [network_tables(layers) for layers in (0, 1)]
    tables += [*networks, *({name: t.assign(seed=1) for name, t in each.items()} for each in networks)]
    names = dict.fromkeys(name for each in tables for name in each)
    return {name: pd.concat([each[name] for each in tables if name in each], ignore_index=True) for name in names}


def results(**changed: pd.DataFrame) -> Results:
    return Results(plan=PLAN, folder=Path(), tables=all_tables() | changed)


def conclude(**changed: pd.DataFrame) -> Section:
    return CLAIM.conclude(results(**changed))


@pytest.mark.parametrize("loss", LINE_LOSSES)
def test_only_the_implied_loss_of_a_linear_module_is_quadratic(loss: str) -> None:
    assert line_tables(loss, "linear")["line"]["residual"].max() <= 1e-8
    assert line_tables(loss, "MLP with 1 hidden layer")["line"]["residual"].min() > 1e-4


def test_a_linear_module_recovers_the_squared_error_and_not_the_log_loss() -> None:
    squared, log = (line_tables(loss, "linear")["line"].set_index(["data", "seed"]) for loss in LINE_LOSSES)
    assert squared["difference"].max() < 0.05
    assert (log.loc["separable", "difference"] > 2 * squared.loc["separable", "difference"]).all()
    assert (log["residual_true"] > 1e-3).all() and squared["residual_true"].max() < 1e-8


def test_tables_of_the_line_have_a_row_per_training_point_and_model() -> None:
    tables = line_tables("log_loss", "linear")
    assert set(tables) == {"line", "curves", "points", "paths", "surfaces"}
    assert len(tables["line"]) == 2 * 2  # data sets, seeds
    assert len(tables["curves"]) == 2 * 2 * 2 * 21  # and labels
    assert len(tables["points"]) == 2 * 2 * 16
    assert len(tables["surfaces"]) == 2 * 5 * 5  # the first seed's
    assert not tables["curves"].isna().any(axis=None)


def test_corruption_redraws_half_of_the_labels_and_keeps_the_points() -> None:
    points = line_tables("mse", "linear")["points"]
    clean, corrupted = (points[points["data"] == data].reset_index(drop=True) for data in DATA)
    assert clean["x"].equals(corrupted["x"])
    assert (clean["label"] == (clean["x"] > 0)).all() and not clean["corrupted"].any()
    assert corrupted["corrupted"].sum() == len(corrupted) // 2
    assert (clean["label"] == corrupted["label"])[~corrupted["corrupted"]].all()


def test_implied_curves_match_the_true_ones_at_the_points_of_a_label() -> None:
    tables = line_tables("mse", "MLP with 1 hidden layer")
    place = ["data", "seed", "label"]
    ends = tables["points"].groupby(place)["h"].agg(["min", "max"])
    curves = tables["curves"].join(ends, on=place)
    off = (curves["implied"] - curves["true"]).abs()
    inside = curves["h"].between(curves["min"], curves["max"])
    assert inside.sum() > 10
    assert off[inside].max() < 0.1 < off[~inside].max()


def test_paths_end_at_the_trained_model() -> None:
    tables = line_tables("mse", "linear")
    ends = tables["line"].set_index(["data", "seed"])[["w", "b"]]
    last = tables["paths"].groupby(["data", "seed"])[["w", "b"]].last()
    pd.testing.assert_frame_equal(ends.sort_index(), last.sort_index())
    assert (tables["paths"]["step"].min(), tables["paths"]["step"].max()) == (0, 200)
    assert (tables["surfaces"]["true"] > -0.05).all()  # training ended near the least squared error


@pytest.mark.parametrize("layers", [0, 1])
def test_networks_are_measured_after_each_epoch_at_each_boundary_and_set_of_points(layers: int) -> None:
    tables = network_tables(layers)
    fields, beliefs, pairs = (tables[name] for name in ("fields", "beliefs", "pairs"))
    assert fields[["epoch", "boundary"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert set(beliefs["where"]) == set(WHERE) and len(beliefs) == 2 * 2 * len(WHERE)
    assert len(pairs) == 2 * 40 and set(pairs["epoch"]) == {2} and set(pairs["where"]) == {"own"}
    assert (fields["curl_of_true"] < 1e-8).all() and (fields["curl"] > 0.1).all()
    assert fields["n_dimensions"].between(1, 7).all()  # of 8 units, with a tenth of the variance left out
    assert (fields["residual"] <= 1e-8).all() == (layers == 0)
    means = pairs.groupby(["boundary", "label"])[["implied", "true", "fitted"]].mean()
    assert means.abs().max(axis=None) < 1e-12


def test_the_correlation_of_a_boundary_is_that_of_its_pairs() -> None:
    tables = network_tables(0)
    beliefs = tables["beliefs"].query("epoch == 2 and where == 'own'").set_index("boundary")
    for boundary, pairs in tables["pairs"].groupby("boundary"):
        assert pairs["implied"].corr(pairs["true"]) == pytest.approx(beliefs.loc[boundary, "correlation"])
        assert pairs["fitted"].corr(pairs["true"]) == pytest.approx(beliefs.loc[boundary, "correlation_of_fit"])
    assert (beliefs["correlation_of_fit"] > beliefs["correlation"]).all()  # after two epochs modules still learn


def test_the_best_linear_fit_is_the_module_that_made_its_target() -> None:
    generator = torch.Generator().manual_seed(0)
    h, A, V = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (60, 4, 3))
    h[:, 3], y = 0.0, torch.arange(60) % 3  # a unit that is off
    target = h @ A + V[y]
    torch.testing.assert_close(_fit_linear(h, y, target)(h, y), target, rtol=0, atol=1e-10)


@pytest.mark.parametrize("work", [lambda: on_a_line("log_loss", "MLP with 1 hidden layer"), lambda: in_a_network(1)])
def test_results_are_reproducible(work: Any, check_reproducible: Callable[..., None]) -> None:
    check_reproducible(work)


def test_figures_have_labels_titles_and_notes(check_section: Callable[..., None]) -> None:
    section = CLAIM.section(results())
    check_section(section, may_miss=True)
    names = {"curves", "surfaces", "recovery", "networks", "beliefs", "pairs"}
    assert {drawing.name for drawing in section.drawings} == names
    for drawing in section.drawings:
        panels = [ax for ax in drawing.figure.axes if ax.get_label() != "<colorbar>"]
        assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in panels), drawing.name
        assert any(ax.get_legend() for ax in panels)
    bars = [ax for ax in section.drawings[1].figure.axes if ax.get_label() == "<colorbar>"]
    assert len(bars) == 4 and all(ax.get_ylabel() for ax in bars)
    assert f"{all_tables()['fields']['curl_of_true'].max():.0e}" in " ".join(section.findings)


def good() -> dict[str, pd.DataFrame]:
    """Return tables with which the whole claim holds."""
    line, fields = all_tables()["line"].copy(), all_tables()["fields"].copy()
    linear = line["module"] == "linear"
    line.loc[~linear, "residual"] = 0.1
    line.loc[linear & (line["loss"] == "mse"), "difference"] = 1e-4
    line.loc[linear & (line["loss"] == "log_loss"), "difference"] = 0.5
    fields["curl_weighted"] = 0.01
    fields.loc[fields["hidden_layers"] > 0, "residual"] = 0.1
    return {"line": line, "fields": fields}


def test_the_claim_holds_if_all_its_parts_hold() -> None:
    section = conclude(**good())
    assert section.verdict == "holds"
    assert "is 0.01 (linear) and 0.01 (MLP with 1 hidden layer) over the boundaries" in section.findings[0]
    assert "0.1 or less at 2 of 2 boundaries, more at 0 and undecided at 0 (linear)" in section.findings[0]


def test_the_claim_does_not_hold_if_no_part_holds() -> None:
    tables = good()
    line, fields = tables["line"], tables["fields"]
    line.loc[line["module"] != "linear", "residual"] = 1e-5
    line.loc[line["module"] == "linear", "difference"] = np.where(
        line.loc[line["module"] == "linear", "loss"] == "mse", 0.2, 1e-4
    )
    fields["curl_weighted"] = 0.9
    assert conclude(line=line, fields=fields).verdict == "does not hold"


@pytest.mark.parametrize(
    ("table", "rows", "column", "value", "verdict"),
    [
        ("line", "module == 'linear' and seed == 1 and loss == 'mse'", "residual", 1e-6, "does not hold"),
        ("fields", "hidden_layers == 0 and epoch == 1", "residual", 1e-6, "does not hold"),
        ("line", "module == 'MLP with 2 hidden layers'", "residual", 1e-5, "holds in part"),
        ("line", "module == 'linear' and loss == 'mse'", "difference", 0.2, "holds in part"),
        ("line", "module == 'linear' and loss == 'log_loss'", "difference", 1e-4, "holds in part"),
        ("fields", "hidden_layers == 1 and boundary == 2", "curl_weighted", 0.9, "holds in part"),
        ("fields", "seed == 0", "curl_weighted", 0.09, "holds in part"),  # the interval, not the mean, must lie below
        ("fields", "seed == 0", "curl", 0.9, "holds"),  # over all units nothing follows
    ],
)
def test_the_verdict_depends_on_each_part(table: str, rows: str, column: str, value: float, verdict: str) -> None:
    tables = good()
    tables[table].loc[tables[table].query(rows).index, column] = value
    assert conclude(**tables).verdict == verdict


def test_the_first_finding_states_the_numbers_behind_the_verdict() -> None:
    tables = good()
    tables["fields"]["curl_weighted"] = 0.875
    sentence = conclude(**tables).findings[0]
    assert "0.5 at separable points" in sentence and "is 0.88 (linear) and 0.88 (MLP" in sentence
    assert "more at 2 and undecided at 0 (linear)" in sentence


def test_the_section_draws_no_conclusion_from_the_curl_over_all_units() -> None:
    words = " ".join(conclude(**good()).findings)
    assert "no loss has it" not in words and "no loss to speak of" not in words


def planted_beliefs(correlations: dict[tuple[int, int], list[float]]) -> pd.DataFrame:
    """Return correlations by epoch and boundary, one per seed."""
    rows = [
        {"module": "linear", "where": "own", "epoch": epoch, "boundary": k, "seed": seed, "correlation": value}
        for (epoch, k), values in correlations.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_trends_are_paired_differences_over_seeds_with_bands() -> None:
    early, late = [0.30, 0.32, 0.28, 0.31, 0.29], [0.60, 0.62, 0.61, 0.63, 0.59]
    same, noisy = [0.9, 0.901, 0.899, 0.9, 0.9], [0.6, 0.4, 0.8, 0.7, 0.5]
    table = correlation_trends(planted_beliefs({(1, 1): early, (2, 1): late, (1, 2): same, (2, 2): same[::-1]}))
    rows = table.set_index(["trend", "epoch", "boundary"])
    assert rows.loc[("training", 1, 1), "difference"] == pytest.approx(0.31)
    assert rows.loc[("training", 1, 1), "verdict"] == "different"
    assert rows.loc[("training", 1, 2), "verdict"] == "equivalent"
    assert rows.loc[("depth", 2, 0), "difference"] == pytest.approx(0.29)
    assert (rows["band_low"] < rows["difference"]).all() and (rows["difference"] < rows["band_high"]).all()
    table = correlation_trends(planted_beliefs({(1, 1): late, (2, 1): noisy}))
    assert table.query("trend == 'training'")["verdict"].tolist() == ["undecided"]


def test_trends_without_a_correlation_are_left_out() -> None:
    flat = [math.nan, 0.5, 0.5, 0.5]
    table = correlation_trends(planted_beliefs({(1, 1): flat, (2, 1): [0.5] * 4, (1, 2): [0.5] * 4, (2, 2): [0.6] * 4}))
    assert set(zip(table["trend"], table["epoch"], table["boundary"], strict=True)) == {
        ("depth", 2, 0),
        ("training", 1, 2),
    }
