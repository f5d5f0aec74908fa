"""True gradients at boundaries: exact backprop through everything above, whatever rules act there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.losses import LOSSES, count_examples
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork

__all__ = [
    "apply_without_side_effects",
    "check_feedforward",
    "gradients_of_segments",
    "true_gradients",
    "true_gradients_from",
]


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


def gradients_of_segments(
    network: Chain, X: Tensor, y: Tensor, *, loss: str
) -> tuple[dict[int, Tensor], dict[int, list[Tensor]]]:
    """Return N · ∂L/∂h_k at every boundary, and the gradient of every parameter of each segment, by its number.

    They are backprop's, from an extra forward pass that changes neither running statistics nor ``.grad``. Parameters
    that do not learn, or that the loss does not depend on, are left out.
    """
    h, activations, owners = network.input(X), {}, list[int]()
    parameters: list[Tensor] = []
    for k, segment in enumerate(network.segments, start=1):
        learning: list[Tensor] = [each for each in segment.parameters() if each.requires_grad]
        parameters, owners = parameters + learning, owners + [k] * len(learning)
        h = activations[k] = apply_without_side_effects(segment, h)
        if not h.requires_grad:  # below the first parameter that learns
            h = activations[k] = h.requires_grad_()
    del activations[len(network.segments)]
    total = LOSSES[loss](h, y).mean(dim=-1).sum()
    of_all = torch.autograd.grad(total, [*activations.values(), *parameters], allow_unused=True)
    n_examples = count_examples(y)
    at = {k: each * n_examples for k, each in zip(activations, of_all, strict=False) if each is not None}
    by_segment: dict[int, list[Tensor]] = {k: [] for k, _ in enumerate(network.segments, start=1)}
    for k, each in zip(owners, of_all[len(activations) :], strict=True):
        by_segment[k] += [] if each is None else [each]
    return at, by_segment


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
