"""Conclusion: whether stationary points stay where the module can express the true gradient, and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.reproduction.claim import Plan, Results, Section
from analysis.reproduction.claims.critical_points.parts import N_EXAMPLES, NAMES, PROBLEMS, RIDGE
from analysis.reproduction.kit.numbers import formatted, rows_of

__all__ = ["conclude"]

_SAME_GRADIENT, _SAME_POINT = 1e-8, 1e-6


def conclude(results: Results) -> Section:
    """Return "holds" if no family moves a point, "holds in part" if only those do that cannot hold the gradient."""
    points = results["points"]
    synthetic = points[points["family"] != "backprop"]
    exact = _expressible(synthetic)
    is_preserved = bool(_preserved(exact).all()) and len(exact) > 0
    others = synthetic.drop(exact.index)
    others = others[others["at_rest"]]
    is_moved = bool((others["true_gradient_norm"] > _SAME_GRADIENT).any())
    return Section(
        setting=_setting(results.plan),
        verdict="does not hold" if not is_preserved else "holds in part" if is_moved else "holds",
        findings=[*_findings(points, exact, others)],
        tables={"points": points, "spectra": results["spectra"]},
        shown={"Stationary points, medians over seeds": _point_table(points)},
    )


def _expressible(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of modules that can hold every true gradient: linear with labels, for squared error."""
    return points[(points["family"] == "linear-labels") & (points["problem"] != "tanh, log loss")]


def _preserved(points: pd.DataFrame) -> pd.Series:
    """Return whether a point is a point of backprop, and backprop's point is stationary for the field."""
    return (
        points["at_rest"]
        & (points["true_gradient_norm"] <= _SAME_GRADIENT)
        & (points["distance"] <= _SAME_POINT)
        & (points["field_at_backprop"] <= _SAME_GRADIENT)
    )


def _setting(plan: Plan) -> str:
    linear, tanh = PROBLEMS["deep linear"], PROBLEMS["tanh, log loss"]
    return (
        f"Networks of one hidden layer in double precision, {N_EXAMPLES} examples, {len(plan.seeds)} seeds: "
        f"{linear.n_features} inputs, {linear.width} linear units and {linear.n_outputs} outputs on noisy linear "
        f"targets (the optimum is known: reduced-rank regression); {tanh.width} tanh units on three overlapping "
        "classes, with squared error to one-hot targets and with log loss, and a weight decay of "
        f"{tanh.weight_decay:g}. The SG stands behind the hidden layer and is always fitted by least squares: this is "
        "the limit of a module that learns much faster than the network, and its stationary points are exactly those "
        "of network and module together. Families of modules, from poor to rich: a constant vector; linear in the "
        "activation; linear in activation and label; the same with 4, 16, 64 or 240 random relu units of both. Their "
        f"weight decay is {RIDGE:g} on tanh units, except for the third family with squared error, which needs none. "
        "Each flow is followed from the same initial weights to a gradient of 1e-10 by pseudo-transient continuation, "
        "which ends in Newton steps. The verdict is 'holds' only if no family moves a point, and 'holds in part' if "
        "only those families move points that cannot hold the true gradient."
    )


def _findings(points: pd.DataFrame, exact: pd.DataFrame, others: pd.DataFrame) -> Iterator[str]:
    yield (
        "Where the module can hold the true gradient (linear with labels, squared error), it has the stationary point "
        f"of backprop in {int(_preserved(exact).sum())} of {len(exact)} networks: outputs differ by "
        f"{exact['distance'].max():.1e} at most, and the true gradient there is "
        f"{exact['true_gradient_norm'].max():.1e} at most. Elsewhere "
        f"{int((others['true_gradient_norm'] > _SAME_GRADIENT).sum())} of {len(others)} points have a true gradient "
        f"above {_SAME_GRADIENT:g}."
    )
    linear = rows_of(points, problem="deep linear")
    yield (
        "In the linear network the losses at backprop's points equal the known optimum to a relative error of "
        f"{_largest_excess(rows_of(linear, family='backprop')):.1e}, and those of the SG with labels to "
        f"{_largest_excess(rows_of(exact, problem='deep linear')):.1e}."
    )
    free = rows_of(linear, family="linear")
    yield (
        "Without labels, every point with an optimal readout is stationary for a linear module: in the linear network "
        f"the median true gradient there is {free['true_gradient_norm'].median():.2g}, and the median loss is "
        f"{(free['loss'] / free['best']).median():.2f} times the optimum."
    )
    yield _on_log_loss(rows_of(points, problem="tanh, log loss"))
    lost = points[~points["at_rest"]]
    cases = lost[["problem", "family"]].drop_duplicates().itertuples(index=False)
    named = "; ".join(f"{PROBLEMS[problem].words} ({NAMES[family]})" for problem, family in cases)
    yield (
        f"{len(points) - len(lost)} of {len(points)} flows reached a stationary point"
        + (f"; the others: {named}." if named else ".")
    )


def _largest_excess(points: pd.DataFrame) -> float:
    return float((points["loss"] / points["best"] - 1).abs().max())


def _on_log_loss(points: pd.DataFrame) -> str:
    medians = points.groupby("family", sort=False)[["distance", "norm", "data_loss", "test_loss"]].median()
    reference, linear = medians.loc["backprop"], medians.loc["linear-labels"]
    far = ", ".join(f"{medians.loc[name, 'distance']:.2g} ({NAMES[name]})" for name in medians.index[3:])
    return (
        f"With log loss no linear module can hold the true gradient; the outputs at the stationary point move by "
        f"(medians) {far}. The module that is linear with labels ends at weights of norm {linear['norm']:.2f} "
        f"(backprop {reference['norm']:.2f}), training loss {linear['data_loss']:.3f} ({reference['data_loss']:.3f}) "
        f"and test loss {linear['test_loss']:.3f} ({reference['test_loss']:.3f})."
    )


def _point_table(points: pd.DataFrame) -> pd.DataFrame:
    columns = ["true_gradient_norm", "distance", "data_loss", "test_loss", "norm", "n_unstable", "n_negative"]
    groups = points.groupby(["problem", "family"], sort=False)
    table = groups[columns].median().reset_index()
    rounded = {name: table[name].round(4) for name in columns[2:]}
    shown = formatted(table.assign(**rounded), ".2g", columns[:2])
    return shown.assign(family=table["family"].map(NAMES), reached=groups["at_rest"].mean().to_numpy())
