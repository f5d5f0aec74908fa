import pytest
import torch
from torch import Tensor, nn

from repsim.learning import stream
from repsim.theory.control import (
    MLPGradient,
    MLPPolicy,
    MLPValue,
    Pendulum,
    Trajectory,
    discounted_cost,
    improvement,
    roll_out,
    total_derivatives,
    value_gradient_targets,
    value_targets,
)

HORIZON = 6
PENDULUM = Pendulum(gamma=0.9)
POLICY = MLPPolicy(PENDULUM, limit=2.0, width=8, generator=stream(0, "policy"))
X = PENDULUM.draw_states(5, stream(0, "starts"))


def disturbed(critic: nn.Module) -> nn.Module:
    with torch.no_grad():
        for index, parameter in enumerate(critic.parameters()):
            parameter += torch.randn(parameter.shape, dtype=torch.float64, generator=stream(0, "disturb", index))
    return critic


VALUE = disturbed(MLPValue(PENDULUM, width=8, generator=stream(0, "critic")))
GRADIENT = disturbed(MLPGradient(PENDULUM, width=8, generator=stream(0, "critic")))


def follow(x: Tensor, horizon: int = HORIZON) -> Trajectory:
    return roll_out(PENDULUM, POLICY, x, horizon)


def test_roll_out_obeys_policy_dynamics_and_reward() -> None:
    trajectory = follow(X)
    assert torch.equal(trajectory.states[0], X)
    for t in range(HORIZON):
        x, u = trajectory.states[t], trajectory.controls[t]
        assert torch.equal(u, POLICY(x))
        assert torch.equal(trajectory.states[t + 1], PENDULUM.dynamics(x, u))
        assert torch.equal(trajectory.rewards[t], PENDULUM.reward(x, u))


def test_discounted_cost_of_known_rewards() -> None:
    trajectory = Trajectory(
        torch.empty(0), torch.empty(0), torch.tensor([[1.0, 0.0], [2.0, 0.0], [4.0, -8.0]]).double()
    )
    assert discounted_cost(trajectory, 0.5).tolist() == [-3.0, 2.0]


def test_total_derivatives_include_the_policy() -> None:
    slope, jacobian = total_derivatives(PENDULUM, POLICY, X)
    for i, x in enumerate(X):
        expected = torch.autograd.functional.jacobian(lambda x: PENDULUM.dynamics(x, POLICY(x)), x)
        torch.testing.assert_close(jacobian[i], expected)
        expected = torch.autograd.functional.jacobian(lambda x: PENDULUM.reward(x, POLICY(x)), x)
        torch.testing.assert_close(slope[i], expected)


def test_vgl_1_is_backprop_through_time_cut_by_the_critic() -> None:
    """The oracle is autograd through the whole rollout, from each of its states to the critic's value of the last."""
    trajectory = follow(X)
    targets = value_gradient_targets(PENDULUM, POLICY, VALUE, trajectory, trace=1.0)
    for t in range(HORIZON):
        x = trajectory.states[t].detach().requires_grad_()
        rest = follow(x, HORIZON - t)
        value = PENDULUM.gamma ** (HORIZON - t) * VALUE(rest.states[-1]) - discounted_cost(rest, PENDULUM.gamma)
        torch.testing.assert_close(targets[t], torch.autograd.grad(value.sum(), x)[0], rtol=1e-10, atol=1e-12)


def test_vgl_0_looks_one_step_ahead() -> None:
    trajectory = follow(X)
    targets = value_gradient_targets(PENDULUM, POLICY, VALUE, trajectory, trace=0.0)
    x = trajectory.states[:-1].detach().requires_grad_()
    u = POLICY(x)
    value = PENDULUM.reward(x, u) + PENDULUM.gamma * VALUE(PENDULUM.dynamics(x, u))
    torch.testing.assert_close(targets, torch.autograd.grad(value.sum(), x)[0], rtol=1e-10, atol=1e-12)


def test_vgl_targets_interpolate_between_one_step_and_the_whole_return() -> None:
    """Unrolled by hand over two steps, for a critic that is not the gradient of any value."""
    trajectory, trace = follow(X, 2), 0.3
    states, gamma = trajectory.states.detach(), PENDULUM.gamma
    slope, jacobian = total_derivatives(PENDULUM, POLICY, states[:-1])
    with torch.no_grad():
        G = GRADIENT(states)
        last = slope[1] + gamma * torch.einsum("nij,ni->nj", jacobian[1], G[2])
        first = slope[0] + gamma * torch.einsum("nij,ni->nj", jacobian[0], trace * last + (1 - trace) * G[1])
    targets = value_gradient_targets(PENDULUM, POLICY, GRADIENT, trajectory, trace)
    torch.testing.assert_close(targets, torch.stack([first, last]))
    assert not targets.requires_grad


def test_value_targets_are_one_step_or_the_whole_return() -> None:
    trajectory, gamma = follow(X), PENDULUM.gamma
    one_step = value_targets(PENDULUM, VALUE, trajectory, trace=0.0)
    torch.testing.assert_close(one_step, trajectory.rewards + gamma * VALUE(trajectory.states[1:]))
    whole = value_targets(PENDULUM, VALUE, trajectory, trace=1.0)
    tail = gamma**HORIZON * VALUE(trajectory.states[-1])
    torch.testing.assert_close(whole[0], tail - discounted_cost(trajectory, gamma))
    mixed = value_targets(PENDULUM, VALUE, trajectory, trace=0.5)
    torch.testing.assert_close(mixed[-2], 0.5 * one_step[-2] + 0.5 * (trajectory.rewards[-2] + gamma * mixed[-1]))
    assert not mixed.requires_grad


def test_the_gradient_of_a_critic_is_a_synthetic_gradient_for_the_policy() -> None:
    """SVG(1): the policy gradient of r + γV(f(x, π(x))) needs nothing of V but the vector ∂V/∂x at x'."""
    u = POLICY(X)
    value = (PENDULUM.reward(X, u) + PENDULUM.gamma * VALUE(PENDULUM.dynamics(X, u))).mean()
    parameters = list(POLICY.parameters())
    expected = torch.autograd.grad(value, parameters)
    torch.testing.assert_close(torch.autograd.grad(improvement(PENDULUM, POLICY, VALUE, X), parameters), expected)


def test_an_improvement_has_gradients_in_the_policy_alone() -> None:
    policy = MLPPolicy(PENDULUM, limit=2.0, width=8, generator=stream(0, "policy"))
    for critic in (VALUE, GRADIENT):
        improvement(PENDULUM, policy, critic, X).backward()
        assert all(parameter.grad is None for parameter in critic.parameters())
    assert all(parameter.grad is not None for parameter in policy.parameters())


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
def test_an_exact_critic_is_its_own_target(trace: float) -> None:
    """Of any policy: with the exact gradient of a long rollout as critic, the targets are that gradient."""

    class Exact(nn.Module):
        def gradient(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                rest = follow(x.flatten(0, -2), 150)
                return torch.autograd.grad(-discounted_cost(rest, PENDULUM.gamma).sum(), x)[0]

    trajectory = follow(X, 2)
    targets = value_gradient_targets(PENDULUM, POLICY, Exact(), trajectory, trace)
    torch.testing.assert_close(targets, Exact().gradient(trajectory.states[:-1]), rtol=1e-6, atol=1e-6)
