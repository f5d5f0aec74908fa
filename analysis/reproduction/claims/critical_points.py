"""E1: where small networks come to rest with a synthetic gradient, and where by backprop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.plots import noted
from analysis.plots.axes import axes_grid, colours
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Experiment, Part, Plan, Results, Section, Tables
from analysis.reproduction.summary import listed, seed_intervals
from repsim.learning import LOSSES, Chain, mlp, stream
from repsim.theory.critical_points import (
    Features,
    StationaryPoint,
    VectorField,
    find_stationary,
    function_distance,
    least_squares_loss,
    relu_features,
    synthetic_field,
    true_field,
)

__all__ = ["CRITICAL_POINTS"]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """A small network and what it is to learn."""

    words: str
    activation: str
    loss: str
    n_features: int
    width: int
    n_outputs: int
    weight_decay: float


_PROBLEMS = {
    "deep linear": _Problem(
        words="two linear layers, squared error",
        activation="linear",
        loss="mse",
        n_features=4,
        width=2,
        n_outputs=3,
        weight_decay=0.0,
    ),
    "tanh, mse": _Problem(
        words="tanh units, squared error",
        activation="tanh",
        loss="mse",
        n_features=2,
        width=3,
        n_outputs=3,
        weight_decay=1e-2,
    ),
    "tanh, log loss": _Problem(
        words="tanh units, log loss",
        activation="tanh",
        loss="log_loss",
        n_features=2,
        width=3,
        n_outputs=3,
        weight_decay=1e-2,
    ),
}
_UNITS = (4, 16, 64, 240)
_FAMILIES = {
    "constant": "constant",
    "linear": "linear, no labels",
    "linear-labels": "linear with labels",
    **{f"relu-{n}": f"and {n} relu units" for n in _UNITS},
}
_N, _N_TEST, _RIDGE, _CURVATURE = 60, 1000, 1e-6, 0.1
_AT_REST, _SAME_GRADIENT, _SAME_POINT = 1e-9, 1e-8, 1e-6


def _parts(plan: Plan) -> list[Part]:
    return [
        Part(
            name=f"{problem.replace(', ', '-').replace(' ', '-')}-seed-{seed}",
            work=_find,
            settings={
                "problem": problem,
                "definition": asdict(definition),
                "seed": seed,
                "n": _N,
                "n_test": _N_TEST,
                "ridge": _RIDGE,
                "curvature": _CURVATURE,
                "families": _families_of(problem),
            },
            cost=10.0,
            group="critical-points",
        )
        for problem, definition in _PROBLEMS.items()
        for seed in plan.seeds
    ]


def _find(
    folder: Path,
    *,
    problem: str,
    definition: Mapping[str, Any],
    seed: int,
    n: int,
    n_test: int,
    ridge: float,
    curvature: float,
    families: Sequence[str],
) -> Tables:
    """Find the stationary points of one problem: backprop's, and that of each family, from the same start."""
    setting = _Problem(**definition)
    X, y = _data(setting, n, seed, "train")
    test = _data(setting, n_test, seed, "test")
    network = _network(setting, seed)
    options: dict[str, Any] = {"loss": setting.loss, "weight_decay": setting.weight_decay}
    backprop = true_field(network, X, y, **options)
    reference = find_stationary(backprop, curvature=curvature)
    rows = [_row(backprop, reference, backprop, reference, test, setting)]
    spectra = [_spectrum(reference)]
    for family in families:
        kind, module_decay = _family(family, setting, seed, ridge)
        field = synthetic_field(network, X, y, boundary=1, family=kind, ridge=module_decay, **options)
        point = find_stationary(field, curvature=curvature)
        rows.append(_row(field, point, backprop, reference, test, setting))
        spectra.append(_spectrum(point))
    names = ["backprop", *families]
    best = least_squares_loss(X, y, rank=setting.width) if problem == "deep linear" else math.nan
    named = zip(names, rows, spectra, strict=True)
    points, tables = [], []
    for name, row, spectrum in named:
        points.append({"problem": problem, "seed": seed, "family": name, **row, "best": best})
        tables.append(spectrum.assign(problem=problem, seed=seed, family=name))
    return {"points": pd.DataFrame(points), "spectra": pd.concat(tables, ignore_index=True)}


def _families_of(problem: str) -> list[str]:
    """Return the families that are tried: relu units add nothing where a linear module holds the gradient for ever."""
    return [name for name in _FAMILIES if problem != "deep linear" or not name.startswith("relu-")]


def _data(setting: _Problem, n: int, seed: int, part: str) -> tuple[Tensor, Tensor]:
    """Return noisy linear targets, or three overlapping classes; targets for squared error are real numbers."""
    generator = stream(seed, f"critical points, {part}")
    noise = torch.randn(n, setting.n_features, generator=generator, dtype=torch.float64)
    if setting.activation == "linear":
        weight = torch.randn(setting.n_features, setting.n_outputs, generator=stream(seed, "targets")).double()
        disturbance = torch.randn(n, setting.n_outputs, generator=generator, dtype=torch.float64)
        return noise, noise @ weight + 0.5 * disturbance
    labels = torch.arange(n) % setting.n_outputs
    angles = 2 * torch.pi * labels.double() / setting.n_outputs
    X = torch.stack([angles.cos(), angles.sin()], dim=1) + noise
    one_hot = torch.nn.functional.one_hot(labels, setting.n_outputs).double()
    return X, one_hot if setting.loss == "mse" else labels


def _network(setting: _Problem, seed: int) -> Chain:
    return mlp(
        setting.n_features,
        setting.n_outputs,
        depth=1,
        width=setting.width,
        norm="none",
        activation=setting.activation,
        generator=stream(seed, "weights"),
    ).double()


def _family(name: str, setting: _Problem, seed: int, ridge: float) -> tuple[str | Features, float]:
    """Return what the module sees, and its weight decay."""
    if not name.startswith("relu-"):
        smooth = setting.activation == "linear" or (name == "linear-labels" and setting.loss == "mse")
        return name, 0.0 if smooth else ridge  # without, other flows end where the rank of the features changes
    n_units = int(name.removeprefix("relu-"))
    return relu_features(setting.width + setting.n_outputs, n_units, generator=stream(seed, "features")), ridge


def _row(
    field: VectorField,
    point: StationaryPoint,
    backprop: VectorField,
    reference: StationaryPoint,
    test: tuple[Tensor, Tensor],
    setting: _Problem,
) -> dict[str, Any]:
    """Return what a stationary point is like, beside that of backprop."""
    objective = backprop.objective
    held_out = true_field(objective.network, *test, loss=setting.loss).objective  # without weight decay
    h = objective.output(point.theta)
    return {
        "at_rest": point.converged and point.field_norm <= _AT_REST,
        "field_norm": point.field_norm,
        "true_gradient_norm": point.true_gradient_norm,
        "loss": point.loss,
        "data_loss": float(LOSSES[setting.loss](h, objective.y).mean()),
        "test_loss": float(held_out.loss(point.theta)),
        "norm": float(point.theta.norm()),
        "distance": function_distance(objective, point.theta, reference.theta),
        "field_at_backprop": float(field(reference.theta).norm()),
        "n_unstable": point.count_unstable(),
        "n_negative": point.count_negative(),
        "n_iterations": point.n_iterations,
    }


def _spectrum(point: StationaryPoint) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "real": point.eigenvalues.real.numpy(),
            "imaginary": point.eigenvalues.imag.numpy(),
            "hessian": point.hessian_eigenvalues.numpy(),
        }
    )


def _conclude(results: Results) -> Section:
    plan, points = results.plan, results["points"]
    synthetic = points[points["family"] != "backprop"]
    exact = _representable(synthetic)
    kept = bool(_is_kept(exact).all()) and len(exact) > 0
    moved = synthetic.drop(exact.index)
    moved = moved[moved["at_rest"]]
    moves = bool((moved["true_gradient_norm"] > _SAME_GRADIENT).any())
    note = (
        f"Seeds {listed(plan.seeds)}, which decide data, initial weights and random features; n = {_N} training "
        f"examples, {_N_TEST} for testing."
    )
    return Section(
        setting=_setting(plan),
        verdict="does not hold" if not kept else "holds in part" if moves else "holds",
        findings=[*_findings(points, exact, moved)],
        drawings=list(_drawings(points, results["spectra"], plan, note)),
        tables={"points": points, "spectra": results["spectra"]},
        shown={"Stationary points, medians over seeds": _point_table(points)},
    )


def _representable(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of families that hold every true gradient: linear with labels, for squared error."""
    return points[(points["family"] == "linear-labels") & (points["problem"] != "tanh, log loss")]


def _is_kept(points: pd.DataFrame) -> pd.Series:
    """Return whether a point is one of backprop's, and backprop's one of the field."""
    return (
        points["at_rest"]
        & (points["true_gradient_norm"] <= _SAME_GRADIENT)
        & (points["distance"] <= _SAME_POINT)
        & (points["field_at_backprop"] <= _SAME_GRADIENT)
    )


def _setting(plan: Plan) -> str:
    linear, tanh = _PROBLEMS["deep linear"], _PROBLEMS["tanh, log loss"]
    return (
        f"Networks of one hidden layer in double precision, {_N} examples, {len(plan.seeds)} seeds: "
        f"{linear.n_features} inputs, {linear.width} linear units and {linear.n_outputs} outputs on noisy linear "
        f"targets (the optimum is known: reduced-rank regression); {tanh.width} tanh units on three overlapping "
        "classes, with squared error to one-hot targets and with log loss, and a weight decay of "
        f"{tanh.weight_decay:g}. The SG stands behind the hidden layer and is always fitted by least squares: the "
        "limit of a module that learns much faster than the network, whose stationary points are exactly those of "
        "network and module together. Families of modules, from poor to rich: a constant vector; linear in the "
        "activation; linear in activation and label; the same and 4, 16, 64 or 240 random relu units of both; with a "
        f"weight decay of {_RIDGE:g} on tanh units but for the third with squared error, which needs none. Each flow "
        "is followed from the same initial weights to a gradient of 1e-10 by pseudo-transient continuation, whose "
        "last steps are Newton's. The verdict is 'holds' only if no family moves a point, 'in part' if those do that "
        "cannot hold the true gradient."
    )


def _findings(points: pd.DataFrame, exact: pd.DataFrame, moved: pd.DataFrame) -> Iterator[str]:
    yield (
        "Where the module can hold the true gradient (linear with labels, squared error) it comes to rest where "
        f"backprop does in {int(_is_kept(exact).sum())} of {len(exact)} networks: outputs differ by "
        f"{exact['distance'].max():.1e} at most, the true gradient there is "
        f"{exact['true_gradient_norm'].max():.1e} at most; elsewhere "
        f"{int((moved['true_gradient_norm'] > _SAME_GRADIENT).sum())} of {len(moved)} points have a true gradient "
        f"above {_SAME_GRADIENT:g}."
    )
    known = points[(points["problem"] == "deep linear") & (points["family"] == "backprop")]
    yield (
        "The losses at backprop's points are those of the known optimum of the linear network to "
        f"{_largest_excess(known):.1e} relative, and those of the SG with labels to "
        f"{_largest_excess(exact[exact['problem'] == 'deep linear']):.1e}."
    )
    free = points[(points["problem"] == "deep linear") & (points["family"] == "linear")]
    yield (
        "Without labels a linear module rests wherever the readout is optimal: in the linear network "
        f"at true gradients of {free['true_gradient_norm'].median():.2g} in the median, and a loss "
        f"{(free['loss'] / free['best']).median():.2f} times the optimum."
    )
    yield from _on_log_loss(points[points["problem"] == "tanh, log loss"])
    lost = points[~points["at_rest"]]
    yield (
        f"{len(points) - len(lost)} of {len(points)} flows came to rest"
        + (f"; not: {', '.join(sorted(set(lost['problem'] + ' ' + lost['family'])))}." if len(lost) else ".")
    )


def _largest_excess(points: pd.DataFrame) -> float:
    return float((points["loss"] / points["best"] - 1).abs().max())


def _on_log_loss(points: pd.DataFrame) -> Iterator[str]:
    medians = points.groupby("family", sort=False)[["distance", "norm", "data_loss", "test_loss"]].median()
    reference, linear = medians.loc["backprop"], medians.loc["linear-labels"]
    far = ", ".join(f"{medians.loc[name, 'distance']:.2g} ({_FAMILIES[name]})" for name in medians.index[3:])
    yield (
        f"With log loss no linear module can hold it; the point's outputs move by (medians) {far}. Linear with labels "
        f"ends at weights of norm {linear['norm']:.2f} (backprop {reference['norm']:.2f}), training loss "
        f"{linear['data_loss']:.3f} ({reference['data_loss']:.3f}) and test loss {linear['test_loss']:.3f} "
        f"({reference['test_loss']:.3f})."
    )


def _point_table(points: pd.DataFrame) -> pd.DataFrame:
    names = {"backprop": "backprop", **_FAMILIES}
    columns = ["true_gradient_norm", "distance", "data_loss", "test_loss", "norm", "n_unstable", "n_negative"]
    table = points.groupby(["problem", "family"], sort=False)[columns].median().reset_index()
    reached = points.groupby(["problem", "family"], sort=False)["at_rest"].mean().to_numpy()
    shown = {name: table[name].map("{:.2g}".format) for name in columns[:2]}
    shown |= {name: table[name].round(4) for name in columns[2:]}
    return table.assign(**shown, family=table["family"].map(names), reached=reached)


def _drawings(points: pd.DataFrame, spectra: pd.DataFrame, plan: Plan, note: str) -> Iterator[Drawing]:
    yield Drawing(
        "stationary_points",
        "Stationary points by what the module can hold",
        "The true gradient at the stationary point (top), and how far the network's outputs are there from those at "
        "backprop's, root mean square (bottom): one point a seed, the bar is the median. Values below 1e-16 are drawn "
        "there.",
        _point_figure(points, note),
    )
    yield Drawing(
        "losses",
        "Loss at the stationary points",
        "Loss on the training examples, without weight decay, and on held-out ones; means over seeds with 95 % "
        "intervals.",
        _loss_figure(points, note),
    )
    yield Drawing(
        "spectra",
        "Spectra at the stationary points",
        "Eigenvalues of the Jacobian of the field that the network follows (circles; those of backprop are real), "
        f"and of the Hessian of the true loss at the same point (crosses), seed {plan.seeds[0]}. Left of 0 the field "
        "leads away.",
        _spectrum_figure(spectra[spectra["seed"] == plan.seeds[0]], f"Seed {plan.seeds[0]}; n = {_N} examples."),
    )


def _point_figure(points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(2, len(_PROBLEMS), 11.5, 6.5)
    values = {"true_gradient_norm": "norm of the true gradient", "distance": "distance of outputs to backprop's"}
    for row, (value, words) in enumerate(values.items()):
        for column, (problem, setting) in enumerate(_PROBLEMS.items()):
            ax = grid[row][column]
            _plot_by_family(ax, points[points["problem"] == problem], value, row == 1)
            ax.set_yscale("log")
            ax.set_ylim(3e-17, 30.0)
            ax.set_ylabel(words if column == 0 else "")
            ax.set_title(setting.words if row == 0 else "", fontsize=10)
    return noted(grid[0][0], note)


def _plot_by_family(ax: Axes, points: pd.DataFrame, value: str, named: bool) -> None:
    names = ["backprop", *_FAMILIES]
    for place, family in enumerate(names):
        rows = points[points["family"] == family]
        values = rows[value].clip(lower=1e-16)
        shift = np.linspace(-0.15, 0.15, max(len(rows), 2))[: len(rows)]
        if rows.empty:
            continue
        ax.plot(place + shift, values, "o", color="C0", markersize=4, alpha=0.7)
        ax.plot([place - 0.3, place + 0.3], [values.median()] * 2, color="0.2", linewidth=1.5)
    labels = ["backprop", *_FAMILIES.values()] if named else [""] * len(names)
    ax.set_xticks(range(len(names)), labels=labels, rotation=40, ha="right", fontsize=8)
    ax.set_xlabel("what the module is" if named else "")


def _loss_figure(points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(_PROBLEMS), 11.5, 4.2)
    names = ["backprop", *_FAMILIES]
    curves = {"training": (-0.12, "data_loss"), "held out": (0.12, "test_loss")}
    palette = colours(list(curves))
    for ax, (problem, setting) in zip(grid[0], _PROBLEMS.items(), strict=True):
        rows = points[points["problem"] == problem]
        for words, (shift, value) in curves.items():
            table = seed_intervals(rows, ["family"], value).set_index("family").reindex(names)
            mean, error = table["mean"], [table["mean"] - table["low"], table["high"] - table["mean"]]
            x = np.arange(len(names)) + shift
            ax.errorbar(x, mean, yerr=error, fmt="o", color=palette[words], markersize=4, capsize=2, label=words)
        ax.set_xticks(range(len(names)), labels=["backprop", *_FAMILIES.values()], rotation=40, ha="right", fontsize=8)
        ax.set_xlabel("what the module is")
        ax.set_title(setting.words, fontsize=10)
    grid[0][0].set_ylabel("mean loss of an example")
    grid[0][0].legend(frameon=True, fontsize="small")
    return noted(grid[0][0], note)


def _spectrum_figure(spectra: pd.DataFrame, note: str) -> Figure:
    shown: Sequence[str] = ("backprop", "linear", "linear-labels", "relu-64")
    grid = axes_grid(len(_PROBLEMS), len(shown), 11.5, 7.0)
    for row, (problem, setting) in enumerate(_PROBLEMS.items()):
        for ax, family in zip(grid[row], shown, strict=True):
            rows = spectra[(spectra["problem"] == problem) & (spectra["family"] == family)]
            ax.set_title({"backprop": "backprop", **_FAMILIES}[family] if row == 0 else "", fontsize=10)
            if rows.empty:
                ax.set_axis_off()
                continue
            ax.plot(rows["real"], rows["imaginary"], "o", markersize=5, alpha=0.6, label="Jacobian of the field")
            ax.plot(rows["hessian"], np.zeros(len(rows)), "x", color="0.2", markersize=4, label="Hessian of the loss")
            ax.axvline(0.0, color="0.4", linestyle=":", linewidth=1)
            ax.set_xscale("symlog", linthresh=1e-3)
            ax.set_ylim(*_symmetric(spectra.loc[spectra["problem"] == problem, "imaginary"]))
            ax.set_xticks([-1, -0.01, 0, 0.01, 1])
            ax.set_xlabel("real part" if row == len(_PROBLEMS) - 1 else "")
        grid[row][0].set_ylabel(f"{setting.words}\nimaginary part", fontsize=8)
    grid[0][0].legend(frameon=True, fontsize="x-small")
    return noted(grid[0][0], note)


def _symmetric(values: pd.Series) -> tuple[float, float]:
    largest = max(1.2 * float(values.abs().max()), 0.01)
    return -largest, largest


CRITICAL_POINTS = Experiment(
    name="critical-points",
    title="Critical points",
    claim="[S] Using synthetic gradients does not affect the representational strength of the learning system: [M] the "
    "critical points of the original problem, where the SG module can express the true gradient, persist.",
    parts=_parts,
    conclude=_conclude,
)
