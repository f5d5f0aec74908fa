"""Figures: implied beside true losses as curves, surfaces and pairs, and their differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted
from analysis.plots.axes import MARKERS, axes_grid, colours, figure_of
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.implied_loss.deep_network import WHERE
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import RANGE, diagonal, dotted, label, legend, plot_means

__all__ = ["figures"]

_CASES = tuple(product(LINE_LOSSES, DATA))
_UNITS = {"mse": "", "log_loss": " (nats)"}
_LEAST = 1e-17  # smaller values are drawn there


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    yield from _line_drawings(results)
    yield from _network_drawings(results, section)


def _line_drawings(results: Results) -> Iterator[Drawing]:
    n_points = len(results["points"]) // len(results["line"])
    all_seeds = f"Seeds {listed(results.plan.seeds)}; n = {n_points} points on a line."
    yield Drawing(
        "curves",
        "The loss that the module implies",
        "True loss (dashed) of a label over the activation h, and the implied loss, a line per seed, the first thick: "
        "the integral of the SG from h = 0 at the end of training, shifted to the mean of the true loss over the "
        "points of its label. Ticks below: the training points of the first seed.",
        _curves_figure(results["curves"], results["points"], all_seeds),
    )
    yield Drawing(
        "surfaces",
        "True and implied loss of models h = w x + b",
        "Mean loss over the training points of the model at each (w, b), minus that of the trained model: "
        "the true loss (left), and the loss implied by the SG at the end of training. One colour scale per row, that "
        "of the true loss; values beyond have the colours of its ends. Lines: paths of training, from circle to cross.",
        _surfaces_figure(
            results["surfaces"], results["paths"], f"Seed {results.plan.seeds[0]}; n = {n_points} points on a line."
        ),
    )
    yield Drawing(
        "recovery",
        "Where the implied loss is the true one",
        "Points on a line, a mark per seed: relative residual of a quadratic fitted to the implied loss (left), its "
        f"relative difference from the true loss at the training points (middle), and elsewhere (right). Values below "
        f"{_LEAST:g} are drawn there.",
        _recovery_figure(results["line"], all_seeds),
    )


def _network_drawings(results: Results, section: Section) -> Iterator[Drawing]:
    fields, beliefs, pairs = (section.tables[name] for name in ("fields", "beliefs", "pairs"))
    n_digits = len(pairs) // pairs[["module", "seed", "where"]].drop_duplicates().shape[0]
    first = results.plan.seeds[0]
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
            f"Seeds {listed(results.plan.seeds)}; n = {n_digits} digits, {fields['n_curls'].iloc[0]} for curl and "
            f"{fields['n_paths'].iloc[0]} for paths.",
        ),
    )
    yield Drawing(
        "pairs",
        "Inside a network: implied against true loss",
        "Both losses at the end of training, minus their mean over the points of a label; equal on the dotted line. "
        "r is their correlation.",
        _pairs_figure(rows_of(pairs, seed=first), f"Seed {first}; n = {n_digits} digits per panel."),
    )


def _curves_figure(curves: pd.DataFrame, points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(len(_CASES), len(MODULES), 11.0, 12.0)
    for axes, (loss, data) in zip(grid, _CASES, strict=True):
        for ax, module in zip(axes, MODULES, strict=True):
            case = {"loss": loss, "data": data, "module": module}
            _draw_curves(ax, rows_of(curves, **case), rows_of(points, **case), loss)
            label(
                ax,
                title=f"{module}\n{LINE_LOSSES[loss]}, {data}",
                xlabel="activation h",
                ylabel=f"{LINE_LOSSES[loss]}{_UNITS[loss]}",
            )
    for axes in grid[:: len(DATA)]:  # labels have other names under each loss
        legend(axes[0], loc="upper center")
    return noted(grid[0][0], note)


def _draw_curves(ax: Axes, curves: pd.DataFrame, points: pd.DataFrame, loss: str) -> None:
    """Draw the losses of both labels, and ticks for the points of the first seed."""
    names = ["-1", "1"] if loss == "mse" else ["0", "1"]
    palette, seeds = colours(names), curves["seed"].unique()
    low, high = curves["true"].min(), curves["true"].max()
    margin = 0.12 * (high - low)
    for place, name in enumerate(names):
        rows = rows_of(curves, label=place)
        for seed in seeds[::-1]:
            each, is_first = rows_of(rows, seed=seed), seed == seeds[0]
            style: Mapping[str, Any] = {"linewidth": 1.8} if is_first else {"linewidth": 0.7, "alpha": 0.5}
            ax.plot(each["h"], each["implied"], color=palette[name], **style)
        true = rows_of(rows, seed=seeds[0])
        ax.plot(true["h"], true["true"], color="0.15", linestyle=(0, (4, 3)), linewidth=1.1)
        own = rows_of(points, label=place, seed=seeds[0])["h"]
        ax.plot(own, np.full(len(own), low - (0.4 + 0.35 * place) * margin), "|", color=palette[name], markersize=6)
        words = f"implied, y = {name}" if loss == "mse" else f"implied, class {name}"
        ax.plot([], [], color=palette[name], label=words)
    ax.plot([], [], color="0.15", linestyle=(0, (4, 3)), label="true")
    ax.set_ylim(low - margin, high + margin)


def _surfaces_figure(surfaces: pd.DataFrame, paths: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(len(_CASES), 1 + len(MODULES), 12.5, 12.0)
    for axes, (loss, data) in zip(grid, _CASES, strict=True):
        here = rows_of(surfaces, loss=loss, data=data)
        walked = rows_of(paths, loss=loss, data=data, seed=here["seed"].iloc[0])
        first = rows_of(here, module=next(iter(MODULES)))
        limits = first["true"].min(), first["true"].max()
        mesh = _draw_surface(axes[0], first, "true", limits)
        _draw_paths(axes[0], walked)
        label(axes[0], title=f"true {LINE_LOSSES[loss]}\n{data}")
        for ax, module in zip(axes[1:], MODULES, strict=True):
            _draw_surface(ax, rows_of(here, module=module), "implied", limits)
            _draw_paths(ax, rows_of(walked, module=module))
            label(ax, title=f"implied by {module}\n{data}")
        for ax in axes:
            label(ax, xlabel="slope w", ylabel="offset b")
        figure_of(axes[0]).colorbar(
            mesh,
            ax=list(axes),
            pad=0.01,
            extend="both",
            label=f"mean {LINE_LOSSES[loss]}\nminus that at the end{_UNITS[loss]}",
        )
    legend(grid[0][0], fontsize=7, loc="lower left")
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
            rows = rows_of(line, loss=loss, data=data)
            x = rows["module"].map(list(MODULES).index) + 0.15 * (place - 1.5)
            y = rows[value].clip(lower=_LEAST)
            ax.plot(x, y, MARKERS[place], color=palette[name], markersize=4.5, alpha=0.8, label=name)
        ax.set_yscale("log")
        ax.set_ylim(_LEAST / 3, 10.0)
        ax.set_xticks(range(len(MODULES)), labels=[name.replace(" with ", " with\n") for name in MODULES], fontsize=9)
        label(ax, title=words, xlabel="module", ylabel=words)
    legend(grid[0][0], loc="center right")
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
    own = rows_of(beliefs, where="own")
    _draw_over_epochs(grid[0][3], own, "slope", "slope of implied over true loss", WHERE["own"])
    style: Mapping[str, Any] = {"color": "0.3", "linewidth": None}
    dotted(grid[0][3], y=1.0, **style)
    dotted(grid[0][0], y=0.0, label="true gradient", **style)
    legend(grid[0][0])
    for ax, (where, words) in zip(grid[1], WHERE.items(), strict=True):
        _draw_over_epochs(
            ax, rows_of(beliefs, where=where), "correlation", "correlation of implied and true loss", words
        )
        ax.set_ylim(min(-0.55, ax.get_ylim()[0]), 1.05)
    return noted(grid[0][0], note)


def _draw_over_epochs(ax: Axes, table: pd.DataFrame, value: str, ylabel: str, title: str) -> None:
    summary = seed_intervals(table, ["module", "epoch"], value)
    plot_means(ax, summary, "epoch", columns=RANGE, curve="module", legend=False)
    label(ax, title=title, xlabel="epoch", ylabel=ylabel)
    ax.set_xticks(summary["epoch"].unique())


def _pairs_figure(pairs: pd.DataFrame, note: str) -> Figure:
    modules = list(pairs["module"].unique())
    grid = axes_grid(len(modules), len(WHERE), 14.0, 3.5 * len(modules))
    palette = colours(modules)
    for axes, module in zip(grid, modules, strict=True):
        for ax, (where, words) in zip(axes, WHERE.items(), strict=True):
            rows = rows_of(pairs, module=module, where=where)
            diagonal(ax, rows["true"], color="0.3", label="equal")
            ax.plot(rows["true"], rows["implied"], ".", color=palette[module], markersize=4, alpha=0.7, label=module)
            ax.locator_params(axis="x", nbins=5)
            label(
                ax,
                title=f"{words}\nr = {rows['true'].corr(rows['implied']):.2f}",
                xlabel="true loss about its mean (nats)",
                ylabel="implied loss about its mean (nats)",
            )
        legend(axes[0])
    return noted(grid[0][0], note)
