"""Networks on digits: whether the module at each boundary is the gradient of a loss, and of which."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.reproduction.claim import Frames
from analysis.reproduction.kit.in_memory import InMemoryTraining
from repsim.learning import LOSSES, Chain, TrainingConfig, build_learner, diagnose, evaluate
from repsim.theory.implied_loss import (
    Field,
    agreement,
    curl,
    data_directions,
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
    """When and where implied and true loss are compared, at every boundary.

    Losses are compared after the given ``epochs``, at ``n_points`` training and as many held-out examples; the curl and
    path dependence are of ``n_curls`` and ``n_paths`` held-out ones, and quadratics are fitted in ``n_components``
    principal components. The subspace of the data holds ``share`` of the variance of training activations.
    ``tolerance`` is that of the integrals.
    """

    epochs: tuple[int, ...]
    n_points: int
    n_curls: int
    n_paths: int
    n_components: int
    share: float
    tolerance: float = 1e-4


def imply_in_a_network(
    folder: Path, *, training: TrainingConfig, measurement: Measurement, data_dir: str | None
) -> Frames:
    """Train a network with a synthetic gradient at every boundary, and compare implied and true losses meanwhile.

    Returns ``fields`` (one row per time and boundary), ``beliefs`` (one row per time, boundary and set of points) and
    ``pairs`` (both losses at each held-out point and boundary at the last time).
    """
    setup = InMemoryTraining.of(training, data_dir, torch.float64)
    learner = build_learner(training, setup.dataset.shape, len(setup.dataset.classes), together=False)
    setup = replace(setup, learner=learner.to(setup.X))
    hidden_layers = training.rules[1].options.get("hidden_layers", 0)
    tables: dict[str, list[pd.DataFrame]] = {"fields": [], "beliefs": [], "pairs": []}
    for epoch in _epochs(setup):
        if epoch in measurement.epochs:
            for module in _modules(setup, measurement):
                place = {"hidden_layers": hidden_layers, "seed": training.seed, "epoch": epoch}
                for name, table in _measured(module, measurement).items():
                    tables[name].append(table.assign(**place, boundary=module.boundary))
    pairs = pd.concat(tables["pairs"], ignore_index=True)
    is_shown = (pairs["epoch"] == pairs["epoch"].max()) & (pairs["where"] == "own")
    return {
        "fields": pd.concat(tables["fields"], ignore_index=True),
        "beliefs": pd.concat(tables["beliefs"], ignore_index=True),
        "pairs": pairs[is_shown].reset_index(drop=True),
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
    """A copy of a network in evaluation mode, its module S at a boundary, and activations there with their labels.

    h and y are of held-out examples, ``trained`` of as many training examples, and ``all_trained`` of all of these.
    ``fit`` is the linear module that is nearest to the true gradient at all training examples (least squares).
    """

    network: Chain
    boundary: int
    S: Field
    fit: Field
    h: Tensor
    y: Tensor
    trained: tuple[Tensor, Tensor]
    all_trained: Tensor
    tolerance: float
    accuracy: float

    @property
    def anchor(self) -> Tensor:
        """The mean activation of all training examples."""
        return self.all_trained.mean(dim=0)

    def implied(self, h: Tensor, y: Tensor, S: Field | None = None) -> Tensor:
        return implied_loss(self.S if S is None else S, h, y, anchor=self.anchor, tolerance=self.tolerance)

    def true(self, h: Tensor, y: Tensor) -> Tensor:
        return true_loss_at(self.network, self.boundary, h, y)

    def true_gradient(self, h: Tensor, y: Tensor) -> Tensor:
        """Return ∂ℓ/∂h with its graph to h."""
        return _true_gradient(self.network, self.boundary, h, y)

    def pairs(self, where: str) -> pd.DataFrame:
        """Return the losses at a set of points, minus their means over the points of each label."""
        h, y = self._points(where)
        losses = {"implied": self.implied(h, y), "true": self.true(h, y), "fitted": self.implied(h, y, self.fit)}
        values = pd.DataFrame({name: loss.numpy() for name, loss in losses.items()})
        label = pd.Series(y.numpy(), name="label")
        return pd.concat([label, values - values.groupby(label).transform("mean")], axis=1).assign(where=where)

    def _points(self, where: str) -> tuple[Tensor, Tensor]:
        points = {
            "training": self.trained,
            "own": (self.h, self.y),
            "other": (self.h, (self.y + 1) % (int(self.y.max()) + 1)),
            "far": (self.anchor + _FAR * (self.h - self.anchor), self.y),
        }
        return points[where]


def _true_gradient(network: Chain, boundary: int, h: Tensor, y: Tensor) -> Tensor:
    above = nn.Sequential(*network.segments[boundary:])
    with torch.enable_grad():
        h = h if h.requires_grad else h.clone().requires_grad_()
        (slope,) = torch.autograd.grad(LOSSES["log_loss"](above(h), y).sum(), h, create_graph=True)
    return slope


def _modules(setup: InMemoryTraining, measurement: Measurement) -> Iterator[TrainedModule]:
    """Yield the module of each boundary as it is now."""
    network = copy.deepcopy(setup.learner.network).eval()
    test = setup.split["test"]
    X, y = setup.examples(test[_spread(len(test), measurement.n_points)])
    X_trained, y_trained = setup.examples("train")
    chosen = _spread(len(X_trained), measurement.n_points)
    accuracy = evaluate(network, X, y).accuracy
    for (boundary,), estimator in setup.learner.placed().items():
        below = nn.Sequential(network.input, *network.segments[:boundary])
        with torch.no_grad():
            h, h_trained = below(X), below(X_trained)
        yield TrainedModule(
            network,
            boundary,
            module_of(estimator),
            _fit_linear(h_trained, y_trained, _true_gradient(network, boundary, h_trained, y_trained).detach()),
            h,
            y,
            trained=(h_trained[chosen], y_trained[chosen]),
            all_trained=h_trained,
            tolerance=measurement.tolerance,
            accuracy=accuracy,
        )


def _fit_linear(h: Tensor, y: Tensor, t: Tensor) -> Field:
    """Return the S(h, y) = A h + V y that is nearest to t."""
    n_classes = int(y.max()) + 1
    inputs = torch.cat([h, F.one_hot(y, n_classes).to(h)], dim=1)
    weight = torch.linalg.lstsq(inputs.cpu(), t.cpu(), driver="gelsd").solution.to(h)  # units that are off: least norm
    A, V = weight[: h.shape[1]], weight[h.shape[1] :]
    return lambda h, y: h @ A + V[y]


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
    walked = _spread(len(h), measurement.n_paths)
    paths = path_dependence(module.S, h[walked], y[walked], anchor=module.anchor, tolerance=module.tolerance)
    return {
        "accuracy": module.accuracy,
        "cosine": angle.cosine,
        **_curls(module, measurement),
        "path_dependence": paths.relative,
        "n_paths": len(walked),
    }


def _curls(module: TrainedModule, measurement: Measurement) -> dict[str, Any]:
    """Return medians of the curl over all units, in the subspace of the data, and weighted by their covariance."""
    chosen = _spread(len(module.h), measurement.n_curls)
    h, y = module.h[chosen], module.y[chosen]
    subspace = data_directions(module.all_trained, share=measurement.share)
    root = data_directions(module.all_trained, weighted=True)
    everywhere = curl(module.S, h, y)
    return {
        "curl": float(everywhere.median()),
        "curl_low": float(everywhere.quantile(0.1)),
        "curl_high": float(everywhere.quantile(0.9)),
        "curl_in_subspace": float(curl(module.S, h, y, directions=subspace).median()),
        "curl_weighted": float(curl(module.S, h, y, directions=root).median()),
        "curl_of_fit": float(curl(module.fit, h, y, directions=root).median()),
        "curl_of_true": float(curl(module.true_gradient, h, y).max()),
        "n_dimensions": subspace.shape[1],
        "n_curls": len(chosen),
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
    implied, true, fitted, labels = (
        torch.from_numpy(pairs[name].to_numpy(copy=True)) for name in ("implied", "true", "fitted", "label")
    )
    both = agreement(implied, true, labels)
    return {
        "where": where,
        "correlation": both.correlation,
        "correlation_of_fit": agreement(fitted, true, labels).correlation,
        "difference": both.relative_difference,
        "slope": both.slope,
    }
