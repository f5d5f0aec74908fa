"""Gradients of the parameters of a segment as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["flat_gradient", "flatten_parameters", "rows_of"]


def flat_gradient(segment: nn.Module, lead: tuple[int, ...]) -> Tensor:
    """Return the gradients that the parameters of a segment hold, shape (*lead, entries)."""
    return flatten_parameters((each.grad for each in segment.parameters() if each.grad is not None), lead)


def flatten_parameters(tensors: Iterable[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Return tensors (*lead, ...), of which there may be none, as one (*lead, entries)."""
    flat = [each.reshape(*lead, -1) for each in tensors]
    return torch.cat(flat, dim=-1) if flat else torch.empty(*lead, 0)


def rows_of(values: Tensor, n_axes: int = 1) -> Tensor:
    """Return values (*lead, ...) with all axes before the last ``n_axes`` as one."""
    kept = values.shape[values.ndim - n_axes :]
    return values.reshape(math.prod(values.shape[: values.ndim - n_axes]), *kept)
