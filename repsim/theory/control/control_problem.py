"""Control problems with differentiable dynamics and rewards, and trajectories of policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Environment", "Trajectory", "discounted_cost", "roll_out"]


class Environment(Protocol):
    """Protocol of a deterministic control problem in discrete time: x' = f(x, u), reward r(x, u), discount γ.

    States x have shape (..., n_states) and controls u shape (..., n_controls). All tensors are float64, and f and r are
    differentiable by autograd.
    """

    @property
    def gamma(self) -> float:
        """Discount of one step, above 0, at most 1."""

    @property
    def n_states(self) -> int:
        """Dimension of a state."""

    @property
    def n_controls(self) -> int:
        """Dimension of a control."""

    @property
    def n_features(self) -> int:
        """Number of features of a state, the inputs of a network."""

    def features(self, x: Tensor) -> Tensor:
        """Return the features of states, shape (..., n_features)."""

    def dynamics(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the next states f(x, u), shape (..., n_states)."""

    def reward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return r(x, u), shape (...)."""

    def draw_states(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n random initial states, shape (n, n_states)."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A batch of trajectories of a policy, with time as the first axis.

    Attributes
    ----------
    states : Tensor, shape (T + 1, n, n_states)
    controls : Tensor, shape (T, n, n_controls)
    rewards : Tensor, shape (T, n)
    """

    states: Tensor
    controls: Tensor
    rewards: Tensor


def roll_out(environment: Environment, policy: nn.Module, x: Tensor, horizon: int) -> Trajectory:
    """Return trajectories of a policy, differentiable through all steps.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
        Maps states (n, n_states) to controls (n, n_controls).
    x : Tensor, shape (n, n_states)
        Initial states.
    horizon : int
        Number of steps T, 1 or more.
    """
    states, controls, rewards = [x], [], []
    for _ in range(horizon):
        u = policy(x)
        rewards.append(environment.reward(x, u))
        controls.append(u)
        x = environment.dynamics(x, u)
        states.append(x)
    return Trajectory(torch.stack(states), torch.stack(controls), torch.stack(rewards))


def discounted_cost(trajectory: Trajectory, gamma: float) -> Tensor:
    """Return -Σ_t γ^t r_t of each trajectory, shape (n,), without the cost after the last step."""
    discounts = gamma ** torch.arange(len(trajectory.rewards)).to(trajectory.rewards)
    return -(discounts @ trajectory.rewards)
