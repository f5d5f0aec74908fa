"""Networks of 20 hidden layers in arms with roles, and their comparison, which the claims on RDMs and probes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison.analysis_plan import AnalysisPlan
from analysis.comparison.attribution.arms import Arm
from analysis.comparison.attribution.contrasts import LEAST_SEEDS
from analysis.comparison.tables.arm_tables import ARMS as ARMS_TABLE
from analysis.comparison.tables.arm_tables import ATTRIBUTION, SIMILARITY_TESTS, measured
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.recording import RecordingConfig
from analysis.config.roles import METHOD, REFERENCE
from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.kit.recipe import Recipe
from analysis.workflows.comparisons import plan_arms
from analysis.workflows.demo import DEMO_RUNS
from repsim.learning import TrainingConfig

__all__ = [
    "ARMS",
    "AT_ACCURACY",
    "EVERYWHERE",
    "FRACTIONS",
    "MEASURES",
    "ClaimArm",
    "compared_tasks",
    "network_seeds",
    "recipe_of",
    "recipes",
    "view_of",
]


@dataclass(frozen=True, kw_only=True)
class ClaimArm:
    """An arm.

    Attributes
    ----------
    role : str
        A key of ``ROLES``.
    training : TrainingConfig
    cost : float
        Seconds of training on one core.
    method : str
        The method that a control is for; empty for all.
    imitates : bool
        Whether its gradients are as good as those of the method.
    """

    role: str
    training: TrainingConfig
    cost: float
    method: str = ""
    imitates: bool = False


_MIDDLE, EVERYWHERE = "sg-middle", "sg-every-boundary"
_REFERENCE = DEMO_RUNS["backprop"]

# The arms that are trained, as in examples/attribution.toml.
ARMS = {
    "backprop": ClaimArm(role=REFERENCE, training=_REFERENCE, cost=12.0),
    _MIDDLE: ClaimArm(role=METHOD, training=DEMO_RUNS[_MIDDLE], cost=13.0),
    EVERYWHERE: ClaimArm(role=METHOD, training=DEMO_RUNS[EVERYWHERE], cost=45.0),
    "backprop-slow": ClaimArm(
        role="schedule-matched", method=EVERYWHERE, training=DEMO_RUNS["backprop-slow"], cost=30.0
    ),
    "greedy-middle": ClaimArm(role="decoupled", method=_MIDDLE, training=DEMO_RUNS["greedy-middle"], cost=13.0),
    "greedy-every-boundary": ClaimArm(
        role="decoupled",
        method=EVERYWHERE,
        training=replace(DEMO_RUNS[EVERYWHERE], rule="decoupled-greedy"),
        cost=45.0,
    ),
    "disturbed-middle": ClaimArm(
        role="gradient-quality-matched",
        method=_MIDDLE,
        training=replace(DEMO_RUNS[_MIDDLE], rule="disturbed-gradient"),
        cost=15.0,
        imitates=True,
    ),
    "disturbed-every-boundary": ClaimArm(
        role="gradient-quality-matched",
        method=EVERYWHERE,
        training=replace(DEMO_RUNS[EVERYWHERE], rule="disturbed-gradient"),
        cost=60.0,
        imitates=True,
    ),
    "backprop-10": ClaimArm(role="truncated", method=_MIDDLE, training=replace(_REFERENCE, depth=10), cost=7.0),
}
AT_ACCURACY = "backprop-at-accuracy"  # the networks of the reference, at steps with the accuracy of SG everywhere
FRACTIONS = (1 / 16, 1 / 4, 1.0)  # of training, at which layers are recorded and compared
MEASURES = {"cka": "unbiased linear CKA", "rsa": "correlation of RDMs"}
_MOST_SPLITS = 3
_FOLDER = "networks"
_DESIGN = DesignConfig()  # its smallest differences of interest are those of the claims


# Networks


def network_seeds(plan: Plan) -> dict[int, int]:
    """Return the seeds of the networks of each arm, with the data split of each.

    There are up to three splits, each with three networks or more.
    """
    n_splits = min(_MOST_SPLITS, len(plan.seeds) // LEAST_SEEDS)
    return {seed: position % n_splits for position, seed in enumerate(plan.seeds)}


def recipe_of(plan: Plan, name: str, seed: int, split: int = 0) -> Recipe:
    """Return the recipe of a network; ``name`` is a key of ``ARMS``."""
    arm = ARMS[name]
    training = replace(arm.training, data=plan.dataset, seed=seed, split_seed=split, device=plan.device)
    if plan.is_full:
        training = replace(training, epochs=training.epochs // 4)  # of fifteen times as many examples
    steps = ",".join(f"{100 * fraction:g}%" for fraction in FRACTIONS)
    recording = RecordingConfig(steps=steps, n_train=1000, n_validation=250, n_test=500)
    like = recipe_of(plan, arm.method, seed, split) if arm.imitates else None
    return Recipe(name=name, training=training, recording=recording, like=like)


def recipes(plan: Plan) -> list[Recipe]:
    """Return the recipes of all networks, arm by arm."""
    return [recipe_of(plan, name, seed, split) for name in ARMS for seed, split in network_seeds(plan).items()]


def compared_tasks(plan: Plan) -> list[Task]:
    """Return the tasks that train all networks, measure them at each fraction of training, and compare the arms.

    The last one returns the tables ``attribution``, ``similarity_tests`` and ``arms`` of ``repsim compare``, and
    ``layers``: one row per network, step and layer, with its class structure and the accuracy of its probe.
    """
    trained: dict[Recipe, Task] = {}
    for recipe in recipes(plan):
        after = [trained[recipe.like]] if recipe.like else []
        trained[recipe] = recipe.task(plan, cost=ARMS[recipe.name].cost, after=after)
    networks, tasks = list(trained), list(trained.values())
    cost = 2.5 * len(networks)
    at_steps = [
        claim_task(
            f"arms-at-{100 * fraction:g}-percent",
            _measure,
            cost=cost,
            after=tasks,
            networks=networks,
            fractions=[fraction],
        )
        for fraction in FRACTIONS
    ]
    compared = claim_task(
        "arms", _compare, cost=30.0, after=[*tasks, *at_steps], networks=networks, fractions=list(FRACTIONS)
    )
    return [*tasks, *at_steps, compared]


def _measure(folder: Path, *, networks: Sequence[Recipe], fractions: Sequence[float]) -> Frames:
    """Measure the layers of all networks at some fractions; the results are kept for ``_compare``."""
    for task in _plan(folder, networks, fractions).tasks.by_table["attribution"]:
        task.run()
    return {}


def _compare(folder: Path, *, networks: Sequence[Recipe], fractions: Sequence[float]) -> Frames:
    """Return tables of a comparison of the arms, and ``layers``."""
    plan = _plan(folder, networks, fractions)
    for task in plan.tasks.by_table["attribution"]:
        task.run()
    tables = {"attribution": ATTRIBUTION, "similarity_tests": SIMILARITY_TESTS, "arms": ARMS_TABLE}
    return {**{name: table.build(plan.tasks, {}) for name, table in tables.items()}, "layers": _layers(plan)}


def _plan(folder: Path, networks: Sequence[Recipe], fractions: Sequence[float]) -> AnalysisPlan:
    steps = ",".join(f"{100 * fraction:g}%" for fraction in fractions)
    config = AnalysisConfig(steps=steps, measures=tuple(MEASURES))
    return plan_arms(list(_arms(folder, networks)), config, _DESIGN, folder / _FOLDER / "comparison")


def _arms(folder: Path, networks: Sequence[Recipe]) -> Iterator[Arm]:
    """Yield the arms with the paths of their networks."""
    for name, arm in ARMS.items():
        paths = tuple(_finished(folder, recipe) for recipe in networks if recipe.name == name)
        yield Arm(name, arm.role, paths, arm.method)
        if arm.role == REFERENCE:
            yield Arm(AT_ACCURACY, "accuracy-matched", paths, EVERYWHERE)


def _finished(folder: Path, recipe: Recipe) -> Path:
    """Return the path of a network whose steps are all recorded."""
    run = recipe.open(folder)
    if len(run.recorded_steps) < len(FRACTIONS):
        raise ValueError(
            f"Training of {recipe.name}, seed {recipe.seed}, ended with state '{run.status['state']}' before all "
            f"{len(FRACTIONS)} steps were recorded; see {run.path}."
        )
    return run.path


def _layers(plan: AnalysisPlan) -> pd.DataFrame:
    """Return one row per network, aligned step and layer, with what was measured of it."""
    design = plan.design
    assert design is not None
    found = measured(plan.tasks, design)
    places = [(step, layer, k) for step, layer, k in np.ndindex(len(found.at), len(found.layers), len(found.members))]
    rows = [
        {
            "arm": found.members[k].arm,
            "seed": found.members[k].seed,
            "split": found.members[k].split,
            "at": found.at[step],
            "layer": found.layers[layer],
            "depth": layer + 1,
            **{name: values[step, layer, k] for name, values in found.quantities.items()},
        }
        for step, layer, k in places
    ]
    return pd.DataFrame(rows).dropna(subset=list(found.quantities), how="all")


def view_of(folder: Path, recipe: Recipe) -> View:
    """Return a network at the end of its training."""
    run = recipe.open(folder)
    return View(recipe.name, run, run.recorded_steps[-1])
