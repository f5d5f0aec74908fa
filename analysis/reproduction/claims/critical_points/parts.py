"""Tasks: find the stationary points of small networks, by backprop and with modules from poor to rich."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.reproduction.claim import ClaimTask, Frames, Plan, claim_task
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


@dataclass(frozen=True, kw_only=True)
class SmallProblem:
    """A small network and its training targets."""

    words: str
    activation: str
    loss: str
    n_features: int
    width: int
    n_outputs: int
    weight_decay: float


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
    ),
    "tanh, mse": SmallProblem(words="tanh units, squared error", loss="mse", **_TANH),
    "tanh, log loss": SmallProblem(words="tanh units, log loss", loss="log_loss", **_TANH),
}
_UNITS = (4, 16, 64, 240)
FAMILIES = {
    "constant": "constant",
    "linear": "linear, no labels",
    "linear-labels": "linear with labels",
    **{f"relu-{n}": f"and {n} relu units" for n in _UNITS},
}
N_EXAMPLES, N_TEST, RIDGE, _CURVATURE = 60, 1000, 1e-6, 0.1
AT_REST = 1e-9  # norm of the field at a stationary point, at most


def parts(plan: Plan) -> list[ClaimTask]:
    """Return one task per problem and seed."""
    return [
        claim_task(
            "critical-points",
            f"{problem.replace(', ', '-').replace(' ', '-')}-seed-{seed}",
            _find,
            cost=10.0,
            problem=problem,
            definition=asdict(definition),
            seed=seed,
            n=N_EXAMPLES,
            n_test=N_TEST,
            ridge=RIDGE,
            curvature=_CURVATURE,
            families=_families_of(problem),
        )
        for problem, definition in PROBLEMS.items()
        for seed in plan.seeds
    ]


def _families_of(problem: str) -> list[str]:
    """Return the families to try; relu units add nothing where a linear module always holds the gradient."""
    return [name for name in FAMILIES if problem != "deep linear" or not name.startswith("relu-")]


def _find(
    folder: Path,
    *,
    problem: str,
    definition: Mapping[str, Any],
    seed: int,
    n: int,
    n_test: int,
    ridge: float,
    curvature: float,
    families: Sequence[str],
) -> Frames:
    """Return ``points`` and ``spectra``: the stationary point of backprop and of each family, from the same start."""
    setting = SmallProblem(**definition)
    X, y = _data(setting, n, seed, "train")
    test = _data(setting, n_test, seed, "test")
    network = _network(setting, seed)
    options: dict[str, Any] = {"loss": setting.loss, "weight_decay": setting.weight_decay}
    backprop = true_field(network, X, y, **options)
    fields = {"backprop": backprop}
    for family in families:
        kind, module_decay = _family(family, setting, seed, ridge)
        fields[family] = synthetic_field(network, X, y, boundary=1, family=kind, ridge=module_decay, **options)
    best = least_squares_loss(X, y, rank=setting.width) if problem == "deep linear" else math.nan
    reference = find_stationary(backprop, curvature=curvature)
    points, spectra = [], []
    for family, field in fields.items():
        point = reference if family == "backprop" else find_stationary(field, curvature=curvature)
        place: dict[str, Any] = {"problem": problem, "seed": seed, "family": family}
        points.append({**place, **_row(field, point, backprop, reference, test, setting), "best": best})
        spectra.append(_spectrum(point).assign(**place))
    return {"points": pd.DataFrame(points), "spectra": pd.concat(spectra, ignore_index=True)}


def _data(setting: SmallProblem, n: int, seed: int, split: str) -> tuple[Tensor, Tensor]:
    """Return noisy linear targets, or three overlapping classes; targets for squared error are real numbers."""
    generator = stream(seed, f"critical points, {split}")
    noise = torch.randn(n, setting.n_features, generator=generator, dtype=torch.float64)
    if setting.activation == "linear":
        weight = torch.randn(setting.n_features, setting.n_outputs, generator=stream(seed, "targets")).double()
        disturbance = torch.randn(n, setting.n_outputs, generator=generator, dtype=torch.float64)
        return noise, noise @ weight + 0.5 * disturbance
    labels = torch.arange(n) % setting.n_outputs
    angles = 2 * torch.pi * labels.double() / setting.n_outputs
    X = torch.stack([angles.cos(), angles.sin()], dim=1) + noise
    one_hot = torch.nn.functional.one_hot(labels, setting.n_outputs).double()
    return X, one_hot if setting.loss == "mse" else labels


def _network(setting: SmallProblem, seed: int) -> Chain:
    return mlp(
        setting.n_features,
        setting.n_outputs,
        depth=1,
        width=setting.width,
        norm="none",
        activation=setting.activation,
        generator=stream(seed, "weights"),
    ).double()


def _family(name: str, setting: SmallProblem, seed: int, ridge: float) -> tuple[str | Features, float]:
    """Return the features of a module, and its weight decay."""
    if not name.startswith("relu-"):
        smooth = setting.activation == "linear" or (name == "linear-labels" and setting.loss == "mse")
        return name, 0.0 if smooth else ridge  # without it, other flows end where the rank of the features changes
    n_units = int(name.removeprefix("relu-"))
    return relu_features(setting.width + setting.n_outputs, n_units, generator=stream(seed, "features")), ridge


def _row(
    field: VectorField,
    point: StationaryPoint,
    backprop: VectorField,
    reference: StationaryPoint,
    test: tuple[Tensor, Tensor],
    setting: SmallProblem,
) -> dict[str, Any]:
    """Return the properties of a stationary point, and its distance from backprop's."""
    objective = backprop.objective
    held_out = true_field(objective.network, *test, loss=setting.loss).objective  # without weight decay
    h = objective.output(point.theta)
    return {
        "at_rest": point.converged and point.field_norm <= AT_REST,
        "field_norm": point.field_norm,
        "true_gradient_norm": point.true_gradient_norm,
        "loss": point.loss,
        "data_loss": float(LOSSES[setting.loss](h, objective.y).mean()),
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
