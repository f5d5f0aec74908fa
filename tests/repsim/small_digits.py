"""Short training on handwritten digits, for tests that a rule learns."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from repsim.learning import TrainingConfig, build_learner, build_optimizer, evaluate, load_dataset, train


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_dataset("digits")
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(data.X)[order], torch.from_numpy(data.y)[order]


def digits_accuracy(rule: str, shape: int | tuple[int, ...] = 64, **settings: Any) -> float:
    """Return the accuracy on 500 held-out digits after training on the others; chance is 0.1."""
    small = {"depth": 2, "width": 64, "epochs": 8, "batch_size": 50, "learning_rate": 3e-3, "boundaries": "all"}
    config = TrainingConfig.from_dict(small | settings | {"rule": rule})
    learner = build_learner(config, shape, 10)
    X, y = digits()
    for _ in train(learner, build_optimizer(learner, config), X[500:], y[500:], config):
        pass
    return evaluate(learner.network, X[:500], y[:500], loss=config.loss).accuracy
