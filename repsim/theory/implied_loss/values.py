"""Values of a loss at points: what they must be, and what of them does not hang on the anchor."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["about_means", "check_values"]

_ROUNDING = 16  # variation below this many units in the last place of the values is none


def about_means(values: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return values less the mean of their label, in float64; 0 throughout if what is left is rounding."""
    rounding, values = _ROUNDING * torch.finfo(values.dtype).eps, values.double()
    labels = torch.zeros_like(values, dtype=torch.int64) if labels is None else labels
    sums = values.new_zeros(int(labels.max()) + 1).index_add_(0, labels, values)
    left = values - (sums / labels.bincount())[labels]
    return left if left.norm() > rounding * values.norm() else torch.zeros_like(left)


def check_values(values: Tensor, n: int, name: str) -> None:
    """Raise ValueError unless there is one finite value for each of n points."""
    if values.shape != (n,) or not values.is_floating_point() or not values.isfinite().all():
        raise ValueError(
            f"{name} has shape {tuple(values.shape)} of {values.dtype}; expected {(n,)}, floats, all finite: one for "
            "each point."
        )
