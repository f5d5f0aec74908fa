"""Figures: learning beside the Riccati solution, and the swing-up of the pendulum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted, plot_lines
from analysis.plots.axes import axes_grid, figure_of
from analysis.plots.drawing import Drawing
from analysis.plots.styles import MARKERS, colours
from analysis.reproduction.claim import Frames, Results, Section
from analysis.reproduction.claims.value_gradients.parts import ALLOWED, N_SHOWN, SPREAD, SWING_UP, UPRIGHT
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import RANGE, diagonal, dotted, label, legend, plot_means

__all__ = ["figures"]

_FLOOR = 1e-11  # smallest value on log axes
_SUCCESS = "share of swing-ups that succeed"


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    yield from _linear_drawings(section.tables)
    yield from _pendulum_drawings(section.tables)


def _linear_drawings(tables: Frames) -> Iterator[Drawing]:
    trained = sorted(tables["linear_ends"]["seed"].unique())
    linear = f"Seeds {listed(trained)} of each problem and method; n = {len(trained)} runs per curve."
    yield Drawing(
        "excess_cost",
        "Cost above the optimum over updates",
        "Exact expected cost of the learned policy over that of the Riccati solution, minus 1: geometric means over "
        f"seeds, shaded from the smallest to the largest. Dotted: {100 * ALLOWED:g} %. Critics learn alone in the "
        "first updates. Backprop through time has fewer updates, each through 80 steps.",
        _linear_figure(tables["linear_curves"], "excess_cost", "cost / optimal cost − 1", linear),
    )
    critics = tables["linear_curves"].dropna(subset="gradient_error")
    yield Drawing(
        "gradient_error",
        "Error of the critic's gradient over updates",
        "‖g − ∂V/∂x‖ / ‖∂V/∂x‖ of the critic's gradient g, the synthetic gradient, against the exact value gradient of "
        "the policy at that update, over the states of its batch; geometric means over seeds, shaded from the smallest "
        "to the largest. The error of a zero critic is 1.",
        _linear_figure(critics, "gradient_error", "relative error of the critic's gradient", linear),
    )
    yield Drawing(
        "at_the_end",
        "Critics and policies at the end",
        "Left: entries of the critic's gradient against the exact ones of its policy, at a few random states, first "
        "seed. Right: entries of the learned gain against those of the Riccati solution, and their initial values "
        f"(grey, within {100 * SPREAD:g} % of a gain that we chose). All problems; the diagonal is agreement.",
        _end_figure(
            tables["gradients"], tables["gains"], f"{linear.partition(';')[0]}; n = {N_SHOWN} states per critic."
        ),
    )


def _pendulum_drawings(tables: Frames) -> Iterator[Drawing]:
    swings = tables["pendulum_ends"]
    seeds = f"Seeds {listed(sorted(swings['seed'].unique()))} of each method"
    starts = f"n = {int(swings['n_starts'].max())} starts near hanging."
    yield Drawing(
        "pendulum",
        "Learning to swing a pendulum up",
        f"Left and middle: mean discounted cost of {SWING_UP.seconds:g} s from near hanging, and the share of these "
        f"swing-ups that stay within {UPRIGHT:g} rad of upright for the last second; means over seeds, shaded "
        "from the smallest to the largest. Updates of different methods use different numbers of steps. Right: the "
        "share at the end, one marker per seed.",
        _pendulum_figure(tables["pendulum_curves"], swings, f"{seeds}; {starts}"),
    )
    seed = int(swings["seed"].iloc[0])
    yield Drawing(
        "swing_up",
        "One swing-up of each method",
        "Angle from upright, and torque, after learning, from the same state near hanging; angles that differ by a "
        f"full turn are the same. Dotted: ±{UPRIGHT:g} rad, and the limits of the motor, which cannot lift the "
        "pendulum directly.",
        _example_figure(tables["pendulum_examples"], seed),
    )
    yield Drawing(
        "phase_plane",
        "The critic's gradient over the phase plane",
        "Left: value of the SVG(1) critic, its gradient as arrows (direction only), and a swing-up of its policy. "
        f"Right: value and value gradient of the same policy, exact except for costs after {SWING_UP.seconds:g} s. One "
        "colour scale.",
        _phase_figure(tables["pendulum_fields"], tables["pendulum_examples"], seed),
    )


def _linear_figure(curves: pd.DataFrame, value: str, ylabel: str, note: str) -> Figure:
    problems, methods = list(curves["problem"].unique()), list(curves["method"].unique())
    grid = axes_grid(1, len(problems), 4.0 * len(problems), 3.8)
    logs = curves.assign(log=np.log10(curves[value].clip(lower=_FLOOR)))
    summary = seed_intervals(logs, ["problem", "method", "step"], "log")
    summary[["mean", "least", "most"]] = 10.0 ** summary[["mean", "least", "most"]]
    limits = summary["least"].min() / 2, summary["most"].replace(np.inf, np.nan).max() * 2
    for ax, problem in zip(grid[0], problems, strict=True):
        plot_means(ax, rows_of(summary, problem=problem), "step", columns=RANGE, among=methods, legend=False)
        ax.set_yscale("log")
        ax.set_ylim(*limits)
        label(ax, title=problem, xlabel="update", ylabel=ylabel)
        if value == "excess_cost":
            dotted(ax, y=ALLOWED)
    legend(grid[0][0], loc="lower left")
    return noted(grid[0][0], note)


def _end_figure(gradients: pd.DataFrame, gains: pd.DataFrame, note: str) -> Figure:
    left, right = axes_grid(1, 2, 9.5, 4.2)[0]
    methods = list(gains["method"].unique())
    right.plot(gains["riccati"], gains["first"], "x", color="0.6", markersize=4, label="first policy")
    first = rows_of(gradients, seed=gradients["seed"].iloc[0])
    for ax, table, x, y in ((left, first, "exact", "critic"), (right, gains, "riccati", "learned")):
        _plot_agreement(ax, table, x, y, methods)
    label(left, title="critic", xlabel="exact value gradient, ∂V/∂x", ylabel="gradient of the critic")
    label(right, title="policy u = −Kx", xlabel="entry of the Riccati gain K*", ylabel="entry of the learned gain K")
    legend(right)
    return noted(left, note)


def _plot_agreement(ax: Axes, table: pd.DataFrame, x: str, y: str, methods: list[str]) -> None:
    """Draw points against a diagonal, with markers of different sizes so that equal values stay visible."""
    diagonal(ax, table[x])
    palette = colours(methods)
    for place, method in enumerate(methods):
        rows = rows_of(table, method=method)
        style: dict[str, Any] = {"color": palette[method], "markerfacecolor": "none", "markersize": 3 + 2 * place}
        if len(rows):
            ax.plot(rows[x], rows[y], MARKERS[place], label=method, **style)


def _pendulum_figure(curves: pd.DataFrame, ends: pd.DataFrame, note: str) -> Figure:
    left, middle, right = axes_grid(1, 3, 12.0, 3.8)[0]
    methods = list(ends["method"].unique())
    for ax, value, ylabel in ((left, "cost", "mean discounted cost (s)"), (middle, "success", _SUCCESS)):
        summary = seed_intervals(curves, ["method", "step"], value)
        plot_means(ax, summary, "step", columns=RANGE, among=methods, legend=False)
        label(ax, title=value, xlabel="update", ylabel=ylabel)
    _plot_seeds(right, ends, methods)
    handles, labels = right.get_legend_handles_labels()
    legend(left, handles=handles, labels=labels, loc="lower left")
    left.set_ylim(bottom=left.get_ylim()[0] - 0.45 * (left.get_ylim()[1] - left.get_ylim()[0]))
    return noted(left, note)


def _plot_seeds(ax: Axes, ends: pd.DataFrame, methods: list[str]) -> None:
    seeds, palette = sorted(ends["seed"].unique()), colours(methods)
    for place, method in enumerate(methods):
        rows = rows_of(ends, method=method).sort_values("seed")
        x = np.array([seeds.index(seed) for seed in rows["seed"]]) + 0.18 * (place - (len(methods) - 1) / 2)
        ax.plot(x, rows["success"], MARKERS[place], color=palette[method], markersize=6, label=method)
    ax.set_xticks(range(len(seeds)), labels=[str(seed) for seed in seeds])
    ax.set_ylim(-0.05, 1.05)
    label(ax, title="success at the end", xlabel="seed", ylabel=_SUCCESS)


def _example_figure(examples: pd.DataFrame, seed: int) -> Figure:
    (top,), (bottom,) = axes_grid(2, 1, 8.0, 5.2)
    rows = rows_of(examples, seed=seed)
    panels = (
        (top, "angle", "angle from upright (rad)", UPRIGHT),
        (bottom, "torque", "torque (N·m)", SWING_UP.pendulum.torque_limit),
    )
    for ax, value, ylabel, limit in panels:
        plot_lines(rows, "time", value, curve="method", legend=ax is top, ax=ax)
        for sign in (-1, 1):
            dotted(ax, y=sign * limit)
        label(ax, title=value, xlabel="time (s)", ylabel=ylabel)
    return noted(top, f"Seed {seed}; n = 1 swing-up of each method.")


def _phase_figure(fields: pd.DataFrame, examples: pd.DataFrame, seed: int) -> Figure:
    left, right = axes_grid(1, 2, 10.5, 4.4)[0]
    field = fields[(fields["seed"] == seed) & fields["value"].notna()]
    example = examples[(examples["seed"] == seed) & examples["method"].isin(field["method"])]
    values = field[["value", "exact_value"]].to_numpy()
    scale: dict[str, Any] = {"vmin": values.min(), "vmax": values.max(), "cmap": "viridis"}
    for ax, prefix, title in ((left, "", "critic of SVG(1)"), (right, "exact_", "exact, of the same policy")):
        mesh = _plot_field(ax, field, prefix, scale)
        label(ax, title=title, xlabel="angle from upright (rad)", ylabel="velocity (rad/s)")
    _plot_path(left, example)
    figure_of(left).colorbar(mesh, ax=[left, right], label="value V (s)")
    return noted(left, f"Seed {seed}; n = {len(field)} states on a grid.")


def _plot_field(ax: Axes, field: pd.DataFrame, prefix: str, scale: dict[str, Any]) -> Any:
    """Draw values as colours, and the directions of gradients as arrows in the units of the axes."""
    table = field.pivot(index="speed", columns="angle", values=f"{prefix}value")
    angles, speeds = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    mesh = ax.pcolormesh(angles, speeds, table.to_numpy(), shading="gouraud", rasterized=True, **scale)
    gradients = field[[f"{prefix}by_angle", f"{prefix}by_speed"]].to_numpy()
    arrows = gradients / np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-12)
    ax.quiver(field["angle"], field["speed"], *arrows.T, color="white", angles="xy", scale=32, width=0.0035)
    ax.set_xlim(float(angles[0]), float(angles[-1]))
    ax.set_ylim(float(speeds[0]), float(speeds[-1]))
    return mesh


def _plot_path(ax: Axes, example: pd.DataFrame) -> None:
    """Draw a trajectory in the phase plane, its angles between -π and π, with gaps where it wraps around."""
    angle = (example["angle"].to_numpy() + np.pi) % (2 * np.pi) - np.pi
    jumps = np.flatnonzero(np.abs(np.diff(angle)) > np.pi) + 1
    ax.plot(np.insert(angle, jumps, np.nan), np.insert(example["speed"].to_numpy(), jumps, np.nan), color="#d55e00")
    ax.plot(angle[:1], example["speed"].to_numpy()[:1], "o", color="#d55e00", label="a swing-up, from its start")
    legend(ax, loc="upper right")
