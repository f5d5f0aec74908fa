"""Policies u = π(x)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_positive
from repsim.learning.networks import mlp
from repsim.theory.control.control_problem import Environment

__all__ = ["LinearPolicy", "MLPPolicy"]


class LinearPolicy(nn.Module):
    """The policy u = -Kx.

    Parameters
    ----------
    gain : Tensor, shape (n_controls, n_states)
        Initial K, which is copied.
    """

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return controls (..., n_controls) for states (..., n_states)."""
        return -x @ self.gain.T


class MLPPolicy(nn.Module):
    """The policy u = limit · tanh(network(features(x))), with tanh hidden layers.

    Parameters
    ----------
    environment : Environment
    limit : float
        Bound of the controls, above 0; every control lies between -limit and limit.
    depth, width : int, default 2 and 64
        Number of hidden layers, and units of each.
    generator : torch.Generator
        Source of the initial weights.

    Raises
    ------
    ValueError
        If the limit is not above 0.
    """

    def __init__(
        self, environment: Environment, *, limit: float, depth: int = 2, width: int = 64, generator: torch.Generator
    ) -> None:
        super().__init__()
        check_positive("limit", limit)
        sizes = (environment.n_features, environment.n_controls)
        self._features, self._limit = environment.features, limit
        self.network = mlp(
            *sizes, depth=depth, width=width, norm="none", activation="tanh", generator=generator
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        """Return controls (..., n_controls) for states (..., n_states)."""
        return self._limit * torch.tanh(self.network(self._features(x)))
