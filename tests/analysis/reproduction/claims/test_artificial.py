from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import ClaimTask, Plan, Results
from analysis.reproduction.claims.artificial import CLAIM
from analysis.reproduction.claims.artificial.parts import FACTORS, LOSSES, METHODS, MODELS, measure_rates, train_sets

PLAN = Plan(seeds=(0, 1, 2, 3))


def train(tmp_path: Path, **settings: object) -> dict[str, pd.DataFrame]:
    case = {"model": "linear", "loss": "mse", "n_features": 2, "method": "backprop"}
    case |= {name: settings.pop(name) for name in list(settings) if name in case}
    return train_sets(tmp_path, **{"case": case, "seeds": [0], "n_steps": 30, "rates": [0.1, 0.2], **settings})


def shortened(task: ClaimTask) -> ClaimTask:
    """Return a task of few steps, or of few rates."""
    few = {"n_steps": 12, "seeds": [0, 1]} if "n_steps" in task.settings else {"factors": [0.5, 1.1]}
    return replace(task, settings={**task.settings, **few})


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, run_all: Callable[[Sequence[ClaimTask], Path], Results]
) -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.reproduction.claims.artificial.parts._MOST_STEPS", 100)
        return run_all([shortened(task) for task in CLAIM.parts(PLAN)], tmp_path_factory.mktemp("artificial"))


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
        exact = table[
            table["data"].isin(["linear", "noisy-linear"])
        ]  # on the other sets modules take longer in 2 dimensions
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


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))


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
    assert CLAIM.conclude(equal_ends(results, relative, measured)).verdict == verdict
