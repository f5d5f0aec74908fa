"""Learning a policy from value gradients, as generators: one record out per update."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from repsim.learning.checks import check_choice, check_integer, check_positive, check_range, check_type
from repsim.learning.optimizers import OPTIMIZERS
from repsim.learning.schedules import SCHEDULES
from repsim.learning.streams import stream
from repsim.learning.training import Diverged, set_rates
from repsim.theory.control.control_problem import Environment, Trajectory, discounted_cost, roll_out
from repsim.theory.control.critic_targets import improvement, value_gradient_targets, value_targets
from repsim.theory.control.critics import Critic, GradientCritic, ValueCritic
from repsim.theory.control.linear_quadratic import LinearQuadratic
from repsim.theory.control.policies import LinearPolicy

__all__ = [
    "ControlOptions",
    "ControlStep",
    "backprop_through_time",
    "stochastic_value_gradients",
    "value_gradient_learning",
]

_Critic = TypeVar("_Critic", bound=Critic)


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Everything that decides the numbers of learning, given environment, policy and critic.

    Attributes
    ----------
    seed : int
        Decides which states trajectories start from.
    steps : int
        Updates.
    batch_size : int
        Trajectories of each update.
    restart : float
        Probability, 0 to 1, with which a trajectory starts from a new state; else it goes on where the last one ended.
    horizon : int
        Steps T of a trajectory; where there is a critic, it speaks for what comes after.
    trace : float
        λ, 0 to 1: how far the critic's targets follow the trajectory before they bootstrap.
    critic_updates : int
        Steps of the critic towards the same targets in one update.
    head_start : int
        Updates in which the critic learns alone, 0 or more, so that the policy does not follow one that knows nothing.
        With as many as there are steps the policy never learns: it is evaluated.
    tracking : float
        τ, above 0, at most 1: after each update the critic that targets bootstrap from moves by this fraction to the
        one that learns. At 1 they are the same.
    policy_rate, critic_rate : float
        Step sizes.
    optimizer, schedule : str
        Of both; keys of ``OPTIMIZERS`` and ``SCHEDULES``.

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
    """One update; every number is of policy and critic before it.

    Attributes
    ----------
    step : int
        Updates made so far, from 1.
    cost : float
        Mean discounted cost of the batch over its horizon.
    critic_loss : float
        Mean squared distance of the critic from its targets; NaN without a critic.
    gradient_error : float
        ‖g - ∂V/∂x‖ / ‖∂V/∂x‖ over the states of the batch, of the critic's gradient g and the exact one of the present
        policy, 0 or more; NaN without a critic, or where the exact one is not known or not finite.
    excess_cost : float
        Exact cost from x ~ N(0, I) over that of the best stable policy, minus 1: 0 or more, infinite for a policy that
        is not stable; NaN where it is not known: other than for a linear policy of a linear-quadratic problem, and
        where the best policy costs nothing.
    """

    step: int
    cost: float
    critic_loss: float
    gradient_error: float
    excess_cost: float


def value_gradient_learning(
    environment: Environment, policy: nn.Module, critic: GradientCritic, options: ControlOptions
) -> Iterator[ControlStep]:
    """Learn by VGL(λ): the critic G(x) = ∂V/∂x regresses on the targets of ``value_gradient_targets``.

    Each update rolls out the policy from new states, or those in which the last trajectories ended (``options.restart``
    says how often), moves the critic towards its targets,

        ‖G(x_t) - G'_t‖², mean over states and trajectories,

    and then the policy along ``improvement``. The critic is a synthetic gradient that is trained as in BP(λ).

    Parameters
    ----------
    environment : Environment
    policy, critic : nn.Module
        They learn in place. A policy of a linear-quadratic problem should be stable at first: others have no value
        gradient.
    options : ControlOptions

    Yields
    ------
    ControlStep

    Raises
    ------
    ValueError
        If the critic is of another kind, or a linear-quadratic problem has no best policy.
    Diverged
        If cost or the critic's loss is not finite; the update of that step is not made.

    References
    ----------
    Fairbank, Alonso (2012), Value-gradient learning, IJCNN (after).
    """
    check_type("critic", critic, GradientCritic, "a GradientCritic, such as LinearGradient")

    def targets(slow: GradientCritic, trajectory: Trajectory) -> Tensor:
        return value_gradient_targets(environment, policy, slow, trajectory, options.trace)

    return _learn(environment, policy, critic, targets, options)


def stochastic_value_gradients(
    environment: Environment, policy: nn.Module, critic: ValueCritic, options: ControlOptions
) -> Iterator[ControlStep]:
    """Learn by SVG(1): the critic V(x) learns values by temporal differences, the policy its gradient one step back.

    As ``value_gradient_learning``, but the critic regresses on the targets of ``value_targets``, and the gradient that
    the policy is sent is the critic's ∂V/∂x. Policy and model are deterministic here: of the noise that gives the
    method its name, there is none.

    Parameters
    ----------
    environment : Environment
    policy, critic : nn.Module
        They learn in place. A policy of a linear-quadratic problem should be stable at first: others have no value
        gradient.
    options : ControlOptions

    Yields
    ------
    ControlStep

    Raises
    ------
    ValueError
        If the critic is of another kind, or a linear-quadratic problem has no best policy.
    Diverged
        If cost or the critic's loss is not finite; the update of that step is not made.

    References
    ----------
    Heess, Wayne, Silver, Lillicrap, Erez, Tassa (2015), Learning continuous control policies by stochastic value
    gradients, NeurIPS (after).
    """
    check_type("critic", critic, ValueCritic, "a ValueCritic, such as QuadraticValue")

    def targets(slow: ValueCritic, trajectory: Trajectory) -> Tensor:
        return value_targets(environment, slow, trajectory, options.trace)

    return _learn(environment, policy, critic, targets, options)


def backprop_through_time(
    environment: Environment, policy: nn.Module, options: ControlOptions
) -> Iterator[ControlStep]:
    """Learn without a critic, the reference: the gradient of the cost over the horizon, through all its steps.

    What comes after the horizon counts for nothing, so it has to be long where ``value_gradient_learning`` does with a
    short one.

    Parameters
    ----------
    environment : Environment
    policy : nn.Module
        It learns in place.
    options : ControlOptions
        Those of a critic are not used.

    Yields
    ------
    ControlStep

    Raises
    ------
    Diverged
        If the cost is not finite; the update of that step is not made.
    """
    optimizer = _optimizer(policy, options.policy_rate, options)
    x = None
    for step in range(1, options.steps + 1):
        x = _start(environment, x, step, options)
        trajectory = roll_out(environment, policy, x, options.horizon)
        x = trajectory.states[-1].detach()
        record = _record(step, environment, policy, None, trajectory, math.nan)
        _descend(optimizer, discounted_cost(trajectory, environment.gamma).mean(), step, options)
        yield record


def _learn(
    environment: Environment,
    policy: nn.Module,
    critic: _Critic,
    targets_of: Callable[[_Critic, Trajectory], Tensor],
    options: ControlOptions,
) -> Iterator[ControlStep]:
    """Teach the critic its targets and the policy what the critic says, in turn."""
    teacher = _optimizer(critic, options.critic_rate, options)
    actor = _optimizer(policy, options.policy_rate, options)
    slow, x = copy.deepcopy(critic), None
    for step in range(1, options.steps + 1):
        with torch.no_grad():
            x = _start(environment, x, step, options)
            trajectory = roll_out(environment, policy, x, options.horizon)
        x, states, targets = trajectory.states[-1], trajectory.states[:-1], targets_of(slow, trajectory)
        loss = mse_loss(critic(states), targets)
        record = _record(step, environment, policy, critic, trajectory, float(loss.detach()))
        _descend(teacher, loss, step, options)
        for _ in range(options.critic_updates - 1):
            _descend(teacher, mse_loss(critic(states), targets), step, options)
        _track(slow, critic, options.tracking)
        if step > options.head_start:
            _descend(actor, -improvement(environment, policy, critic, states), step, options)
        yield record


def _start(environment: Environment, last: Tensor | None, step: int, options: ControlOptions) -> Tensor:
    """Return where the trajectories of an update start: from new states, or from where the last ones ended."""
    generator = stream(options.seed, "states", step)
    new = environment.draw_states(options.batch_size, generator)
    if last is None:
        return new
    restarts = torch.rand(options.batch_size, 1, dtype=new.dtype, generator=generator) < options.restart
    return torch.where(restarts, new, last)


def _optimizer(module: nn.Module, rate: float, options: ControlOptions) -> torch.optim.Optimizer:
    return OPTIMIZERS[options.optimizer]([{"params": list(module.parameters()), "lr": rate}])


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, step: int, options: ControlOptions) -> None:
    """Make one step of an optimizer down a loss, which may leave no gradients elsewhere."""
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
    """Return what is to be said of an update before it is made, or raise if it should not be made."""
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
