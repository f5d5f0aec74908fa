"""E6, figures: implied beside true losses as curves, surfaces and pairs, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted, plot_lines
from analysis.plots.axes import MARKERS, axes_grid, colours, figure_of
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Results
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES
from analysis.reproduction.claims.implied_loss.networks import WHERE
from analysis.reproduction.summary import listed, seed_intervals

__all__ = ["draw_beliefs"]

_CASES = tuple(product(LINE_LOSSES, DATA))
_UNITS = {"mse": "", "log_loss": " (nats)"}
_LEAST = 1e-17  # differences below are drawn there


def draw_beliefs(
    results: Results, fields: pd.DataFrame, beliefs: pd.DataFrame, pairs: pd.DataFrame
) -> Iterator[Drawing]:
    """Return the figures, given the tables of networks with the names of their modules."""
    seeds = f"Seeds {listed(results.plan.seeds)}"
    first = f"seed {results.plan.seeds[0]}"
    n_points = len(results["points"]) // len(results["line"])
    n_digits = len(pairs) // pairs[["module", "seed", "where"]].drop_duplicates().shape[0]
    yield Drawing(
        "curves",
        "The loss that the module believes in",
        "True loss (dashed) of a label over the activation h, and the implied loss, a line a seed, the first thick: "
        "the integral of the SG from h = 0 when training ends, moved to the true loss's mean over the points of its "
        "label. Ticks below: where the training points of the first seed are.",
        _curves_figure(results["curves"], results["points"], f"{seeds}; n = {n_points} points on a line."),
    )
    yield Drawing(
        "surfaces",
        "True and implied loss of models h = w x + b",
        "Mean loss over the training points of the model at each (w, b), less that of the model where training ends: "
        "the true loss (left), and what the SG at the end of training implies. One colour scale a row, the true "
        "loss's; values beyond have the colours of its ends. Lines: paths of training, from circle to cross.",
        _surfaces_figure(results["surfaces"], results["paths"], f"S{first[1:]}; n = {n_points} points on a line."),
    )
    yield Drawing(
        "recovery",
        "Where the implied loss is the true one",
        "Points on a line, a mark a seed: what a quadratic leaves of the implied loss (left), its relative difference "
        f"from the true loss at the training points (middle), and elsewhere (right). Values below {_LEAST:g} are drawn "
        "there.",
        _recovery_figure(results["line"], f"{seeds}; n = {n_points} points on a line."),
    )
    yield Drawing(
        "networks",
        "Inside a network: is it a gradient, and of what",
        "Above: curl, 0 for the gradient of a function (dotted) and near 1 for a matrix of independent entries; "
        "difference between integrals along a straight and a stepwise path, relative to the straight one; cosine of "
        "SG and true gradient; slope of a line through implied over true loss (dotted: equal). Below: their "
        "correlation at four sets of points. Means over seeds, shaded from the smallest "
        "to the largest.",
        _networks_figure(
            fields,
            beliefs,
            f"{seeds}; n = {n_digits} digits, {fields['n_curls'].iloc[0]} for curl and {fields['n_paths'].iloc[0]} for "
            "paths.",
        ),
    )
    yield Drawing(
        "pairs",
        "Inside a network: implied against true loss",
        "Both losses at the end of training, less their mean over the points of a label; equal on the dotted line. "
        "r is their correlation.",
        _pairs_figure(pairs[pairs["seed"] == results.plan.seeds[0]], f"S{first[1:]}; n = {n_digits} digits a panel."),
    )


def _of(table: pd.DataFrame, loss: str, data: str, module: str | None = None) -> pd.DataFrame:
    rows = table[(table["loss"] == loss) & (table["data"] == data)]
    return rows if module is None else rows[rows["module"] == module]


def _curves_figure(curves: pd.DataFrame, points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(len(_CASES), len(MODULES), 11.0, 12.0)
    for axes, (loss, data) in zip(grid, _CASES, strict=True):
        for ax, module in zip(axes, MODULES, strict=True):
            _draw_curves(ax, _of(curves, loss, data, module), _of(points, loss, data, module), loss)
            ax.set_title(f"{module}\n{LINE_LOSSES[loss]}, {data}", fontsize=10)
            ax.set_ylabel(f"{LINE_LOSSES[loss]}{_UNITS[loss]}")
            ax.set_xlabel("activation h")
    for axes in grid[:: len(DATA)]:  # labels are called otherwise under each loss
        axes[0].legend(frameon=True, fontsize="small", loc="upper center")
    return noted(grid[0][0], note)


def _draw_curves(ax: Axes, curves: pd.DataFrame, points: pd.DataFrame, loss: str) -> None:
    """Draw both labels' losses, and below them where the points of the first seed are."""
    names = ["-1", "1"] if loss == "mse" else ["0", "1"]
    palette, seeds = colours(names), curves["seed"].unique()
    low, high = curves["true"].min(), curves["true"].max()
    margin = 0.12 * (high - low)
    for label, name in enumerate(names):
        rows = curves[curves["label"] == label]
        for seed in seeds[::-1]:
            each, is_first = rows[rows["seed"] == seed], seed == seeds[0]
            style: Mapping[str, Any] = {"linewidth": 1.8} if is_first else {"linewidth": 0.7, "alpha": 0.5}
            ax.plot(each["h"], each["implied"], color=palette[name], **style)
        true = rows[rows["seed"] == seeds[0]]
        ax.plot(true["h"], true["true"], color="0.15", linestyle=(0, (4, 3)), linewidth=1.1)
        own = points[(points["label"] == label) & (points["seed"] == seeds[0])]["h"]
        ax.plot(own, np.full(len(own), low - (0.4 + 0.35 * label) * margin), "|", color=palette[name], markersize=6)
        ax.plot(
            [], [], color=palette[name], label=f"implied, y = {name}" if loss == "mse" else f"implied, class {name}"
        )
    ax.plot([], [], color="0.15", linestyle=(0, (4, 3)), label="true")
    ax.set_ylim(low - margin, high + margin)


def _surfaces_figure(surfaces: pd.DataFrame, paths: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(len(_CASES), 1 + len(MODULES), 12.5, 12.0)
    for axes, (loss, data) in zip(grid, _CASES, strict=True):
        here, walked = _of(surfaces, loss, data), _of(paths, loss, data)
        walked = walked[walked["seed"] == here["seed"].iloc[0]]
        first = here[here["module"] == next(iter(MODULES))]
        limits = first["true"].min(), first["true"].max()
        mesh = _draw_surface(axes[0], first, "true", limits)
        _draw_paths(axes[0], walked)
        axes[0].set_title(f"true {LINE_LOSSES[loss]}\n{data}", fontsize=10)
        for ax, module in zip(axes[1:], MODULES, strict=True):
            _draw_surface(ax, here[here["module"] == module], "implied", limits)
            _draw_paths(ax, walked[walked["module"] == module])
            ax.set_title(f"implied by {module}\n{data}", fontsize=10)
        for ax in axes:
            ax.set_xlabel("slope w")
            ax.set_ylabel("offset b")
        figure_of(axes[0]).colorbar(
            mesh,
            ax=list(axes),
            pad=0.01,
            extend="both",
            label=f"mean {LINE_LOSSES[loss]}\nless that at the end{_UNITS[loss]}",
        )
    grid[0][0].legend(frameon=True, fontsize=7, loc="lower left")
    return noted(grid[0][0], note)


def _draw_surface(ax: Axes, rows: pd.DataFrame, value: str, limits: tuple[float, float]) -> Any:
    wide = rows.pivot(index="b", columns="w", values=value)
    ax.grid(False)
    low, high = limits
    return ax.pcolormesh(
        wide.columns, wide.index, wide, shading="nearest", cmap="viridis", vmin=low, vmax=high, rasterized=True
    )


def _draw_paths(ax: Axes, paths: pd.DataFrame) -> None:
    palette = colours(list(MODULES))
    for module, rows in paths.groupby("module", sort=False):
        ax.plot(rows["w"], rows["b"], color="white", linewidth=2.6)
        ax.plot(rows["w"], rows["b"], color=palette[str(module)], linewidth=1.4, label=str(module))
        start, end = rows.iloc[0], rows.iloc[-1]
        ax.plot(start["w"], start["b"], "o", color="white", markeredgecolor="black", markersize=5)
        ax.plot(end["w"], end["b"], "X", color="white", markeredgecolor="black", markersize=7)


def _recovery_figure(line: pd.DataFrame, note: str) -> Figure:
    panels = {
        "residual": "relative residual of a quadratic",
        "difference": "relative difference at the points",
        "difference_away": "relative difference elsewhere",
    }
    grid = axes_grid(1, len(panels), 12.0, 4.4)
    palette = colours([f"{LINE_LOSSES[loss]}, {data}" for loss, data in _CASES])
    for ax, (value, words) in zip(grid[0], panels.items(), strict=True):
        for place, (name, (loss, data)) in enumerate(zip(palette, _CASES, strict=True)):
            rows = _of(line, loss, data)
            x = rows["module"].map(list(MODULES).index) + 0.15 * (place - 1.5)
            y = rows[value].clip(lower=_LEAST)
            ax.plot(x, y, MARKERS[place], color=palette[name], markersize=4.5, alpha=0.8, label=name)
        ax.set_yscale("log")
        ax.set_ylim(_LEAST / 3, 10.0)
        ax.set_xticks(range(len(MODULES)), labels=[name.replace(" with ", " with\n") for name in MODULES], fontsize=9)
        ax.set_xlabel("module")
        ax.set_ylabel(words)
        ax.set_title(words, fontsize=10)
    grid[0][0].legend(frameon=True, fontsize="small", loc="center right")
    return noted(grid[0][0], note)


def _networks_figure(fields: pd.DataFrame, beliefs: pd.DataFrame, note: str) -> Figure:
    above = {
        "curl": ("median curl", "is there a loss?"),
        "path_dependence": ("relative path dependence", "does the path matter?"),
        "cosine": ("cosine of SG and true gradient", "is it the true gradient?"),
    }
    grid = axes_grid(2, 4, 14.5, 6.8)
    for ax, (value, (words, title)) in zip(grid[0], above.items(), strict=False):
        _draw_over_epochs(ax, fields, value, words, title)
        ax.set_ylim(bottom=min(-0.03, ax.get_ylim()[0]))
    held_out = beliefs[beliefs["where"] == "own"]
    _draw_over_epochs(grid[0][3], held_out, "slope", "slope of implied over true loss", WHERE["own"])
    grid[0][3].axhline(1.0, color="0.3", linestyle=":")
    grid[0][0].axhline(0.0, color="0.3", linestyle=":", label="true gradient")
    grid[0][0].legend(frameon=True, fontsize="small")
    for ax, (where, words) in zip(grid[1], WHERE.items(), strict=True):
        label = "correlation of implied and true loss"
        _draw_over_epochs(ax, beliefs[beliefs["where"] == where], "correlation", label, words)
        ax.set_ylim(min(-0.55, ax.get_ylim()[0]), 1.05)
    return noted(grid[0][0], note)


def _draw_over_epochs(ax: Axes, table: pd.DataFrame, value: str, ylabel: str, title: str) -> None:
    summary = seed_intervals(table, ["module", "epoch"], value)
    names = list(summary["module"].unique())
    plot_lines(
        summary,
        "epoch",
        "mean",
        curve="module",
        xlabel="epoch",
        ylabel=ylabel,
        band=("least", "most"),
        among=names,
        legend=False,
        ax=ax,
    )
    ax.set_title(title, fontsize=10)
    ax.set_xticks(summary["epoch"].unique())


def _pairs_figure(pairs: pd.DataFrame, note: str) -> Figure:
    modules = list(pairs["module"].unique())
    grid = axes_grid(len(modules), len(WHERE), 14.0, 3.5 * len(modules))
    palette = colours(modules)
    for axes, module in zip(grid, modules, strict=True):
        for ax, (where, words) in zip(axes, WHERE.items(), strict=True):
            rows = pairs[(pairs["module"] == module) & (pairs["where"] == where)]
            ends = [rows["true"].min(), rows["true"].max()]
            ax.plot(ends, ends, color="0.3", linestyle=":", linewidth=1, label="equal")
            ax.plot(rows["true"], rows["implied"], ".", color=palette[module], markersize=4, alpha=0.7, label=module)
            ax.set_title(f"{words}\nr = {rows['true'].corr(rows['implied']):.2f}", fontsize=10)
            ax.locator_params(axis="x", nbins=5)
            ax.set_xlabel("true loss about its mean (nats)")
            ax.set_ylabel("implied loss about its mean (nats)")
        axes[0].legend(frameon=True, fontsize="small")
    return noted(grid[0][0], note)
