"""Points on a line, a model of two parameters, and the loss that its synthetic gradient implies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.reproduction.claim import Frames
from analysis.reproduction.kit.in_memory import rate_groups
from repsim.learning import (
    Chain,
    Diverged,
    Learner,
    SyntheticGradient,
    TrainingConfig,
    evaluate,
    site_of,
    stream,
    train_replicas,
    true_gradients,
)
from repsim.theory import linear_model
from repsim.theory.implied_loss import agreement, implied_loss, module_of, quadratic_fit, true_loss_at

__all__ = ["DATA", "LINE_LOSSES", "MODULES", "LineGrid", "LineTraining", "imply_on_a_line"]

DATA = ("separable", "half corrupted")
LINE_LOSSES = {"mse": "squared error", "log_loss": "log loss"}
MODULES = {"linear": 0, "MLP with 1 hidden layer": 1, "MLP with 2 hidden layers": 2}
_PATH_POINTS = 120
_KNOTS = 801  # values of h at which the implied loss is computed; surfaces interpolate between them


@dataclass(frozen=True, kw_only=True)
class LineTraining:
    """Loss, module and training of h = w x + b by Adam on all points.

    ``loss`` and ``module`` are keys of ``LINE_LOSSES`` and ``MODULES``; ``rates`` are those of the model and of the
    module; ``tolerance`` is that of the integrals.
    """

    loss: str
    module: str
    n_points: int
    n_steps: int
    rates: tuple[float, float]
    hidden_width: int
    tolerance: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class LineGrid:
    """Activations and models at which both losses are computed.

    Curves cover -h_limit to h_limit at n_grid points; surfaces cover n_side × n_side models, w in w_limits and b from
    -b_limit to b_limit.
    """

    h_limit: float
    w_limits: tuple[float, float]
    b_limit: float
    n_grid: int = 81
    n_side: int = 37

    def activations(self) -> Tensor:
        """Return h, shape (n_grid, 1)."""
        return torch.linspace(-self.h_limit, self.h_limit, self.n_grid, dtype=torch.float64)[:, None]

    def models(self) -> Tensor:
        """Return w and b, shape (n_side², 2)."""
        w, b = (
            torch.linspace(low, high, self.n_side).double()
            for low, high in (self.w_limits, (-self.b_limit, self.b_limit))
        )
        return torch.cartesian_prod(w, b)


@dataclass(frozen=True)
class LineCase:
    """One training: its data, targets of the loss, and the learner, whose module is at boundary 1."""

    place: Mapping[str, Any]
    X: Tensor
    y: Tensor
    corrupted: Tensor
    learner: Learner
    tolerance: float

    @property
    def loss(self) -> str:
        return self.learner.loss

    @property
    def model(self) -> tuple[float, float]:
        """Slope w and offset b of h = w x + b."""
        layer: Any = self.learner.network.segments[0]
        return float(layer.weight.detach()), float(layer.bias.detach())

    @torch.no_grad()
    def activations(self) -> Tensor:
        """Return h of the training points, shape (N, 1)."""
        return self.learner.network.segments[0](self.X)

    @property
    def field(self) -> Any:
        """The module S as a function of activations and labels."""
        (estimator,) = self.learner.placed().values()
        return module_of(estimator)

    def losses_at(self, h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the implied and the true loss at activations (N, 1), the implied one from the anchor h = 0."""
        implied = implied_loss(self.field, h, y, tolerance=self.tolerance)
        return implied, true_loss_at(self.learner.network, 1, h, y, loss=self.loss)

    def field_error(self) -> float:
        """Return ‖S − t‖² / ‖t‖² over the training points, the relative error of the module."""
        t = true_gradients(self.learner.network, self.X, self.y, loss=self.loss)[1]
        return float((self.field(self.activations(), self.y).detach() - t).square().sum() / t.square().sum())


class _TwoLogits(nn.Module):
    """The fixed output segment h -> (−h/2, h/2), so that h is the log odds of class 1."""

    stacks_by_parts = True

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([-h / 2, h / 2], dim=-1)


def imply_on_a_line(folder: Path, *, training: LineTraining, grid: LineGrid, seeds: Sequence[int]) -> Frames:
    """Train h = w x + b on separable and on half corrupted points, and integrate its synthetic gradient.

    Returns ``line`` (one row per training), ``curves``, ``points``, ``paths`` and, for the first seed, ``surfaces``.
    """
    cases = [_case(training, data, seed) for data, seed in product(DATA, seeds)]
    paths, h = _train(cases, training), grid.activations()
    first = [case for case in cases if case.place["seed"] == seeds[0]]
    return {
        "line": pd.DataFrame([_measured(case, h) for case in cases]),
        "curves": pd.concat([_curves(case, h) for case in cases], ignore_index=True),
        "points": pd.concat([_points(case) for case in cases], ignore_index=True),
        "paths": paths,
        "surfaces": pd.concat([_surface(case, grid.models()) for case in first], ignore_index=True),
    }


def _case(training: LineTraining, data: str, seed: int) -> LineCase:
    loss, module = training.loss, training.module
    X, classes, corrupted = _draw(data, seed, training.n_points)
    network = linear_model(1, 1, generator=stream(seed, "weights"))
    if loss == "log_loss":
        network = Chain([network.segments[0]], _TwoLogits(), shapes=[1])
    site = site_of(network, 1, loss=loss, seed=seed, n_outputs=1 if loss == "mse" else 2)
    options = {"hidden_layers": MODULES[module], "hidden_width": training.hidden_width}
    S = SyntheticGradient(site, generator=stream(seed, "estimator", 1), **options)
    learner = Learner(network, {1: S}, loss=loss).double()
    place = {"loss": loss, "data": data, "module": module, "seed": seed}
    return LineCase(place, X, _labels(classes, loss), corrupted, learner, training.tolerance)


def _draw(data: str, seed: int, n_points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points x (N, 1), their classes (1 where x > 0), and which classes were drawn again."""
    generator = stream(seed, "points on a line")
    X = 2 * torch.rand(n_points, 1, generator=generator, dtype=torch.float64) - 1
    classes, corrupted = (X[:, 0] > 0).long(), torch.zeros(n_points, dtype=torch.bool)
    if data == "half corrupted":
        chosen = torch.randperm(n_points, generator=generator)[: n_points // 2]
        classes[chosen] = torch.randint(2, (len(chosen),), generator=generator)
        corrupted[chosen] = True
    return X, classes, corrupted


def _labels(classes: Tensor, loss: str) -> Tensor:
    """Return the targets of the loss: classes, or -1 and 1 of shape (N, 1) for the squared error."""
    return 2.0 * classes.double()[:, None] - 1.0 if loss == "mse" else classes


def _train(cases: Sequence[LineCase], training: LineTraining) -> pd.DataFrame:
    """Train all cases at once, and return the paths of w and b."""
    n_steps, learners = training.n_steps, [case.learner for case in cases]
    replicas = train_replicas(
        learners,
        [torch.optim.Adam(rate_groups(learner, training.rates)) for learner in learners],
        [(case.X, case.y) for case in cases],
        [
            TrainingConfig(epochs=n_steps, batch_size=len(case.X), seed=case.place["seed"], schedule="cosine")
            for case in cases
        ],
        how="stacked",
    )
    shown = {round(n_steps * (i / _PATH_POINTS) ** 2) for i in range(1, _PATH_POINTS + 1)}
    rows = _models(cases, 0)
    for step, records in enumerate(replicas, start=1):
        for record in records:
            if isinstance(record, Diverged):
                raise record
        if step in shown:
            replicas.write_back()
            rows += _models(cases, step)
    return pd.DataFrame(rows)


def _models(cases: Sequence[LineCase], step: int) -> list[dict[str, Any]]:
    return [{**case.place, "step": step, **dict(zip("wb", case.model, strict=True))} for case in cases]


def _measured(case: LineCase, h: Tensor) -> dict[str, Any]:
    """Return differences of the implied loss from the true one at the points and elsewhere, and from a quadratic.

    "Elsewhere" is outside the range of the points of each label.
    """
    near = agreement(*case.losses_at(case.activations(), case.y), case.y)
    grids = [(h, _labels(torch.full((len(h),), label), case.loss)) for label in (0, 1)]
    residuals = [[quadratic_fit(values, at).relative_residual for values in case.losses_at(at, y)] for at, y in grids]
    outside = [_outside(case, at, label) for label, (at, _) in enumerate(grids)]
    at, y = (torch.cat([grid[which][rows] for grid, rows in zip(grids, outside, strict=True)]) for which in (0, 1))
    away = agreement(*case.losses_at(at, y), y)
    residual, residual_true = (max(each) for each in zip(*residuals, strict=True))
    return {
        **case.place,
        "final_loss": evaluate(case.learner.network, case.X, case.y, loss=case.loss).loss,
        **dict(zip("wb", case.model, strict=True)),
        "field_error": case.field_error(),
        "residual": residual,
        "residual_true": residual_true,
        "correlation": near.correlation,
        "difference": near.relative_difference,
        "correlation_away": away.correlation,
        "difference_away": away.relative_difference,
    }


def _outside(case: LineCase, h: Tensor, label: int) -> Tensor:
    """Return which activations lie outside the range of a label's points, or all if it has none."""
    own = case.activations()[_classes(case) == label]
    return ((h < own.min()) | (h > own.max()))[:, 0] if len(own) else torch.ones(len(h), dtype=torch.bool)


def _classes(case: LineCase) -> Tensor:
    return (case.y[:, 0] > 0).long() if case.loss == "mse" else case.y


def _curves(case: LineCase, h: Tensor) -> pd.DataFrame:
    """Return both losses over h for each label; their means over the points of the label are made equal."""
    tables = []
    for label in (0, 1):
        own = case.activations()[_classes(case) == label]
        implied, true = case.losses_at(torch.cat([h, own]), _labels(torch.full((len(h) + len(own),), label), case.loss))
        shift = (true - implied)[len(h) :].mean() if len(own) else 0.0
        values = {"h": h[:, 0], "implied": (implied + shift)[: len(h)], "true": true[: len(h)]}
        tables.append(pd.DataFrame({**case.place, "label": label, **{k: v.numpy() for k, v in values.items()}}))
    return pd.concat(tables, ignore_index=True)


def _points(case: LineCase) -> pd.DataFrame:
    columns = {"x": case.X[:, 0], "label": _classes(case), "corrupted": case.corrupted, "h": case.activations()[:, 0]}
    return pd.DataFrame({**case.place, **{name: values.numpy() for name, values in columns.items()}})


def _surface(case: LineCase, models: Tensor) -> pd.DataFrame:
    """Return both mean losses over the training points for models (n, 2), minus those of the trained model."""
    models = torch.cat([models, torch.tensor([case.model], dtype=torch.float64)])
    h = models[:, :1] * case.X[:, 0] + models[:, 1:]  # (models, points)
    implied, true = (each.mean(dim=1) for each in _losses_of_points(case, h))
    columns = {"w": models[:, 0], "b": models[:, 1], "implied": implied - implied[-1], "true": true - true[-1]}
    return pd.DataFrame({**case.place, **{name: values[:-1].numpy() for name, values in columns.items()}})


def _losses_of_points(case: LineCase, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return both losses at activations (models, points) under the points' labels, the implied one by interpolation."""
    knots = torch.linspace(float(h.min()), float(h.max()), _KNOTS, dtype=torch.float64)
    implied = torch.empty_like(h)
    for label in (0, 1):
        values, _ = case.losses_at(knots[:, None], _labels(torch.full((_KNOTS,), label), case.loss))
        own = _classes(case) == label
        implied[:, own] = torch.from_numpy(np.interp(h[:, own], knots, values))
    y = case.y.repeat(len(h), *[1] * (case.y.ndim - 1))
    return implied, true_loss_at(case.learner.network, 1, h.reshape(-1, 1), y, loss=case.loss).view_as(h)
