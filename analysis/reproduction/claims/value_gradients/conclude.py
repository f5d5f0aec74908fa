"""Conclusion: whether critics lead to the known optimum, and swing the pendulum up from every seed."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.reproduction.claim import Plan, Results, Section, verdict_of
from analysis.reproduction.claims.value_gradients.parts import (
    ALLOWED,
    BESIDE_CRITIC,
    BPTT,
    GOING_ON,
    LINEAR,
    PENDULUM,
    SPREAD,
    SVG,
    SWING_UP,
    UPRIGHT,
    VGL,
)
from analysis.reproduction.kit.numbers import formatted, listed, rows_of

__all__ = ["conclude"]

_SUCCEEDS = 0.95  # of the starts


def conclude(results: Results) -> Section:
    """Return the verdict: optimal policies from all critics, and swing-ups from every seed."""
    linear, swings = results["linear_ends"], results["pendulum_ends"]
    critics, learned = linear[linear["method"] != BPTT], swings[swings["method"].isin((VGL, SVG))]
    is_optimal = ((critics["excess_cost"] <= ALLOWED) & (critics["gradient_error"] <= ALLOWED)).all()
    return Section(
        setting=_setting(results.plan, swings),
        verdict=verdict_of([is_optimal, (learned["success"] >= _SUCCEEDS).all()]),
        findings=[*_on_linear_problems(linear, swings), *_on_the_pendulum(swings)],
        tables=results.tables,
        shown={
            "Linear-quadratic problems: largest values over seeds": _linear_table(linear),
            "Pendulum, by method and seed": _pendulum_table(swings),
        },
    )


def _setting(plan: Plan, swings: pd.DataFrame) -> str:
    return f"All problems and numbers are our choices. {_linear_setting(plan)} {_pendulum_setting(swings)}"


def _linear_setting(plan: Plan) -> str:
    beside, alone = BESIDE_CRITIC, LINEAR[BPTT].options
    return (
        "Linear-quadratic control without noise, from states x ~ N(0, I): a double integrator (time step 0.1, Q = I, "
        "R = 0.1) at two discounts γ, and an unstable system of 4 states and 2 controls (largest eigenvalue 1.12, "
        f"γ = 0.98). Policies are linear and start within {100 * SPREAD:g} % of a stable gain that is not the best; "
        "critics are quadratic (SVG) or linear in the state (VGL), and start at zero. SVG(1) is deterministic here. "
        f"{beside.steps} updates by Adam on a cosine schedule, learning rates {beside.policy_rate:g} for the "
        f"policy and {beside.critic_rate:g} for the critic, which learns alone in the first "
        f"{beside.head_start} updates; each update has 64 trajectories of {beside.horizon} steps. Backprop "
        f"through time is the reference without a critic: {alone.steps} updates of {alone.batch_size} "
        f"trajectories of {alone.horizon} steps, learning rate {alone.policy_rate:g}. {len(plan.seeds)} seeds."
    )


def _pendulum_setting(swings: pd.DataFrame) -> str:
    gradient, value, alone = (PENDULUM[method].options for method in (VGL, SVG, BPTT))
    return (
        "Pendulum: 1 kg on 1 m, a motor of 5 N·m (9.81 would hold it level), cost per second "
        "1 − cos θ + 0.02 ω² + 0.005 u², γ = 0.97 per step of 0.05 s. Policy and critics are networks of two hidden "
        f"layers of {SWING_UP.width} tanh units. Updates of {gradient.batch_size} trajectories of {gradient.horizon} "
        f"steps: {gradient.steps} of VGL(0.5), learning rates {gradient.policy_rate:g} (policy) and "
        f"{gradient.critic_rate:g}, whose trajectories restart in each update, from all angles and velocities; "
        f"{value.steps} of SVG(1) with TD({value.trace:g}), learning rates {value.policy_rate:g} and "
        f"{value.critic_rate:g}, whose trajectories continue where they ended, except for a share of "
        f"{value.restart:g} that restart. Targets bootstrap from a second critic, which moves {gradient.tracking:g} "
        f"of the way to the learning one in each update. Backprop through time: {alone.steps} updates of "
        f"{alone.batch_size} trajectories of {alone.horizon} steps, learning rate {alone.policy_rate:g}. A "
        f"swing-up from near hanging succeeds if the tilt is below {UPRIGHT:g} rad throughout the last of "
        f"{SWING_UP.seconds:g} s; {SWING_UP.n_starts} starts, seeds {listed(sorted(swings['seed'].unique()))}."
    )


def _on_linear_problems(linear: pd.DataFrame, swings: pd.DataFrame) -> Iterator[str]:
    critics, reference = linear[linear["method"] != BPTT], rows_of(linear, method=BPTT)
    yield (
        f"Linear-quadratic control: the costs of all {len(critics)} policies learned from a critic end at most "
        f"{critics['excess_cost'].max():.1e} above the optimum (allowed: {ALLOWED:g}; initially "
        f"{critics['first_excess_cost'].min():.2f} to {critics['first_excess_cost'].max():.2f}), with the critic's "
        f"gradient at most {critics['gradient_error'].max():.1e} from the exact value gradient. Pendulum: success by "
        f"seed {_by_seed(swings, SVG)} with SVG(1), {_by_seed(swings, VGL)} with VGL(0.5)."
    )
    yield (
        "For the claim to hold in full, both kinds of critic have to swing the pendulum up from at least "
        f"{100 * _SUCCEEDS:g} % of the starts, from every seed, because the claim names both. Backprop through time "
        "and VGL(0.5) going on do not count."
    )
    yield (
        f"Backprop through time ends at most {reference['excess_cost'].max():.1e} above the optimum. Policies are "
        f"within {100 * ALLOWED:g} % of it, on average, {_since(linear)}; an update costs more with some methods than "
        "with others."
    )


def _by_seed(swings: pd.DataFrame, method: str) -> str:
    return ", ".join(f"{success:.2f}" for success in rows_of(swings, method=method)["success"])


def _since(linear: pd.DataFrame) -> str:
    groups = linear.groupby("method", sort=False)["within_since"].agg(["mean", "count", "size"])
    return ", ".join(
        f"{method} after {row['mean']:.0f} updates ({row['count']:.0f} of {row['size']:.0f} policies)"
        for method, row in groups.iterrows()
    )


def _on_the_pendulum(swings: pd.DataFrame) -> Iterator[str]:
    yield (
        f"Pendulum: success by seed {_by_seed(swings, BPTT)} with backprop through time; mean discounted cost of "
        f"{SWING_UP.seconds:g} s {_means(swings, 'cost', '.2f', ' s')}."
    )
    yield (
        "If trajectories go on as those of SVG(1) do, and nothing else is changed, success of VGL(0.5) by seed is "
        f"{_by_seed(swings, GOING_ON)}."
    )
    known = swings.dropna(subset="gradient_angle")
    yield (
        f"On the pendulum's way up, where the tilt is above {UPRIGHT:g} rad, the median angle between a critic's "
        f"gradient and the exact one of its policy is {_means(known, 'gradient_angle', '.0f', '°')}; the median "
        f"relative error is {_means(known, 'gradient_error', '.2f')} (means over seeds). Each is measured along "
        "the trajectories of its own policy, whether it succeeds or not."
    )


def _means(swings: pd.DataFrame, value: str, spec: str, unit: str = "") -> str:
    means = swings.groupby("method", sort=False)[value].mean()
    return ", ".join(f"{mean:{spec}}{unit} with {method}" for method, mean in means.items())


def _linear_table(linear: pd.DataFrame) -> pd.DataFrame:
    columns = ["first_excess_cost", "excess_cost", "gradient_error", "gradient_error_from_best", "gain_error"]
    groups = linear.groupby(["problem", "method"], sort=False)
    table = formatted(groups[columns].max(), ".1e", columns).assign(within_since=groups["within_since"].max())
    return table.reset_index().replace("nan", "–")


def _pendulum_table(swings: pd.DataFrame) -> pd.DataFrame:
    return swings[["method", "seed", "success", "cost", "gradient_angle", "gradient_error", "updates"]].round(3)
