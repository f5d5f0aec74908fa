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
from analysis.plots.axes import axes_grid, figure_of
from analysis.plots.drawing import Drawing
from analysis.plots.styles import MARKERS, colours
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.implied_loss.conclude import INTEGRABLE
from analysis.reproduction.claims.implied_loss.deep_network import WHERE
from analysis.reproduction.claims.implied_loss.line import DATA, LINE_LOSSES, MODULES
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import diagonal, dotted, label, legend, plot_means

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
    n_digits = len(pairs) // pairs[["module", "seed", "boundary"]].drop_duplicates().shape[0]
    first, seeds = results.plan.seeds[0], f"Seeds {listed(results.plan.seeds)}"
    yield Drawing(
        "networks",
        "Inside a network: is the module a gradient",
        "Curl over training, a curve per boundary: 0 for the gradient of a function and near 1 for a matrix of "
        "independent entries. Over all units; within the principal components that hold most of the variance; weighted "
        "by the covariance of the activations (dotted: largest that counts as a gradient); and, weighted likewise, of "
        "the linear module that fits the true gradient best. Means over seeds with 95 % intervals.",
        _curl_figure(fields, f"{seeds}; n = {fields['n_curls'].iloc[0]} held-out digits."),
    )
    yield Drawing(
        "beliefs",
        "Inside a network: implied and true loss over training",
        "Correlation of implied with true loss at four sets of points, about the means of each label, and of the loss "
        "that the best linear fit to the true gradient implies at held-out digits (last column); a curve per boundary. "
        "Means over seeds with 95 % intervals.",
        _beliefs_figure(beliefs, f"{seeds}; n = {n_digits} digits."),
    )
    yield Drawing(
        "pairs",
        "Inside a network: implied against true loss",
        "Both losses of held-out digits at the end of training, at every boundary, minus their mean over the points of "
        "a label; equal on the dotted line. r is their correlation.",
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


def _curl_figure(fields: pd.DataFrame, note: str) -> Figure:
    panels = {
        "curl": "over all units",
        "curl_in_subspace": "in the subspace of the data",
        "curl_weighted": "weighted by covariance",
        "curl_of_fit": "best linear fit, weighted",
    }
    modules = list(fields["module"].unique())
    grid = axes_grid(len(modules), len(panels), 14.0, 3.5 * len(modules))
    for axes, module in zip(grid, modules, strict=True):
        for ax, (value, words) in zip(axes, panels.items(), strict=True):
            _draw_over_epochs(ax, rows_of(fields, module=module), value, "median curl", f"{words}\n{module}")
            ax.set_ylim(-0.03, max(1.05, ax.get_ylim()[1]))
        dotted(axes[2], y=INTEGRABLE)
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _beliefs_figure(beliefs: pd.DataFrame, note: str) -> Figure:
    panels = [(where, "correlation", words) for where, words in WHERE.items()]
    panels.append(("own", "correlation_of_fit", "best linear fit, held-out, own label"))
    modules = list(beliefs["module"].unique())
    grid = axes_grid(len(modules), len(panels), 17.0, 3.5 * len(modules))
    for axes, module in zip(grid, modules, strict=True):
        for ax, (where, value, words) in zip(axes, panels, strict=True):
            rows = rows_of(beliefs, module=module, where=where)
            _draw_over_epochs(ax, rows, value, "correlation with true loss", f"{words}\n{module}")
            ax.set_ylim(min(-0.55, ax.get_ylim()[0]), 1.05)
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _draw_over_epochs(ax: Axes, table: pd.DataFrame, value: str, ylabel: str, title: str) -> None:
    table = table.assign(boundary="boundary " + table["boundary"].astype(str))
    summary = seed_intervals(table, ["boundary", "epoch"], value)
    plot_means(ax, summary, "epoch", curve="boundary", legend=False)
    label(ax, title=title, xlabel="epoch", ylabel=ylabel)
    ax.set_xticks(summary["epoch"].unique())


def _pairs_figure(pairs: pd.DataFrame, note: str) -> Figure:
    modules, boundaries = list(pairs["module"].unique()), sorted(pairs["boundary"].unique())
    grid = axes_grid(len(modules), len(boundaries), 3.2 * len(boundaries), 3.5 * len(modules))
    palette = colours(modules)
    for axes, module in zip(grid, modules, strict=True):
        for ax, boundary in zip(axes, boundaries, strict=True):
            rows = rows_of(pairs, module=module, boundary=boundary)
            diagonal(ax, rows["true"], color="0.3", label="equal")
            ax.plot(rows["true"], rows["implied"], ".", color=palette[module], markersize=4, alpha=0.7, label=module)
            ax.locator_params(axis="x", nbins=5)
            label(
                ax,
                title=f"boundary {boundary}\nr = {rows['true'].corr(rows['implied']):.2f}",
                xlabel="true loss (nats)",
                ylabel="implied loss (nats)",
            )
        legend(axes[0])
    return noted(grid[0][0], note)
