"""Truncation: no gradient crosses the boundary."""

from __future__ import annotations

import torch
from torch import Tensor

from repsim.learning.estimators.estimator import Estimator, Signals

__all__ = ["Truncated"]


class Truncated(Estimator):
    """g_k = 0.

    Between the windows of a recurrent network this is truncated backpropagation through time, with windows that do not
    overlap. In a feed-forward network the segments below the boundary keep their initial weights.

    References
    ----------
    Williams, Peng (1990), An efficient gradient-based algorithm for on-line training of recurrent network trajectories.
    """

    formula = "0"
    reference = (
        "Williams, Peng (1990), An efficient gradient-based algorithm for on-line training of recurrent networks"
    )
    needs = frozenset[str]()

    def gradient(self, signals: Signals) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(signals.activation)
