"""E6, many units: whether what a synthetic gradient has learned inside a deep network is the gradient of any loss."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.reproduction.claim import Tables
from repsim.learning import (
    LOSSES,
    Chain,
    Learner,
    TrainingConfig,
    build_learner,
    build_optimizer,
    diagnose,
    evaluate,
    load_dataset,
    split_dataset,
    train,
)
from repsim.theory.implied_loss import (
    agreement,
    curl,
    implied_loss,
    module_of,
    path_dependence,
    quadratic_fit,
    true_loss_at,
)

__all__ = ["WHERE", "believe_in_a_network"]

_FAR = 3  # times as far from the mean as activations are
WHERE = {
    "training": "training activations, own label",
    "own": "held-out activations, own label",
    "other": "held-out activations, another label",
    "far": f"{_FAR} times as far from the mean, own label",
}


def believe_in_a_network(
    folder: Path,
    *,
    training: Mapping[str, Any],
    boundary: int,
    at_epochs: Sequence[int],
    n_points: int,
    n_curls: int,
    n_paths: int,
    n_components: int,
    tolerance: float,
    data_dir: str | None,
) -> Tables:
    """Train a network with one synthetic gradient, and ask at several times what loss its module believes in.

    Parameters
    ----------
    folder : Path
        Not used.
    training : mapping
        A ``TrainingConfig``; in double precision.
    boundary : int
        Where the module is.
    at_epochs : sequence of int
        After which epochs to measure.
    n_points, n_curls, n_paths : int
        Examples, trained on and held out, at which losses are compared; held-out ones for the curl and for paths.
    n_components : int
        Principal components of held-out activations, in which a quadratic is fitted.
    tolerance : float
        Of the integrals, see ``implied_loss``.
    data_dir : str or None
        See ``load_dataset``.

    Returns
    -------
    dict of str to DataFrame
        ``fields`` (a row a time), ``beliefs`` (a row a time and set of points) and ``pairs`` (both losses at each
        point at the last time).
    """
    config = TrainingConfig.from_dict(dict(training))
    data = _load(config, data_dir, n_points)
    learner = build_learner(config, data.X.shape[1], int(data.y.max()) + 1).double()
    place = {"hidden_layers": config.rules[boundary].options.get("hidden_layers", 0), "seed": config.seed}
    tables: dict[str, list[pd.DataFrame]] = {"fields": [], "beliefs": [], "pairs": []}
    for epoch in _epochs(learner, config, data):
        if epoch in at_epochs:
            found = _asked(_belief(learner, boundary, data, tolerance), data, n_curls, n_paths, n_components)
            for name, table in found.items():
                tables[name].append(table.assign(**place, epoch=epoch))
    return {
        "fields": pd.concat(tables["fields"], ignore_index=True),
        "beliefs": pd.concat(tables["beliefs"], ignore_index=True),
        "pairs": tables["pairs"][-1],
    }


@dataclass(frozen=True)
class _Data:
    """A data set in double precision, with the rows to train on, and those of both kinds at which to ask."""

    X: Tensor
    y: Tensor
    rows: Mapping[str, Any]

    @property
    def training(self) -> tuple[Tensor, Tensor]:
        return self.X[self.rows["all"]], self.y[self.rows["all"]]

    @property
    def trained(self) -> tuple[Tensor, Tensor]:
        return self.X[self.rows["trained"]], self.y[self.rows["trained"]]

    @property
    def held_out(self) -> tuple[Tensor, Tensor]:
        return self.X[self.rows["held out"]], self.y[self.rows["held out"]]


def _load(config: TrainingConfig, data_dir: str | None, n_points: int) -> _Data:
    dataset = load_dataset(config.data, data_dir)
    split = split_dataset(dataset, config.split_seed)
    rows = {name: split[name][_spread(len(split[name]), n_points)] for name in ("train", "test")}
    rows = {"all": split["train"], "trained": rows["train"], "held out": rows["test"]}
    return _Data(torch.from_numpy(dataset.X).double(), torch.from_numpy(dataset.y), rows)


def _epochs(learner: Learner, config: TrainingConfig, data: _Data) -> Iterator[int]:
    """Train, and yield the number of each epoch when it is over."""
    updates = train(
        learner,
        build_optimizer(learner, config),
        *data.training,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        schedule=config.schedule,
    )
    per_epoch = len(data.training[1]) // config.batch_size
    yield from (record.epoch for record in updates if record.step % per_epoch == 0)


def _spread(n: int, n_chosen: int) -> Any:
    """Return equally spaced indices, so that examples in the order of their classes are all represented."""
    return np.linspace(0, n - 1, min(n, n_chosen)).round().astype(int)


@dataclass(frozen=True)
class _Belief:
    """A network as it is at one time, in evaluation mode, its module S, and activations with their labels.

    Some were trained on, h is of held-out ones. The anchor is the mean over all training examples.
    """

    network: Chain
    boundary: int
    S: Any
    h: Tensor
    y: Tensor
    trained: tuple[Tensor, Tensor]
    anchor: Tensor
    tolerance: float

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
        """Return both losses at a set of points, each less its mean over the points of a label."""
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
def _belief(learner: Learner, boundary: int, data: _Data, tolerance: float) -> _Belief:
    network = copy.deepcopy(learner.network).eval()
    below = nn.Sequential(network.input, *network.segments[:boundary])
    (estimator,) = learner.placed().values()
    (trained, labels), (held_out, y) = data.trained, data.held_out
    anchor = below(data.training[0]).mean(dim=0)
    return _Belief(
        network, boundary, module_of(estimator), below(held_out), y, (below(trained), labels), anchor, tolerance
    )


def _asked(belief: _Belief, data: _Data, n_curls: int, n_paths: int, n_components: int) -> Tables:
    pairs = pd.concat([belief.pairs(where) for where in WHERE], ignore_index=True)
    return {
        "fields": pd.DataFrame([{**_field(belief, data, n_curls, n_paths), **_residuals(belief, n_components)}]),
        "beliefs": pd.DataFrame([_agreement(where, rows) for where, rows in pairs.groupby("where", sort=False)]),
        "pairs": pairs,
    }


def _field(belief: _Belief, data: _Data, n_curls: int, n_paths: int) -> dict[str, Any]:
    """Return how near the module is to the true gradient, and how near to being the gradient of anything."""
    h, y = belief.h, belief.y
    true = belief.true_gradient(h, y).detach()
    (angle,) = diagnose({belief.boundary: belief.S(h, y).detach()}, {belief.boundary: true})[belief.boundary]
    curled, walked = _spread(len(h), n_curls), _spread(len(h), n_paths)
    curls, true_curls = (curl(S, h[curled], y[curled]) for S in (belief.S, belief.true_gradient))
    paths = path_dependence(belief.S, h[walked], y[walked], anchor=belief.anchor, tolerance=belief.tolerance)
    return {
        "accuracy": evaluate(belief.network, *data.held_out).accuracy,
        "cosine": angle.cosine,
        "curl": float(curls.median()),
        "curl_low": float(curls.quantile(0.1)),
        "curl_high": float(curls.quantile(0.9)),
        "curl_of_true": float(true_curls.max()),
        "path_dependence": paths.relative,
        "n_curls": len(curls),
        "n_paths": len(walked),
    }


def _residuals(belief: _Belief, n_components: int) -> dict[str, float]:
    """Return what is left of both losses, for label 0, by a quadratic in the first principal components."""
    h, anchor = belief.h, belief.anchor
    axes = torch.linalg.svd(h - h.mean(dim=0), full_matrices=False).Vh[:n_components]
    z = (h - anchor) @ axes.T
    label = torch.zeros_like(belief.y)
    surfaces = {"residual": belief.implied, "residual_true": belief.true}
    return {name: quadratic_fit(loss(anchor + z @ axes, label), z).relative_residual for name, loss in surfaces.items()}


def _agreement(where: Any, pairs: pd.DataFrame) -> dict[str, Any]:
    """Return how alike both losses are, and by how much the implied one rises where the true one rises by 1."""
    implied, true, labels = (torch.from_numpy(pairs[name].to_numpy(copy=True)) for name in ("implied", "true", "label"))
    found = agreement(implied, true, labels)
    return {
        "where": where,
        "correlation": found.correlation,
        "difference": found.relative_difference,
        "slope": float(implied @ true / (true @ true)),
    }
