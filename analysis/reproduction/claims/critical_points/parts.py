"""Tasks: find the stationary points of small networks, with modules from poor to rich, and from many starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from repsim.learning import LOSSES, Chain, mlp, stream
from repsim.theory.critical_points import (
    Features,
    StationaryPoint,
    VectorField,
    find_stationary,
    function_distance,
    least_squares_loss,
    relu_features,
    synthetic_field,
    true_field,
)

__all__ = ["parts"]


_UNITS = (4, 16, 64, 240)
FAMILIES = {
    "constant": "constant",
    "linear": "linear, no labels",
    "linear-labels": "linear with labels",
    **{f"relu-{n}": f"linear + {n} relu units" for n in _UNITS},
}
NAMES = {"backprop": "backprop", **FAMILIES}
N_EXAMPLES, N_TEST, RIDGE = 60, 1000, 1e-6
AT_REST = 1e-9  # norm of the field at a stationary point, at most


@dataclass(frozen=True, kw_only=True)
class SmallProblem:
    """A small network, its examples, the families of modules to try, and the options of the search.

    ``ridge`` is the weight decay of modules that need one; ``curvature`` is that of ``find_stationary``.
    """

    words: str
    activation: str
    loss: str
    n_features: int
    width: int
    n_outputs: int
    weight_decay: float
    families: tuple[str, ...] = tuple(FAMILIES)
    n_examples: int = N_EXAMPLES
    n_test: int = N_TEST
    ridge: float = RIDGE
    curvature: float = 0.1


_TANH: dict[str, Any] = {"activation": "tanh", "n_features": 2, "width": 3, "n_outputs": 3, "weight_decay": 1e-2}
PROBLEMS = {
    "deep linear": SmallProblem(
        words="two linear layers, squared error",
        activation="linear",
        loss="mse",
        n_features=4,
        width=2,
        n_outputs=3,
        weight_decay=0.0,
        families=("constant", "linear", "linear-labels"),  # the last always holds the gradient; relu units add nothing
    ),
    "tanh, mse": SmallProblem(words="tanh units, squared error", loss="mse", **_TANH),
    "tanh, log loss": SmallProblem(words="tanh units, log loss", loss="log_loss", **_TANH),
}


def parts(plan: Plan) -> list[Task]:
    """Return one task per problem and seed."""
    return [
        claim_task(
            f"critical-points-{name.replace(', ', '-').replace(' ', '-')}-seed-{seed}",
            find,
            cost=10.0,
            name=name,
            problem=problem,
            seed=seed,
        )
        for name, problem in PROBLEMS.items()
        for seed in plan.seeds
    ]


def find(folder: Path, *, name: str, problem: SmallProblem, seed: int) -> Frames:
    """Return ``points`` and ``spectra``: the stationary point of backprop and of each family, from the same start."""
    draw = partial(stream, seed)
    X, y = data_of(problem, problem.n_examples, draw, "train")
    test = data_of(problem, problem.n_test, draw, "test")
    network = network_of(problem, draw)
    options: dict[str, Any] = {"loss": problem.loss, "weight_decay": problem.weight_decay}
    backprop = true_field(network, X, y, **options)
    fields = {"backprop": backprop}
    for family in problem.families:
        kind, ridge = module_of(family, problem, draw)
        fields[family] = synthetic_field(network, X, y, boundary=1, family=kind, ridge=ridge, **options)
    best = least_squares_loss(X, y, rank=problem.width) if problem.activation == "linear" else math.nan
    reference = find_stationary(backprop, curvature=problem.curvature)
    points, spectra = [], []
    for family, field in fields.items():
        point = reference if family == "backprop" else find_stationary(field, curvature=problem.curvature)
        place: dict[str, Any] = {"problem": name, "seed": seed, "family": family}
        points.append({**place, **_row(field, point, backprop, reference, test, problem), "best": best})
        spectra.append(_spectrum(point).assign(**place))
    return {"points": pd.DataFrame(points), "spectra": pd.concat(spectra, ignore_index=True)}


Draw = Callable[[str], Generator]  # a generator for a purpose


def data_of(problem: SmallProblem, n: int, draw: Draw, split: str) -> tuple[Tensor, Tensor]:
    """Return noisy linear targets, or three overlapping classes; targets for squared error are real numbers."""
    generator = draw(f"critical points, {split}")
    noise = torch.randn(n, problem.n_features, generator=generator, dtype=torch.float64)
    if problem.activation == "linear":
        weight = torch.randn(problem.n_features, problem.n_outputs, generator=draw("targets")).double()
        disturbance = torch.randn(n, problem.n_outputs, generator=generator, dtype=torch.float64)
        return noise, noise @ weight + 0.5 * disturbance
    labels = torch.arange(n) % problem.n_outputs
    angles = 2 * torch.pi * labels.double() / problem.n_outputs
    X = torch.stack([angles.cos(), angles.sin()], dim=1) + noise
    one_hot = torch.nn.functional.one_hot(labels, problem.n_outputs).double()
    return X, one_hot if problem.loss == "mse" else labels


def network_of(problem: SmallProblem, draw: Draw) -> Chain:
    """Return the network with its first weights."""
    return mlp(
        problem.n_features,
        problem.n_outputs,
        depth=1,
        width=problem.width,
        norm="none",
        activation=problem.activation,
        generator=draw("weights"),
    ).double()


def module_of(name: str, problem: SmallProblem, draw: Draw) -> tuple[str | Features, float]:
    """Return the features of a module, and its weight decay."""
    if not name.startswith("relu-"):
        smooth = problem.activation == "linear" or (name == "linear-labels" and problem.loss == "mse")
        # without a ridge, the other flows end where the rank of the features changes
        return name, 0.0 if smooth else problem.ridge
    n_units = int(name.removeprefix("relu-"))
    return relu_features(problem.width + problem.n_outputs, n_units, generator=draw("features")), problem.ridge


def _row(
    field: VectorField,
    point: StationaryPoint,
    backprop: VectorField,
    reference: StationaryPoint,
    test: tuple[Tensor, Tensor],
    problem: SmallProblem,
) -> dict[str, Any]:
    """Return the properties of a stationary point, and its distance from backprop's."""
    objective = backprop.objective
    held_out = true_field(objective.network, *test, loss=problem.loss).objective  # without weight decay
    h = objective.output(point.theta)
    return {
        "at_rest": point.converged and point.field_norm <= AT_REST,
        "field_norm": point.field_norm,
        "true_gradient_norm": point.true_gradient_norm,
        "loss": point.loss,
        "data_loss": float(LOSSES[problem.loss](h, objective.y).mean()),
        "test_loss": float(held_out.loss(point.theta)),
        "norm": float(point.theta.norm()),
        "distance": function_distance(objective, point.theta, reference.theta),
        "field_at_backprop": float(field(reference.theta).norm()),
        "n_unstable": point.count_unstable(),
        "n_negative": point.count_negative(),
        "n_iterations": point.n_iterations,
    }


def _spectrum(point: StationaryPoint) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "real": point.eigenvalues.real.numpy(),
            "imaginary": point.eigenvalues.imag.numpy(),
            "hessian": point.hessian_eigenvalues.numpy(),
        }
    )
