"""Control: the gradient of a learned critic used as the synthetic gradient of a policy."""

from repsim.theory.control.control_problem import Environment, Trajectory, discounted_cost, roll_out
from repsim.theory.control.critic_targets import improvement, total_derivatives, value_gradient_targets, value_targets
from repsim.theory.control.critics import (
    Critic,
    GradientCritic,
    LinearGradient,
    MLPGradient,
    MLPValue,
    QuadraticValue,
    ValueCritic,
)
from repsim.theory.control.linear_quadratic import LinearQuadratic, Riccati
from repsim.theory.control.pendulum import Pendulum
from repsim.theory.control.policies import LinearPolicy, MLPPolicy
from repsim.theory.control.value_gradients import (
    ControlOptions,
    ControlStep,
    train_policy,
)

__all__ = [
    "ControlOptions",
    "ControlStep",
    "Critic",
    "Environment",
    "GradientCritic",
    "LinearGradient",
    "LinearPolicy",
    "LinearQuadratic",
    "MLPGradient",
    "MLPPolicy",
    "MLPValue",
    "Pendulum",
    "QuadraticValue",
    "Riccati",
    "Trajectory",
    "ValueCritic",
    "discounted_cost",
    "improvement",
    "roll_out",
    "total_derivatives",
    "train_policy",
    "value_gradient_targets",
    "value_targets",
]
