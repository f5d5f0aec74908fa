"""Claim 2: training converges where the synthetic gradient tracks the true one; where it does, and where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section
from analysis.reproduction.claims.tracking.figures import LOSSES, NETWORKS, draw
from analysis.reproduction.claims.tracking.runs import BACKPROP, FIXED, KINDS, descend, disturb, practise
from analysis.workflows.demo import DEMO_RUNS
from repsim.learning import TrainingConfig

__all__ = ["TRACKING", "conclude", "summarise"]

TOLERANCE = 1e-5  # of the true gradient, as a share of the first: from here on a descent has converged
PACES = {f"SG, module steps: {n:,}": {"head_start": 0, "module_steps": n} for n in (1, 30, 1000)}
SIZES = {"below": (0.5, 0.9), "beyond": (1.1, 2.0, 8.0, 16.0), "fixed": (0.01, 0.1, 0.5)}  # of disturbances, in r
_DATA = {"n_examples": 100, "slope": 1.2, "share": 0.9, "read_out": 2.0}
_RATES = {("linear", "mse"): 0.05, ("tanh", "mse"): 1.0, ("linear", "log_loss"): 0.3, ("tanh", "log_loss"): 0.5}
_MODULE_RATE = 0.3
_STEPS = {"mse": 1000, "log_loss": 400}
_DISTURBED_STEPS = {"below": 2000, "beyond": 400, "fixed": 250}
_DENSE, _EVERY = 150, 10
_DENSE_DISTURBED, _EVERY_DISTURBED = {"below": 1, "beyond": 1, "fixed": 40}, 20
_ROUNDING = 1e-9  # relative, by which a loss may rise, and a bound be exceeded
_CASE = ["network", "loss", "method", "size", "seed"]


def _parts(plan: Plan) -> list[Part]:
    few = list(plan.seeds if plan.is_full else plan.seeds[:3])
    small = [_small_part(network, loss, plan) for network, loss in _RATES]
    relative = [_disturbed_part(kind, span, few) for kind in KINDS if kind != FIXED for span in ("below", "beyond")]
    return [*small, *relative, _disturbed_part(FIXED, "fixed", few), *(_practical_part(plan, seed) for seed in few)]


def _small_part(network: str, loss: str, plan: Plan) -> Part:
    settings = {
        "problem": {"network": network, "loss": loss, **_DATA},
        "schedule": _schedule(network, loss, n_steps=_STEPS[loss], dense=_DENSE, every=_EVERY),
        "paces": PACES,
        "seeds": list(plan.seeds),
    }
    name = f"{network}-{loss.replace('_', '-')}"
    return Part(name=name, work=descend, settings=settings, cost=4.0 * len(plan.seeds), group="tracking")


def _disturbed_part(kind: str, span: str, seeds: list[int]) -> Part:
    looks = {"dense": _DENSE_DISTURBED[span], "every": _EVERY_DISTURBED}
    schedule = _schedule("tanh", "mse", n_steps=_DISTURBED_STEPS[span], **looks)
    settings = {
        "problem": {"network": "tanh", "loss": "mse", **_DATA},
        "schedule": {**schedule, "head_start": 0, "module_steps": 1000},
        "kind": kind,
        "sizes": list(SIZES[span]),
        "seeds": seeds,
    }
    name = f"{kind.replace(' ', '-')}-{span}"
    cost = 0.8 * len(seeds) * len(SIZES[span])
    return Part(name=name, work=disturb, settings=settings, cost=cost, group="tracking")


def _schedule(network: str, loss: str, **steps: int) -> dict[str, Any]:
    rates = {"rate": _RATES[network, loss], "module_rate": _MODULE_RATE}
    return {**rates, "tolerance": TOLERANCE, **steps}


def _practical_part(plan: Plan, seed: int) -> Part:
    settings = {
        "training": _training(plan, seed).to_dict(),
        "n_looks": 40 if plan.is_full else 12,
        "data_dir": plan.data_dir,
    }
    return Part(name=f"practice-seed-{seed}", work=practise, settings=settings, cost=30.0, group="tracking")


def _training(plan: Plan, seed: int) -> TrainingConfig:
    training = replace(DEMO_RUNS["sg-middle"], seed=seed)
    if not plan.is_full:
        return training
    return replace(training, data="mnist", device=plan.device, epochs=training.epochs // 4)


def conclude(results: Results) -> Section:
    """Return what the runs say of the theorem: whether it was ever wrong, and how often it has anything to say."""
    looks, disturbed, practice = (results[name] for name in ("looks", "disturbed", "practice"))
    runs = summarise(looks, disturbed)
    chosen = runs[runs["method"] != BACKPROP]
    held = chosen[chosen["holds"]]
    is_kept = bool(held["converged"].all()) and _exceeded(looks, disturbed, practice) == 0
    is_shown = bool((held["size"] == 0).any())  # by a module as it is, so that the promise is about something
    return Section(
        setting=_setting(results),
        verdict="does not hold" if not is_kept else "holds" if is_shown else "holds in part",
        findings=[
            _on_the_promise(chosen, practice),
            *_on_small_problems(runs),
            _on_descent(looks),
            *_on_disturbances(runs),
            *_on_practice(practice, _exceeded(looks, disturbed, practice)),
        ],
        drawings=list(draw(looks, disturbed, practice, runs)),
        tables={"looks": looks, "disturbed": disturbed, "practice": practice, "runs": runs},
        shown={
            "Small problems: the largest r, and where the descent ends": _small_table(runs),
            "Disturbed by a share of the true gradient": _disturbed_table(runs),
        },
    )


def summarise(looks: pd.DataFrame, disturbed: pd.DataFrame) -> pd.DataFrame:
    """Return a row a run: r at most, whether the condition held at every look, and how the descent ended.

    A descent has converged if the true gradient has all but vanished, and not because the loss has risen to where the
    tanh is flat. ``excess`` is the final loss less that which backprop ends with on the same problem and seed.
    """
    rows = pd.concat([looks, disturbed], ignore_index=True).groupby(_CASE, sort=False)
    runs = rows.agg(
        looks=("step", "size"),
        steps=("step", "last"),
        first=("value", "first"),
        final=("value", "last"),
        slope_share=("slope_share", "last"),
        worst_ratio=("ratio", "max"),
        share_held=("ratio", lambda ratio: (ratio < 1).mean()),
    )
    runs = runs.reset_index().assign(
        holds=lambda table: table["worst_ratio"] < 1,
        converged=lambda table: (table["slope_share"] <= TOLERANCE) & (table["final"] <= table["first"]),
    )
    reference = runs[runs["method"] == BACKPROP].set_index(["network", "loss", "seed"])["final"].rename("backprop")
    runs = runs.join(reference, on=["network", "loss", "seed"])
    return runs.assign(excess=runs["final"] - runs["backprop"]).drop(columns="backprop")


def _exceeded(*tables: pd.DataFrame) -> int:
    """Return at how many looks the error of the gradient exceeds its bound εC."""
    bounded = pd.concat([table.dropna(subset="ratio") for table in tables])
    slack = _ROUNDING * (bounded["error_bound"] + bounded["gradient_norm"])
    return int((bounded["error_norm"] > bounded["error_bound"] + slack).sum())


def _setting(results: Results) -> str:
    plan, practice = results.plan, results["practice"]
    return (
        f"All of this is our choice. {_small_setting()} {_disturbed_setting()} In practice: "
        f"{'MNIST' if plan.is_full else 'mnist5k'}, 20 hidden layers of 128 with batch norm, the SG in the middle, "
        f"Adam as in the demo, {int(practice['n_steps'].iloc[0]):,} steps; r of one batch of "
        f"{int(practice['n_batch'].iloc[0])} in training mode, with a C that is up to 5 % too high. {len(plan.seeds)} "
        f"seeds, {practice['seed'].nunique()} for disturbances and practice."
    )


def _small_setting() -> str:
    rates = {case: f"{rate:g}" for case, rate in _RATES.items()}
    return (
        f"Small problems: {_DATA['n_examples']} normal examples in two dimensions, their labels drawn with probability "
        f"(1 + {_DATA['share']:g} tanh({_DATA['slope']:g} u · x)) / 2, squared error to targets of ±1, or log loss; a "
        "linear network (two hidden layers of four units and a linear output) and one tanh unit with a fixed read-out; "
        "a linear label-conditioned SG, from zero, below the output. Gradient descent on all examples in double "
        f"precision, at rates {rates['linear', 'mse']} (linear) and {rates['tanh', 'mse']} (tanh) for the squared "
        f"error, {rates['linear', 'log_loss']} and {rates['tanh', 'log_loss']} for the log loss; before each step of "
        f"the network 1, 30 or 1,000 of the module, at {_MODULE_RATE:g} of the largest rate that it bears; until the "
        f"true gradient is {TOLERANCE:g} of the first and the loss no higher than at first, which is called converged, "
        "or at most "
        f"{_STEPS['mse']:,} steps ({_STEPS['log_loss']} for the log loss). r is looked at before each of the first "
        f"{_DENSE} steps and every {_EVERY}th later."
    )


def _disturbed_setting() -> str:
    sizes = ", ".join(f"{size:g}" for size in SIZES["below"] + SIZES["beyond"])
    return (
        "Disturbances of the tanh unit's SG (squared error, 1,000 module steps): against the gradient (along −J Jᵀt, J "
        "the Jacobian and t the true gradient of the activations), a bias equal for all examples, and noise drawn anew "
        f"each step, all of a size that makes r {sizes} at every step; and a bias of fixed size."
    )


def _on_the_promise(chosen: pd.DataFrame, practice: pd.DataFrame) -> str:
    held, other = chosen[chosen["holds"]], chosen[~chosen["holds"]]
    worst = held["worst_ratio"].max()
    delta = f" (r at most {worst:.2f}: δ = {(1 - worst) / (1 + worst):.2f} will do for all)" if len(held) else ""
    return (
        f"Of {len(chosen)} descents with a synthetic gradient the condition held throughout in {len(held)}, of which "
        f"{int((held['size'] > 0).sum())} were disturbed on purpose{delta}; {int(held['converged'].sum())} of these "
        f"{len(held)} converged. Of the {len(other)} others "
        f"{int(other['converged'].sum())} did as well: the condition is sufficient, not necessary. In practice it "
        f"{_met(practice)}, where r was {practice['ratio'].min():.1f} or more and validation accuracy still reached "
        f"{practice.groupby('seed')['validation_accuracy'].last().min():.3f} or more."
    )


def _met(practice: pd.DataFrame) -> str:
    met = int((practice["ratio"] < 1).sum())
    return f"was met at {met} of {len(practice)} looks" if met else f"was met at none of {len(practice)} looks"


def _on_small_problems(runs: pd.DataFrame) -> Iterator[str]:
    for loss, words in LOSSES.items():
        for network, called in NETWORKS.items():
            rows = runs[(runs["loss"] == loss) & (runs["network"] == network) & (runs["size"] == 0)]
            parts = [_ended(str(method), each) for method, each in rows.groupby("method", sort=False)]
            fast = rows[rows["method"] == rows["method"].iloc[-1]]
            yield (
                f"{called.capitalize()}, {words}: {'; '.join(parts)}. With the fastest module the final loss differs "
                f"from backprop's by {fast['excess'].abs().max():.1e} at most."
            )


def _ended(method: str, rows: pd.DataFrame) -> str:
    converged = f"{method}: {int(rows['converged'].sum())} of {len(rows)} converged"
    if method == BACKPROP:
        return converged
    left = rows.loc[~rows["converged"], "slope_share"]
    rest = f", the rest is left with {_span(left)} of the first gradient" if len(left) else ""
    return f"{converged} (largest r {_span(rows['worst_ratio'])}{rest})"


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} – {high}"


def _on_descent(looks: pd.DataFrame) -> str:
    """Say how often the loss rose at a step before which the condition held, as it must not if the rate is small."""
    after = looks.groupby(_CASE, sort=False)[["step", "value"]].shift(-1)
    inside = looks[(looks["ratio"] < 1) & (after["step"] == looks["step"] + 1)]
    rose = after.loc[inside.index, "value"] > inside["value"] * (1 + _ROUNDING)
    return f"Of {len(inside)} single steps before which r was below 1 the loss rose in {int(rose.sum())}."


def _on_disturbances(runs: pd.DataFrame) -> Iterator[str]:
    disturbed = runs[runs["size"] > 0]
    for kind, rows in disturbed[disturbed["method"] != FIXED].groupby("method", sort=False):
        counts = rows.groupby("size")["converged"].agg(["sum", "size"])
        parts = ", ".join(f"{int(row['sum'])} of {int(row['size'])} at r = {size:g}" for size, row in counts.iterrows())
        yield f"Disturbed in proportion to the true gradient, {kind}: converged {parts}."
    fixed = disturbed[disturbed["method"] == FIXED].groupby("size")["slope_share"].median()
    parts = ", ".join(f"{share:.1e} at r = {size:g}" for size, share in fixed.items())
    yield f"Under a bias of fixed size the true gradient stalls at a share of the first (median; r at first): {parts}."


def _on_practice(practice: pd.DataFrame, exceeded: int) -> Iterator[str]:
    share = practice["error_norm"] / practice["gradient_norm"]
    last = practice.groupby("seed")["validation_accuracy"].last()
    norms = practice.groupby("seed")["gradient_norm"].agg(["first", "last"])
    yield (
        f"In practice r lies between {practice['ratio'].min():.1f} and {practice['ratio'].max():.1f} over "
        f"{len(practice)} looks at {len(last)} networks, and the actual error between {share.min():.2f} and "
        f"{share.max():.2f} of the true gradient (below 1, where a small step is sure to descend, at "
        f"{int((share < 1).sum())} looks). The true gradient of the layers below goes from {_span(norms['first'])} to "
        f"{_span(norms['last'])} on that batch; validation accuracy ends at {last.min():.3f} to {last.max():.3f}."
    )
    yield f"The error of the gradient exceeded its bound εC at {exceeded} looks of all."


def _small_table(runs: pd.DataFrame) -> pd.DataFrame:
    rows = runs[runs["size"] == 0].groupby(["network", "loss", "method"], sort=False)
    table = rows.agg(
        descents=("seed", "size"),
        converged=("converged", "sum"),
        held_throughout=("holds", lambda holds: str(holds.sum())),
        share_of_looks_held=("share_held", "mean"),
        largest_r=("worst_ratio", "max"),
        final_gradient_share=("slope_share", "median"),
        above_backprop=("excess", "median"),
    ).reset_index()
    shown = table.assign(network=table["network"].map(NETWORKS), loss=table["loss"].map(LOSSES))
    shown = _rounded(shown, "share_of_looks_held", "largest_r", "final_gradient_share", "above_backprop")
    of_module = ["held_throughout", "share_of_looks_held", "largest_r"]
    return shown.assign(**{name: shown[name].where(shown["method"] != BACKPROP, "–") for name in of_module})


def _disturbed_table(runs: pd.DataFrame) -> pd.DataFrame:
    rows = runs[(runs["size"] > 0) & (runs["method"] != FIXED)].groupby(["method", "size"], sort=False)
    table = rows.agg(
        descents=("seed", "size"),
        converged=("converged", "sum"),
        final_gradient_share=("slope_share", "median"),
        above_backprop=("excess", "median"),
    ).reset_index()
    return _rounded(
        table.rename(columns={"method": "disturbance", "size": "r"}), "final_gradient_share", "above_backprop"
    )


def _rounded(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return table.assign(**{name: table[name].map("{:.2g}".format) for name in columns})


TRACKING = Experiment(
    name="tracking",
    title="Tracking and convergence",
    claim="[M] After the paper: where the synthetic gradient errs by ε at the most, the Jacobian of the activations by "
    "the parameters θ below is bounded by C, and at every iteration εC ≤ ‖∂L/∂θ‖ (1 − δ) / (1 + δ) for one fixed δ "
    "between 0 and 1, training converges to a solution of the original problem. With r = εC / ‖∂L/∂θ‖ this asks that r "
    "stays below 1, and away from it.",
    parts=_parts,
    conclude=conclude,
)
