"""Learned vectors, one per class, for modules that are conditioned on the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ClassVectors", "sum_by_label"]


class ClassVectors(nn.Module):
    """A linear map from one-hot labels, or regression targets, to activations; it starts at zero."""

    stacks_by_parts = True

    def __init__(self, n_outputs: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.weight = nn.Parameter(torch.zeros(n_outputs, int(torch.Size(shape).numel())))

    def forward(self, labels: Tensor, plus: Tensor | None = None) -> Tensor:
        """Return the vector of each label plus a constant (*lead, units), shape (*lead, N, *shape)."""
        if labels.is_floating_point():
            vectors = labels @ self.weight
            return (vectors if plus is None else vectors + plus.unsqueeze(-2)).unflatten(-1, self.shape)
        weight = self.weight if plus is None else self.weight + plus.unsqueeze(-2)
        if labels.numel() == labels.shape[-1]:  # the same labels for all stacked modules
            vectors = weight.index_select(-2, labels.flatten())
        else:
            vectors = F.one_hot(labels, weight.shape[-2]).to(weight) @ weight
        return vectors if len(self.shape) == 1 else vectors.unflatten(-1, self.shape)


def sum_by_label(values: Tensor, labels: Tensor, n_outputs: int) -> Tensor:
    """Return yᵀ values (*lead, n_outputs, d): the sum of values (*lead, N, d) over the examples of each class."""
    if labels.is_floating_point():
        return labels.mT @ values
    if labels.numel() == labels.shape[-1]:
        sums = values.new_zeros(*values.shape[:-2], n_outputs, values.shape[-1])
        return sums.index_add_(-2, labels.flatten(), values)
    return F.one_hot(labels, n_outputs).to(values).mT @ values
