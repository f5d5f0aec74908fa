"""Tasks: descend at rates beyond the limits, with plain steps and with line searches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.claims.artificial.parts import DIMENSIONS, LINEAR, MODELS, LinearCase, best_loss
from analysis.reproduction.kit.in_memory import rate_groups
from repsim.learning import ARTIFICIAL, Diverged, Learner, LineSearch, TrainingConfig, evaluate, train
from repsim.theory import largest_rates

__all__ = ["DELTA", "PLAIN", "SEARCHES", "line_search_parts", "search_beyond"]

DELTA = 0.1
PLAIN, SEARCHES = "plain", ("line search", "tracked line search")
_FACTORS = ((1.1, 0.5, 1.0), (0.5, 1.1, 1.0), (10.0, 10.0, 10.0))  # of the limits of model and module; of the start
_DEEP_RATES = ((0.1, 0.1, 1.0), (1.0, 1.0, 1.0))
_STEPS = {"linear": 400, "deep linear": 300}


def line_search_parts(plan: Plan) -> list[Task]:
    """Return one task per model, data set and dimension."""
    return [
        claim_task(
            f"artificial-searches-{model.replace(' ', '-')}-{name}-{n_features}",
            search_beyond,
            cost=20.0,
            case=LinearCase(model=model, loss="mse", n_features=n_features, method=LINEAR),
            name=name,
            seeds=plan.few_seeds if model == "linear" else plan.seeds[:1],
            n_steps=_STEPS[model],
        )
        for model in MODELS
        for name in ARTIFICIAL
        for n_features in DIMENSIONS
    ]


def search_beyond(folder: Path, *, case: LinearCase, name: str, seeds: Sequence[int], n_steps: int) -> Frames:
    """Return ``searches``: how descents on all examples end at rates that are too high for plain steps.

    Linear models have rates relative to ``largest_rates`` and, at the highest, starts of ten times the usual weights;
    deep linear models have the same rates for model and module. ``excess`` is the final loss relative to that of the
    best linear model, minus 1, and NaN if training diverged; ``waited`` counts the updates at which the network did not
    move. A descent ends early when neither network nor module can move.
    """
    rows = []
    for seed in seeds:
        X, Y = case.data(name, seed)
        limits = largest_rates(X, Y) if case.model == "linear" else None
        for alpha, beta, scale in _DEEP_RATES if limits is None else _FACTORS:
            rates = (alpha, beta) if limits is None else (alpha * limits.alpha, beta * limits.beta)
            for method in (PLAIN, *SEARCHES):
                learner = _started(case.learner(seed), scale)
                place = {"model": case.model, "n_features": case.n_features, "data": name, "seed": seed}
                end = _descend(learner, _optimizer(learner, rates, method), X, Y, n_steps)
                rows.append({**place, "alpha": rates[0], "beta": rates[1], "scale": scale, "method": method, **end})
    return {"searches": pd.DataFrame(rows)}


@torch.no_grad()
def _started(learner: Learner, scale: float) -> Learner:
    """Return the learner with all weights of its network multiplied."""
    for parameter in learner.network.parameters():
        parameter.mul_(scale)
    return learner


def _optimizer(learner: Learner, rates: Sequence[float], method: str) -> torch.optim.Optimizer:
    groups = rate_groups(learner, rates)
    if method == PLAIN:
        return torch.optim.SGD(groups)
    return LineSearch(groups, delta=DELTA if method == SEARCHES[1] else None)


def _descend(learner: Learner, optimizer: torch.optim.Optimizer, X: Tensor, Y: Tensor, n_steps: int) -> dict[str, Any]:
    n_made, waited = 0, 0
    try:
        for step in train(learner, optimizer, X, Y, TrainingConfig(epochs=n_steps, batch_size=len(X))):
            n_made = step.step
            waited += bool(step.line_search) and not step.line_search["network"].size
            if step.line_search and not any(each.size for each in step.line_search.values()):
                break
    except Diverged:
        return {"excess": math.nan, "steps": n_made, "waited": waited}
    final = evaluate(learner.network, X, Y, loss="mse").loss
    return {"excess": final / best_loss(X, Y) - 1, "steps": n_made, "waited": waited}
