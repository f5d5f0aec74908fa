"""A learner: a network, the estimators at its boundaries, and the optimizer that moves both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from repsim.learning.config import TrainingConfig
from repsim.learning.estimators import ESTIMATORS, Estimator
from repsim.learning.networks import Chain, mlp
from repsim.learning.seeds import stream
from repsim.learning.step import Outcome, compute_gradients

__all__ = ["Learner", "build_learner", "build_optimizer"]


class Learner(nn.Module):
    """All that a learning rule changes in one module, so that one ``state_dict`` holds it.

    Parameters
    ----------
    network : Chain
    estimators : mapping of int to Estimator, default empty
        By boundary, one for each that does not use backprop.

    Raises
    ------
    ValueError
        If an estimator stands at a boundary that the network does not have.
    """

    def __init__(self, network: Chain, estimators: Mapping[int, Estimator] | None = None) -> None:
        super().__init__()
        estimators = dict(estimators or {})
        outside = sorted(set(estimators) - set(network.boundaries))
        if outside:
            last = len(network.boundaries)
            raise ValueError(f"There is no boundary {outside[0]}; this network has boundaries 1 to {last}.")
        self.network = network
        self.estimators = nn.ModuleDict({str(k): estimators[k] for k in sorted(estimators)})

    def forward(self, X: Tensor) -> Tensor:
        """Return the network's logits (N, n_classes)."""
        return self.network(X)

    def compute_gradients(self, X: Tensor, y: Tensor) -> Outcome:
        """Add one batch's gradients to ``.grad`` of every parameter; see ``compute_gradients``."""
        by_boundary = {int(k): cast(Estimator, estimator) for k, estimator in self.estimators.items()}
        return compute_gradients(self.network, by_boundary, X, y)


def build_learner(config: TrainingConfig, n_features: int, n_classes: int) -> Learner:
    """Return the network and estimators that a configuration describes, initialised from its seed.

    Networks of equal shape and seed start from equal weights whatever their rule.
    """
    network = mlp(
        n_features,
        n_classes,
        depth=config.depth,
        width=config.width,
        norm=config.norm,
        activation=config.activation,
        generator=stream(config.seed, "weights"),
    )
    build = ESTIMATORS[config.rule].build
    estimators = {
        k: build(
            network.widths[k - 1],
            n_classes,
            options=config.rule_options,
            generator=stream(config.seed, "estimator", k),
        )
        for k in config.cut_boundaries
    }
    return Learner(network, estimators)


def build_optimizer(learner: Learner, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return Adam over two parameter groups: the network, and the estimators with a learning rate of their own."""
    groups = [{"params": list(learner.network.parameters()), "lr": config.learning_rate}]
    if learning := list(learner.estimators.parameters()):
        groups.append({"params": learning, "lr": config.sg_learning_rate})
    return torch.optim.Adam(groups, fused=True)
