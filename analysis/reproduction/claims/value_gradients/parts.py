"""Tasks: learn linear-quadratic problems and the swing-up of a pendulum, with critics and without."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from repsim.learning import Diverged, stream
from repsim.theory import control

__all__ = ["parts"]

ALLOWED = 0.01  # excess cost over the best policy, relative
UPRIGHT = 0.2  # largest tilt in rad throughout the last second of a successful swing-up
SPREAD = 0.2  # initial gains are uniform around those of the problem, within this relative distance
N_SHOWN = 6  # states at which the gradients of a linear-quadratic problem are stored
_CURVE_POINTS, _N_STATES = 60, 1000
_N_CHECKED, _EVERY = 25, 5  # swing-ups along which gradients are compared, and steps between states there
_GRID = (25, 15)  # angles and velocities of the phase plane

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class LinearProblem:
    """Matrices and discount of a linear-quadratic problem, and the gain around which initial policies are drawn."""

    A: Matrix
    B: Matrix
    Q: Matrix
    R: Matrix
    gamma: float
    gain: Matrix

    def environment(self) -> control.LinearQuadratic:
        """Return the problem in double precision."""
        A, B, Q, R = (torch.tensor(each, dtype=torch.float64) for each in (self.A, self.B, self.Q, self.R))
        return control.LinearQuadratic(A=A, B=B, Q=Q, R=R, gamma=self.gamma)


@dataclass(frozen=True)
class Method:
    """A kind of critic ("gradient", "value" or "none"), and the options of learning with it."""

    critic: str
    options: control.ControlOptions


@dataclass(frozen=True, kw_only=True)
class SwingUp:
    """The pendulum, the width of policy and critic, and how policies are evaluated.

    A policy is followed for ``seconds`` from ``n_starts`` states near hanging, ``n_evaluations`` times during learning
    and once at the end.
    """

    pendulum: control.Pendulum = field(default_factory=control.Pendulum)
    width: int = 32
    n_starts: int = 200
    seconds: float = 10.0
    n_evaluations: int = 25


_INTEGRATOR = LinearProblem(
    A=((1.0, 0.1), (0.0, 1.0)),
    B=((0.0,), (0.1,)),
    Q=((1.0, 0.0), (0.0, 1.0)),
    R=((0.1,),),
    gamma=0.95,
    gain=((1.0, 1.0),),
)
PROBLEMS = {
    "double integrator, γ = 0.95": _INTEGRATOR,
    "double integrator, γ = 0.99": replace(_INTEGRATOR, gamma=0.99),
    "unstable system of 4 states": LinearProblem(  # the largest eigenvalue of A is 1.12
        A=((1.05, 0.2, 0.0, 0.0), (0.0, 0.95, 0.1, 0.0), (0.0, 0.0, 1.0, 0.2), (0.1, 0.0, -0.1, 1.0)),
        B=((0.0, 0.0), (0.4, 0.0), (0.0, 0.1), (0.0, 0.4)),
        Q=((1.0, 0.0, 0.0, 0.0), (0.0, 0.1, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.1)),
        R=((0.2, 0.0), (0.0, 0.2)),
        gamma=0.98,
        gain=((0.61, 0.69, 0.18, 0.08), (0.18, 0.11, 0.29, 0.51)),  # the best gain if controls cost 30 times as much
    ),
}
_SLUGS = dict(zip(PROBLEMS, ("integrator-0.95", "integrator-0.99", "unstable"), strict=True))

VGL, SVG, BPTT = "VGL(0.5)", "SVG(1)", "backprop through time"
GOING_ON = "VGL(0.5), going on"  # its trajectories seldom restart, as those of SVG(1)
BESIDE_CRITIC = control.ControlOptions(
    steps=200, horizon=5, policy_rate=0.15, critic_rate=0.2, head_start=30, trace=0.0
)
LINEAR = {
    **{f"VGL({trace:g})": Method("gradient", replace(BESIDE_CRITIC, trace=trace)) for trace in (0.0, 0.5, 1.0)},
    SVG: Method("value", BESIDE_CRITIC),
    BPTT: Method("none", control.ControlOptions(steps=100, horizon=80, batch_size=32, policy_rate=0.2)),
}
_SWING_VGL = control.ControlOptions(
    steps=800,
    batch_size=128,
    horizon=5,
    trace=0.5,
    critic_updates=1,
    head_start=50,
    tracking=0.1,
    policy_rate=1.5e-3,
    critic_rate=3e-3,
)
_SWING_SVG = replace(_SWING_VGL, steps=1000, policy_rate=1e-3, critic_rate=2e-3, trace=0.8, restart=0.05)
PENDULUM = {
    VGL: Method("gradient", _SWING_VGL),
    SVG: Method("value", _SWING_SVG),
    BPTT: Method("none", control.ControlOptions(steps=250, batch_size=64, horizon=60, policy_rate=4e-3)),
    GOING_ON: Method("gradient", replace(_SWING_VGL, restart=0.05)),
}
SWING_UP = SwingUp()
_COSTS = {VGL: 13.0, SVG: 15.0, BPTT: 28.0, GOING_ON: 13.0}


def parts(plan: Plan) -> list[Task]:
    """Return one task per linear-quadratic problem and method, and one per method and seed of the pendulum."""
    linear = [
        claim_task(
            f"value-gradients-{_SLUGS[name]}-{_slug(method)}",
            learn_linear,
            cost=(2.0 if method == BPTT else 1.4) * len(plan.seeds),
            place={"problem": name, "method": method},
            problem=problem,
            method=choices,
            seeds=plan.seeds,
        )
        for name, problem in PROBLEMS.items()
        for method, choices in LINEAR.items()
    ]
    pendulum = [
        claim_task(
            f"value-gradients-pendulum-{_slug(method)}-seed-{seed}",
            learn_pendulum,
            cost=_COSTS[method],
            place={"method": method, "seed": seed},
            swing_up=SWING_UP,
            method=choices,
            seed=seed,
        )
        for method, choices in PENDULUM.items()
        for seed in plan.few_seeds
    ]
    return [*linear, *pendulum]


def _slug(method: str) -> str:
    return method.lower().translate(str.maketrans(" (", "--", "),"))


def learn_linear(
    folder: Path, *, place: Mapping[str, Any], problem: LinearProblem, method: Method, seeds: Sequence[int]
) -> Frames:
    """Learn a linear policy for one linear-quadratic problem by one method, from several seeds.

    ``place`` names problem and method in the tables ``linear_curves``, ``linear_ends``, ``gains`` and ``gradients``,
    which are returned.
    """
    environment, gain = problem.environment(), torch.tensor(problem.gain, dtype=torch.float64)
    tables: dict[str, list[dict[str, Any]]] = {"linear_curves": [], "linear_ends": [], "gains": [], "gradients": []}
    for seed in seeds:
        here = {**place, "seed": seed}
        policy = control.LinearPolicy(gain * (1 + SPREAD * _uniform(gain, seed)))
        first = policy.gain.detach().clone()
        learner, options = _linear_critic(method.critic, environment.n_states), replace(method.options, seed=seed)
        records = list(_learn(environment, policy, learner, options))
        tables["linear_curves"] += [{**here, **each} for each in _curve(records, options.steps)]
        tables["linear_ends"].append({**here, **_linear_end(environment, policy, learner, records, seed)})
        tables["gains"] += [{**here, **each} for each in _gains(environment, first, policy.gain.detach())]
        tables["gradients"] += [{**here, **each} for each in _gradients(environment, policy, learner, seed)]
    return {name: pd.DataFrame(rows) for name, rows in tables.items() if rows}


def _uniform(like: Tensor, seed: int) -> Tensor:
    return 2 * torch.rand(like.shape, dtype=like.dtype, generator=stream(seed, "policy")) - 1


def _linear_critic(kind: str, n_states: int) -> control.Critic | None:
    if kind == "none":
        return None
    return {"gradient": control.LinearGradient, "value": control.QuadraticValue}[kind](n_states)


def _learn(
    environment: control.Environment, policy: nn.Module, critic: control.Critic | None, options: control.ControlOptions
) -> Iterator[control.ControlStep]:
    """Yield the updates of the method that belongs to the kind of critic, until the end or until it diverges."""
    try:
        yield from control.train_policy(environment, policy, critic, options)
    except Diverged:
        return


def _curve(records: Sequence[control.ControlStep], steps: int) -> Iterator[dict[str, Any]]:
    shown = set(np.linspace(1, steps, _CURVE_POINTS).round().astype(int).tolist())
    columns = ("step", "excess_cost", "gradient_error")
    return ({name: getattr(record, name) for name in columns} for record in records if record.step in shown)


def _linear_end(
    environment: control.LinearQuadratic,
    policy: control.LinearPolicy,
    critic: control.Critic | None,
    records: Sequence[control.ControlStep],
    seed: int,
) -> dict[str, Any]:
    """Return the final errors of policy and critic, and the update from which the excess cost stays allowed."""
    K, best = policy.gain.detach(), environment.optimum
    excess = environment.cost(K) / environment.cost(best.K) - 1
    outside = [record.step for record in records if not record.excess_cost <= ALLOWED]
    error = error_from_best = math.nan
    if critic is not None and environment.is_stable(K):
        x = environment.draw_states(_N_STATES, stream(seed, "test"))
        g = critic.gradient(x).detach()
        error = _relative(g, environment.value_gradient(K, x))
        error_from_best = _relative(g, environment.value_gradient(best.K, x))
    return {
        "updates": len(records),
        "first_excess_cost": records[0].excess_cost if records else math.nan,
        "excess_cost": excess,
        "within_since": math.nan if not excess <= ALLOWED else outside[-1] if outside else 0,
        "gradient_error": error,
        "gradient_error_from_best": error_from_best,
        "gain_error": _relative(K, best.K),
    }


def _relative(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).norm() / exact.norm())


def _gains(environment: control.LinearQuadratic, first: Tensor, last: Tensor) -> Iterator[dict[str, Any]]:
    """Yield each entry of the initial, the learned and the optimal gain."""
    gains = {"first": first, "learned": last, "riccati": environment.optimum.K}
    for i, j in np.ndindex(*first.shape):
        yield {"entry": f"K{i + 1}{j + 1}", **{name: float(gain[i, j]) for name, gain in gains.items()}}


def _gradients(
    environment: control.LinearQuadratic, policy: control.LinearPolicy, critic: control.Critic | None, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield some entries of the critic's gradient and of the exact value gradient of its policy."""
    if critic is None or not environment.is_stable(policy.gain):
        return
    x = environment.draw_states(N_SHOWN, stream(seed, "test"))
    exact, synthetic = environment.value_gradient(policy.gain, x), critic.gradient(x).detach()
    for e, s in zip(exact.flatten().tolist(), synthetic.flatten().tolist(), strict=True):
        yield {"exact": e, "critic": s}


def learn_pendulum(folder: Path, *, place: Mapping[str, Any], swing_up: SwingUp, method: Method, seed: int) -> Frames:
    """Learn to swing a pendulum up by one method, from one seed, and evaluate the policy and its critic.

    ``place`` names method and seed in the tables ``pendulum_curves``, ``pendulum_ends``, ``pendulum_examples`` and
    ``pendulum_fields``, which are returned.
    """
    environment, options = swing_up.pendulum, replace(method.options, seed=seed)
    policy = control.MLPPolicy(
        environment, limit=environment.torque_limit, width=swing_up.width, generator=stream(seed, "policy")
    )
    learner = _pendulum_critic(method.critic, environment, swing_up.width, seed)
    horizon = round(swing_up.seconds / environment.time_step)
    starts = environment.draw_hanging(swing_up.n_starts, stream(seed, "test"))
    shown = set(np.linspace(1, options.steps, swing_up.n_evaluations).round().astype(int).tolist())
    curve, updates = [], 0
    for record in _learn(environment, policy, learner, options):
        updates = record.step
        if updates in shown:
            trajectory = _follow(environment, policy, starts, horizon)
            curve.append({**place, "step": updates, **_swing_ups(environment, trajectory)})
    trajectory = _follow(environment, policy, starts, horizon)
    end = {**place, "updates": updates, "n_starts": swing_up.n_starts, **_swing_ups(environment, trajectory)}
    end |= _compare(environment, policy, learner, trajectory)
    return {
        "pendulum_curves": pd.DataFrame(curve),
        "pendulum_ends": pd.DataFrame([end]),
        "pendulum_examples": _example(environment, trajectory).assign(**place),
        "pendulum_fields": _field(environment, policy, learner, horizon).assign(**place),
    }


def _pendulum_critic(kind: str, environment: control.Pendulum, width: int, seed: int) -> control.Critic | None:
    if kind == "none":
        return None
    made = {"gradient": control.MLPGradient, "value": control.MLPValue}[kind]
    return made(environment, width=width, generator=stream(seed, "critic"))


@torch.no_grad()
def _follow(environment: control.Pendulum, policy: nn.Module, starts: Tensor, horizon: int) -> control.Trajectory:
    return control.roll_out(environment, policy, starts, horizon)


def _swing_ups(environment: control.Pendulum, trajectory: control.Trajectory) -> dict[str, float]:
    """Return the mean discounted cost in s, and the share of swing-ups that are upright for the last second."""
    last_second = trajectory.states[-round(1 / environment.time_step) - 1 :]
    upright = environment.tilt(last_second).amax(dim=0) < UPRIGHT
    return {
        "cost": float(control.discounted_cost(trajectory, environment.gamma).mean()),
        "success": float(upright.double().mean()),
    }


def _compare(
    environment: control.Pendulum, policy: nn.Module, critic: control.Critic | None, trajectory: control.Trajectory
) -> dict[str, float]:
    """Return medians, over states on the way up, of the critic's distance and angle from the exact value gradient.

    Upright states are left out: both gradients are near zero there, and their directions mean nothing.
    """
    if critic is None:
        return {"gradient_error": math.nan, "gradient_angle": math.nan}
    x = trajectory.states[:-1:_EVERY, :_N_CHECKED].flatten(0, 1)
    x = x[environment.tilt(x) > UPRIGHT]
    _, exact = _exact(environment, policy, x, len(trajectory.rewards))
    g = critic.gradient(x).detach()
    cosine = torch.cosine_similarity(g, exact, dim=-1).clamp(-1, 1)
    return {
        "gradient_error": float(((g - exact).norm(dim=-1) / exact.norm(dim=-1)).median()),
        "gradient_angle": float(cosine.arccos().rad2deg().median()),
    }


def _exact(environment: control.Pendulum, policy: nn.Module, x: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Return value and value gradient of states, from following the policy over the horizon."""
    x = x.detach().requires_grad_()
    value = -control.discounted_cost(control.roll_out(environment, policy, x, horizon), environment.gamma)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def _example(environment: control.Pendulum, trajectory: control.Trajectory) -> pd.DataFrame:
    """Return the first swing-up, with its angle shifted so that it ends between -π and π."""
    angle, speed = trajectory.states[:-1, 0].unbind(-1)
    turns = (angle[-1] / (2 * math.pi)).round()
    return pd.DataFrame(
        {
            "time": np.arange(len(angle)) * environment.time_step,
            "angle": (angle - 2 * math.pi * turns).numpy(),
            "speed": speed.numpy(),
            "torque": trajectory.controls[:, 0, 0].numpy(),
        }
    )


def _field(
    environment: control.Pendulum, policy: nn.Module, critic: control.Critic | None, horizon: int
) -> pd.DataFrame:
    """Return value and value gradient over the phase plane: those of the critic if it has them, and the exact ones."""
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in _GRID]
    x = torch.cartesian_prod(math.pi * axes[0], environment.top_speed * axes[1])
    value, gradient = _exact(environment, policy, x, horizon)
    table = pd.DataFrame({"angle": x[:, 0].numpy(), "speed": x[:, 1].numpy(), "exact_value": value.numpy()})
    known = torch.full_like(x, math.nan) if critic is None else critic.gradient(x).detach()
    table["value"] = critic(x).detach().numpy() if isinstance(critic, control.ValueCritic) else math.nan
    for i, name in enumerate(("angle", "speed")):
        table[f"by_{name}"], table[f"exact_by_{name}"] = known[:, i].numpy(), gradient[:, i].numpy()
    return table
