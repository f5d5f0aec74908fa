from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claims import EXPERIMENTS, Plan, Results, Section
from analysis.reproduction.claims.artificial import runs
from analysis.reproduction.claims.artificial.runs import FACTORS, LOSSES, METHODS, MODELS, measure_rates, train_sets

PLAN = Plan(seeds=(0, 1, 2, 3))
EXPERIMENT = EXPERIMENTS["artificial"]


def train(tmp_path: Path, **settings: object) -> dict[str, pd.DataFrame]:
    case = {"model": "linear", "loss": "mse", "n_features": 2, "method": "backprop"}
    case |= {name: settings.pop(name) for name in list(settings) if name in case}
    return train_sets(tmp_path, **{"case": case, "seeds": [0], "n_steps": 30, "rates": [0.1, 0.2], **settings})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Everything, but with few steps and one rate."""
    folder = tmp_path_factory.mktemp("reproduction")
    tables: dict[str, list[pd.DataFrame]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_MOST_STEPS", 100)
        for part in EXPERIMENT.parts(PLAN):
            settings = dict(part.settings)
            few = {"n_steps": 12, "seeds": [0, 1]} if "n_steps" in settings else {"factors": [0.5, 1.1]}
            settings |= few
            for name, table in part.work(folder, **settings).items():
                tables.setdefault(name, []).append(table)
    return Results(plan=PLAN, folder=folder, tables={name: pd.concat(each) for name, each in tables.items()})


def test_all_cases_are_trained(results: Results) -> None:
    counts = results["endings"].groupby(["model", "loss", "n_features", "method", "data"]).size()
    assert len(counts) == 2 * 2 * 2 * 2 * 4
    assert set(counts) == {2}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", METHODS)
def test_training_is_the_same_bits_twice(tmp_path: Path, model: str, loss: str, method: str) -> None:
    first, again = (train(tmp_path, model=model, loss=loss, method=method, n_steps=4) for _ in range(2))
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)


@pytest.mark.parametrize("n_features", [2, 100])
def test_the_linear_model_ends_at_least_squares_by_either_method(tmp_path: Path, n_features: int) -> None:
    for method in METHODS:
        table = train(tmp_path, method=method, n_features=n_features, n_steps=700)["endings"]
        exact = table[table["data"].isin(["linear", "noisy-linear"])]  # the others' modules take longer in 2 dimensions
        np.testing.assert_allclose(exact["final"], exact["best"], rtol=1e-6)


def test_a_training_that_diverges_has_no_end(tmp_path: Path) -> None:
    table = train(tmp_path, rates=[50.0, 0.2], n_steps=400)["endings"]
    assert table["final"].isna().all()


def test_the_measured_rate_is_the_spectral_radius(tmp_path: Path) -> None:
    case = {"model": "linear", "loss": "mse", "n_features": 2, "method": METHODS[1]}
    table = measure_rates(tmp_path, case=case, name="noisy-linear", seed=0, factors=FACTORS)["rates"]
    np.testing.assert_allclose(table["measured"], table["spectral_radius"], rtol=2e-2)
    beyond = table["factor"] > 1
    assert (table.loc[beyond, "measured"] > 1).all()
    assert (table.loc[~beyond, "measured"] < 1).all()


def test_the_section_is_fit_to_be_shown(results: Results, check_section: Callable[[Section], None]) -> None:
    check_section(EXPERIMENT.conclude(results))


def equal_ends(results: Results, relative: float, measured: float) -> Results:
    endings = results["endings"].assign(final=1.0)
    endings.loc[endings["method"] == METHODS[1], "final"] = 1.0 + relative
    rates = results["rates"].assign(measured=measured * results["rates"]["spectral_radius"])
    return replace(results, tables=results.tables | {"endings": endings, "rates": rates})


@pytest.mark.parametrize(
    ("relative", "measured", "verdict"),
    [
        (1e-9, 1.0, "holds"),
        (1e-5, 1.0, "holds in part"),
        (1e-9, 0.5, "holds in part"),
        (-0.5, 1.0, "does not hold"),
        (0.5, 1.0, "does not hold"),
    ],
)
def test_the_verdict_follows_the_numbers(results: Results, relative: float, measured: float, verdict: str) -> None:
    assert EXPERIMENT.conclude(equal_ends(results, relative, measured)).verdict == verdict
