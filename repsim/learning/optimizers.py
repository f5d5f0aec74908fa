"""Optimizers by name, their parameter groups, and clipping of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from repsim.learning.config import TrainingConfig
from repsim.learning.line_search.line_search import LineSearch
from repsim.registration import add_installed
from repsim.registry_kinds import KINDS

__all__ = ["OPTIMIZERS", "clip_gradients", "is_line_search", "optimizer_of"]

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {  # from parameter groups
    "adam": partial(torch.optim.AdamW, weight_decay=0.0, fused=True),  # without decay it is Adam
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "line-search": LineSearch,
    "tracked-line-search": partial(LineSearch, delta=0.1),
}

add_installed(KINDS["optimizers"])


def optimizer_of(
    config: TrainingConfig, weights: Iterable[nn.Parameter], of_rules: Iterable[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return an optimizer with one group for weights of the network and one for parameters of rules; None without any.

    Raises
    ------
    ValueError
        If ``weight_decay`` or ``clip_norm`` is set and the optimizer has none.
    """
    decay = {"weight_decay": config.weight_decay} if config.weight_decay else {}
    groups = [
        {"params": list(weights), "lr": config.learning_rate, **decay},
        {"params": list(of_rules), "lr": config.estimator_learning_rate},
    ]
    if not (groups := [group for group in groups if group["params"]]):
        return None
    optimizer = OPTIMIZERS[config.optimizer](groups)
    if decay and "weight_decay" not in optimizer.defaults:
        raise ValueError(
            f"weight_decay is {config.weight_decay}, but optimizer '{config.optimizer}' has no weight decay. Leave it "
            "out, or use adam, sgd or momentum."
        )
    if config.clip_norm is not None and isinstance(optimizer, LineSearch):
        raise ValueError(
            f"clip_norm is {config.clip_norm}, but optimizer '{config.optimizer}' finds the size of its steps itself. "
            "Leave it out, or use adam, sgd or momentum."
        )
    return optimizer


def is_line_search(name: str) -> bool:
    """Return whether an entry of ``OPTIMIZERS`` finds its steps by the losses of trial steps."""
    return isinstance(OPTIMIZERS[name]([{"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}]), LineSearch)


@torch.no_grad()
def clip_gradients(network: nn.Module, largest: float | None, lead: int = 0) -> None:
    """Scale the gradients of each network's parameters down to a norm of at most ``largest``.

    The norm is that of all gradients of one network together. ``lead`` is the number of leading axes of networks that
    are stacked, each of which is scaled by itself. With None nothing is scaled.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if largest is None or not gradients:
        return
    norms = [
        torch.linalg.vector_norm(each.flatten(lead) if each.ndim > lead else each[..., None], dim=-1)
        for each in gradients
    ]
    norm = torch.linalg.vector_norm(torch.stack(norms, dim=-1), dim=-1)  # (*lead)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for each in gradients:
        each.mul_(_shaped_as(factor, each))


def _shaped_as(factor: Tensor, gradient: Tensor) -> Tensor:
    return factor.view(*factor.shape, *[1] * (gradient.ndim - factor.ndim))
