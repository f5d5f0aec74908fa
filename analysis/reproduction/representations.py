"""What E4 and E5 share: networks of 20 hidden layers and three methods, each trained once between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.reproduction.claim import Part, Plan
from analysis.reproduction.networks import Recipe
from analysis.workflows.demo import DEMO_RUNS

__all__ = [
    "BACKPROP",
    "FRACTIONS",
    "METHODS",
    "OTHERS",
    "SYNTHETIC",
    "method_of",
    "network_parts",
    "networks_setting",
    "recipe_of",
    "recipes",
    "view_of",
]

BACKPROP, *SYNTHETIC = DEMO_RUNS
METHODS = {BACKPROP: "backprop", SYNTHETIC[0]: "SG in the middle", SYNTHETIC[1]: "SG at every boundary"}
OTHERS = "backprop, other seeds"  # the networks that all methods are compared with
FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of training, at which layers are recorded
_FIRST_OTHER = 1_000_000  # seed s has its counterpart in seed 1000000 + s; nobody gives such seeds
_COSTS = {BACKPROP: 20.0, SYNTHETIC[0]: 22.0, SYNTHETIC[1]: 70.0}


def recipe_of(plan: Plan, name: str, seed: int) -> Recipe:
    """Return how a network is trained and recorded; ``name`` is a key of ``METHODS``."""
    data = "mnist" if plan.is_full else "mnist5k"
    training = replace(DEMO_RUNS[name], data=data, seed=seed, device=plan.device)
    if plan.is_full:
        training = replace(training, epochs=training.epochs // 4)  # of fifteen times as many examples
    steps = ",".join(f"{100 * fraction:g}%" for fraction in FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=1000, n_validation=250, n_test=500)
    return Recipe(name=name, training=training, recording=recording)


def recipes(plan: Plan) -> list[Recipe]:
    """Return those of all networks: the methods with the plan's seeds, and backprop with as many others."""
    seeds = [(name, seed) for name in METHODS for seed in plan.seeds]
    others = [(BACKPROP, _FIRST_OTHER + seed) for seed in plan.seeds]
    return [recipe_of(plan, name, seed) for name, seed in (*seeds, *others)]


def network_parts(plan: Plan) -> list[Part]:
    """Return the parts that train them."""
    return [recipe.part(plan, cost=_COSTS[recipe.name]) for recipe in recipes(plan)]


def method_of(recipe: Recipe) -> str:
    """Return what a network is called in tables and figures."""
    return OTHERS if recipe.seed >= _FIRST_OTHER else METHODS[recipe.name]


def networks_setting(plan: Plan) -> str:
    """Return in words how they are trained."""
    backprop, _, everywhere = (recipe_of(plan, name, plan.seeds[0]).training for name in METHODS)
    return (
        f"Networks of {backprop.depth} hidden layers of {backprop.width} units with batch norm and relu, trained on "
        f"{'MNIST' if plan.is_full else '3,500 MNIST digits'} with Adam (backprop, and one linear label-conditioned SG "
        f"in the middle: {backprop.epochs} epochs at {backprop.learning_rate:g} with a cosine schedule; such an SG at "
        f"all {backprop.depth - 1} boundaries between hidden layers: {everywhere.epochs} epochs at "
        f"{everywhere.learning_rate:g}, a lower rate because the SGs can only follow a network that moves slowly)."
    )


def view_of(folder: Path, recipe: Recipe, fraction: float = 1.0) -> View:
    """Return a trained network at a fraction of its training."""
    run = recipe.open(folder)
    if len(run.recorded_steps) < len(FRACTIONS):
        raise ValueError(f"{method_of(recipe)}, seed {recipe.seed}, did not train to its end: {run.status['state']}.")
    step = run.recorded_steps[FRACTIONS.index(fraction)]
    return View(f"{method_of(recipe)}, seed {recipe.seed}", run, step)
