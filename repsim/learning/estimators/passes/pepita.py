"""PEPITA: a second forward pass whose input is modulated by the error of the first."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Generator, Tensor, nn

from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.learning.networks import ResidualBlock, Segment
from repsim.learning.networks.affine import affine_maps, other_weights
from repsim.learning.networks.true_gradient import apply_without_side_effects
from repsim.settings import setting

__all__ = ["Pepita", "PepitaOptions"]


@dataclass(frozen=True, kw_only=True)
class PepitaOptions(RuleOptions):
    """Options of the matrix F."""

    scale: float = setting(
        0.05, help="scale of F, whose entries are uniform between ± scale · √(6 / number of inputs)", lowest=0
    )


class Pepita(Estimator):
    """g_k = h_k − h'_k, where h' are the activations of a second pass with the input x + e F, and F is fixed.

    Segment k learns in the second pass: ΔW_k = −η (h_k − h'_k)ᵀ h'_{k−1}, with h'_0 = x + e F. The difference stands
    for the gradient at the output of the affine map, so that the derivative of the nonlinearity and the norm after it
    is left out; pooling is differentiated. Their own parameters (gains and shifts of norms) get the gradient of
    ⟨h_k − h'_k, h'_k⟩ in them, with the difference fixed. The output segment learns from the true loss in the first
    pass; in the paper's code it learns in the second.

    References
    ----------
    Dellaferrera, Kreiman (2022), Error-driven input modulation: solving the credit assignment problem without a
    backward pass.
    """

    formula = "h_k − h'_k, h' from a second pass with input x + e F, F fixed"
    reference = "Dellaferrera, Kreiman (2022), Error-driven input modulation"
    Options = PepitaOptions
    needs = frozenset({"activation", "error", "again"})
    learns_again = True
    options: PepitaOptions
    feedback: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        if site.n_features is None:
            raise ValueError(
                "PEPITA projects the error to the input, whose number of values is unknown. Give Chain.of an example, "
                "such as X[:2], or a Chain its n_features."
            )
        limit = self.options.scale * sqrt(6 / site.n_features)
        feedback = torch.rand(site.n_outputs, site.n_features, generator=generator) * 2 - 1
        self.register_buffer("feedback", feedback * limit)

    def check_segment(self, segment: nn.Module) -> None:
        """Raise ValueError unless a segment consists of affine maps with norms, nonlinearities and pooling."""
        _check_parts(segment, self.site.boundary)

    def inputs_again(self, X: Tensor, labels: Tensor | None, error: Tensor | None) -> Tensor:
        """Return x + e F."""
        assert error is not None
        return X + (error @ self.feedback).view(X.shape)

    def run_again(self, segment: nn.Module, X: Tensor) -> Tensor:
        """Return segment(X), whose gradient passes norms and nonlinearities unchanged."""
        self.check_segment(segment)
        return apply_without_side_effects(_Straight(segment), X)

    def gradient(self, signals: Signals) -> Tensor:
        """Return h_k − h'_k."""
        assert signals.again is not None
        return signals.activation - signals.again


class _Straight(nn.Module):
    """A segment in whose backward pass norms and nonlinearities are the identity for their input."""

    def __init__(self, segment: nn.Module) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, X: Tensor) -> Tensor:
        return _run(self.segment, X)


def _run(part: nn.Module, X: Tensor) -> Tensor:
    if isinstance(part, Segment):
        return part.pool(_straight(lambda a: part.activation(part.norm(a)), part.affine(X)))
    if isinstance(part, ResidualBlock):
        residual = _straight(part.norm, part.affine(_run(part.first, X)))
        return part.pool(_straight(part.activation, X + residual))
    if isinstance(part, nn.Sequential):
        for child in part:
            X = _run(child, X)
        return X
    Y: Tensor = part(X)
    return Y if affine_maps(part) or Y.shape != X.shape else _straight(part, X)


def _straight(function: Any, X: Tensor) -> Tensor:
    """Return function(X), whose gradient is passed to X unchanged, and to the parameters of the function."""
    return X + (function(X.detach()) - X.detach())


def _check_parts(part: nn.Module, boundary: int) -> None:
    """Raise ValueError unless a segment consists of affine maps with norms, nonlinearities and pooling between them."""
    parts = list(part) if isinstance(part, nn.Sequential) else [part]
    for each in parts:
        if isinstance(each, Segment | ResidualBlock):
            continue
        if other_weights(each) or (affine_maps(each) and affine_maps(each) != [each]):
            raise ValueError(
                f"PEPITA at boundary {boundary} learns at the output of affine maps, but segment {boundary} holds a "
                f"{type(each).__name__} with weights inside. Use a sequence of nn.Linear or nn.Conv2d layers with "
                "norms, nonlinearities and pooling, or another rule."
            )
