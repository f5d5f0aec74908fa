"""E8: value gradients, where the gradient of a learned critic is the synthetic gradient of a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section
from analysis.reproduction.claims.value_gradients.figures import draw
from analysis.reproduction.claims.value_gradients.runs import ALLOWED, SPREAD, UPRIGHT, learn_linear, learn_pendulum
from analysis.reproduction.summary import listed
from repsim.theory.control import Pendulum

__all__ = ["VALUE_GRADIENTS"]

_INTEGRATOR = {
    "A": [[1.0, 0.1], [0.0, 1.0]],
    "B": [[0.0], [0.1]],
    "Q": [[1.0, 0.0], [0.0, 1.0]],
    "R": [[0.1]],
    "gamma": 0.95,
    "gain": [[1.0, 1.0]],
}
PROBLEMS: dict[str, dict[str, Any]] = {
    "double integrator, γ = 0.95": _INTEGRATOR,
    "double integrator, γ = 0.99": {**_INTEGRATOR, "gamma": 0.99},
    "unstable system of 4 states": {  # the largest eigenvalue of A is 1.12
        "A": [[1.05, 0.2, 0.0, 0.0], [0.0, 0.95, 0.1, 0.0], [0.0, 0.0, 1.0, 0.2], [0.1, 0.0, -0.1, 1.0]],
        "B": [[0.0, 0.0], [0.4, 0.0], [0.0, 0.1], [0.0, 0.4]],
        "Q": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.1]],
        "R": [[0.2, 0.0], [0.0, 0.2]],
        "gamma": 0.98,
        "gain": [[0.61, 0.69, 0.18, 0.08], [0.18, 0.11, 0.29, 0.51]],  # the best where controls cost 30 times as much
    },
}
_SLUGS = dict(zip(PROBLEMS, ("integrator-0.95", "integrator-0.99", "unstable"), strict=True))

VGL, SVG, BPTT = "VGL(0.5)", "SVG(1)", "backprop through time"
GOING_ON = "VGL(0.5), going on"  # of which trajectories seldom restart, as those of SVG(1)
_BESIDE_CRITIC = {"steps": 200, "horizon": 5, "policy_rate": 0.15, "critic_rate": 0.2, "head_start": 30}
LINEAR: dict[str, dict[str, Any]] = {
    **{
        f"VGL({trace:g})": {"critic": "gradient", "options": {**_BESIDE_CRITIC, "trace": trace}}
        for trace in (0.0, 0.5, 1.0)
    },
    SVG: {"critic": "value", "options": {**_BESIDE_CRITIC, "trace": 0.0}},
    BPTT: {"critic": "none", "options": {"steps": 100, "horizon": 80, "batch_size": 32, "policy_rate": 0.2}},
}
_SWING = {"batch_size": 128, "horizon": 5, "tracking": 0.1, "critic_updates": 1, "head_start": 50}
_SWING_VGL = {**_SWING, "steps": 800, "policy_rate": 1.5e-3, "critic_rate": 3e-3, "trace": 0.5}
_SWING_SVG = {**_SWING, "steps": 1000, "policy_rate": 1e-3, "critic_rate": 2e-3, "trace": 0.8}
PENDULUM: dict[str, dict[str, Any]] = {
    VGL: {"critic": "gradient", "options": {**_SWING_VGL, "restart": 1.0}},
    SVG: {"critic": "value", "options": {**_SWING_SVG, "restart": 0.05}},
    BPTT: {"critic": "none", "options": {"steps": 250, "batch_size": 64, "horizon": 60, "policy_rate": 4e-3}},
    GOING_ON: {"critic": "gradient", "options": {**_SWING_VGL, "restart": 0.05}},
}
_COSTS = {VGL: 13.0, SVG: 15.0, BPTT: 28.0, GOING_ON: 13.0}
_SUCCEEDS = 0.95  # of the starts
_WIDTH, _N_STARTS, _SECONDS, _N_EVALUATIONS = 32, 200, 10.0, 25
_QUICK_SEEDS = 3


def _parts(plan: Plan) -> list[Part]:
    linear = [
        Part(
            name=f"{_SLUGS[problem]}-{_slug(method)}",
            work=learn_linear,
            settings={
                "problem": problem,
                "definition": definition,
                "method": method,
                **choices,
                "seeds": list(plan.seeds),
            },
            cost=(2.0 if method == BPTT else 1.4) * len(plan.seeds),
            group="value-gradients",
        )
        for problem, definition in PROBLEMS.items()
        for method, choices in LINEAR.items()
    ]
    seeds = plan.seeds if plan.is_full else plan.seeds[:_QUICK_SEEDS]
    pendulum = [
        Part(
            name=f"pendulum-{_slug(method)}-seed-{seed}",
            work=learn_pendulum,
            settings={
                "method": method,
                **choices,
                "seed": seed,
                "width": _WIDTH,
                "pendulum": asdict(Pendulum()),
                "n_starts": _N_STARTS,
                "seconds": _SECONDS,
                "n_evaluations": _N_EVALUATIONS,
            },
            cost=_COSTS[method],
            group="value-gradients",
        )
        for method, choices in PENDULUM.items()
        for seed in seeds
    ]
    return [*linear, *pendulum]


def _slug(method: str) -> str:
    return method.lower().translate(str.maketrans(" (", "--", "),"))


def _conclude(results: Results) -> Section:
    linear, swings = results["linear_ends"], results["pendulum_ends"]
    return Section(
        setting=_setting(results.plan, swings),
        verdict=_verdict(linear, swings),
        findings=list(_findings(linear, swings)),
        drawings=list(draw(results.tables, _SECONDS, Pendulum().torque_limit)),
        tables=results.tables,
        shown={
            "Linear-quadratic problems: largest values over seeds": _linear_table(linear),
            "Pendulum, by method and seed": _pendulum_table(swings),
        },
    )


def _verdict(linear: pd.DataFrame, swings: pd.DataFrame) -> str:
    """Return what follows: whether critics lead to the known optimum, and swing the pendulum up from every seed."""
    critics, learned = linear[linear["method"] != BPTT], swings[swings["method"].isin((VGL, SVG))]
    optimal = bool(((critics["excess_cost"] <= ALLOWED) & (critics["gradient_error"] <= ALLOWED)).all())
    swung = bool((learned["success"] >= _SUCCEEDS).all())
    return "holds" if optimal and swung else "holds in part" if optimal or swung else "does not hold"


def _setting(plan: Plan, swings: pd.DataFrame) -> str:
    return f"All problems and numbers are choices of ours. {_linear_setting(plan)} {_pendulum_setting(swings)}"


def _linear_setting(plan: Plan) -> str:
    beside, alone = _BESIDE_CRITIC, LINEAR[BPTT]["options"]
    return (
        "Linear-quadratic control without noise, from states x ~ N(0, I): a double integrator (time step 0.1, Q = I, "
        "R = 0.1) at two discounts γ, and an unstable system of 4 states and 2 controls (largest eigenvalue 1.12, "
        f"γ = 0.98). Policies are linear and begin within {100 * SPREAD:g} % of a stable gain that is not the best; "
        "critics are quadratic (SVG) or linear in the state (VGL), and begin at zero. SVG(1) is deterministic here. "
        f"{beside['steps']} updates by Adam on a cosine schedule, rates {beside['policy_rate']:g} for the policy and "
        f"{beside['critic_rate']:g} for the critic, which learns alone for {beside['head_start']} of them; an update "
        f"has 64 trajectories of {beside['horizon']} steps. Backprop through time, the reference without a critic: "
        f"{alone['steps']} updates of {alone['batch_size']} trajectories of {alone['horizon']} steps, rate "
        f"{alone['policy_rate']:g}. {len(plan.seeds)} seeds."
    )


def _pendulum_setting(swings: pd.DataFrame) -> str:
    gradient, value, alone = (PENDULUM[method]["options"] for method in (VGL, SVG, BPTT))
    return (
        "Pendulum: 1 kg on 1 m, a motor of 5 N·m (9.81 would hold it level), cost a second "
        "1 − cos θ + 0.02 ω² + 0.005 u², γ = 0.97 a step of 0.05 s. Policy and critics are networks of two hidden "
        f"layers of {_WIDTH} tanh units. Updates of {_SWING['batch_size']} trajectories of {_SWING['horizon']} steps: "
        f"{gradient['steps']} of VGL(0.5), rates {gradient['policy_rate']:g} (policy) and {gradient['critic_rate']:g}, "
        f"whose trajectories start anew in each, from all angles and velocities; {value['steps']} of SVG(1) with "
        f"TD({value['trace']:g}), rates {value['policy_rate']:g} and {value['critic_rate']:g}, whose trajectories go "
        f"on where they ended but for a share of {value['restart']:g}. Targets bootstrap from a critic that moves by "
        f"{_SWING['tracking']:g} of the way to the one that learns. Backprop through time: {alone['steps']} updates of "
        f"{alone['batch_size']} trajectories of {alone['horizon']} steps, rate {alone['policy_rate']:g}. A swing-up "
        f"from near hanging succeeds if the tilt is below {UPRIGHT:g} rad throughout the last of {_SECONDS:g} s; "
        f"{_N_STARTS} starts, seeds {listed(sorted(swings['seed'].unique()))}."
    )


def _findings(linear: pd.DataFrame, swings: pd.DataFrame) -> Iterator[str]:
    critics, reference = linear[linear["method"] != BPTT], linear[linear["method"] == BPTT]
    yield (
        f"Linear-quadratic control: the costs of all {len(critics)} policies learned from a critic end at most "
        f"{critics['excess_cost'].max():.1e} above the optimum (allowed: {ALLOWED:g}; at first "
        f"{critics['first_excess_cost'].min():.2f} to {critics['first_excess_cost'].max():.2f}), with the critic's "
        f"gradient at most {critics['gradient_error'].max():.1e} from the exact value gradient. Pendulum: success by "
        f"seed {_by_seed(swings, SVG)} with SVG(1), {_by_seed(swings, VGL)} with VGL(0.5)."
    )
    yield (
        "Both kinds of critic have to swing the pendulum up for the claim to hold in full, as it names both: at least "
        f"{100 * _SUCCEEDS:g} % of the starts, from every seed. Backprop through time and VGL(0.5) going on decide "
        "nothing."
    )
    yield (
        f"Backprop through time ends at most {reference['excess_cost'].max():.1e} above the optimum. Within "
        f"{100 * ALLOWED:g} % of it are, on average, {_since(linear)}; updates differ in what they cost."
    )
    yield from _on_the_pendulum(swings)


def _by_seed(swings: pd.DataFrame, method: str) -> str:
    return ", ".join(f"{success:.2f}" for success in swings.loc[swings["method"] == method, "success"])


def _since(linear: pd.DataFrame) -> str:
    groups = linear.groupby("method", sort=False)["within_since"].agg(["mean", "count", "size"])
    return ", ".join(
        f"{method} after {row['mean']:.0f} updates ({row['count']:.0f} of {row['size']:.0f} policies)"
        for method, row in groups.iterrows()
    )


def _on_the_pendulum(swings: pd.DataFrame) -> Iterator[str]:
    costs = ", ".join(f"{cost:.2f} s with {method}" for method, cost in _means(swings, "cost"))
    yield (
        f"Pendulum: success by seed {_by_seed(swings, BPTT)} with backprop through time; mean discounted cost of "
        f"{_SECONDS:g} s {costs}."
    )
    yield (
        "If trajectories go on as those of SVG(1) do, and nothing else is changed, success of VGL(0.5) "
        f" by seed is {_by_seed(swings, GOING_ON)}."
    )
    known = swings.dropna(subset="gradient_angle")
    angles = ", ".join(f"{angle:.0f}° with {method}" for method, angle in _means(known, "gradient_angle"))
    errors = ", ".join(f"{error:.2f} with {method}" for method, error in _means(known, "gradient_error"))
    yield (
        f"On the pendulum's way up, where the tilt is above {UPRIGHT:g} "
        f"rad, the median angle between a critic's gradient and the exact one of its policy is {angles}; the median "
        f"relative error is {errors} (means over seeds). Each is measured on the way of its own policy, whether it "
        "succeeds or not."
    )


def _means(swings: pd.DataFrame, value: str) -> Iterator[tuple[str, float]]:
    for method, mean in swings.groupby("method", sort=False)[value].mean().items():
        yield str(method), float(mean)


def _linear_table(linear: pd.DataFrame) -> pd.DataFrame:
    columns = ["first_excess_cost", "excess_cost", "gradient_error", "gradient_error_from_best", "gain_error"]
    groups = linear.groupby(["problem", "method"], sort=False)
    table = groups[columns].max().map("{:.1e}".format).assign(within_since=groups["within_since"].max())
    return table.reset_index().replace("nan", "–")


def _pendulum_table(swings: pd.DataFrame) -> pd.DataFrame:
    return swings[["method", "seed", "success", "cost", "gradient_angle", "gradient_error", "updates"]].round(3)


VALUE_GRADIENTS = Experiment(
    name="value-gradients",
    title="Value gradients",
    claim="[S] Synthetic gradients fit one unifying language with value-gradient learning (Fairbank) and stochastic "
    "value gradients (Heess): the gradient ∂V/∂x of a learned critic is a synthetic gradient, in place of what "
    "would be sent back through all of the future.",
    parts=_parts,
    conclude=_conclude,
)
