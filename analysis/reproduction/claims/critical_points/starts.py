"""Tasks: train networks and their modules together from many starts, and find the points where they come to rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.claims.critical_points.parts import (
    AT_REST,
    PROBLEMS,
    SmallProblem,
    data_of,
    module_of,
    network_of,
)
from repsim.learning import Chain, Learner, SyntheticGradient, site_of, stream
from repsim.learning.stacking import stack
from repsim.theory.critical_points import (
    StationaryPoint,
    VectorField,
    find_stationary,
    function_distance,
    synthetic_field,
    true_field,
)

__all__ = [
    "FEW_EXAMPLES",
    "N_STARTS",
    "START_PROBLEMS",
    "TRAININGS",
    "JointTraining",
    "Start",
    "constructed",
    "start_tasks",
]

N_STARTS = 8  # per seed
FEW_EXAMPLES = "few examples"
MODULES: dict[str, dict[str, Any]] = {"linear": {"label_conditioned": False}, "linear-labels": {}}
START_PROBLEMS = {
    **PROBLEMS,
    FEW_EXAMPLES: SmallProblem(
        words="tanh units, few examples",
        activation="tanh",
        loss="mse",
        n_features=2,
        width=8,
        n_outputs=3,
        weight_decay=0.0,
        n_examples=8,
    ),
}
_MOST_ITERATIONS = 150


def constructed(table: pd.DataFrame) -> pd.Series:
    """Return which rows are of modules that hold every true gradient by their form.

    For the squared error these are all that are linear in activation and label, with further features or without.
    """
    holds = table["family"].eq("linear-labels") | table["family"].str.startswith("relu-")
    return holds & (table["problem"] != "tanh, log loss")


@dataclass(frozen=True, kw_only=True)
class JointTraining:
    """Gradient descent of a network and its module on all examples: both learning rates, and the number of steps."""

    rate: float
    module_rate: float
    n_steps: int


_TANH = JointTraining(rate=0.1, module_rate=0.2, n_steps=5000)
TRAININGS = {
    name: JointTraining(rate=0.01, module_rate=0.02, n_steps=5000) if name == "deep linear" else _TANH
    for name in START_PROBLEMS
}


def start_tasks(plan: Plan) -> list[Task]:
    """Return one task per problem."""
    return [
        claim_task(
            f"critical-points-starts-{name.replace(', ', '-').replace(' ', '-')}",
            train_starts,
            cost=9.0 * len(plan.seeds),
            name=name,
            problem=problem,
            training=TRAININGS[name],
            seeds=plan.seeds,
            n_starts=N_STARTS,
        )
        for name, problem in START_PROBLEMS.items()
    ]


@dataclass(frozen=True)
class Start:
    """A start: its network, and its own examples."""

    seed: int
    number: int
    problem: SmallProblem

    def draw(self, purpose: str) -> torch.Generator:
        """Return the generator of a purpose."""
        return stream(self.seed, purpose, self.number)

    def examples(self) -> tuple[Tensor, Tensor]:
        """Return X and y."""
        return data_of(self.problem, self.problem.n_examples, self.draw, "train")


def train_starts(
    folder: Path, *, name: str, problem: SmallProblem, training: JointTraining, seeds: Sequence[int], n_starts: int
) -> Frames:
    """Return ``starts``, where training comes to rest, and ``kept``, the field of each family at backprop's points.

    Every start has its own examples and weights. A network and its module take gradient steps together; from where they
    end, the field with the module fitted is followed to its stationary point, which is one of both together.
    """
    starts = [Start(seed, number, problem) for seed in seeds for number in range(n_starts)]
    ends = {family: train_together(starts, family, training) for family in ("backprop", *MODULES)}
    rows, kept = [], []
    for place, start in enumerate(starts):
        fields, unregularised = _fields(start, has_ridge=True), _fields(start, has_ridge=False)
        case = {"problem": name, "seed": start.seed, "start": start.number}
        points = {family: _arrive(fields[family], end[place]) for family, end in ends.items()}
        reference = points["backprop"]
        rows += [
            {**case, "family": family, **_row(fields[family], ends[family][place], point, reference)}
            for family, point in points.items()
        ]
        kept += [
            {**case, "family": family, **_kept_row(unregularised[family], reference)}
            for family in problem.families
            if reference is not None
        ]
    return {"starts": pd.DataFrame(rows), "kept": pd.DataFrame(kept)}


def _fields(start: Start, *, has_ridge: bool) -> dict[str, VectorField]:
    """Return backprop's field, and that of each family with its module fitted, with its weight decay or without.

    A flow needs the weight decay, because without it the field is not continuous; the field at one point does not.
    """
    problem, network, (X, y) = start.problem, network_of(start.problem, start.draw), start.examples()
    options: dict[str, Any] = {"loss": problem.loss, "weight_decay": problem.weight_decay}
    fields = {"backprop": true_field(network, X, y, **options)}
    for family in problem.families:
        kind, ridge = module_of(family, problem, start.draw)
        fields[family] = synthetic_field(network, X, y, boundary=1, family=kind, ridge=ridge * has_ridge, **options)
    return fields


def train_together(starts: Sequence[Start], family: str, training: JointTraining) -> Tensor:
    """Train networks and modules of all starts at once; return the networks' parameters at the end, (n_starts, P)."""
    problem = starts[0].problem
    learners = [_learner(network_of(problem, start.draw), family, problem) for start in starts]
    stacked: Any = stack(learners)
    X, y = (torch.stack(each) for each in zip(*(start.examples() for start in starts), strict=True))
    groups = [
        {"params": [*stacked.network.parameters()], "lr": training.rate, "weight_decay": problem.weight_decay},
        {"params": [*stacked.estimators.parameters()], "lr": training.module_rate},
    ]
    optimizer = torch.optim.SGD([group for group in groups if group["params"]])
    for _ in range(training.n_steps):
        optimizer.zero_grad()
        stacked.compute_gradients(X, y)
        optimizer.step()
    return torch.cat([parameter.detach().flatten(1) for parameter in stacked.network.parameters()], dim=1)


def _learner(network: Chain, family: str, problem: SmallProblem) -> Learner:
    site = site_of(network, 1, loss=problem.loss, n_outputs=problem.n_outputs)
    estimators = {} if family == "backprop" else {1: SyntheticGradient(site, **MODULES[family])}
    return Learner(network, estimators, loss=problem.loss).double()


def _arrive(field: VectorField, end: Tensor) -> StationaryPoint | None:
    """Return the stationary point where the flow from the end of training ends, or None if there is none."""
    if not end.isfinite().all():
        return None
    point = find_stationary(field, end, max_iterations=_MOST_ITERATIONS)
    return point if point.converged and point.field_norm <= AT_REST else None


def _row(
    field: VectorField, end: Tensor, point: StationaryPoint | None, reference: StationaryPoint | None
) -> dict[str, Any]:
    """Return the properties of the point where a training comes to rest."""
    diverged = not bool(end.isfinite().all())
    if point is None:
        return {"diverged": diverged, "at_rest": False}
    objective = field.objective
    decay = objective.weight_decay / 2 * float(point.theta.square().sum())
    return {
        "diverged": diverged,
        "at_rest": True,
        "true_gradient_norm": point.true_gradient_norm,
        "loss": point.loss,
        "data_loss": point.loss - decay,
        "n_unstable": point.count_unstable(),
        "moved": function_distance(objective, end, point.theta),
        "distance": math.nan if reference is None else function_distance(objective, point.theta, reference.theta),
    }


def _kept_row(field: VectorField, reference: StationaryPoint) -> dict[str, float]:
    """Return the field of a family at backprop's point."""
    return {"loss": reference.loss, "field_at_backprop": float(field(reference.theta).norm())}
