"""A learner: a network, the estimators at its boundaries, and the optimizer that moves both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from repsim.learning.chain import Chain
from repsim.learning.config import TrainingConfig
from repsim.learning.estimators import Estimator, Site
from repsim.learning.networks import NETWORKS
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.rules import Rule
from repsim.learning.stacking import stack
from repsim.learning.step import Outcome, compute_gradients
from repsim.learning.streams import stream

__all__ = ["Learner", "build_learner", "build_optimizer", "site_of"]


class Learner(nn.Module):
    """All that a learning rule changes in one module, so that one ``state_dict`` holds it.

    Parameters
    ----------
    network : Chain
    estimators : mapping of int to Estimator, default empty
        By boundary, one for each that does not use backprop.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    together : bool, default True
        Whether estimators that need nothing from the segments above, and are alike, are stacked and evaluated at once.
        The ``state_dict`` then holds them as one, named by their boundaries: ``estimators.1_2_3``.

    Raises
    ------
    ValueError
        If an estimator stands at a boundary that the network does not have.
    """

    stacks_by_parts = True

    def __init__(
        self,
        network: Chain,
        estimators: Mapping[int, Estimator] | None = None,
        *,
        loss: str = "log_loss",
        together: bool = True,
    ) -> None:
        super().__init__()
        estimators = dict(sorted((estimators or {}).items()))
        for k in estimators:
            network.check_boundary(k)
        self.network, self.loss = network, loss
        groups = _alike(estimators) if together else {(k,): [estimator] for k, estimator in estimators.items()}
        self.estimators = nn.ModuleDict(
            {
                "_".join(map(str, ks)): several[0] if len(several) == 1 else stack(several)
                for ks, several in groups.items()
            }
        )

    def forward(self, X: Tensor) -> Tensor:
        """Return the network's logits (N, n_outputs)."""
        return self.network(X)

    def compute_gradients(self, X: Tensor, y: Tensor, *, watch: bool = False) -> Outcome:
        """Add one batch's gradients to ``.grad`` of every parameter; see ``compute_gradients``."""
        return compute_gradients(self.network, self.placed(), X, y, loss=self.loss, watch=watch)

    def placed(self) -> dict[tuple[int, ...], Estimator]:
        """Return the estimators by the boundaries that each serves."""
        return {
            tuple(map(int, name.split("_"))): cast(Estimator, estimator) for name, estimator in self.estimators.items()
        }


_FREE = frozenset({"activation", "labels", "error"})


def _alike(estimators: Mapping[int, Estimator]) -> dict[tuple[int, ...], list[Estimator]]:
    """Return the estimators in groups that can be evaluated at once, as soon as the forward pass is done."""
    groups: dict[Any, dict[int, Estimator]] = {}
    for k, estimator in estimators.items():
        shared = (type(estimator), estimator.site.shape, estimator.options) if estimator.needs <= _FREE else k
        groups.setdefault(shared, {})[k] = estimator
    return {tuple(group): list(group.values()) for group in groups.values()}


def site_of(network: Chain, k: int, *, loss: str = "log_loss", seed: int = 0, n_outputs: int) -> Site:
    """Return boundary k of a network as a place for an estimator.

    Parameters
    ----------
    network : Chain
    k : int
        1 or more; boundary k lies after hidden segment k.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    seed : int, default 0
        The run's.
    n_outputs : int
        Of the network.
    """
    segments, shapes = network.segments, network.shapes
    above = () if k == len(shapes) else shapes[k]
    return Site(shapes[k - 1], n_outputs, k, segments[k], above, loss, seed)


def build_learner(
    config: TrainingConfig, shape: int | tuple[int, ...], n_outputs: int, *, together: bool = True
) -> Learner:
    """Return the network and estimators that a configuration describes, initialised from its seed.

    Networks of equal shape and seed start from equal weights whatever their rule.

    Parameters
    ----------
    config : TrainingConfig
    shape : int or tuple of int
        Of one example: the number of features, or (channels, height, width).
    n_outputs : int
        Number of classes, or of regression targets.
    together : bool, default True
        See ``Learner``.

    Raises
    ------
    ValueError
        If the network does not suit the shape, or the rule the network.
    """
    network = NETWORKS[config.network](
        (shape,) if isinstance(shape, int) else tuple(shape),
        n_outputs,
        depth=config.depth,
        width=config.width,
        norm=config.norm,
        activation=config.activation,
        shift=config.shift,
        generator=stream(config.seed, "weights"),
    )
    estimators = _build_estimators(config.rules, network, config, n_outputs)
    return Learner(network, estimators, loss=config.loss, together=together)


def _build_estimators(
    rules: Mapping[int, Rule], network: Chain, config: TrainingConfig, n_outputs: int
) -> dict[int, Estimator]:
    return {
        k: rule.build(site_of(network, k, loss=config.loss, seed=config.seed, n_outputs=n_outputs))
        for k, rule in rules.items()
    }


def build_optimizer(learner: Learner, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer over two parameter groups, the network and the estimators, each with its learning rate."""
    groups = [{"params": list(learner.network.parameters()), "lr": config.learning_rate}]
    if learning := list(learner.estimators.parameters()):
        groups.append({"params": learning, "lr": config.estimator_learning_rate})
    return OPTIMIZERS[config.optimizer](groups)
