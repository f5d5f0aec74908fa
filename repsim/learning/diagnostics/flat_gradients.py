"""Gradients of the parameters of a segment as one vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["flat_gradient", "flatten_parameters"]


def flat_gradient(segment: nn.Module, lead: int) -> Tensor:
    """Return the gradients that the parameters of a segment hold, shape (*lead, entries)."""
    return flatten_parameters((each.grad for each in segment.parameters() if each.grad is not None), lead)


def flatten_parameters(tensors: Iterable[Tensor], lead: int) -> Tensor:
    """Return tensors (*lead, ...) as one (*lead, entries)."""
    flat = [each.flatten(lead) if each.ndim > lead else each.unsqueeze(-1) for each in tensors]
    return torch.cat(flat, dim=-1) if flat else torch.empty(0)
