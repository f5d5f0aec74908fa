"""Affine maps that use the weight W in the forward pass and a feedback matrix B in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from repsim.learning.networks.chain import Apply, Readout, ResidualBlock, Segment
from repsim.learning.stacking.stacked_layers import StackedConv2d, StackedLinear

__all__ = ["affine_maps", "apply_with_feedback", "other_weights", "run_with_apply", "takes_apply"]


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


def other_weights(segment: nn.Module) -> list[str]:
    """Return the names of weights (parameters of two or more axes) of a segment that no affine map of it holds."""
    known = {id(affine.weight) for affine in affine_maps(segment)}
    return [name for name, each in segment.named_parameters() if each.ndim > 1 and id(each) not in known]


def run_with_apply(segment: nn.Module, X: Tensor, apply: Apply) -> Tensor:
    """Return segment(X) for a segment whose ``forward`` takes no ``apply``, which each of its affine maps then runs.

    Raises
    ------
    ValueError
        If the segment does not call one of its affine maps, so that its weights are used in another way.
    """
    affines, called = affine_maps(segment), set()

    def replaced(affine: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(X: Tensor) -> Tensor:
            called.add(affine)
            return apply(affine, X)

        return forward

    try:
        for affine in affines:
            vars(affine)["forward"] = replaced(affine)
        Y = segment(X)
    finally:
        for affine in affines:
            vars(affine).pop("forward", None)
    if missed := [name for name, each in segment.named_modules() if each in affines and each not in called]:
        raise ValueError(
            f"{type(segment).__name__} does not call '{missed[0]}', so its backward pass cannot be replaced. Call it, "
            f"or use a rule that does not change the backward pass of a segment, such as direct-feedback-alignment."
        )
    return Y


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
        is_replaced = "forward" in vars(affine)  # by run_with_apply, so that its hooks run already
        return type(affine).forward(affine, X) if is_replaced else affine(X)

    @staticmethod
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
        X, feedback = ctx.saved_tensors
        to_X, to_weight, _, to_feedback, _ = ctx.needs_input_grad
        back_to_X, back_to_weight, back_to_bias = _KINDS[type(ctx.affine)]
        dX = back_to_X(ctx.affine, dY, feedback, X) if to_X else None
        dW = back_to_weight(ctx.affine, dY, X) if to_weight or to_feedback else None
        db = None if ctx.affine.bias is None else back_to_bias(ctx.affine, dY)
        return dX, dW, db, dW.clone() if to_feedback and dW is not None else None, None


def _linear_to_input(affine: Any, dY: Tensor, feedback: Tensor, X: Tensor) -> Tensor:
    return (_rows(affine, dY) @ feedback).view(X.shape)


def _linear_to_weight(affine: Any, dY: Tensor, X: Tensor) -> Tensor:
    return _rows(affine, dY).mT @ _rows(affine, X)


def _linear_to_bias(affine: Any, dY: Tensor) -> Tensor:
    return _rows(affine, dY).sum(dim=-2)


def _rows(affine: Any, X: Tensor) -> Tensor:
    """Return X (*lead, N, ..., n) with one axis of examples and positions, for a weight (*lead, n_out, n_in)."""
    return X.flatten(affine.weight.ndim - 2, -2)


def _conv_to_input(affine: Any, dY: Tensor, feedback: Tensor, X: Tensor) -> Tensor:
    return conv2d_input(X.shape, feedback, dY, **_geometry(affine))


def _conv_to_weight(affine: Any, dY: Tensor, X: Tensor) -> Tensor:
    return conv2d_weight(X, affine.weight.shape, dY, **_geometry(affine))


def _conv_to_bias(affine: Any, dY: Tensor) -> Tensor:
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
