"""Critics: functions of the state that return its value V(x), or the gradient G(x) = ∂V/∂x.

The method ``gradient`` returns a synthetic gradient: an estimate of the derivative of all later rewards, as the
synthetic gradient of a layer is an estimate of the gradient from the layers above. All critics start at zero, so that
the first policy gradients are those of the immediate reward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from repsim.learning.networks import mlp
from repsim.theory.control.control_problem import Environment

__all__ = ["Critic", "GradientCritic", "LinearGradient", "MLPGradient", "MLPValue", "QuadraticValue", "ValueCritic"]


class Critic(nn.Module, ABC):
    """Base class of critics, which return ∂V/∂x."""

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """Return the critic's ∂V/∂x at states x (..., n_states), same shape."""


class ValueCritic(Critic):
    """Base class of critics that return V(x), shape (...), whose gradient autograd computes."""

    def gradient(self, x: Tensor) -> Tensor:
        """Return ∂V/∂x at states x (..., n_states), same shape, detached."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(x).sum(), x)
        return gradient


class GradientCritic(Critic):
    """Base class of critics that return G(x), shape (..., n_states), which need not be the gradient of any V."""

    def gradient(self, x: Tensor) -> Tensor:
        """Return G(x) at states x (..., n_states), same shape."""
        return self(x)


class QuadraticValue(ValueCritic):
    """V(x) = -xᵀSx with a learned matrix S of shape (n_states, n_states)."""

    def __init__(self, n_states: int) -> None:
        super().__init__()
        self.S = nn.Parameter(torch.zeros(n_states, n_states, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return V(x), shape (...)."""
        return -(x @ self.S * x).sum(-1)


class LinearGradient(GradientCritic):
    """G(x) = -2Sx with a learned matrix S of shape (n_states, n_states); the gradient of a V if S is symmetric."""

    def __init__(self, n_states: int) -> None:
        super().__init__()
        self.S = nn.Parameter(torch.zeros(n_states, n_states, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return G(x), shape (..., n_states)."""
        return -2 * x @ self.S.T


class _MLPCritic(Critic):
    """Base class of critics with a network, whose output starts at zero."""

    def __init__(
        self, environment: Environment, *, depth: int = 2, width: int = 64, generator: torch.Generator
    ) -> None:
        super().__init__()
        self._features = environment.features
        sizes = environment.n_features, environment.n_states if isinstance(self, GradientCritic) else 1
        network = mlp(*sizes, depth=depth, width=width, norm="none", activation="tanh", generator=generator)
        self.network = network.double()
        for parameter in self.network.output.parameters():
            nn.init.zeros_(parameter)


class MLPValue(_MLPCritic, ValueCritic):
    """V(x) = network(features(x)), with tanh hidden layers.

    Parameters
    ----------
    environment : Environment
    depth, width : int, default 2 and 64
        Number of hidden layers, and units of each.
    generator : torch.Generator
        Source of the initial weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return V(x), shape (...)."""
        return self.network(self._features(x)).squeeze(-1)


class MLPGradient(_MLPCritic, GradientCritic):
    """G(x) = network(features(x)), with tanh hidden layers and the parameters of ``MLPValue``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return G(x), shape (..., n_states)."""
        return self.network(self._features(x))
