"""Conclusion: whether every descent that met the condition converged, and how often the condition holds at all."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.tracking.parts import (
    BACKPROP,
    DENSE,
    FIXED,
    MODULE_RATE,
    RATES,
    SIZES,
    STEPS,
    TOLERANCE,
    NoisyProblem,
)
from analysis.reproduction.kit.numbers import formatted, proportion, rows_of, value_range

__all__ = ["LOSSES", "NETWORKS", "conclude", "summarise"]

NETWORKS = {"linear": "deep linear network", "tanh": "tanh unit"}
LOSSES = {"mse": "squared error", "log_loss": "log loss"}
_ROUNDING = 1e-9  # relative tolerance of losses that must not rise and of bounds that must not be exceeded
_DESCENT = ["network", "loss", "method", "size", "seed"]


def conclude(results: Results) -> Section:
    """Return whether modules as they learn ever contradict the theorem, and whether they ever meet its condition."""
    looks, disturbed, practice = (results[name] for name in ("looks", "disturbed", "practice"))
    runs = summarise(looks, disturbed)
    synthetic = runs[runs["method"] != BACKPROP]
    natural, constructed = rows_of(synthetic, size=0), synthetic[synthetic["size"] > 0]
    held, exceeded = natural[natural["holds"]], _exceeded(looks, practice)
    is_true = bool(held["converged"].all()) and exceeded == 0
    return Section(
        setting=_setting(results),
        verdict="does not hold" if not is_true else "holds" if len(held) else "holds in part",
        findings=[
            _on_the_theorem(natural),
            _on_constructed(constructed, _exceeded(disturbed)),
            *_on_small_problems(runs),
            _on_single_steps(looks),
            *_on_disturbances(runs),
            _on_practice(practice),
            f"The error of the gradient exceeded its bound εC at {exceeded} of the measurements without a disturbance.",
        ],
        tables={"looks": looks, "disturbed": disturbed, "practice": practice, "runs": runs},
        shown={
            "Small problems: the largest r, and the end of the descent": _small_table(runs),
            "Disturbed by a share of the true gradient": _disturbed_table(runs),
        },
    )


def summarise(looks: pd.DataFrame, disturbed: pd.DataFrame) -> pd.DataFrame:
    """Return one row per descent: its largest r, whether the condition held at every look, and where it ended.

    A descent has converged if the true gradient has nearly vanished and the loss is not above the first, as it would
    be on a plateau of the tanh. ``excess`` is the final loss minus that of backprop on the same problem and seed.
    """
    rows = pd.concat([looks, disturbed], ignore_index=True).groupby(_DESCENT, sort=False)
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
    """Return at how many measurements the error of the gradient exceeds its bound εC."""
    bounded = pd.concat([table.dropna(subset="ratio") for table in tables])
    slack = _ROUNDING * (bounded["error_bound"] + bounded["gradient_norm"])
    return int((bounded["error_norm"] > bounded["error_bound"] + slack).sum())


def _setting(results: Results) -> str:
    plan, practice = results.plan, results["practice"]
    return (
        f"All problems and numbers are our choices. {_small_setting()} {_disturbed_setting()} In practice: "
        f"{plan.digits}, 20 hidden layers of 128 with batch norm, the SG in the middle, "
        f"Adam as in the demo, {int(practice['n_steps'].iloc[0]):,} steps; r of one batch of "
        f"{int(practice['n_batch'].iloc[0])} in training mode, with a C that is up to 5 % too high. {len(plan.seeds)} "
        f"seeds, {practice['seed'].nunique()} for disturbances and practice. Intervals of proportions are Wilson's and "
        "take descents as independent, although those of one seed share their examples."
    )


def _small_setting() -> str:
    rates, data = {case: f"{rate:g}" for case, rate in RATES.items()}, NoisyProblem(network="tanh", loss="mse")
    return (
        f"Small problems: {data.n_examples} normal examples in two dimensions, with labels drawn with probability "
        f"(1 + {data.share:g} tanh({data.slope:g} u · x)) / 2, squared error to targets of ±1, or log loss; a "
        "linear network (two hidden layers of four units and a linear output) and one tanh unit with a fixed read-out; "
        "a linear label-conditioned SG, which starts at zero, below the output. Gradient descent on all examples in "
        f"double precision, at learning rates {rates['linear', 'mse']} (linear) and {rates['tanh', 'mse']} (tanh) for "
        f"the squared error, {rates['linear', 'log_loss']} and {rates['tanh', 'log_loss']} for the log loss; before "
        f"each step of the network the module takes 1, 30 or 1,000 steps, at {MODULE_RATE:g} of the largest learning "
        f"rate with which it converges. A descent ends after {STEPS['mse']:,} steps ({STEPS['log_loss']} for the log "
        f"loss), or as converged when the true gradient is {TOLERANCE:g} of the first and the loss is not above the "
        f"first. r is measured before each of the first {DENSE} steps and before every 10th later."
    )


def _disturbed_setting() -> str:
    sizes = ", ".join(f"{size:g}" for size in SIZES["below"] + SIZES["beyond"])
    return (
        "Disturbances of the tanh unit's SG (squared error, 1,000 module steps): against the gradient (along −J Jᵀt, J "
        "the Jacobian and t the true gradient of the activations), a bias equal for all examples, and new noise in "
        f"each step, all of a size that makes r {sizes} at every step; and a bias of fixed size."
    )


def _on_the_theorem(natural: pd.DataFrame) -> str:
    """Return how many modules as they learn met the condition, and what became of these and of the others."""
    held, other = natural[natural["holds"]], natural[~natural["holds"]]
    worst = held["worst_ratio"].max()
    delta = f" (r at most {worst:.2f}: δ = {(1 - worst) / (1 + worst):.2f} suffices for all)" if len(held) else ""
    return (
        f"Of {len(natural)} descents with a module as it learns, without a disturbance, the condition held throughout "
        f"in {len(held)}{delta}, and {_converged(held)} of these converged; of the {len(other)} in which it did not "
        f"hold {_converged(other)} did: the condition is sufficient, not necessary. The verdict is from these "
        f"descents alone."
    )


def _on_constructed(constructed: pd.DataFrame, exceeded: int) -> str:
    """Return what became of the descents whose disturbance fixes whether the condition holds."""
    held, other = constructed[constructed["holds"]], constructed[~constructed["holds"]]
    return (
        f"In {len(constructed)} more descents a disturbance of chosen size is added, so that the condition holds or "
        f"fails by construction: {_converged(held)} of {len(held)} in which it holds converged, and "
        f"{_converged(other)} of {len(other)} in which it fails. They say how sharp the condition is, not whether "
        f"synthetic gradients meet it; the error exceeded its bound at {exceeded} of their measurements."
    )


def _converged(runs: pd.DataFrame) -> str:
    """Return the number of descents that converged, with its interval where there are any."""
    n, converged = len(runs), int(runs["converged"].sum())
    return f"{converged} ({proportion(converged, n)})" if n else "0"


def _on_small_problems(runs: pd.DataFrame) -> Iterator[str]:
    for loss, words in LOSSES.items():
        for network, title in NETWORKS.items():
            rows = rows_of(runs, loss=loss, network=network, size=0)
            ends = [_ended(str(method), each) for method, each in rows.groupby("method", sort=False)]
            fast = rows_of(rows, method=rows["method"].iloc[-1])
            yield (
                f"{title.capitalize()}, {words}: {'; '.join(ends)}. With the fastest module the final loss differs "
                f"from backprop's by {fast['excess'].abs().max():.1e} at most."
            )


def _ended(method: str, rows: pd.DataFrame) -> str:
    converged = f"{method}: {int(rows['converged'].sum())} of {len(rows)} converged"
    if method == BACKPROP:
        return converged
    left = rows.loc[~rows["converged"], "slope_share"]
    rest = f", the others end at {value_range(left)} of the first gradient" if len(left) else ""
    return f"{converged} (largest r {value_range(rows['worst_ratio'])}{rest})"


def _on_single_steps(looks: pd.DataFrame) -> str:
    """Return how often the loss rose in a step before which the condition held, which a small rate rules out."""
    after = looks.groupby(_DESCENT, sort=False)[["step", "value"]].shift(-1)
    inside = looks[(looks["ratio"] < 1) & (after["step"] == looks["step"] + 1)]
    rose = after.loc[inside.index, "value"] > inside["value"] * (1 + _ROUNDING)
    return f"Of {len(inside)} single steps before which r was below 1 the loss rose in {int(rose.sum())}."


def _on_disturbances(runs: pd.DataFrame) -> Iterator[str]:
    disturbed = runs[runs["size"] > 0]
    for kind, rows in disturbed[disturbed["method"] != FIXED].groupby("method", sort=False):
        counts = rows.groupby("size")["converged"].agg(["sum", "size"])
        sizes = ", ".join(f"{int(row['sum'])} of {int(row['size'])} at r = {size:g}" for size, row in counts.iterrows())
        yield f"Disturbed in proportion to the true gradient, {kind}: converged {sizes}."
    fixed = rows_of(disturbed, method=FIXED).groupby("size")["slope_share"].median()
    sizes = ", ".join(f"{share:.1e} at r = {size:g}" for size, share in fixed.items())
    yield f"With a bias of fixed size the true gradient stalls at a share of the first (median; r at first): {sizes}."


def _on_practice(practice: pd.DataFrame) -> str:
    share, met = practice["error_norm"] / practice["gradient_norm"], int((practice["ratio"] < 1).sum())
    last = practice.groupby("seed")["validation_accuracy"].last()
    norms = practice.groupby("seed")["gradient_norm"].agg(["first", "last"])
    return (
        f"In practice the condition was met at {met or 'none'} of {len(practice)} measurements of {len(last)} "
        f"networks: r lies between {practice['ratio'].min():.1f} and {practice['ratio'].max():.1f}, and the actual "
        f"error between {share.min():.2f} and {share.max():.2f} of the true gradient (below 1, where a small step is "
        f"sure to descend, at {int((share < 1).sum())} of them). The true gradient of the layers below goes from "
        f"{value_range(norms['first'])} to {value_range(norms['last'])} on that batch; validation accuracy still ends "
        f"at {last.min():.3f} to {last.max():.3f}."
    )


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
    shown = formatted(shown, ".2g", ["share_of_looks_held", "largest_r", "final_gradient_share", "above_backprop"])
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
    shown = table.rename(columns={"method": "disturbance", "size": "r"})
    return formatted(shown, ".2g", ["final_gradient_share", "above_backprop"])
