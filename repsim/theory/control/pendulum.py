"""Swing-up of a pendulum whose motor is too weak to lift it directly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import pi

import torch
from torch import Tensor

from repsim.learning.checks import check_integer, check_positive, check_range

__all__ = ["Pendulum"]


@dataclass(frozen=True, kw_only=True)
class Pendulum:
    """A point mass on a rod, with friction and a motor; the state is (θ, ω), the control the torque u.

    θ is the angle from upright in rad and is not wrapped; ω its velocity in rad/s; u is in N·m. The motion

        m l² dω/dt = m g l sin θ - b ω + u

    is integrated by the classical method of Runge and Kutta with u held for ``time_step`` seconds. The reward,

        r = -time_step · ((1 - cos θ) + c_ω ω² + c_u u²),

    is smooth and maximal in a single state, upright at rest. The torque is limited by the policy and not clamped here,
    so that all derivatives are those of the motion. Mass, torque limit and friction are those of Doya; the terms of the
    reward in ω and u are not.

    Attributes
    ----------
    mass : float
        m, in kg.
    length : float
        l, in m.
    gravity : float
        g, in m/s².
    friction : float
        b, in N·m·s, 0 or more.
    torque_limit : float
        Largest torque that a policy should use, in N·m; if it is below m g l, the pendulum has to be swung up.
    speed_cost : float
        c_ω, in s²/rad², 0 or more.
    torque_cost : float
        c_u, in 1/(N·m)², 0 or more.
    time_step : float
        Duration of a step, in s.
    substeps : int
        Number of steps of the integrator per time step.
    gamma : float
        Discount γ of one step, above 0, at most 1.
    top_speed : float
        Bound of the initial velocities, in rad/s. Initial states are uniform in [-π, π] × [-top_speed, top_speed].

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    After Doya (2000), Reinforcement learning in continuous time and space, section 5.1.
    """

    mass: float = 1.0
    length: float = 1.0
    gravity: float = 9.81
    friction: float = 0.01
    torque_limit: float = 5.0
    speed_cost: float = 0.02
    torque_cost: float = 0.005
    time_step: float = 0.05
    substeps: int = 1
    gamma: float = 0.97
    top_speed: float = 7.0

    n_states = 2
    n_controls = 1
    n_features = 3

    def __post_init__(self) -> None:
        """Check every field."""
        not_negative = ("friction", "speed_cost", "torque_cost")
        for field in fields(self):
            if field.name not in (*not_negative, "substeps"):
                check_positive(field.name, getattr(self, field.name))
        for name in not_negative:
            check_range(name, getattr(self, name), 0)
        check_range("gamma", self.gamma, 0, 1)
        check_integer("substeps", self.substeps, 1)

    def features(self, x: Tensor) -> Tensor:
        """Return (cos θ, sin θ, ω / top_speed), shape (..., 3)."""
        angle, speed = x.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed / self.top_speed], dim=-1)

    def dynamics(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the states after one time step, shape (..., 2)."""
        h = self.time_step / self.substeps
        for _ in range(self.substeps):
            k1 = self._velocity(x, u)
            k2 = self._velocity(x + h / 2 * k1, u)
            k3 = self._velocity(x + h / 2 * k2, u)
            k4 = self._velocity(x + h * k3, u)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return x

    def reward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return r(x, u), 0 or below, shape (...)."""
        angle, speed = x.unbind(-1)
        rate = (1 - angle.cos()) + self.speed_cost * speed**2 + self.torque_cost * u.squeeze(-1) ** 2
        return -self.time_step * rate

    def draw_states(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n uniformly distributed states, shape (n, 2)."""
        uniform = 2 * torch.rand(n, 2, dtype=torch.float64, generator=generator) - 1
        return uniform * torch.tensor([pi, self.top_speed], dtype=torch.float64)

    def draw_hanging(self, n: int, generator: torch.Generator, *, spread: float = 0.1) -> Tensor:
        """Return n states close to hanging at rest, (π, 0) + N(0, spread²), shape (n, 2)."""
        noise = torch.randn(n, 2, dtype=torch.float64, generator=generator)
        return torch.tensor([pi, 0.0], dtype=torch.float64) + spread * noise

    def tilt(self, x: Tensor) -> Tensor:
        """Return the angles of states from upright, 0 to π rad, shape (...)."""
        angle = x[..., 0]
        return torch.atan2(angle.sin(), angle.cos()).abs()

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy ½ m l² ω² + m g l cos θ in J, shape (...), constant without friction and torque."""
        angle, speed = x.unbind(-1)
        return 0.5 * self.mass * self.length**2 * speed**2 + self.mass * self.gravity * self.length * angle.cos()

    def _velocity(self, x: Tensor, u: Tensor) -> Tensor:
        angle, speed = x.unbind(-1)
        torque = self.mass * self.gravity * self.length * angle.sin() - self.friction * speed + u.squeeze(-1)
        return torch.stack([speed, torque / (self.mass * self.length**2)], dim=-1)
