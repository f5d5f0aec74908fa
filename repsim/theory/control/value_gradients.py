"""Training of policies with value gradients, as generators that yield one record per update."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from repsim.learning.checks import check_choice, check_integer, check_positive, check_range
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.schedules import SCHEDULES
from repsim.learning.streams import stream
from repsim.learning.training import Diverged, set_rates
from repsim.theory.control.control_problem import Environment, Trajectory, discounted_cost, roll_out
from repsim.theory.control.critic_targets import improvement, value_gradient_targets, value_targets
from repsim.theory.control.critics import Critic, ValueCritic
from repsim.theory.control.linear_quadratic import LinearQuadratic
from repsim.theory.control.policies import LinearPolicy

__all__ = ["ControlOptions", "ControlStep", "train_policy"]


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Settings that determine the training, given environment, policy and critic.

    Attributes
    ----------
    seed : int
        Decides the initial states of trajectories.
    steps : int
        Number of updates.
    batch_size : int
        Number of trajectories per update.
    restart : float
        Probability, 0 to 1, that a trajectory starts from a new state instead of the end of the previous one.
    horizon : int
        Number of steps T of a trajectory; a critic estimates the value after it.
    trace : float
        λ, 0 to 1: weight of the trajectory, as opposed to the critic, in the critic's targets.
    critic_updates : int
        Number of steps of the critic towards the same targets per update.
    head_start : int
        Number of first updates, 0 or more, in which only the critic learns. If it equals ``steps``, the policy never
        learns and is only evaluated.
    tracking : float
        τ, above 0, at most 1: after each update the critic used in targets moves by this fraction towards the critic
        that learns. With 1 they are equal.
    policy_rate, critic_rate : float
        Learning rates.
    optimizer, schedule : str
        Keys of ``OPTIMIZERS`` and ``SCHEDULES``, used for policy and critic.

    Raises
    ------
    ValueError
        If a setting is out of range; the message names it and what was expected.
    """

    seed: int = 0
    steps: int = 500
    batch_size: int = 64
    restart: float = 1.0
    horizon: int = 5
    trace: float = 0.5
    critic_updates: int = 5
    head_start: int = 100
    tracking: float = 1.0
    policy_rate: float = 0.05
    critic_rate: float = 0.1
    optimizer: str = "adam"
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        """Check every field."""
        check_integer("seed", self.seed, 0)
        for name in ("steps", "batch_size", "horizon", "critic_updates"):
            check_integer(name, getattr(self, name), 1)
        check_integer("head_start", self.head_start, 0)
        for name in ("policy_rate", "critic_rate", "tracking"):
            check_positive(name, getattr(self, name))
        for name in ("trace", "tracking", "restart"):
            check_range(name, getattr(self, name), 0, 1)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)


@dataclass(frozen=True)
class ControlStep:
    """Record of one update; all numbers are those of policy and critic before the update.

    Attributes
    ----------
    step : int
        Number of the update, from 1.
    cost : float
        Mean discounted cost of the batch over its horizon.
    critic_loss : float
        Mean squared error of the critic for its targets; NaN without a critic.
    gradient_error : float
        ‖g - ∂V/∂x‖ / ‖∂V/∂x‖ over the states of the batch, with the critic's gradient g and the exact gradient for the
        present policy, 0 or more; NaN without a critic, or if the exact gradient is unknown or not finite.
    excess_cost : float
        Exact cost from x ~ N(0, I) relative to that of the optimal stable policy, minus 1: 0 or more, infinite for an
        unstable policy. NaN if it is unknown, that is, except for a linear policy of a linear-quadratic problem, or if
        the optimal cost is 0.
    """

    step: int
    cost: float
    critic_loss: float
    gradient_error: float
    excess_cost: float


def train_policy(
    environment: Environment, policy: nn.Module, critic: Critic | None, options: ControlOptions
) -> Iterator[ControlStep]:
    """Train a policy, and yield a record after every update; the kind of critic decides the algorithm.

    Each update follows the policy from new states or, with probability 1 − ``options.restart``, from the ends of the
    previous trajectories.

    - ``GradientCritic``, VGL(λ): the critic G(x) = ∂V/∂x is moved towards the targets of ``value_gradient_targets``,
      ‖G(x_t) − G'_t‖², mean over states and trajectories, and then the policy along ``improvement``. The critic is a
      synthetic gradient that is trained as in BP(λ).
    - ``ValueCritic``, SVG(1): the same with the critic V(x), its targets ``value_targets`` and its gradient ∂V/∂x.
      Unlike in the paper, policy and dynamics are deterministic.
    - None, backprop through time, as a reference: the policy follows the gradient of the cost through all steps of the
      horizon. The cost after the horizon is ignored, so that the horizon must be longer than with a critic.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
        It is trained in place. The initial policy of a linear-quadratic problem should be stable, because unstable
        policies have no value gradient.
    critic : GradientCritic, ValueCritic or None
        It is trained in place.
    options : ControlOptions
        Options of critics are ignored without a critic.

    Raises
    ------
    ValueError
        If a linear-quadratic problem has no optimal stable policy.
    Diverged
        If the cost or the loss of the critic is not finite. The update of that step is not made.

    References
    ----------
    Fairbank, Alonso (2012), Value-gradient learning, IJCNN.
    Heess, Wayne, Silver, Lillicrap, Erez, Tassa (2015), Learning continuous control policies by stochastic value
    gradients, NeurIPS.
    """
    if critic is None:
        return _learn_through_time(environment, policy, options)
    return _learn_with_critic(environment, policy, critic, options)


def _learn_through_time(environment: Environment, policy: nn.Module, options: ControlOptions) -> Iterator[ControlStep]:
    """Train the policy with the gradient of the cost through all steps of the horizon."""
    optimizer = _optimizer(policy, options.policy_rate, options)
    x = None
    for step in range(1, options.steps + 1):
        x = _start(environment, x, step, options)
        trajectory = roll_out(environment, policy, x, options.horizon)
        x = trajectory.states[-1].detach()
        record = _record(step, environment, policy, None, trajectory, math.nan)
        _descend(optimizer, discounted_cost(trajectory, environment.gamma).mean(), step, options)
        yield record


def _learn_with_critic(
    environment: Environment, policy: nn.Module, critic: Critic, options: ControlOptions
) -> Iterator[ControlStep]:
    """Train the critic on its targets and the policy with the critic's gradient, in turn."""
    teacher = _optimizer(critic, options.critic_rate, options)
    actor = _optimizer(policy, options.policy_rate, options)
    slow, x = copy.deepcopy(critic), None
    for step in range(1, options.steps + 1):
        with torch.no_grad():
            x = _start(environment, x, step, options)
            trajectory = roll_out(environment, policy, x, options.horizon)
        x, states = trajectory.states[-1], trajectory.states[:-1]
        targets = _targets(environment, policy, slow, trajectory, options.trace)
        loss = mse_loss(critic(states), targets)
        record = _record(step, environment, policy, critic, trajectory, float(loss.detach()))
        _descend(teacher, loss, step, options)
        for _ in range(options.critic_updates - 1):
            _descend(teacher, mse_loss(critic(states), targets), step, options)
        _track(slow, critic, options.tracking)
        if step > options.head_start:
            _descend(actor, -improvement(environment, policy, critic, states), step, options)
        yield record


def _targets(
    environment: Environment, policy: nn.Module, critic: Critic, trajectory: Trajectory, trace: float
) -> Tensor:
    if isinstance(critic, ValueCritic):
        return value_targets(environment, critic, trajectory, trace)
    return value_gradient_targets(environment, policy, critic, trajectory, trace)


def _start(environment: Environment, last: Tensor | None, step: int, options: ControlOptions) -> Tensor:
    """Return the initial states of an update: new states, or the ends of the previous trajectories."""
    generator = stream(options.seed, "states", step)
    new = environment.draw_states(options.batch_size, generator)
    if last is None:
        return new
    restarts = torch.rand(options.batch_size, 1, dtype=new.dtype, generator=generator) < options.restart
    return torch.where(restarts, new, last)


def _optimizer(module: nn.Module, rate: float, options: ControlOptions) -> torch.optim.Optimizer:
    return OPTIMIZERS[options.optimizer]([{"params": list(module.parameters()), "lr": rate}])


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, step: int, options: ControlOptions) -> None:
    """Make one step of an optimizer on a loss, without adding gradients to other parameters."""
    set_rates(optimizer, SCHEDULES[options.schedule]((step - 1) / options.steps))
    optimizer.zero_grad(set_to_none=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    loss.backward(inputs=parameters)
    optimizer.step()


@torch.no_grad()
def _track(slow: nn.Module, critic: nn.Module, tracking: float) -> None:
    for behind, ahead in zip(slow.parameters(), critic.parameters(), strict=True):
        behind.lerp_(ahead, tracking)


def _record(
    step: int, environment: Environment, policy: nn.Module, critic: Critic | None, trajectory: Trajectory, loss: float
) -> ControlStep:
    """Return the record of an update before it is made, or raise ``Diverged``."""
    cost = float(discounted_cost(trajectory, environment.gamma).detach().mean())
    for value, whose in ((cost, " of the policy"), *([(loss, " of the critic")] if critic is not None else [])):
        if not math.isfinite(value):
            raise Diverged(step, value, whose)
    error, excess = _compare(environment, policy, critic, trajectory.states.detach())
    return ControlStep(step, cost, loss, error, excess)


@torch.no_grad()
def _compare(environment: Environment, policy: nn.Module, critic: Critic | None, x: Tensor) -> tuple[float, float]:
    """Return gradient_error and excess_cost of ``ControlStep``."""
    if not (isinstance(environment, LinearQuadratic) and isinstance(policy, LinearPolicy)):
        return math.nan, math.nan
    if not environment.is_stable(policy.gain):
        return math.nan, math.inf
    P = environment.value_matrix(policy.gain)
    excess = float(P.trace() / environment.optimum.P.trace()) - 1
    if critic is None:
        return math.nan, excess
    exact = -2 * x @ P
    return float((critic.gradient(x) - exact).norm() / exact.norm()), excess
