"""True gradients at boundaries: exact backprop through everything above, whatever rules act there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.losses import LOSSES
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork

__all__ = ["apply_without_side_effects", "check_feedforward", "true_gradients", "true_gradients_from"]


def true_gradients(network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss") -> dict[int, Tensor]:
    """Return N · ∂L/∂h_k at every boundary, from an extra forward pass that does not change running statistics.

    Parameters
    ----------
    network : Chain
        One network, or a stack of networks.
    X, y, loss
        As in ``compute_gradients``.

    Returns
    -------
    dict of int to Tensor, shape (*lead, N, *shape_k)
        Of an ``EquilibriumNetwork``, the gradients with respect to what is added to the inputs of the hidden layers,
        through the whole relaxation.
    """
    if isinstance(network, EquilibriumNetwork):
        return _at_equilibrium(network, X, y, loss)
    first, *above = network.segments
    with torch.no_grad():
        h = apply_without_side_effects(first, network.input(X))
    return true_gradients_from(h, dict(enumerate(above, start=2)), y, loss)


def true_gradients_from(h: Tensor, above: Mapping[int, nn.Module], y: Tensor, loss: str) -> dict[int, Tensor]:
    """Return N · ∂L/∂h at the boundary of an activation h, and at every boundary above it, from an extra forward pass.

    ``above`` holds all segments above h by number, up to the output segment.
    """
    h = h.detach().requires_grad_()
    activations = {}
    for k, segment in above.items():
        activations[k - 1] = h
        h = apply_without_side_effects(segment, h)
    total = LOSSES[loss](h, y).sum()  # the sum over examples is N times the mean
    return dict(zip(activations, torch.autograd.grad(total, list(activations.values())), strict=True))


def _at_equilibrium(network: EquilibriumNetwork, X: Tensor, y: Tensor, loss: str) -> dict[int, Tensor]:
    with torch.no_grad():
        *hidden, _ = network.relax(X)
    inputs = [torch.zeros_like(state, requires_grad=True) for state in hidden]
    total = LOSSES[loss](network.relax(X, inputs=inputs)[-1], y).sum()
    return dict(enumerate(torch.autograd.grad(total, inputs), start=1))


def check_feedforward(network: Chain) -> None:
    """Raise ValueError unless the gradient at a boundary is that of the segments above it."""
    if not network.is_feedforward:
        raise ValueError(
            "The activations of this network are an equilibrium of all layers, so that the segments above a boundary "
            "alone give no gradient there."
        )


def apply_without_side_effects(segment: nn.Module, h: Tensor) -> Tensor:
    """Return segment(h) without changing its buffers, such as running statistics."""
    return functional_call(segment, {name: buffer.clone() for name, buffer in segment.named_buffers()}, (h,))
