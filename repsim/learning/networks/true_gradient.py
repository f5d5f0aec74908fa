"""True gradients at boundaries: exact backprop through everything above, whatever rules act there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.losses import LOSSES
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.recurrent_network import RecurrentNetwork

__all__ = ["apply_without_side_effects", "true_gradients", "true_gradients_from"]


def true_gradients(network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss") -> dict[int, Tensor]:
    """Return N · ∂L/∂h_k at every boundary, from an extra forward pass that does not change running statistics.

    Parameters
    ----------
    network : Chain
        One network, or a stack of networks. Of a recurrent network, L is the loss of all later windows.
    X, y, loss
        As in ``compute_gradients``.

    Returns
    -------
    dict of int to Tensor, shape (*lead, N, *shape_k)
    """
    if isinstance(network, RecurrentNetwork):
        return _true_gradients_in_time(network, X, y, loss)
    first, *above = network.segments
    with torch.no_grad():
        h = apply_without_side_effects(first, network.input(X))
    return true_gradients_from(h, dict(enumerate(above, start=2)), y, loss)


def _true_gradients_in_time(network: RecurrentNetwork, X: Tensor, y: Tensor, loss: str) -> dict[int, Tensor]:
    """Return N · ∂L/∂h_t of the loss L of all windows after each boundary t."""
    if not network.boundaries:
        return {}
    passed = network.run_windows(X, cut=False)
    total = sum(each.sum() for each in network.losses_of(passed.logits, y, loss) if each is not None)
    states = list(passed.entering.values())
    found = torch.autograd.grad(total, states, allow_unused=True)  # type: ignore[arg-type]
    return {
        t: torch.zeros_like(state) if g is None else g
        for (t, state), g in zip(passed.entering.items(), found, strict=True)
    }


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


def apply_without_side_effects(segment: nn.Module, h: Tensor) -> Tensor:
    """Return segment(h) without changing its buffers, such as running statistics."""
    return functional_call(segment, {name: buffer.clone() for name, buffer in segment.named_buffers()}, (h,))
