"""Layers of estimators at boundaries with sequences, of shape (positions, width) for each example."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PooledPositions", "SequenceConv"]


class SequenceConv(nn.Conv1d):
    """A convolution over positions, for sequences (N, positions, width)."""

    def forward(self, X: Tensor) -> Tensor:
        """Return sequences (N, positions, width')."""
        return super().forward(X.mT).mT


class PooledPositions(nn.Module):
    """Means over ``n`` blocks of positions, as one vector per example; all axes before positions are batch axes."""

    stacks_by_parts = True

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, X: Tensor) -> Tensor:
        """Return vectors (..., width · n) of sequences (..., positions, width)."""
        pooled = F.adaptive_avg_pool1d(X.flatten(0, -3).mT, self.n)
        return pooled.unflatten(0, X.shape[:-2]).flatten(-2)
