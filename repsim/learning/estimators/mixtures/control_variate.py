"""A synthetic gradient as control variate: an unbiased estimate that reads the target of some examples only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from repsim.learning.draws import Draws
from repsim.learning.estimators.estimator import Signals, Site
from repsim.learning.estimators.synthetic_gradient import SyntheticGradient, SyntheticGradientOptions
from repsim.settings import setting

__all__ = ["ControlVariate", "ControlVariateOptions"]


@dataclass(frozen=True, kw_only=True)
class ControlVariateOptions(SyntheticGradientOptions):
    """Options of the module S, and of the draws."""

    probability: float = setting(
        0.5, help="probability p with which the target is used, above 0 and at most 1", positive=True, highest=1
    )
    per: str = setting(
        "example", help="what z is drawn for: each example, or each batch as one", choices=("example", "batch")
    )


class ControlVariate(SyntheticGradient):
    """g_k = S(h_k[, y]) + z/p · (t_k − S(h_k[, y])), with z = 1 with probability p, else 0; S learns from t_k.

    The expectation over z is t_k, whatever S is. As pull-backs are linear, the expected gradient of all weights, over
    the independent z of all boundaries, is that of backprop. The draws add the variance (1 − p)/p · ‖t_k − S‖² for each
    example at its boundary, so that the logged loss of S, times (1 − p)/p, is the mean of that variance over examples.
    p = 1 is backprop.

    References
    ----------
    Ciosek, Felicioni, Elenter Litwin (2025), Linear gradient prediction with control variates, arXiv 2511.05187. The
    idea of an unbiased update from predicted gradients is theirs; this estimator is ours (see ``docs/rules.md``).
    """

    formula = "S_k(h_k[, y]) + z/p · (t_k − S_k(h_k[, y])), z = 1 with probability p, else 0"
    reference = "after Ciosek, Felicioni, Elenter Litwin (2025), Linear gradient prediction with control variates"
    Options = ControlVariateOptions
    options: ControlVariateOptions
    regresses = False  # g_k is not S alone

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        self.needs = self.needs | {"target"}
        self.draws = Draws(site.seed, site.boundary)

    def gradient(self, signals: Signals) -> Tensor:
        """Return S(h[, y]), corrected by the target of the examples that were drawn."""
        assert signals.target is not None
        estimate = super().gradient(signals).detach()
        return estimate + self._weights(estimate) * (signals.target - estimate)

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h[, y]) − t‖², shape (*lead)."""
        return super().loss(super().gradient(signals), signals)

    def _weights(self, g: Tensor) -> Tensor:
        """Return z / p, in a shape that broadcasts with g (*lead, N, *shape)."""
        rank = len(self.site.shape)
        per_example = g.flatten(-rank)[..., 0]  # (*lead, N)
        drawn = self.draws.normal_like(per_example if self.options.per == "example" else per_example[..., :1])
        p = self.options.probability
        limit = torch.special.ndtri(torch.tensor(p, dtype=torch.float64))  # a normal number is below it with p
        z = (drawn.double() <= limit).to(g) / p
        return z.view(*z.shape, *[1] * rank)
