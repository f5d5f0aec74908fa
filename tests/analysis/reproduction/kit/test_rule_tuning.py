"""Tuning of the rules: grid, budget, and choice of rates."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claims.rules.rule_entries import ENTRIES
from analysis.reproduction.kit.rule_tuning import RateGrid, TunedRates, choose_rates, tune_rule, with_rates
from repsim.learning import TrainingConfig, build_learner

GRID = RateGrid(seeds=(100, 101), epochs=1)
TRAINING = TrainingConfig(data="digits", depth=1, width=8, epochs=5, batch_size=64)


def trainings(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    """Return tuning trainings from rates, validation accuracy and loss."""
    return pd.DataFrame(rows, columns=[*TunedRates._fields, "validation_accuracy", "validation_loss"])


@pytest.mark.parametrize("learns", [True, False])
def test_every_rule_gets_the_same_number_of_trainings(learns: bool) -> None:
    points = GRID.points(learns)
    assert len(points) == GRID.n_trainings == len(set(map(str, points)))
    assert {rates.learning_rate for rates, _ in points} == set(GRID.learning_rates)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_rule_has_a_rate_of_its_own_if_it_has_parameters(entry: Any) -> None:
    learner = build_learner(TrainingConfig(depth=2, width=4, rule=entry.rule), 4, 2)
    assert entry.learns == any(True for _ in learner.estimators.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": ()}, r"learning_rates is \(\); expected different positive numbers"),
        ({"learning_rates": (1e-3, 1e-3)}, "expected different positive numbers in ascending order"),
        ({"learning_rates": (1e-2, 1e-3)}, "in ascending order"),
        ({"estimator_learning_rates": (0.0, 1e-3)}, "estimator_learning_rates is .* positive"),
        ({"learning_rates": (1e-3, math.nan)}, "positive"),
        ({"seeds": (1,)}, "1 seeds were given to tune with; expected 2 or more"),
    ],
)
def test_a_bad_grid_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateGrid(**{"seeds": (100, 101), "epochs": 1, **changes})


def test_trainings_are_validated_on_the_validation_examples() -> None:
    inputs = {"network": "n", "training": TRAINING, "grid": GRID, "data_dir": None}
    (plain,) = tune_rule(None, learns=False, **inputs).values()  # type: ignore[arg-type]
    assert list(plain["seed"]) == [100, 101] * len(GRID.learning_rates)
    assert plain["estimator_learning_rate"].isna().all()
    assert plain["validation_accuracy"].between(0, 1).all()
    assert set(plain["epochs"]) == {1}
    n = int(plain["n_validation"].iloc[0])
    np.testing.assert_allclose(plain["validation_accuracy"] * n, (plain["validation_accuracy"] * n).round(), atol=1e-3)


def test_the_highest_validation_accuracy_is_chosen_and_of_equal_ones_the_lowest_loss() -> None:
    tuning = trainings((1e-3, 1e-3, 0.8, 0.5), (1e-3, 3e-3, 0.9, 0.6), (3e-3, 1e-3, 0.9, 0.4), (3e-3, 3e-3, 0.7, 0.1))
    assert choose_rates(tuning) == TunedRates(3e-3, 1e-3)


def test_the_mean_over_seeds_decides() -> None:
    nan = math.nan
    tuning = trainings((1e-3, nan, 0.8, 0.5), (1e-3, nan, 0.8, 0.5), (3e-3, nan, 0.9, 0.5), (3e-3, nan, 0.6, 0.5))
    rates = choose_rates(tuning)
    assert rates is not None
    assert rates.learning_rate == 1e-3
    assert math.isnan(rates.estimator_learning_rate)


def test_rates_that_diverge_for_one_seed_are_not_chosen() -> None:
    nan = math.nan
    tuning = trainings((1e-3, nan, 0.5, 0.5), (1e-3, nan, 0.5, 0.5), (3e-3, nan, 0.9, 0.1), (3e-3, nan, nan, nan))
    chosen = choose_rates(tuning)
    assert chosen is not None
    assert chosen.learning_rate == 1e-3
    assert choose_rates(tuning[2:]) is None


def test_a_rule_that_diverges_everywhere_gets_no_rates() -> None:
    training = TrainingConfig(data="digits", depth=1, width=8, rule="feedback-alignment:scale=1e300", batch_size=64)
    (tuning,) = tune_rule(None, network="n", training=training, learns=False, grid=GRID, data_dir=None).values()  # type: ignore[arg-type]
    assert set(tuning["state"]) == {"diverged"}
    assert choose_rates(tuning) is None


def test_the_rate_of_a_rule_without_parameters_is_unchanged() -> None:
    assert with_rates(TRAINING, TunedRates(0.1, math.nan)).estimator_learning_rate == TRAINING.estimator_learning_rate
    changed = with_rates(TRAINING, TunedRates(0.1, 0.2))
    assert (changed.learning_rate, changed.estimator_learning_rate) == (0.1, 0.2)
