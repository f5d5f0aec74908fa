"""Tasks: tune the learning rates of both methods on fifty layers, and train networks of several depths at them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.config.recording import RecordingConfig
from analysis.execution import Cache, Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.kit.recipe import Recipe
from analysis.reproduction.kit.rule_tuning import RateGrid, TunedRates, choose_rates, tune_rule, with_rates
from checkpoints import Run
from repsim.learning import TrainingConfig, build_learner

__all__ = ["BACKPROP", "DEPTHS", "METHODS", "SHIFTS", "SYNTHETIC", "TRAINED", "DeepCase", "grid_of", "parts"]

DEPTHS = (3, 10, 20, 50)
SHIFTS = {"relu": 1.0, "tanh": 0.0}  # activations, and the initial shifts of their batch norms
BACKPROP, SYNTHETIC = "backprop", "synthetic gradient in the middle"
METHODS = {BACKPROP: "backprop", SYNTHETIC: "synthetic-gradient@middle"}
TRAINED = 0.9  # accuracy from which a network counts as trained
_FIRST_TUNING_SEED = 2_000_000  # added to the seeds of the plan, which are all smaller
_TUNING_EPOCHS = 10
_RECORDING = RecordingConfig(steps="last", layers=("output",), n_train=10, n_validation=10, n_test=10, diagnose="none")


@dataclass(frozen=True, kw_only=True)
class DeepCase:
    """Networks of one activation and one method, of several depths.

    ``training`` is that of the deepest, on which the learning rates are tuned; its own rates and seed are not used.
    """

    training: TrainingConfig
    grid: RateGrid
    data_dir: str | None = None

    @property
    def method(self) -> str:
        """The name of the method in tables and figures."""
        return next(name for name, rule in METHODS.items() if rule == self.training.rule)

    @property
    def _name(self) -> str:
        return f"{self.training.activation}-{self.training.rule.partition('@')[0]}"

    def tuning(self) -> Task:
        """Return the task that tunes the learning rates on the validation examples."""
        return claim_task(
            f"depth-tune-{self._name}",
            tune_rule,
            cost=50.0,
            network=f"depth-{self._name}",
            training=self.training,
            learns=self.method == SYNTHETIC,
            grid=self.grid,
            data_dir=self.data_dir,
        )

    def rates(self, folder: Path) -> TunedRates | None:
        """Return the rates that were tuned; None if training diverged at all of them."""
        return choose_rates(Cache(folder).read(self.tuning().key).tables["tuning"])

    def recipe(self, depth: int, seed: int, rates: TunedRates) -> Recipe:
        """Return the recipe of a network."""
        training = replace(with_rates(self.training, rates), depth=depth, seed=seed)
        activation, rule = training.activation, training.rule.partition("@")[0]
        return Recipe(name=f"depth-{depth}-{activation}-{rule}", training=training, recording=_RECORDING)


def grid_of(plan: Plan) -> RateGrid:
    """Return the learning rates that both methods are tuned over."""
    return RateGrid(
        seeds=tuple(_FIRST_TUNING_SEED + seed for seed in plan.seeds[:2]),
        epochs=_TUNING_EPOCHS,
        learning_rates=(5e-4, 1.25e-3, 3e-3, 8e-3),
        estimator_learning_rates=(5e-3, 1e-2),
    )


def parts(plan: Plan) -> list[Task]:
    """Return one task per activation and method that tunes the rates, and one per network."""
    cases = {
        (activation, method): DeepCase(
            training=_training(plan, activation, rule), grid=grid_of(plan), data_dir=plan.data_dir
        )
        for activation, (method, rule) in product(SHIFTS, METHODS.items())
    }
    tuning = {name: case.tuning() for name, case in cases.items()}
    networks = [
        claim_task(
            f"networks-depth-{depth}-{activation}-{METHODS[method].partition('@')[0]}-seed-{seed}",
            train_tuned,
            cost=0.6 * depth,
            after=[tuning[activation, method]],
            case=cases[activation, method],
            depth=depth,
            seed=seed,
        )
        for depth, activation, method, seed in product(DEPTHS, SHIFTS, METHODS, plan.few_seeds)
    ]
    return [*tuning.values(), *networks]


def _training(plan: Plan, activation: str, rule: str) -> TrainingConfig:
    return TrainingConfig(
        data=plan.dataset,
        depth=max(DEPTHS),
        width=128,
        activation=activation,
        shift=SHIFTS[activation],
        rule=rule,
        epochs=40,
        batch_size=128,
        schedule="cosine",
        device=plan.device,
    )


def train_tuned(folder: Path, *, case: DeepCase, depth: int, seed: int) -> Frames:
    """Train a network at the rates that its method was tuned to; see ``Recipe.task`` for the table ``networks``.

    ``networks`` has the column ``epochs_to_trained``, the first epoch after which the validation accuracy is that of a
    trained network (missing if there is none). ``weights`` has one row per layer: the Frobenius norm of its weights
    before training (``start``) and at the end, and whether it lies ``below`` the middle boundary.
    """
    rates = case.rates(folder)
    if rates is None:
        training = case.training
        row = {"rule": training.rule, "depth": depth, "activation": training.activation, "seed": seed}
        return {"networks": pd.DataFrame([{**row, "state": "diverged"}])}
    recipe = case.recipe(depth, seed, rates)
    tables = recipe.train(folder, case.data_dir)
    run = recipe.open(folder)
    networks = tables["networks"].assign(epochs_to_trained=_epochs_to_trained(run))
    if run.status["state"] != "finished":
        return {"networks": networks}
    place: dict[str, Any] = {"activation": case.training.activation, "depth": depth, "method": case.method}
    return {"networks": networks, "weights": _weights(recipe, run).assign(**place, seed=seed)}


def _epochs_to_trained(run: Run) -> float:
    """Return the first epoch, from 1, after which the network counts as trained, or NaN."""
    records = pd.DataFrame(run.metrics())
    if "validation_accuracy" not in records:
        return math.nan
    ends = records["validation_accuracy"].dropna().reset_index(drop=True)  # one per epoch
    reached = np.flatnonzero(ends >= TRAINED)
    return float(reached[0] + 1) if len(reached) else math.nan


def _weights(recipe: Recipe, run: Run) -> pd.DataFrame:
    """Return the norms of the weights of every layer, before training and at its end."""
    end = run.last().weights()
    n_features, n_classes = end["network.hidden.1.affine.weight"].shape[1], len(end["network.output.weight"])
    first = build_learner(recipe.training, n_features, n_classes).state_dict()
    (middle,) = replace(recipe.training, rule=METHODS[SYNTHETIC]).rules
    rows = [
        {
            "layer": layer,
            "below": layer <= middle,
            "start": float(first[f"network.hidden.{layer}.affine.weight"].norm()),
            "end": float(end[f"network.hidden.{layer}.affine.weight"].norm()),
        }
        for layer in range(1, recipe.training.n_hidden + 1)
    ]
    return pd.DataFrame(rows)
