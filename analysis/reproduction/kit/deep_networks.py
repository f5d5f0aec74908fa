"""Networks of 20 hidden layers, trained by three methods, that the claims on RDMs and on probes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.execution import Task
from analysis.plots.axes import axes_grid
from analysis.reproduction.claim import Plan
from analysis.reproduction.kit.panels import label
from analysis.reproduction.kit.recipe import Recipe
from analysis.workflows.demo import DEMO_RUNS
from probes import seed_differences

__all__ = [
    "BACKPROP",
    "FRACTIONS",
    "METHODS",
    "OTHERS",
    "SHARE",
    "SYNTHETIC",
    "backprop_differences",
    "count_layers",
    "fraction_panels",
    "method_of",
    "network_tasks",
    "networks_setting",
    "number_layers",
    "recipe_of",
    "recipes",
    "view_of",
]

BACKPROP, SYNTHETIC = "backprop", ("sg-middle", "sg-every-boundary")  # names in DEMO_RUNS
METHODS = {BACKPROP: "backprop", SYNTHETIC[0]: "SG in the middle", SYNTHETIC[1]: "SG at every boundary"}
OTHERS = "backprop, other seeds"  # the networks that all methods are compared with
FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of training, at which layers are recorded
SHARE = 1 / 3  # of the layers that have to differ for a claim to hold
_FIRST_OTHER = 1_000_000  # added to the seeds of the plan, which are all smaller
_COSTS = {BACKPROP: 20.0, SYNTHETIC[0]: 22.0, SYNTHETIC[1]: 70.0}


def recipe_of(plan: Plan, name: str, seed: int) -> Recipe:
    """Return the recipe of a network; ``name`` is a key of ``METHODS``."""
    training = replace(DEMO_RUNS[name], data=plan.dataset, seed=seed, device=plan.device)
    if plan.is_full:
        training = replace(training, epochs=training.epochs // 4)  # of fifteen times as many examples
    steps = ",".join(f"{100 * fraction:g}%" for fraction in FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=1000, n_validation=250, n_test=500)
    return Recipe(name=name, training=training, recording=recording)


def recipes(plan: Plan) -> list[Recipe]:
    """Return the recipes of all networks: each method with the seeds of the plan, and backprop with as many others."""
    seeds = [(name, seed) for name in METHODS for seed in plan.seeds]
    others = [(BACKPROP, _FIRST_OTHER + seed) for seed in plan.seeds]
    return [recipe_of(plan, name, seed) for name, seed in (*seeds, *others)]


def network_tasks(plan: Plan) -> dict[Recipe, Task]:
    """Return the tasks that train the networks of ``recipes``."""
    return {recipe: recipe.task(plan, cost=_COSTS[recipe.name]) for recipe in recipes(plan)}


def method_of(recipe: Recipe) -> str:
    """Return the name of a network's method in tables and figures."""
    return OTHERS if recipe.seed >= _FIRST_OTHER else METHODS[recipe.name]


def networks_setting(plan: Plan) -> str:
    """Return a sentence on how the networks are trained."""
    backprop, _, everywhere = (recipe_of(plan, name, plan.seeds[0]).training for name in METHODS)
    return (
        f"Networks of {backprop.depth} hidden layers of {backprop.width} units with batch norm and relu, trained on "
        f"{plan.digits} with Adam (backprop, and one linear label-conditioned SG "
        f"in the middle: {backprop.epochs} epochs at {backprop.learning_rate:g} with a cosine schedule; such an SG at "
        f"all {backprop.depth - 1} boundaries between hidden layers: {everywhere.epochs} epochs at "
        f"{everywhere.learning_rate:g}, a lower rate because the SGs can only follow a network that moves slowly)."
    )


def view_of(folder: Path, recipe: Recipe, fraction: float = 1.0) -> View:
    """Return a trained network at a fraction of its training."""
    run = recipe.open(folder)
    if len(run.recorded_steps) < len(FRACTIONS):
        raise ValueError(
            f"Training of {method_of(recipe)}, seed {recipe.seed}, ended with state '{run.status['state']}' before all "
            f"{len(FRACTIONS)} steps were recorded; see {run.path}."
        )
    step = run.recorded_steps[FRACTIONS.index(fraction)]
    return View(f"{method_of(recipe)}, seed {recipe.seed}", run, step)


def backprop_differences(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return the difference of each method and layer from backprop in pairs of equal seeds, with simultaneous bands.

    A layer ``differs`` if its band excludes zero.
    """
    differences = seed_differences(table, reference=METHODS[BACKPROP], value=value)
    return differences.assign(differs=(differences["band_low"] > 0) | (differences["band_high"] < 0))


def count_layers(differs: pd.DataFrame, by: str) -> dict[str, str]:
    """Return "3 of 20 layers" for each group, from the column ``differs``."""
    counts = differs.groupby(by, sort=False)["differs"].agg(["sum", "size"])
    return {str(name): f"{row['sum']} of {row['size']} layers" for name, row in counts.iterrows()}


def fraction_panels() -> Sequence[tuple[Axes, float]]:
    """Return a panel for each fraction of training, three in a row, with its title."""
    n_rows = -(-len(FRACTIONS) // 3)
    grid = axes_grid(n_rows, 3, 11.0, 3.2 * n_rows)
    panels = list(zip(grid.ravel(), FRACTIONS, strict=False))
    for ax, fraction in panels:
        label(ax, title="before training" if fraction == 0 else f"{100 * fraction:g} % of training")
    return panels


def number_layers(ax: Axes) -> None:
    """Put ticks at every fifth hidden layer."""
    ax.set_xticks([1, 5, 10, 15, 20])
