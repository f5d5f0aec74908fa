"""Affine maps that use the weight W in the forward pass and a feedback matrix B in the backward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from repsim.learning.networks.chain import Readout, ResidualBlock, Segment
from repsim.learning.stacking.stacked_layers import StackedConv2d, StackedLinear

__all__ = ["affine_maps", "apply_with_feedback", "takes_apply"]


def affine_maps(segment: nn.Module) -> list[nn.Module]:
    """Return the affine maps of a segment, in the order of its submodules."""
    return [module for module in segment.modules() if type(module) in _KINDS and _pads_with_zeros(module)]


def _pads_with_zeros(module: nn.Module) -> bool:
    """Return whether a layer pads with a given number of zeros, as the backward pass assumes."""
    padding = getattr(module, "padding", 0)
    return getattr(module, "padding_mode", "zeros") == "zeros" and not isinstance(padding, str)


def takes_apply(segment: nn.Module | None) -> bool:
    """Return whether a segment is an affine map, or its ``forward`` takes ``apply`` for each of its affine maps."""
    if isinstance(segment, ResidualBlock):
        return takes_apply(segment.first) and segment.affine in affine_maps(segment)
    if isinstance(segment, Segment | Readout):
        return segment.affine in affine_maps(segment)
    return type(segment) in _KINDS


def apply_with_feedback(affine: nn.Module, X: Tensor, feedback: Tensor) -> Tensor:
    """Return affine(X), with a backward pass that uses ``feedback`` in place of the weight.

    The gradient of the weight is exact. If ``feedback`` requires a gradient, it receives the gradient of the weight,
    which is the adaptive rule.

    References
    ----------
    Lillicrap et al. (2016), Random synaptic feedback weights support error backpropagation for deep learning.
    """
    return _WithFeedback.apply(X, affine.weight, affine.bias, feedback, affine)


class _WithFeedback(torch.autograd.Function):
    """Y = X Wᵀ + b; ∂X = ∂Y B, ∂W = ∂B = ∂Yᵀ X."""

    @staticmethod
    def forward(
        ctx: Any, X: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor, affine: nn.Module
    ) -> Tensor:
        ctx.save_for_backward(X, feedback)
        ctx.affine = affine
        return affine(X)

    @staticmethod
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
        X, feedback = ctx.saved_tensors
        to_X, to_weight, _, to_feedback, _ = ctx.needs_input_grad
        back_to_X, back_to_weight, back_to_bias = _KINDS[type(ctx.affine)]
        dX = back_to_X(ctx.affine, dY, feedback, X) if to_X else None
        dW = back_to_weight(ctx.affine, dY, X) if to_weight or to_feedback else None
        db = None if ctx.affine.bias is None else back_to_bias(dY)
        return dX, dW, db, dW.clone() if to_feedback and dW is not None else None, None


def _linear_to_input(affine: nn.Module, dY: Tensor, feedback: Tensor, X: Tensor) -> Tensor:
    return dY @ feedback


def _linear_to_weight(affine: nn.Module, dY: Tensor, X: Tensor) -> Tensor:
    return dY.mT @ X


def _linear_to_bias(dY: Tensor) -> Tensor:
    return dY.sum(dim=-2)


def _conv_to_input(affine: Any, dY: Tensor, feedback: Tensor, X: Tensor) -> Tensor:
    return conv2d_input(X.shape, feedback, dY, **_geometry(affine))


def _conv_to_weight(affine: Any, dY: Tensor, X: Tensor) -> Tensor:
    return conv2d_weight(X, affine.weight.shape, dY, **_geometry(affine))


def _conv_to_bias(dY: Tensor) -> Tensor:
    return dY.sum(dim=(-4, -2, -1))


def _geometry(affine: Any) -> dict[str, Any]:
    return {name: getattr(affine, name) for name in ("stride", "padding", "dilation", "groups")}


def _stacked_conv_to_input(affine: Any, dY: Tensor, feedback: Tensor, X: Tensor) -> Tensor:
    return _stacked_conv_backward(affine, X, feedback, dY)[0]


def _stacked_conv_to_weight(affine: Any, dY: Tensor, X: Tensor) -> Tensor:
    return _stacked_conv_backward(affine, X, affine.weight.detach(), dY)[1]


def _stacked_conv_backward(affine: Any, X: Tensor, weight: Tensor, dY: Tensor) -> tuple[Tensor, ...]:
    def one(X: Tensor, weight: Tensor, dY: Tensor) -> tuple[Tensor, ...]:
        back: Any = torch.func.vjp(lambda X, weight: F.conv2d(X, weight, **affine.geometry), X, weight)[1]
        return back(dY)

    return torch.vmap(one)(X.detach(), weight.detach(), dY)


_KINDS: dict[type[nn.Module], tuple[Any, Any, Any]] = {  # gradients of the input, the weight and the bias
    nn.Linear: (_linear_to_input, _linear_to_weight, _linear_to_bias),
    StackedLinear: (_linear_to_input, _linear_to_weight, _linear_to_bias),
    nn.Conv2d: (_conv_to_input, _conv_to_weight, _conv_to_bias),
    StackedConv2d: (_stacked_conv_to_input, _stacked_conv_to_weight, _conv_to_bias),
}
