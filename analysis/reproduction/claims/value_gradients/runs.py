"""The runs of E8: linear-quadratic problems and the swing-up of a pendulum, learned with critics and without."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.reproduction.claim import Tables
from repsim.learning import Diverged, stream
from repsim.theory.control import (
    ControlOptions,
    ControlStep,
    Critic,
    Environment,
    GradientCritic,
    LinearGradient,
    LinearPolicy,
    LinearQuadratic,
    MLPGradient,
    MLPPolicy,
    MLPValue,
    Pendulum,
    QuadraticValue,
    Trajectory,
    ValueCritic,
    backprop_through_time,
    discounted_cost,
    roll_out,
    stochastic_value_gradients,
    value_gradient_learning,
)

__all__ = ["ALLOWED", "N_SHOWN", "SPREAD", "UPRIGHT", "learn_linear", "learn_pendulum"]

ALLOWED = 0.01  # excess cost, of the best policy's
UPRIGHT = 0.2  # rad of tilt, throughout the last second of a swing-up that succeeds
SPREAD = 0.2  # of the first gains around those of the problem, uniform, relative
N_SHOWN = 6  # states at which the gradients of a linear-quadratic problem are kept
_CURVE_POINTS, _N_STATES = 60, 1000
_N_CHECKED, _EVERY = 25, 5  # swing-ups along which gradients are compared, and steps between states there
_GRID = (25, 15)  # angles and velocities of the phase plane


def learn_linear(
    folder: Path,
    *,
    problem: str,
    definition: Mapping[str, Any],
    method: str,
    critic: str,
    options: Mapping[str, Any],
    seeds: Sequence[int],
) -> Tables:
    """Learn a linear policy of one linear-quadratic problem by one method, from several seeds.

    ``definition`` holds the matrices A, B, Q, R as lists, gamma, and the gain around which first policies are drawn.
    """
    given = {name: torch.tensor(definition[name], dtype=torch.float64) for name in ("A", "B", "Q", "R", "gain")}
    gain = given.pop("gain")
    environment = LinearQuadratic(gamma=definition["gamma"], **given)
    found: dict[str, list[dict[str, Any]]] = {"linear_curves": [], "linear_ends": [], "gains": [], "gradients": []}
    for seed in seeds:
        place = {"problem": problem, "method": method, "seed": seed}
        policy = LinearPolicy(gain * (1 + SPREAD * _uniform(gain, seed)))
        first = policy.gain.detach().clone()
        learner = _linear_critic(critic, environment.n_states)
        settings = ControlOptions(seed=seed, **options)
        records = list(_learn(environment, policy, learner, settings))
        found["linear_curves"] += [{**place, **each} for each in _curve(records, settings.steps)]
        found["linear_ends"].append({**place, **_linear_end(environment, policy, learner, records, seed)})
        found["gains"] += [{**place, **each} for each in _gains(environment, first, policy.gain.detach())]
        found["gradients"] += [{**place, **each} for each in _gradients(environment, policy, learner, seed)]
    return {name: pd.DataFrame(rows) for name, rows in found.items() if rows}


def _uniform(like: Tensor, seed: int) -> Tensor:
    return 2 * torch.rand(like.shape, dtype=like.dtype, generator=stream(seed, "policy")) - 1


def _linear_critic(kind: str, n_states: int) -> Critic | None:
    if kind == "none":
        return None
    return {"gradient": LinearGradient, "value": QuadraticValue}[kind](n_states)


def _learn(
    environment: Environment, policy: nn.Module, critic: Critic | None, options: ControlOptions
) -> Iterator[ControlStep]:
    """Learn as the kind of the critic asks, until the end or until it diverges."""
    try:
        if isinstance(critic, GradientCritic):
            yield from value_gradient_learning(environment, policy, critic, options)
        elif isinstance(critic, ValueCritic):
            yield from stochastic_value_gradients(environment, policy, critic, options)
        else:
            yield from backprop_through_time(environment, policy, options)
    except Diverged:
        return


def _curve(records: Sequence[ControlStep], steps: int) -> Iterator[dict[str, Any]]:
    shown = set(np.linspace(1, steps, _CURVE_POINTS).round().astype(int).tolist())
    for record in records:
        if record.step in shown:
            yield {
                "step": record.step,
                "excess_cost": record.excess_cost,
                "gradient_error": record.gradient_error,
            }


def _linear_end(
    environment: LinearQuadratic,
    policy: LinearPolicy,
    critic: Critic | None,
    records: Sequence[ControlStep],
    seed: int,
) -> dict[str, Any]:
    """Return where policy and critic end, and the update from which the excess cost stays allowed."""
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


def _gains(environment: LinearQuadratic, first: Tensor, last: Tensor) -> Iterator[dict[str, Any]]:
    """Yield each entry of the gain at first, at last and of the best policy."""
    best = environment.optimum.K
    for i, j in np.ndindex(*best.shape):
        place = (i, j)
        yield {
            "entry": f"K{i + 1}{j + 1}",
            "first": float(first[place]),
            "learned": float(last[place]),
            "riccati": float(best[place]),
        }


def _gradients(
    environment: LinearQuadratic, policy: LinearPolicy, critic: Critic | None, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a few numbers of the critic's gradient beside the exact ones of its policy."""
    if critic is None or not environment.is_stable(policy.gain):
        return
    x = environment.draw_states(N_SHOWN, stream(seed, "test"))
    exact, synthetic = environment.value_gradient(policy.gain, x), critic.gradient(x).detach()
    for e, s in zip(exact.flatten().tolist(), synthetic.flatten().tolist(), strict=True):
        yield {"exact": e, "critic": s}


def learn_pendulum(
    folder: Path,
    *,
    method: str,
    critic: str,
    options: Mapping[str, Any],
    seed: int,
    width: int,
    pendulum: Mapping[str, Any],
    n_starts: int,
    seconds: float,
    n_evaluations: int,
) -> Tables:
    """Learn to swing a pendulum up by one method, from one seed; see how well, and how right its critic is.

    ``pendulum`` holds the fields of ``Pendulum`` that are not its defaults. Policies are followed for some seconds
    from starts near hanging, as many times as there are evaluations while they learn, and once at the end.
    """
    environment, settings = Pendulum(**pendulum), ControlOptions(seed=seed, **options)
    place: dict[str, Any] = {"method": method, "seed": seed}
    policy = MLPPolicy(environment, limit=environment.torque_limit, width=width, generator=stream(seed, "policy"))
    learner = _pendulum_critic(critic, environment, width, seed)
    horizon = round(seconds / environment.time_step)
    starts = environment.draw_hanging(n_starts, stream(seed, "test"))
    shown = set(np.linspace(1, settings.steps, n_evaluations).round().astype(int).tolist())
    curve, updates = [], 0
    for record in _learn(environment, policy, learner, settings):
        updates = record.step
        if updates in shown:
            curve.append(
                {**place, "step": updates, **_swing_ups(environment, _follow(environment, policy, starts, horizon))}
            )
    trajectory = _follow(environment, policy, starts, horizon)
    end = {**place, "updates": updates, "n_starts": n_starts, **_swing_ups(environment, trajectory)}
    end |= _compare(environment, policy, learner, trajectory)
    return {
        "pendulum_curves": pd.DataFrame(curve),
        "pendulum_ends": pd.DataFrame([end]),
        "pendulum_examples": _example(environment, trajectory).assign(**place),
        "pendulum_fields": _field(environment, policy, learner, horizon).assign(**place),
    }


def _pendulum_critic(kind: str, environment: Pendulum, width: int, seed: int) -> Critic | None:
    if kind == "none":
        return None
    made = {"gradient": MLPGradient, "value": MLPValue}[kind]
    return made(environment, width=width, generator=stream(seed, "critic"))


@torch.no_grad()
def _follow(environment: Pendulum, policy: nn.Module, starts: Tensor, horizon: int) -> Trajectory:
    return roll_out(environment, policy, starts, horizon)


def _swing_ups(environment: Pendulum, trajectory: Trajectory) -> dict[str, float]:
    """Return the mean discounted cost in s, and the share of swing-ups that are upright for the last second."""
    last_second = trajectory.states[-round(1 / environment.time_step) - 1 :]
    upright = environment.tilt(last_second).amax(dim=0) < UPRIGHT
    return {
        "cost": float(discounted_cost(trajectory, environment.gamma).mean()),
        "success": float(upright.double().mean()),
    }


def _compare(
    environment: Pendulum, policy: nn.Module, critic: Critic | None, trajectory: Trajectory
) -> dict[str, float]:
    """Return medians, over states on the way up, of the critic's distance and angle from the exact value gradient.

    States that are upright are left out: there both gradients are near zero, and neither says where to go.
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


def _exact(environment: Pendulum, policy: nn.Module, x: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Return value and value gradient of states, as far as the policy is followed."""
    x = x.detach().requires_grad_()
    value = -discounted_cost(roll_out(environment, policy, x, horizon), environment.gamma)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def _example(environment: Pendulum, trajectory: Trajectory) -> pd.DataFrame:
    """Return the first swing-up, its angle such that it ends between -π and π."""
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


def _field(environment: Pendulum, policy: nn.Module, critic: Critic | None, horizon: int) -> pd.DataFrame:
    """Return value and value gradient over the phase plane: the critic's, as far as it has them, and the exact ones."""
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in _GRID]
    x = torch.cartesian_prod(math.pi * axes[0], environment.top_speed * axes[1])
    value, gradient = _exact(environment, policy, x, horizon)
    table = pd.DataFrame({"angle": x[:, 0].numpy(), "speed": x[:, 1].numpy(), "exact_value": value.numpy()})
    known = torch.full_like(x, math.nan) if critic is None else critic.gradient(x).detach()
    table["value"] = critic(x).detach().numpy() if isinstance(critic, ValueCritic) else math.nan
    for i, name in enumerate(("angle", "speed")):
        table[f"by_{name}"], table[f"exact_by_{name}"] = known[:, i].numpy(), gradient[:, i].numpy()
    return table
