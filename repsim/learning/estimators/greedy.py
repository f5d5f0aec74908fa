"""Decoupled greedy learning: the gradient of a small local classifier at each boundary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Generator, Tensor, nn

from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.learning.estimators.sequences import PooledPositions
from repsim.learning.losses import LOSSES
from repsim.learning.networks import Readout
from repsim.learning.networks.initial_weights import draw_weights
from repsim.settings import setting

__all__ = ["DecoupledGreedy", "DecoupledGreedyOptions"]


@dataclass(frozen=True, kw_only=True)
class DecoupledGreedyOptions(RuleOptions):
    """Options of the local classifier A."""

    hidden_layers: int = setting(0, help="hidden layers of the classifier A; 0 for a linear classifier", lowest=0)
    hidden_width: int | None = setting(
        None, help="units of each hidden layer; none for as many as h_k has units (channels)", lowest=1
    )
    pool: int = setting(
        4,
        help="for feature maps and sequences: side length, or number of positions, to which they are average-pooled "
        "before A",
        lowest=1,
    )


class DecoupledGreedy(Estimator):
    """g_k = ∂/∂h_k ℓ(A_k(h_k), y), where the local classifier A_k minimises the same ℓ, the loss of the network.

    References
    ----------
    Belilovsky, Eickenberg, Oyallon (2020), Decoupled greedy learning of CNNs.
    """

    formula = "∂/∂h_k ℓ(A_k(h_k), y)"
    learns = "A: ℓ(A_k(h_k), y)"
    reference = "Belilovsky, Eickenberg, Oyallon (2020), Decoupled greedy learning of CNNs"
    Options = DecoupledGreedyOptions
    needs = frozenset({"activation", "labels"})
    learns_alone = True
    options: DecoupledGreedyOptions

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        if len(site.shape) > 3:
            raise ValueError(
                f"h_{site.boundary} has shape {site.shape} for each example; a local classifier needs a vector, a "
                "sequence (positions, width) or a map (channels, height, width). Flatten it in the block before."
            )
        channels, *size = site.shape if len(site.shape) != 2 else site.shape[::-1]
        sides = tuple(min(side, self.options.pool) for side in size)
        hidden = [self.options.hidden_width or channels] * self.options.hidden_layers
        widths = [int(torch.Size([channels, *sides]).numel()), *hidden, site.n_outputs]
        layers = [
            draw_weights(nn.utils.skip_init(nn.Linear, fan_in, fan_out), sqrt(1.0 / fan_in), generator)
            for fan_in, fan_out in pairwise(widths)
        ]
        first = [nn.Sequential(PooledPositions(*sides), layers[0])] if len(size) == 1 else layers[:1]
        if len(size) == 2:
            first = [Readout(nn.AdaptiveAvgPool2d(sides), layers[0])]
        self.classifier = nn.Sequential(*first, *(part for layer in layers[1:] for part in (nn.ReLU(), layer)))

    def gradient(self, signals: Signals) -> Tensor:
        """Return the gradient of the local loss of each example."""
        with torch.enable_grad():
            h = signals.activation.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._losses(replace(signals, activation=h)).sum(), h)
        return slope

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean local loss, shape (*lead)."""
        return self._losses(signals).mean(dim=-1)

    def _losses(self, signals: Signals) -> Tensor:
        assert signals.labels is not None
        output = self.classifier(signals.activation)
        shape = output.shape if signals.labels.is_floating_point() else output.shape[:-1]
        return LOSSES[self.site.loss](output, signals.labels.expand(shape))
