"""Networks on digits, and whether the module inside is the gradient of a loss, and of which."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.reproduction.claim import Frames
from analysis.reproduction.kit.in_memory import InMemoryTraining
from repsim.learning import LOSSES, Chain, TrainingConfig, diagnose, evaluate
from repsim.theory.implied_loss import (
    agreement,
    curl,
    implied_loss,
    module_of,
    path_dependence,
    quadratic_fit,
    true_loss_at,
)

__all__ = ["WHERE", "Measurement", "imply_in_a_network"]

_FAR = 3  # times as far from the mean as activations are
WHERE = {
    "training": "training activations, own label",
    "own": "held-out activations, own label",
    "other": "held-out activations, another label",
    "far": f"{_FAR} times as far from the mean, own label",
}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The boundary of the module, and when and where implied and true loss are compared.

    Losses are compared after the given ``epochs``, at ``n_points`` training and as many held-out examples; the curl and
    path dependence are of ``n_curls`` and ``n_paths`` held-out ones, and quadratics are fitted in ``n_components``
    principal components. ``tolerance`` is that of the integrals.
    """

    boundary: int
    epochs: tuple[int, ...]
    n_points: int
    n_curls: int
    n_paths: int
    n_components: int
    tolerance: float = 1e-4


def imply_in_a_network(
    folder: Path, *, training: TrainingConfig, measurement: Measurement, data_dir: str | None
) -> Frames:
    """Train a network with one synthetic gradient, and compare implied and true loss after some epochs.

    Returns ``fields`` (one row per time), ``beliefs`` (one row per time and set of points) and ``pairs`` (both losses
    at each point at the last time).
    """
    setup = InMemoryTraining.of(training, data_dir, torch.float64)
    hidden_layers = training.rules[measurement.boundary].options.get("hidden_layers", 0)
    tables: dict[str, list[pd.DataFrame]] = {"fields": [], "beliefs": [], "pairs": []}
    for epoch in _epochs(setup):
        if epoch in measurement.epochs:
            for name, table in _measured(_trained(setup, measurement), measurement).items():
                tables[name].append(table.assign(hidden_layers=hidden_layers, seed=training.seed, epoch=epoch))
    return {
        "fields": pd.concat(tables["fields"], ignore_index=True),
        "beliefs": pd.concat(tables["beliefs"], ignore_index=True),
        "pairs": tables["pairs"][-1],
    }


def _epochs(setup: InMemoryTraining) -> Iterator[int]:
    """Train, and yield the number of each finished epoch."""
    per_epoch = len(setup.split["train"]) // setup.config.batch_size
    yield from (record.epoch for record in setup.steps() if record.step % per_epoch == 0)


def _spread(n: int, n_chosen: int) -> Any:
    """Return equally spaced indices, so that all classes are represented where examples are ordered by class."""
    return np.linspace(0, n - 1, min(n, n_chosen)).round().astype(int)


@dataclass(frozen=True)
class TrainedModule:
    """A copy of a network in evaluation mode, its module S, and activations at the boundary with their labels.

    h and y are of held-out examples; the anchor is the mean activation of all training examples.
    """

    network: Chain
    boundary: int
    S: Any
    h: Tensor
    y: Tensor
    trained: tuple[Tensor, Tensor]
    anchor: Tensor
    tolerance: float
    accuracy: float

    def implied(self, h: Tensor, y: Tensor) -> Tensor:
        return implied_loss(self.S, h, y, anchor=self.anchor, tolerance=self.tolerance)

    def true(self, h: Tensor, y: Tensor) -> Tensor:
        return true_loss_at(self.network, self.boundary, h, y)

    def true_gradient(self, h: Tensor, y: Tensor) -> Tensor:
        """Return ∂ℓ/∂h with its graph to h."""
        above = nn.Sequential(*self.network.segments[self.boundary :])
        with torch.enable_grad():
            h = h if h.requires_grad else h.clone().requires_grad_()
            (slope,) = torch.autograd.grad(LOSSES["log_loss"](above(h), y).sum(), h, create_graph=True)
        return slope

    def pairs(self, where: str) -> pd.DataFrame:
        """Return both losses at a set of points, minus their means over the points of each label."""
        h, y = self._points(where)
        table = pd.DataFrame(
            {"where": where, "label": y.numpy(), "implied": self.implied(h, y).numpy(), "true": self.true(h, y).numpy()}
        )
        values = table[["implied", "true"]]
        table[["implied", "true"]] = values - values.groupby(table["label"]).transform("mean")
        return table

    def _points(self, where: str) -> tuple[Tensor, Tensor]:
        points = {
            "training": self.trained,
            "own": (self.h, self.y),
            "other": (self.h, (self.y + 1) % (int(self.y.max()) + 1)),
            "far": (self.anchor + _FAR * (self.h - self.anchor), self.y),
        }
        return points[where]


@torch.no_grad()
def _trained(setup: InMemoryTraining, measurement: Measurement) -> TrainedModule:
    boundary, n_points = measurement.boundary, measurement.n_points
    network = copy.deepcopy(setup.learner.network).eval()
    below = nn.Sequential(network.input, *network.segments[:boundary])
    (estimator,) = setup.learner.placed().values()
    (trained, labels), (held_out, y) = (
        setup.examples(rows[_spread(len(rows), n_points)]) for rows in (setup.split["train"], setup.split["test"])
    )
    return TrainedModule(
        network,
        boundary,
        module_of(estimator),
        below(held_out),
        y,
        trained=(below(trained), labels),
        anchor=below(setup.examples("train")[0]).mean(dim=0),
        tolerance=measurement.tolerance,
        accuracy=evaluate(network, held_out, y).accuracy,
    )


def _measured(module: TrainedModule, measurement: Measurement) -> Frames:
    pairs = pd.concat([module.pairs(where) for where in WHERE], ignore_index=True)
    return {
        "fields": pd.DataFrame([_field(module, measurement) | _residuals(module, measurement.n_components)]),
        "beliefs": pd.DataFrame([_agreement(where, rows) for where, rows in pairs.groupby("where", sort=False)]),
        "pairs": pairs,
    }


def _field(module: TrainedModule, measurement: Measurement) -> dict[str, Any]:
    """Return the angle of the module to the true gradient, and its distance from being a gradient field."""
    h, y = module.h, module.y
    true = module.true_gradient(h, y).detach()
    (angle,) = diagnose({module.boundary: module.S(h, y).detach()}, {module.boundary: true})[module.boundary]
    curled, walked = (_spread(len(h), n) for n in (measurement.n_curls, measurement.n_paths))
    curls, true_curls = (curl(S, h[curled], y[curled]) for S in (module.S, module.true_gradient))
    paths = path_dependence(module.S, h[walked], y[walked], anchor=module.anchor, tolerance=module.tolerance)
    return {
        "accuracy": module.accuracy,
        "cosine": angle.cosine,
        "curl": float(curls.median()),
        "curl_low": float(curls.quantile(0.1)),
        "curl_high": float(curls.quantile(0.9)),
        "curl_of_true": float(true_curls.max()),
        "path_dependence": paths.relative,
        "n_curls": len(curls),
        "n_paths": len(walked),
    }


def _residuals(module: TrainedModule, n_components: int) -> dict[str, float]:
    """Return the residuals of quadratics fitted to both losses, for label 0, in the first principal components."""
    h, anchor = module.h, module.anchor
    axes = torch.linalg.svd(h - h.mean(dim=0), full_matrices=False).Vh[:n_components]
    z = (h - anchor) @ axes.T
    label = torch.zeros_like(module.y)
    surfaces = {"residual": module.implied, "residual_true": module.true}
    return {name: quadratic_fit(loss(anchor + z @ axes, label), z).relative_residual for name, loss in surfaces.items()}


def _agreement(where: Any, pairs: pd.DataFrame) -> dict[str, Any]:
    """Return correlation and difference of both losses, and the slope of the implied over the true one."""
    implied, true, labels = (torch.from_numpy(pairs[name].to_numpy(copy=True)) for name in ("implied", "true", "label"))
    both = agreement(implied, true, labels)
    return {
        "where": where,
        "correlation": both.correlation,
        "difference": both.relative_difference,
        "slope": float(implied @ true / (true @ true)),
    }
