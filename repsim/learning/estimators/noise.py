"""Noise: a control in which only the output segment learns from the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from repsim.learning.draws import Draws
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.settings import setting

__all__ = ["Noise", "NoiseOptions"]


@dataclass(frozen=True, kw_only=True)
class NoiseOptions(RuleOptions):
    """Options of the noise."""

    scale: float | None = setting(
        None,
        help="standard deviation σ; none for the root mean square of the first target, before which g_k is 0",
        lowest=0,
    )


class Noise(Estimator):
    """g_k = σ · N(0, I), drawn independently at each step."""

    formula = "σ · N(0, I)"
    reference = "Czarnecki et al. (2017), Understanding synthetic gradients"
    Options = NoiseOptions
    needs = frozenset[str]()
    options: NoiseOptions
    scale: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        self.draws = Draws(site.seed, site.boundary)
        self.register_buffer("scale", torch.tensor(float(self.options.scale or 0.0)))

    def gradient(self, signals: Signals) -> Tensor:
        """Return σ times the next draws."""
        h = signals.activation
        return self.draws.normal_like(h) * self.scale.view(*self.scale.shape, *[1] * (h.ndim - self.scale.ndim))

    @torch.no_grad()
    def loss(self, gradient: Tensor, signals: Signals) -> None:
        """Set σ from the first target that is not zero; nothing is minimised."""
        assert signals.target is not None
        if self.options.scale is None and not self.scale.all():
            rms = signals.target.flatten(self.scale.ndim).square().mean(dim=-1).sqrt()
            self.scale.copy_(torch.where(self.scale > 0, self.scale, rms))
