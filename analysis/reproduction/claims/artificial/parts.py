"""Tasks: train linear and deep linear models, and measure rates of convergence near the solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.kit.in_memory import rate_groups
from repsim.learning import (
    ARTIFICIAL,
    Chain,
    Diverged,
    Learner,
    SyntheticGradient,
    TrainingConfig,
    artificial,
    evaluate,
    mlp,
    site_of,
    stream,
    train_replicas,
)
from repsim.theory import largest_rates, least_squares, linear_model, spectral_radius

__all__ = ["best_loss", "parts"]

DIMENSIONS = (2, 100)
MODELS = {"linear": "linear model", "deep linear": "10 hidden linear layers"}
LOSSES = {"mse": "mean squared error", "log_loss": "log loss"}
METHODS = {  # and their links
    "backprop": "",
    "synthetic gradient": "linear",
    "sigmoid synthetic gradient": "sigmoid",
    "softmax synthetic gradient": "softmax",
}
BACKPROP, LINEAR, SIGMOID, SOFTMAX = METHODS
FITTING = {SIGMOID, SOFTMAX}  # methods whose module can express the gradient of the log loss of two classes
SEPARABLE = "linear"  # the set whose classes a plane divides, so that its log loss has no minimum
N_EXAMPLES, WIDTH, DEPTH = 500, 16, 10
RATES = {  # of the model, of the module
    ("linear", "mse"): (0.1, 0.2),
    ("linear", "log_loss"): (0.1, 0.2),
    ("deep linear", "mse"): (3e-3, 1e-2),
    ("deep linear", "log_loss"): (1e-3, 1e-2),
}
FACTORS = (0.1, 0.5, 0.9, 0.98, 1.02, 1.1)  # learning rates, as multiples of the largest that theory allows
_STEPS = {("linear", 2): 6000, ("linear", 100): 1500, ("deep linear", 2): 1500, ("deep linear", 100): 1500}
_CURVE_POINTS = 60
_MOST_STEPS, _SMALLEST, _LARGEST = 2000, 1e-12, 1e-2  # of a descent near the solution: steps, and distance from it
_START_BELOW, _START_BEYOND = 1e-4, 1e-9


@dataclass(frozen=True, kw_only=True)
class LinearCase:
    """A linear or deep linear model of artificial examples, its loss and its method of learning.

    ``model``, ``loss`` and ``method`` are names in ``MODELS``, ``LOSSES`` and ``METHODS``; ``depth`` and ``width`` are
    those of a deep linear model.
    """

    model: str
    loss: str
    n_features: int
    method: str
    n_examples: int = N_EXAMPLES
    depth: int = DEPTH
    width: int = WIDTH

    def data(self, name: str, seed: int) -> tuple[Tensor, Tensor]:
        """Return X and classes, or for the squared error targets of ±1 (N, 1), in double precision."""
        dataset = artificial(name, self.n_features, self.n_examples, seed)
        y = torch.from_numpy(dataset.y)
        targets = 2.0 * y.double()[:, None] - 1.0 if self.loss == "mse" else y
        return torch.from_numpy(dataset.X).double(), targets

    def learner(self, seed: int) -> Learner:
        """Return the model in double precision, with a label-conditioned module in its middle, or without."""
        n_outputs = 1 if self.loss == "mse" else 2
        network = self._network(n_outputs, stream(seed, "weights"))
        middle = (len(network.boundaries) + 1) // 2
        site = site_of(network, middle, loss=self.loss, seed=seed, n_outputs=n_outputs)
        if self.method == BACKPROP:
            return Learner(network, loss=self.loss).double()
        module = SyntheticGradient(site, generator=stream(seed, "estimator", middle), link=METHODS[self.method])
        return Learner(network, {middle: module}, loss=self.loss).double()

    def _network(self, n_outputs: int, generator: torch.Generator) -> Chain:
        if self.model == "linear":
            return linear_model(self.n_features, n_outputs, generator=generator)
        kind: dict[str, Any] = {"norm": "none", "activation": "linear"}
        return mlp(self.n_features, n_outputs, depth=self.depth, width=self.width, generator=generator, **kind)


def parts(plan: Plan) -> list[Task]:
    """Return one task per model, loss, dimension and method, and one per data set and dimension for the rates."""
    trainings = [
        claim_task(
            f"artificial-{model.replace(' ', '-')}-{loss}-{n_features}-{method.replace(' ', '-')}",
            train_sets,
            cost=14.0 if model == "linear" else 45.0,
            case=LinearCase(model=model, loss=loss, n_features=n_features, method=method),
            seeds=plan.seeds,
            n_steps=_STEPS[model, n_features],
            rates=RATES[model, loss],
        )
        for model, loss, n_features, method in product(MODELS, LOSSES, DIMENSIONS, METHODS)
        if method not in FITTING or loss == "log_loss"  # the squared error has a linear gradient
    ]
    rates = [
        claim_task(
            f"artificial-rates-{name}-{n_features}",
            measure_rates,
            cost=4.0,
            case=LinearCase(model="linear", loss="mse", n_features=n_features, method=LINEAR),
            name=name,
            seed=plan.seeds[0],
            factors=FACTORS,
        )
        for name, n_features in product(ARTIFICIAL, DIMENSIONS)
    ]
    return [*trainings, *rates]


def train_sets(folder: Path, *, case: LinearCase, seeds: Sequence[int], n_steps: int, rates: Sequence[float]) -> Frames:
    """Train one model on all sets with all seeds at once, by full-batch gradient steps.

    ``rates`` are those of the model and of the module. Returns ``curves``, the training loss (``value``) before some
    steps, and ``endings``: ``final`` loss, loss of the ``best`` linear model (squared error only), and number of
    ``steps`` until 99 % of the decrease; all NaN if training diverged.
    """
    keys = [(name, seed) for name in ARTIFICIAL for seed in seeds]
    data = [case.data(name, seed) for name, seed in keys]
    learners = [case.learner(seed) for _, seed in keys]
    optimizers = [_optimizer(learner, case.model, rates) for learner in learners]
    points = set(np.unique(np.geomspace(1, n_steps, _CURVE_POINTS).round()).astype(int).tolist())
    place = {"model": case.model, "loss": case.loss, "n_features": case.n_features, "method": case.method}
    curves: list[dict[str, Any]] = []
    losses: list[list[float]] = [[] for _ in keys]
    schedule = "cosine" if case.model == "deep linear" else "constant"
    configs = [
        TrainingConfig(epochs=n_steps, batch_size=case.n_examples, seed=seed, schedule=schedule) for _, seed in keys
    ]
    training = train_replicas(learners, optimizers, data, configs, how="stacked")
    for number, records in enumerate(training, start=1):
        for (name, seed), record, history in zip(keys, records, losses, strict=True):
            if isinstance(record, Diverged):
                continue
            history.append(record.loss)
            if number in points:
                curves.append({**place, "data": name, "seed": seed, "step": number, "value": record.loss})
    training.write_back()
    ends = [
        {**place, "data": name, "seed": seed, **_ending(learner, X, y, history, n_steps)}
        for (name, seed), learner, (X, y), history in zip(keys, learners, data, losses, strict=True)
    ]
    return {"curves": pd.DataFrame(curves), "endings": pd.DataFrame(ends)}


def _optimizer(learner: Learner, model: str, rates: Sequence[float]) -> torch.optim.Optimizer:
    groups = rate_groups(learner, rates)
    return torch.optim.SGD(groups) if model == "linear" else torch.optim.Adam(groups)


def _ending(learner: Learner, X: Tensor, y: Tensor, history: Sequence[float], n_steps: int) -> dict[str, Any]:
    """Return the final loss, the loss of the best linear model where it is known, and the number of steps."""
    if len(history) < n_steps:
        return {"final": math.nan, "best": math.nan, "steps": math.nan}
    final = evaluate(learner.network, X, y, loss=learner.loss).loss
    best = math.nan
    if learner.loss == "mse":
        best = best_loss(X, y)
    near = np.flatnonzero(np.asarray(history) - final <= 0.01 * (history[0] - final))
    return {"final": final, "best": best, "steps": int(near[0]) + 1 if len(near) else n_steps}


def best_loss(X: Tensor, Y: Tensor) -> float:
    """Return the smallest squared error of a linear model."""
    Z = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
    return float((Z @ least_squares(X, Y) - Y).square().sum(dim=1).mean())


def measure_rates(folder: Path, *, case: LinearCase, name: str, seed: int, factors: Sequence[float]) -> Frames:
    """Return ``rates``: the measured factor per step near the solution of the linear model, and its prediction.

    ``factors`` are learning rates of the model, and then of the module, as multiples of the largest that theory
    allows; the other learning rate is half its largest. ``spectral_radius`` is that of the iteration matrix.
    """
    X, Y = case.data(name, seed)
    limits = largest_rates(X, Y)
    rows = []
    for which in ("model", "module"):
        for factor in factors:
            alpha = limits.alpha * (factor if which == "model" else 0.5)
            beta = limits.beta * (factor if which == "module" else 0.5)
            predicted = spectral_radius(X, Y, alpha, beta)
            start = _START_BELOW if predicted < 1 else _START_BEYOND
            measured = _measured_factor(case.learner(seed), X, Y, (alpha, beta), start, seed)
            rows.append(
                {
                    "data": name,
                    "n_features": case.n_features,
                    "seed": seed,
                    "varied": which,
                    "factor": factor,
                    "alpha": alpha,
                    "beta": beta,
                    "spectral_radius": predicted,
                    "measured": measured,
                }
            )
    return {"rates": pd.DataFrame(rows)}


def _measured_factor(
    learner: Learner, X: Tensor, Y: Tensor, rates: tuple[float, float], start: float, seed: int
) -> float:
    """Return the factor by which a late step multiplies the distance from the solution.

    A descent that diverges starts so close to the solution that the linearised map still holds when the fastest
    direction dominates; a descent that converges is followed as far as rounding allows.
    """
    optimizer = _optimizer(learner, "linear", rates)
    best = least_squares(X, Y)
    _place_near_solution(learner, best, start, seed)
    solution = torch.cat([X, X.new_ones(len(X), 1)], dim=1) @ best
    distances = [_distance(learner, X, Y, solution)]
    for _ in range(_MOST_STEPS):
        optimizer.zero_grad()
        learner.compute_gradients(X, Y)
        optimizer.step()
        distances.append(_distance(learner, X, Y, solution))
        if not _SMALLEST < distances[-1] < _LARGEST:
            break
    since = 3 * len(distances) // 4
    return float((distances[-1] / distances[since - 1]) ** (1 / (len(distances) - since)))


@torch.no_grad()
def _place_near_solution(learner: Learner, best: Tensor, off: float, seed: int) -> None:
    """Set model and module to their exact values plus a small random perturbation."""
    generator = stream(seed, "perturbation")
    layer: Any = learner.network.segments[0]
    module: Any = next(iter(learner.estimators.values()))
    exact = {
        layer.weight: best[:-1].T,
        layer.bias: best[-1],
        module.layers[0].weight: torch.full((1, 1), 2.0),
        module.layers[0].bias: torch.zeros(1),
        module.label_vectors.weight: torch.full((1, 1), -2.0),
    }
    for parameter, value in exact.items():
        parameter.copy_(value + off * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


@torch.no_grad()
def _distance(learner: Learner, X: Tensor, Y: Tensor, solution: Tensor) -> float:
    """Return the distance of model and module outputs from exact: root mean square over examples."""
    module: Any = next(iter(learner.estimators.values()))
    estimate = solution @ module.layers[0].weight.T + module.layers[0].bias + Y @ module.label_vectors.weight
    off = torch.cat([learner.network(X) - solution, estimate - 2 * (solution - Y)], dim=1)
    return float(off.square().sum(dim=1).mean().sqrt())
