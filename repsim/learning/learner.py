"""Learners: a network, the estimators at its boundaries, and the optimizer of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from repsim.learning.config import TrainingConfig
from repsim.learning.estimators import Estimator, Site
from repsim.learning.networks import NETWORKS, Chain
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.rules import Rule
from repsim.learning.stacking import stack
from repsim.learning.step import Outcome, compute_gradients
from repsim.learning.streams import stream

__all__ = ["Learner", "build_learner", "build_optimizer", "site_of"]


class Learner(nn.Module):
    """A network and the estimators at its boundaries, as one module with one ``state_dict``.

    Parameters
    ----------
    network : Chain
    estimators : mapping of int to Estimator, default empty
        Estimators by boundary. Boundaries without an estimator use backprop.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    together : bool, default True
        Whether estimators of equal kind, shape and options that need nothing from the backward pass are stacked and
        evaluated together. The ``state_dict`` then holds them as one entry named by their boundaries, such as
        ``estimators.1_2_3``.
    started : mapping of int to int, default empty
        Number of updates made before the estimator at a boundary was added, where that is not 0. Only estimators that
        started together are stacked, as the optimizer counts the updates of a stack as one.

    Raises
    ------
    ValueError
        If the network does not have the boundary of an estimator.
    """

    stacks_by_parts = True

    def __init__(
        self,
        network: Chain,
        estimators: Mapping[int, Estimator] | None = None,
        *,
        loss: str = "log_loss",
        together: bool = True,
        started: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        estimators = dict(sorted((estimators or {}).items()))
        for k in estimators:
            network.check_boundary(k)
        self.network, self.loss = network, loss
        alone = {(k,): [estimator] for k, estimator in estimators.items()}
        groups = _group_alike(estimators, started or {}) if together else alone
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
        """Add the gradients of one batch to ``.grad`` of every parameter; see the function ``compute_gradients``."""
        return compute_gradients(self.network, self.placed(), X, y, loss=self.loss, watch=watch)

    def placed(self) -> dict[tuple[int, ...], Estimator]:
        """Return the estimators, keyed by the tuple of boundaries that each serves."""
        return {
            tuple(map(int, name.split("_"))): cast(Estimator, estimator) for name, estimator in self.estimators.items()
        }


_AVAILABLE_BEFORE_BACKWARD = frozenset({"activation", "labels", "error", "true_gradient"})


def _group_alike(
    estimators: Mapping[int, Estimator], started: Mapping[int, int]
) -> dict[tuple[int, ...], list[Estimator]]:
    """Return the estimators in groups that can be evaluated together before the backward pass."""
    groups: dict[Any, dict[int, Estimator]] = {}
    for k, estimator in estimators.items():
        alike = (type(estimator), estimator.site.shape, estimator.options, started.get(k, 0))
        key = alike if estimator.needs <= _AVAILABLE_BEFORE_BACKWARD else k
        groups.setdefault(key, {})[k] = estimator
    return {tuple(group): list(group.values()) for group in groups.values()}


def site_of(network: Chain, k: int, *, loss: str = "log_loss", seed: int = 0, n_outputs: int) -> Site:
    """Return the site of an estimator at boundary k of a network.

    Parameters
    ----------
    network : Chain
    k : int
        Boundary, 1 or more; boundary k lies after hidden segment k.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    seed : int, default 0
        Seed of the run.
    n_outputs : int
        Number of outputs of the network.
    """
    segments, shapes = network.segments, network.shapes
    above = () if k == len(shapes) else shapes[k]
    return Site(shapes[k - 1], n_outputs, k, segments[k], above, loss, seed)


def build_learner(
    config: TrainingConfig,
    shape: int | tuple[int, ...],
    n_outputs: int,
    *,
    together: bool = True,
    started: Mapping[int, int] | None = None,
) -> Learner:
    """Return the network and estimators that a configuration describes, initialised from its seed.

    Networks of equal shape and seed start from equal weights for every rule.

    Parameters
    ----------
    config : TrainingConfig
    shape : int or tuple of int
        Shape of one example: the number of features, or (channels, height, width).
    n_outputs : int
        Number of classes, or of regression targets.
    together, started
        See ``Learner``.

    Raises
    ------
    ValueError
        If the network cannot process examples of this shape, or if the rule cannot be used in the network.
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
    return Learner(network, estimators, loss=config.loss, together=together, started=started)


def _build_estimators(
    rules: Mapping[int, Rule], network: Chain, config: TrainingConfig, n_outputs: int
) -> dict[int, Estimator]:
    return {
        k: rule.build(site_of(network, k, loss=config.loss, seed=config.seed, n_outputs=n_outputs))
        for k, rule in rules.items()
    }


def build_optimizer(learner: Learner, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer, with one parameter group for the network and one for the estimators."""
    groups = [{"params": list(learner.network.parameters()), "lr": config.learning_rate}]
    if parameters := list(learner.estimators.parameters()):
        groups.append({"params": parameters, "lr": config.estimator_learning_rate})
    return OPTIMIZERS[config.optimizer](groups)
