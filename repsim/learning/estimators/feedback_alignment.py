"""Feedback alignment: backward passes through fixed, adaptive or sign-symmetric matrices."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from repsim.learning.draws import Draws
from repsim.learning.estimators.backprop import Backprop
from repsim.learning.estimators.estimator import RuleOptions, Site
from repsim.learning.networks.affine import (
    affine_maps,
    apply_with_feedback,
    other_weights,
    run_with_apply,
    takes_apply,
)
from repsim.settings import setting

__all__ = ["AdaptiveRandomBackprop", "FeedbackAlignment", "SignSymmetric"]


@dataclass(frozen=True, kw_only=True)
class FeedbackOptions(RuleOptions):
    """Options of the feedback matrix B."""

    scale: float = setting(1.0, help="scale of B, as a multiple of its standard scale", lowest=0)


_OTHERS = "synthetic-gradient, decoupled-greedy or direct-feedback-alignment work with any segment"


def _kind(segment: nn.Module | None) -> str:
    return type(segment).__name__


class FeedbackAlignment(Backprop):
    """g_k = δ_{k+1} B_{k+1}: the backward pass through each affine map of segment k + 1 uses a fixed random matrix B.

    B has the shape of the weight and is drawn from the distribution of the initial weights, independently of them.
    Norms, nonlinearities and skip connections are differentiated exactly. Also known as random backpropagation.

    References
    ----------
    Lillicrap, Cownden, Tweed, Akerman (2016), Random synaptic feedback weights support error backpropagation.
    Baldi, Sadowski, Lu (2018), Learning in the machine: random backpropagation and the deep learning channel.
    """

    formula = "δ_{k+1} B_{k+1}, B fixed"
    reference = "Lillicrap et al. (2016), Random synaptic feedback weights support error backpropagation"
    Options = FeedbackOptions

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        affines: list[Any] = [] if site.above is None else affine_maps(site.above)
        others = [] if site.above is None or takes_apply(site.above) else other_weights(site.above)
        if not affines or others:
            held = f"has the weight '{others[0]}' outside of such layers" if others else f"is a {_kind(site.above)}"
            raise ValueError(
                f"Feedback alignment at boundary {site.boundary} needs affine maps in segment {site.boundary + 1}, "
                f"each an nn.Linear or nn.Conv2d, but the segment {held}. Use such layers, or another rule: {_OTHERS}."
            )
        for i, affine in enumerate(affines):
            self._register(f"feedback_{i}", self._draw(affine.weight.detach(), generator))

    def _draw(self, weight: Tensor, generator: Generator | None) -> Tensor:
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        return drawn * weight.square().mean().sqrt() * self.options.scale

    def _register(self, name: str, feedback: Tensor) -> None:
        self.register_buffer(name, feedback)

    def feedback(self, i: int, weight: Tensor) -> Tensor:
        """Return B for the i-th affine map of segment k + 1, given its weight."""
        return getattr(self, f"feedback_{i}")

    @torch.no_grad()
    def feedback_pairs(self, above: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Return B and the weight of each affine map of segment k + 1; drawn anew, B is a draw without consequences."""
        affines: list[Any] = affine_maps(above)
        weights, twin = [affine.weight.detach() for affine in affines], copy.deepcopy(self)
        return [(twin.feedback(i, weight).detach(), weight) for i, weight in enumerate(weights)]

    def through(self, segment: nn.Module, X: Tensor) -> Tensor:
        """Return segment(X), with a backward pass that uses B."""
        numbers = {affine: i for i, affine in enumerate(affine_maps(segment))}

        def apply(affine: Any, X: Tensor) -> Tensor:
            return apply_with_feedback(affine, X, self.feedback(numbers[affine], affine.weight.detach()))

        if segment in numbers:
            return apply(segment, X)
        return segment(X, apply) if takes_apply(segment) else run_with_apply(segment, X, apply)


class AdaptiveRandomBackprop(FeedbackAlignment):
    """Feedback alignment in which B learns by the update of the weight, ΔB = −η δᵀh.

    References
    ----------
    Baldi, Sadowski, Lu (2018), Learning in the machine: random backpropagation and the deep learning channel.
    """

    formula = "δ_{k+1} B_{k+1}"
    learns = "ΔB = −η δ_{k+1}ᵀ h_k"
    reference = "Baldi, Sadowski, Lu (2018), Learning in the machine: random backpropagation"

    def _register(self, name: str, feedback: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(feedback))


@dataclass(frozen=True, kw_only=True)
class SignSymmetricOptions(FeedbackOptions):
    """Options of the magnitudes of B."""

    magnitude: str = setting(
        "uniform",
        help="magnitudes of the entries of B: uniform, fixed (drawn once) or resampled (drawn each step)",
        choices=("uniform", "fixed", "resampled"),
    )


class SignSymmetric(FeedbackAlignment):
    """Feedback alignment with B = |M| ⊙ sign(W): the backward pass uses the signs of the weights, not their magnitudes.

    ``uniform``: M is the root mean square of the initial weights (uSF). ``fixed``: M is drawn once (frSF).
    ``resampled``: M is drawn for every batch (brSF).

    References
    ----------
    Liao, Leibo, Poggio (2016), How important is weight symmetry in backpropagation?
    Moskovitz, Litwin-Kumar, Abbott (2018), Feedback alignment in deep convolutional networks.
    """

    formula = "δ_{k+1} (|M| ⊙ sign W_{k+1})"
    reference = "Liao, Leibo, Poggio (2016), How important is weight symmetry in backpropagation?"
    Options = SignSymmetricOptions

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        if self.options.magnitude == "resampled":
            self.draws = Draws(site.seed, site.boundary)

    def _draw(self, weight: Tensor, generator: Generator | None) -> Tensor:
        if self.options.magnitude == "fixed":
            return super()._draw(weight, generator).abs()
        return weight.square().mean().sqrt() * self.options.scale

    def feedback(self, i: int, weight: Tensor) -> Tensor:
        """Return |M| ⊙ sign(W)."""
        size = super().feedback(i, weight)
        size = size.view(*size.shape, *[1] * (weight.ndim - size.ndim))
        if self.options.magnitude == "resampled":
            size = size * self.draws.normal_like(weight).abs()
        return weight.sign() * size
