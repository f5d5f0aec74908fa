"""Figures: stationary points by module, their losses and their spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.plots.styles import colours
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.critical_points.conclude import by_construction
from analysis.reproduction.claims.critical_points.parts import N_EXAMPLES, N_TEST, NAMES, PROBLEMS
from analysis.reproduction.claims.critical_points.starts import N_STARTS, START_PROBLEMS
from analysis.reproduction.kit.numbers import listed, rows_of, seed_intervals
from analysis.reproduction.kit.panels import dotted, error_bars, jitter, label, legend

__all__ = ["figures"]

_LEAST = 1e-16


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    seeds, points, spectra = results.plan.seeds, section.tables["points"], section.tables["spectra"]
    note = (
        f"Seeds {listed(seeds)}, from which data, initial weights and random features are drawn; n = {N_EXAMPLES} "
        f"training examples, {N_TEST} for testing."
    )
    yield Drawing(
        "stationary_points",
        "Stationary points by what the module can hold",
        "True gradient at the stationary point (top), and root mean square distance of the network's outputs from "
        f"those at backprop's point (bottom): one mark per seed, the bar is the median. Values below {_LEAST:g} are "
        "drawn there.",
        _point_figure(points, note),
    )
    yield Drawing(
        "counts",
        "Points lost and added",
        "Share of backprop's points that are not stationary with the SG (lost), and share of the points at which "
        "networks and their modules come to rest together that are not stationary for backprop (added), with Wilson's "
        f"95 % intervals over {N_STARTS * len(seeds)} independent starts. Squares follow from the form of the module "
        "or from a loss of zero, and are a check of the code.",
        _count_figure(section.tables["counts"], f"Seeds {listed(seeds)}; n = {N_STARTS} starts per seed and problem."),
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
        f"and of the Hessian of the true loss at the same point (crosses), seed {seeds[0]}. Left of 0 the field "
        "leads away from the point.",
        _spectrum_figure(rows_of(spectra, seed=seeds[0]), f"Seed {seeds[0]}; n = {N_EXAMPLES} examples."),
    )


def _point_figure(points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(2, len(PROBLEMS), 11.5, 6.5)
    values = {"true_gradient_norm": "norm of the true gradient", "distance": "distance of outputs to backprop's"}
    for row, (value, words) in enumerate(values.items()):
        for column, (problem, setting) in enumerate(PROBLEMS.items()):
            ax = grid[row][column]
            families = ["backprop", *setting.families]
            _plot_by_family(ax, rows_of(points, problem=problem), value, families)
            _name_families(ax, families, named=row == 1)
            ax.set_yscale("log")
            ax.set_ylim(3e-17, 30.0)
            label(ax, title=setting.words if row == 0 else "", ylabel=words if column == 0 else "")
    return noted(grid[0][0], note)


def _count_figure(counts: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(START_PROBLEMS), 13.0, 4.2, share_y=True)
    palette = colours(["lost", "added"])
    for ax, (problem, setting) in zip(grid[0], START_PROBLEMS.items(), strict=True):
        for shift, what in ((-0.12, "lost"), (0.12, "added")):
            rows = rows_of(counts, problem=problem)
            rows = rows[rows["what"].isin([what, f"zero-loss point {what}"])]
            x = rows["family"].map(setting.families.index).astype(float) + shift
            share = rows["count"] / rows["n"]
            error = [share - rows["low"], rows["high"] - share]
            style: Mapping[str, Any] = {"color": palette[what], "markersize": 5}
            ax.errorbar(x, share, yerr=error, fmt="none", capsize=2, color=palette[what])
            fixed = by_construction(rows)
            ax.plot(x[~fixed], share[~fixed], "o", label=what, **style)
            ax.plot(x[fixed], share[fixed], "s", **style)
        _name_families(ax, setting.families)
        ax.set_ylim(-0.05, 1.05)
        label(ax, title=setting.words)
    label(grid[0][0], ylabel="share of points, 0 to 1")
    legend(grid[0][1])
    return noted(grid[0][0], note)


def _plot_by_family(ax: Axes, points: pd.DataFrame, value: str, families: Sequence[str]) -> None:
    for place, family in enumerate(families):
        values = rows_of(points, family=family)[value].clip(lower=_LEAST)
        if values.empty:
            continue
        ax.plot(place + jitter(len(values)), values, "o", color="C0", markersize=4, alpha=0.7)
        ax.plot([place - 0.3, place + 0.3], [values.median()] * 2, color="0.2", linewidth=1.5)


def _name_families(ax: Axes, families: Sequence[str], *, named: bool = True) -> None:
    """Put the names of the families on the x axis."""
    labels = [NAMES[family] if named else "" for family in families]
    ax.set_xticks(range(len(families)), labels=labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_xlabel("module" if named else "")


def _loss_figure(points: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(PROBLEMS), 11.5, 4.2)
    curves = {"training": (-0.12, "data_loss"), "held out": (0.12, "test_loss")}
    palette = colours(list(curves))
    for ax, (problem, setting) in zip(grid[0], PROBLEMS.items(), strict=True):
        rows, families = rows_of(points, problem=problem), ["backprop", *setting.families]
        for words, (shift, value) in curves.items():
            table = seed_intervals(rows, ["family"], value).set_index("family").reindex(families)
            x = np.arange(len(families)) + shift
            error_bars(ax, x, table, fmt="o", color=palette[words], markersize=4, capsize=2, label=words)
        _name_families(ax, families)
        label(ax, title=setting.words)
    label(grid[0][0], ylabel="mean loss of an example")
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _spectrum_figure(spectra: pd.DataFrame, note: str) -> Figure:
    shown: Sequence[str] = ("backprop", "linear", "linear-labels", "relu-64")
    grid = axes_grid(len(PROBLEMS), len(shown), 11.5, 7.0)
    for row, (problem, setting) in enumerate(PROBLEMS.items()):
        for ax, family in zip(grid[row], shown, strict=True):
            rows = rows_of(spectra, problem=problem, family=family)
            label(ax, title=NAMES[family] if row == 0 else "")
            if rows.empty:
                ax.set_axis_off()
                continue
            ax.plot(rows["real"], rows["imaginary"], "o", markersize=5, alpha=0.6, label="Jacobian of the field")
            ax.plot(rows["hessian"], np.zeros(len(rows)), "x", color="0.2", markersize=4, label="Hessian of the loss")
            dotted(ax, x=0.0)
            ax.set_xscale("symlog", linthresh=1e-3)
            ax.set_ylim(*_symmetric(rows_of(spectra, problem=problem)["imaginary"]))
            ax.set_xticks([-1, -0.01, 0, 0.01, 1], labels=["−1", "−0.01", "0", "0.01", "1"])
            ax.set_xlabel("real part" if row == len(PROBLEMS) - 1 else "")
        grid[row][0].set_ylabel(f"{setting.words}\nimaginary part", fontsize=8)
    legend(grid[0][0], fontsize="x-small")
    return noted(grid[0][0], note)


def _symmetric(values: pd.Series) -> tuple[float, float]:
    largest = max(1.2 * float(values.abs().max()), 0.01)
    return -largest, largest
