"""Values of a loss at points: checks, and deviations from the mean of each label."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["about_means", "check_values"]

_ROUNDING = 16  # smaller variation, in units of the last place, counts as rounding


def about_means(values: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return values minus the mean of their label, in float64; all 0 if the differences are rounding errors."""
    rounding, values = _ROUNDING * torch.finfo(values.dtype).eps, values.double()
    labels = torch.zeros_like(values, dtype=torch.int64) if labels is None else labels
    sums = values.new_zeros(int(labels.max()) + 1).index_add_(0, labels, values)
    left = values - (sums / labels.bincount())[labels]
    return left if left.norm() > rounding * values.norm() else torch.zeros_like(left)


def check_values(values: Tensor, n: int, name: str) -> None:
    """Raise ValueError unless values holds n finite floats."""
    if values.shape != (n,) or not values.is_floating_point() or not values.isfinite().all():
        raise ValueError(
            f"{name} has shape {tuple(values.shape)} of {values.dtype}; expected {(n,)}, finite floats, one per point."
        )
