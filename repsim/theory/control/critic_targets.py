"""Targets of critics from a trajectory, and the policy gradient from a critic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from repsim.theory.control.control_problem import Environment, Trajectory
from repsim.theory.control.critics import Critic, ValueCritic

__all__ = ["improvement", "total_derivatives", "value_gradient_targets", "value_targets"]


def value_gradient_targets(
    environment: Environment, policy: nn.Module, critic: Critic, trajectory: Trajectory, trace: float
) -> Tensor:
    """Return the targets G'_t of VGL(λ) for the states x_0 … x_{T-1} of a trajectory.

    Backward from the end, where G'_T = G(x_T),

        G'_t = Dr/Dx + γ (Df/Dx)ᵀ (λ G'_{t+1} + (1 - λ) G(x_{t+1})),

    with total derivatives D/Dx = ∂/∂x + (∂π/∂x)ᵀ ∂/∂u at (x_t, π(x_t)). With λ = 1 this is backprop through time
    up to T, with the critic's gradient at T; with λ = 0 it is the one-step target.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
        The policy of the trajectory.
    critic : Critic
        Critic of gradients or of values, whose gradient is G.
    trajectory : Trajectory
        Of T steps.
    trace : float
        λ, 0 to 1.

    Returns
    -------
    Tensor, shape (T, n, n_states)
        Detached.

    References
    ----------
    After Fairbank, Alonso (2012), Value-gradient learning, IJCNN.
    """
    states = trajectory.states.detach()
    slopes, jacobians = total_derivatives(environment, policy, states[:-1])

    def step_back(t: int, later: Tensor) -> Tensor:
        return slopes[t] + environment.gamma * (later.unsqueeze(-2) @ jacobians[t]).squeeze(-2)

    with torch.no_grad():
        return _backward(critic.gradient(states[1:]), trace, step_back)


def value_targets(environment: Environment, critic: ValueCritic, trajectory: Trajectory, trace: float) -> Tensor:
    """Return the targets V'_t of TD(λ) for the states x_0 … x_{T-1} of a trajectory.

    Backward from the end, where V'_T = V(x_T),

        V'_t = r_t + γ (λ V'_{t+1} + (1 - λ) V(x_{t+1})).

    Parameters
    ----------
    environment : Environment
        Only its γ is used.
    critic : ValueCritic
    trajectory : Trajectory
        Of T steps.
    trace : float
        λ, 0 to 1; 0 is the one-step target r + γ V(x').

    Returns
    -------
    Tensor, shape (T, n)
        Detached.
    """
    with torch.no_grad():
        bootstraps = critic(trajectory.states[1:])
        return _backward(bootstraps, trace, lambda t, later: trajectory.rewards[t] + environment.gamma * later)


def improvement(environment: Environment, policy: nn.Module, critic: Critic, x: Tensor) -> Tensor:
    """Return a scalar whose gradient in the policy's parameters is the policy gradient of SVG(1) and VGL.

    With u = π(x) and x' = f(x, u), that gradient is the mean over states of

        (∂π/∂parameters)ᵀ (∂r/∂u + γ (∂f/∂u)ᵀ g),    g = the critic's ∂V/∂x at x'.

    For a critic of values it is the gradient of r + γ V(f(x, π(x))). The policy depends on the future only through the
    vector g, the synthetic gradient.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
    critic : Critic
    x : Tensor, shape (..., n_states)
        States, treated as constants.

    Returns
    -------
    Tensor, shape ()
        The mean of r + γ⟨x', g⟩. Only its gradient is meaningful.

    References
    ----------
    After Heess, Wayne, Silver, Lillicrap, Erez, Tassa (2015), Learning continuous control policies by stochastic value
    gradients, NeurIPS; here without noise.
    """
    x = x.detach()
    u = policy(x)
    later = environment.dynamics(x, u)
    synthetic = critic.gradient(later.detach()).detach()
    return (environment.reward(x, u) + environment.gamma * (later * synthetic).sum(-1)).mean()


def total_derivatives(environment: Environment, policy: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return Dr/Dx and Df/Dx, the total derivatives of reward and next state through state and policy.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
    x : Tensor, shape (..., n_states)

    Returns
    -------
    Tensor, shape (..., n_states)
        Dr/Dx.
    Tensor, shape (..., n_states, n_states)
        Df/Dx; entry (i, j) is the derivative of the i-th number of x' with respect to the j-th of x.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        u = policy(x)
        outputs = [environment.reward(x, u), *environment.dynamics(x, u).unbind(-1)]
        slope, *rows = [torch.autograd.grad(each.sum(), x, retain_graph=True)[0] for each in outputs]
    return slope, torch.stack(rows, dim=-2)


def _backward(bootstraps: Tensor, trace: float, step_back: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Return targets (T, ...), computed backward from the critic's values or gradients at x_1 … x_T."""
    targets = [bootstraps[-1]]
    for t in reversed(range(len(bootstraps))):
        targets.append(step_back(t, trace * targets[-1] + (1 - trace) * bootstraps[t]))
    return torch.stack(targets[:0:-1])
