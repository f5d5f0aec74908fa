from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.execution import Task
from analysis.reproduction.claim import Plan, Results
from analysis.reproduction.claims.artificial import CLAIM
from analysis.reproduction.claims.artificial.line_searches import PLAIN, SEARCHES, search_beyond
from analysis.reproduction.claims.artificial.parts import (
    FACTORS,
    FITTING,
    LINEAR,
    LOSSES,
    METHODS,
    MODELS,
    SEPARABLE,
    SIGMOID,
    SOFTMAX,
    LinearCase,
    measure_rates,
    train_sets,
)

PLAN = Plan(seeds=(0, 1, 2, 3))


CASE = LinearCase(model="linear", loss="mse", n_features=2, method="backprop")


def train(
    folder: Path, *, n_steps: int, rates: tuple[float, float] = (0.1, 0.2), **case: Any
) -> dict[str, pd.DataFrame]:
    return train_sets(folder, case=replace(CASE, **case), seeds=[0], n_steps=n_steps, rates=rates)


def shortened(task: Task) -> Task:
    """Return a task of few steps, or of few rates."""
    few = {"n_steps": 12, "seeds": [0, 1]} if "rates" in task.inputs else {"n_steps": 2, "seeds": [0]}
    few = {"factors": [0.5, 1.1]} if "factors" in task.inputs else few
    return replace(task, inputs={**task.inputs, **few})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, run_all: Callable[[Sequence[Task], Path], Results]) -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.reproduction.claims.artificial.parts._MOST_STEPS", 100)
        return run_all([shortened(task) for task in CLAIM.parts(PLAN)], tmp_path_factory.mktemp("artificial"))


def test_all_cases_are_trained(results: Results) -> None:
    counts = results["endings"].groupby(["model", "loss", "n_features", "method", "data"]).size()
    assert len(counts) == 2 * (2 + 4) * 2 * 4  # models, methods of both losses, dimensions, sets
    assert set(counts) == {2}


@pytest.mark.parametrize(
    "case", [each for each in product(MODELS, LOSSES, METHODS) if each[1] == "log_loss" or each[2] not in FITTING]
)
def test_results_are_reproducible(
    tmp_path: Path, case: tuple[str, str, str], check_reproducible: Callable[..., None]
) -> None:
    model, loss, method = case
    check_reproducible(lambda: train(tmp_path, model=model, loss=loss, method=method, n_steps=4))


@pytest.mark.parametrize("n_features", [2, 100])
def test_linear_models_reach_least_squares_by_either_method(tmp_path: Path, n_features: int) -> None:
    for method in ("backprop", LINEAR):
        table = train(tmp_path, method=method, n_features=n_features, n_steps=700)["endings"]
        exact = table[
            table["data"].isin(["linear", "noisy-linear"])
        ]  # on the other sets modules take longer in 2 dimensions
        np.testing.assert_allclose(exact["final"], exact["best"], rtol=1e-6)


def test_under_log_loss_modules_that_fit_it_end_where_backprop_does_and_a_linear_one_leaves_separable_classes(
    tmp_path: Path,
) -> None:
    ends = {method: train(tmp_path, loss="log_loss", method=method, n_steps=1000)["endings"] for method in METHODS}
    finals = {method: table.set_index("data")["final"] for method, table in ends.items()}
    with_minimum = finals["backprop"].index != SEPARABLE
    assert np.isnan(finals[LINEAR][SEPARABLE])
    for method in FITTING:
        np.testing.assert_allclose(finals[method][with_minimum], finals["backprop"][with_minimum], rtol=2e-3)
        assert finals[method][SEPARABLE] == pytest.approx(finals["backprop"][SEPARABLE], rel=0.04)


def test_a_training_that_diverges_has_no_final_loss(tmp_path: Path) -> None:
    table = train(tmp_path, rates=(50.0, 0.2), n_steps=400)["endings"]
    assert table["final"].isna().all()


def test_the_measured_rate_is_the_spectral_radius(tmp_path: Path) -> None:
    case = replace(CASE, method=LINEAR)
    table = measure_rates(tmp_path, case=case, name="noisy-linear", seed=0, factors=FACTORS)["rates"]
    np.testing.assert_allclose(table["measured"], table["spectral_radius"], rtol=2e-2)
    beyond = table["factor"] > 1
    assert (table.loc[beyond, "measured"] > 1).all()
    assert (table.loc[~beyond, "measured"] < 1).all()


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))


def equal_ends(results: Results, relative: float, measured: float) -> Results:
    endings = results["endings"].assign(final=1.0)
    endings.loc[endings["method"] != "backprop", "final"] = 1.0 + relative
    rates = results["rates"].assign(measured=measured * results["rates"]["spectral_radius"])
    searches = results["searches"].assign(excess=relative)
    return replace(results, tables=results.tables | {"endings": endings, "rates": rates, "searches": searches})


@pytest.mark.parametrize(
    ("method", "excess", "verdict"),
    [
        (SEARCHES[0], 1e-4, "holds"),
        (SEARCHES[0], 1e-2, "holds in part"),
        (SEARCHES[1], np.nan, "holds in part"),
        (PLAIN, np.nan, "holds"),
    ],
)
def test_the_verdict_needs_line_searches_that_end_at_the_smallest_loss(
    results: Results, method: str, excess: float, verdict: str
) -> None:
    equal = equal_ends(results, 1e-9, 1.0)
    searches = equal["searches"].copy()
    searches.loc[searches.index[searches["method"] == method][3], "excess"] = excess
    section = CLAIM.conclude(replace(equal, tables=equal.tables | {"searches": searches}))
    assert section.verdict == verdict
    (sentence,) = [each for each in section.findings if "with plain steps" in each]
    assert f"{int(method == PLAIN)} diverge with plain steps" in sentence


def test_line_searches_converge_where_plain_steps_diverge(tmp_path: Path) -> None:
    case = replace(CASE, method=LINEAR, n_examples=100)
    table = search_beyond(tmp_path, case=case, name="noisy-linear", seeds=[0], n_steps=60)["searches"]
    assert len(table) == 3 * 3
    assert table.loc[table["method"] == PLAIN, "excess"].isna().all()
    assert (table.loc[table["method"] != PLAIN, "excess"] < 1e-6).all()
    assert (table.loc[table["method"] == SEARCHES[1], "waited"] > 0).all()  # until the module is good enough


@pytest.mark.parametrize(
    ("relative", "measured", "verdict"),
    [
        (1e-9, 1.0, "holds"),
        (1e-5, 1.0, "holds in part"),
        (1e-9, 0.5, "holds in part"),
        (1e-2, 1.0, "does not hold"),
        (-0.5, 1.0, "does not hold"),
        (0.5, 1.0, "does not hold"),
    ],
)
def test_the_verdict_follows_from_the_numbers(results: Results, relative: float, measured: float, verdict: str) -> None:
    assert CLAIM.conclude(equal_ends(results, relative, measured)).verdict == verdict


def with_log_loss(results: Results, method: str, data: str, final: list[float]) -> Results:
    """Return equal ends, but for two seeds of one case under log loss."""
    equal = equal_ends(results, 1e-9, 1.0)
    endings = equal["endings"].copy()
    case = {"loss": "log_loss", "model": "linear", "n_features": 2, "method": method, "data": data}
    endings.loc[(endings[list(case)] == pd.Series(case)).all(axis=1), "final"] = final
    return replace(equal, tables=equal.tables | {"endings": endings})


@pytest.mark.parametrize(
    ("method", "data", "final", "outcome", "verdict"),
    [
        (SOFTMAX, "xor", [1.0, 1.0001], "equal", "holds"),
        (SOFTMAX, "xor", [1.1, 1.1001], "different", "holds in part"),
        (SOFTMAX, "xor", [0.9, 0.9001], "different", "holds in part"),
        (SOFTMAX, "xor", [1.0, 1.01], "undecided", "holds in part"),
        (SOFTMAX, "xor", [1.0, np.nan], "diverged", "holds in part"),
        (SIGMOID, "xor", [1.0, 1.0001], "equal", "holds"),
        (SIGMOID, "xor", [1.1, 1.1001], "different", "holds in part"),
        (SOFTMAX, SEPARABLE, [0.5, 2.0], "no minimum", "holds"),
        (SOFTMAX, SEPARABLE, [0.5, np.nan], "diverged", "holds in part"),
        (LINEAR, "xor", [1.1, np.nan], "diverged", "holds"),
    ],
)
def test_log_loss_is_judged_by_intervals_over_seeds_of_the_modules_that_fit_it(
    results: Results, method: str, data: str, final: list[float], outcome: str, verdict: str
) -> None:
    section = CLAIM.conclude(with_log_loss(results, method, data, final))
    table = section.shown["Final training loss and gap, by case"]
    case = {"loss": "log_loss", "model": "linear", "n_features": 2, "module": METHODS[method], "data": data}
    assert table[(table[list(case)] == pd.Series(case)).all(axis=1)]["outcome"].tolist() == [outcome]
    assert section.verdict == verdict
    (sentence,) = [each for each in section.findings if each.startswith(f"Log loss, linear model, {METHODS[method]}")]
    if data != SEPARABLE:
        (named,) = [part for part in sentence.split("; ") if "xor in 2 dimensions" in part]
        assert f"{outcome} on " in named
