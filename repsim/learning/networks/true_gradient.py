"""True gradients at boundaries: exact backprop through everything above, whatever rules act there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.losses import LOSSES
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork
from repsim.learning.networks.recurrent_network import RecurrentNetwork

__all__ = [
    "apply_without_side_effects",
    "check_no_equilibrium",
    "gradients_of_segments",
    "true_gradients",
    "true_gradients_from",
]


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
        Of an ``EquilibriumNetwork``, the gradients with respect to what is added to the inputs of the hidden layers,
        through the whole relaxation.
    """
    if isinstance(network, EquilibriumNetwork | RecurrentNetwork):
        return gradients_of_segments(network, X, y, loss=loss)[0]
    first, *above = network.segments
    with torch.no_grad():
        h = apply_without_side_effects(first, network.input(X))
    return true_gradients_from(h, dict(enumerate(above, start=2)), y, loss)


def gradients_of_segments(
    network: Chain, X: Tensor, y: Tensor, *, loss: str
) -> tuple[dict[int, Tensor], dict[int, list[Tensor]]]:
    """Return N · ∂L/∂h_k at every boundary k, and the gradients of the parameters of ``network.learning_below(k)``.

    They are backprop's, from an extra forward pass that changes neither running statistics nor ``.grad``. Parameters
    that do not learn, or that the loss does not depend on, are left out.
    """
    mean, activations = _trace(network, X, y, loss)
    below = {k: [p for p in network.learning_below(k).parameters() if p.requires_grad] for k in activations}
    parameters = list(dict.fromkeys(p for several in below.values() for p in several))  # time steps share theirs
    wanted = [*activations.values(), *parameters]
    found = torch.autograd.grad(mean.sum(), wanted, allow_unused=True) if wanted else ()
    n_examples = y.shape[mean.ndim]
    at = {
        k: torch.zeros_like(h) if g is None else g * n_examples
        for (k, h), g in zip(activations.items(), found, strict=False)
    }
    of = dict(zip(parameters, found[len(activations) :], strict=True))
    return at, {k: [g for p in several if (g := of[p]) is not None] for k, several in below.items()}


def _trace(network: Chain, X: Tensor, y: Tensor, loss: str) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the mean loss (*lead) of a forward pass without side effects, and what it depends on at each boundary."""
    if isinstance(network, EquilibriumNetwork):
        return _trace_equilibrium(network, X, y, loss)
    if isinstance(network, RecurrentNetwork):
        passed = network.run_windows(X, cut=False)
        losses = network.losses_of(passed.logits, y, loss)
        return torch.stack([each.mean(dim=-1) for each in losses if each is not None]).sum(dim=0), passed.entering
    h, activations = network.input(X), {}
    for k, segment in enumerate(network.segments, start=1):
        h = activations[k] = apply_without_side_effects(segment, h)
        if not h.requires_grad:  # below the first parameter that learns
            h = activations[k] = h.requires_grad_()
    del activations[len(network.segments)]
    return LOSSES[loss](h, y).mean(dim=-1), activations


def _trace_equilibrium(
    network: EquilibriumNetwork, X: Tensor, y: Tensor, loss: str
) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the mean loss after the relaxation, and what is added to the input of each hidden layer, which is 0."""
    with torch.no_grad():
        *hidden, _ = network.relax(X)
    inputs = [torch.zeros_like(state, requires_grad=True) for state in hidden]
    output = network.relax(X, inputs=inputs)[-1]
    return LOSSES[loss](output, y).mean(dim=-1), dict(enumerate(inputs, start=1))


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


def check_no_equilibrium(network: Chain) -> None:
    """Raise ValueError unless the gradient at a boundary is that of the segments above it."""
    if isinstance(network, EquilibriumNetwork):
        raise ValueError(
            "The activations of this network are an equilibrium of all layers, so that the segments above a boundary "
            "alone give no gradient there."
        )


def apply_without_side_effects(segment: nn.Module, h: Tensor) -> Tensor:
    """Return segment(h) without changing its buffers, such as running statistics."""
    return functional_call(segment, {name: buffer.clone() for name, buffer in segment.named_buffers()}, (h,))
