"""Difference target propagation: learned inverses of segments pass targets down the network."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from repsim.learning.draws import Draws
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.learning.networks.initial_weights import draw_weights
from repsim.settings import setting

__all__ = ["TargetPropagation", "TargetPropagationOptions"]


@dataclass(frozen=True, kw_only=True)
class TargetPropagationOptions(RuleOptions):
    """Options of the targets and of the inverse ψ."""

    step: float = setting(
        0.5, help="step size α from activations to targets, along the negative gradient", positive=True
    )
    noise: float = setting(
        0.5, help="standard deviation σ of the noise that ψ learns to undo, relative to the rms of h_k", positive=True
    )
    hidden_layers: int = setting(0, help="hidden layers of the inverse ψ; 0 for an affine map", lowest=0)


class TargetPropagation(Estimator):
    """g_k = (h_k − ĥ_k) / α with ĥ_k = h_k + ψ_k(ĥ_{k+1}) − ψ_k(h_{k+1}) and ĥ_{k+1} = h_{k+1} − α g_{k+1}.

    ψ_k learns to invert segment k + 1: it minimises ‖ψ_k(f_{k+1}(h̃)) − h̃‖² / σ² for h̃ = h_k + σ ε, ε from N(0, I). At
    the last boundary the target is ĥ = h − α t. With α = 1/2, g_k = 2 (h_k − ĥ_k), the gradient of ‖h_k − ĥ_k‖². The
    pass of h̃ through the segment does not change its running statistics.

    References
    ----------
    Lee, Zhang, Fischer, Bengio (2015), Difference target propagation.
    """

    formula = "(h_k − ĥ_k) / α, ĥ_k = h_k + ψ_k(ĥ_{k+1}) − ψ_k(h_{k+1})"
    learns = "ψ: ‖ψ_k(f_{k+1}(h_k + σε)) − h_k − σε‖² / σ²"
    reference = "Lee, Zhang, Fischer, Bengio (2015), Difference target propagation"
    Options = TargetPropagationOptions
    options: TargetPropagationOptions

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        self.needs = frozenset({"target"} if site.is_last else {"activation_above", "gradient_above"})
        if not site.is_last:
            self.draws = Draws(site.seed, site.boundary)
            self.inverse = _Inverse(site, self.options.hidden_layers, generator)

    def gradient(self, signals: Signals) -> Tensor:
        """Return (h_k − ĥ_k) / α."""
        if self.site.is_last:
            assert signals.target is not None
            return signals.target
        assert signals.activation_above is not None
        assert signals.gradient_above is not None
        above, step = signals.activation_above, self.options.step
        with torch.no_grad():
            return (self.inverse(above) - self.inverse(above - step * signals.gradient_above)) / step

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor | None:
        """Return the mean over examples of ‖ψ(f(h̃)) − h̃‖² / σ², shape (*lead)."""
        if self.site.is_last:
            return None
        assert signals.segment_above is not None
        h, rank = signals.activation, len(self.site.shape)
        sigma = self.options.noise * _rms(h, rank)  # (*lead, 1, ...)
        noisy = h + sigma * self.draws.normal_like(h)
        distance = (self.inverse(signals.segment_above(noisy)) - noisy) / sigma
        return distance.flatten(-rank).square().sum(dim=-1).mean(dim=-1)


def _rms(h: Tensor, rank: int) -> Tensor:
    """Return the root mean square over examples and units, at least 1e-8, in a shape that broadcasts with h."""
    return h.square().mean(dim=tuple(range(-rank - 1, 0)), keepdim=True).sqrt().clamp_min(1e-8)


class _Inverse(nn.Module):
    """ψ: a network from h_{k+1} to h_k, with relu layers of the size of h_k."""

    stacks_by_parts = True

    def __init__(self, site: Site, hidden_layers: int, generator: Generator | None) -> None:
        super().__init__()
        self.shape, self.shape_above = site.shape, site.shape_above
        _check_shapes(site)
        fan_in, fan_out = _channels(site.shape_above), _channels(site.shape)
        if len(site.shape) > 1 and len(site.shape_above) == 1:
            fan_out = site.size
        fan_ins = [fan_in, *[fan_out] * hidden_layers]
        self.layers = nn.ModuleList([_layer(site, fan, fan_out, generator) for fan in fan_ins])

    def forward(self, above: Tensor) -> Tensor:
        """Return activations (*lead, N, *shape)."""
        h = above
        if len(self.shape) == len(self.shape_above) == 3 and self.shape[1:] != self.shape_above[1:]:
            h = F.interpolate(h.flatten(0, -4), size=self.shape[1:]).unflatten(0, h.shape[:-3])
        for i, layer in enumerate(self.layers):
            h = layer(F.relu(h) if i else h)
        return h.unflatten(-1, self.shape) if h.shape[-len(self.shape) :] != self.shape else h


def _channels(shape: tuple[int, ...]) -> int:
    """Return the number of features of a vector, of each position of a sequence, or of a map."""
    return shape[0] if len(shape) == 3 else shape[-1]


def _check_shapes(site: Site) -> None:
    """Raise ValueError unless there is an inverse between the shapes of h_k and h_{k+1}."""
    below, above = site.shape, site.shape_above
    vectors = len(above) == 1 and len(below) <= 3
    sequences = len(below) == len(above) == 2 and below[0] == above[0]
    maps = len(below) == len(above) == 3
    if not (vectors or sequences or maps):
        raise ValueError(
            f"Target propagation at boundary {site.boundary} has no inverse from shape {above} to shape {below}; it "
            "needs a vector above, two maps, or two sequences with equally many positions."
        )


def _layer(site: Site, fan_in: int, fan_out: int, generator: Generator | None) -> nn.Module:
    is_map = len(site.shape) == len(site.shape_above) == 3
    layer: Any = (
        nn.utils.skip_init(nn.Conv2d, fan_in, fan_out, 3, padding=1)
        if is_map
        else nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    )
    return draw_weights(layer, sqrt(1.0 / layer.weight[0].numel()), generator)
