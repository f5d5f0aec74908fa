"""Tuning: the learning rates of every rule, chosen on the validation examples from one grid with one budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.reproduction.claim import Frames
from analysis.reproduction.kit.in_memory import InMemoryTraining
from repsim.learning import Diverged, TrainingConfig, evaluate

__all__ = ["RateGrid", "TunedRates", "choose_rates", "tune_rule", "with_rates"]


class TunedRates(NamedTuple):
    """Learning rate of the network, and of the rule's own parameters (NaN if it has none)."""

    learning_rate: float
    estimator_learning_rate: float


@dataclass(frozen=True, kw_only=True)
class RateGrid:
    """Learning rates that are tried with every rule, and the trainings that they are judged by.

    Every rule gets ``n_trainings`` trainings. A rule with parameters of its own is trained at each pair of rates, with
    the first seed. A rule without is trained at each learning rate, with as many seeds as there are rates for
    estimators.

    Attributes
    ----------
    seeds : tuple of int
        Seeds of the trainings; at least as many as there are rates for estimators.
    epochs : int
        Length of a training, 1 or more.
    learning_rates, estimator_learning_rates : tuple of float
        Rates above 0, in ascending order.

    Raises
    ------
    ValueError
        If rates are missing, not ascending or not positive, or there are too few seeds.
    """

    seeds: tuple[int, ...]
    epochs: int
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    estimator_learning_rates: tuple[float, ...] = (1e-3, 3e-3)

    def __post_init__(self) -> None:
        """Check the rates and the number of seeds."""
        for name in ("learning_rates", "estimator_learning_rates"):
            rates = getattr(self, name)
            if not rates or rates != tuple(sorted({rate for rate in rates if 0 < rate < math.inf})):
                raise ValueError(f"{name} is {rates}; expected different positive numbers in ascending order.")
        if len(self.seeds) < len(self.estimator_learning_rates):
            raise ValueError(
                f"{len(self.seeds)} seeds were given to tune with; expected {len(self.estimator_learning_rates)} or "
                "more, one for each rate for estimators, so that rules without parameters of their own get as many "
                "trainings as the others."
            )

    @property
    def n_trainings(self) -> int:
        """Number of trainings of each rule."""
        return len(self.learning_rates) * len(self.estimator_learning_rates)

    def points(self, learns: bool) -> list[tuple[TunedRates, int]]:
        """Return the rates and the seed of each training of a rule, with parameters of its own or without.

        Examples
        --------
        >>> grid = RateGrid(seeds=(7, 8), epochs=1, learning_rates=(0.1,))
        >>> [(rates.estimator_learning_rate, seed) for rates, seed in grid.points(learns=True)]
        [(0.001, 7), (0.003, 7)]
        >>> [seed for _, seed in grid.points(learns=False)]
        [7, 8]
        """
        if learns:
            pairs = product(self.learning_rates, self.estimator_learning_rates)
            return [(TunedRates(*pair), self.seeds[0]) for pair in pairs]
        seeds = self.seeds[: len(self.estimator_learning_rates)]
        return [(TunedRates(rate, math.nan), seed) for rate, seed in product(self.learning_rates, seeds)]


def tune_rule(
    folder: Path, *, network: str, training: TrainingConfig, learns: bool, grid: RateGrid, data_dir: str | None
) -> Frames:
    """Return ``tuning``: what the trainings of one rule reach on the validation examples.

    It has one row per training: ``network``, ``learning_rate``, ``estimator_learning_rate`` (missing if the rule has no
    parameters of its own), ``seed``, ``epochs``, ``state`` ("finished" or "diverged"), ``validation_accuracy`` and
    ``validation_loss`` at the end (missing if the training diverged), and ``n_validation``.
    """
    data = InMemoryTraining.of(training, data_dir)
    rows = [
        {
            "network": network,
            **rates._asdict(),
            "seed": seed,
            "epochs": grid.epochs,
            **_validated(data, replace(with_rates(training, rates), seed=seed, epochs=grid.epochs)),
        }
        for rates, seed in grid.points(learns)
    ]
    return {"tuning": pd.DataFrame(rows).assign(n_validation=len(data.split["validation"]))}


def with_rates(training: TrainingConfig, rates: TunedRates) -> TrainingConfig:
    """Return a training at other rates; that of the rule's own parameters is unchanged if it has none."""
    own = training.estimator_learning_rate if math.isnan(rates.estimator_learning_rate) else rates[1]
    return replace(training, learning_rate=rates.learning_rate, estimator_learning_rate=own)


def _validated(data: InMemoryTraining, training: TrainingConfig) -> dict[str, Any]:
    """Train a network, and return how the training ended and what it reached on the validation examples."""
    started = data.restarted(training)
    try:
        for _ in started.steps():
            pass
    except Diverged:
        return {"state": "diverged", "validation_accuracy": math.nan, "validation_loss": math.nan}
    reached = evaluate(started.learner.network, *started.examples("validation"), loss=training.loss)
    return {"state": "finished", "validation_accuracy": reached.accuracy, "validation_loss": reached.loss}


def choose_rates(tuning: pd.DataFrame) -> TunedRates | None:
    """Return the rates with the highest validation accuracy, the mean over seeds; of equal ones, the lowest loss.

    Rates at which a training diverged are left out; None if there are no others.

    Parameters
    ----------
    tuning : DataFrame
        The rows of ``tune_rule`` for one rule.
    """
    rates, measures = list(TunedRates._fields), ["validation_accuracy", "validation_loss"]
    kept = tuning.groupby(rates, dropna=False).filter(lambda rows: rows[measures].notna().all(axis=None))
    if kept.empty:
        return None
    means = kept.groupby(rates, dropna=False)[measures].mean().reset_index()
    best = means.sort_values(measures, ascending=[False, True], kind="stable").iloc[0]
    return TunedRates(*(float(best[name]) for name in rates))
