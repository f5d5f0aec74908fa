"""Figures: r and the true gradient over steps, the ends of disturbed descents, and a deep network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted, plot_lines
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.plots.styles import colours
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.tracking.conclude import LOSSES, NETWORKS
from analysis.reproduction.claims.tracking.parts import BACKPROP, FIXED
from analysis.reproduction.kit.numbers import listed, rows_of
from analysis.reproduction.kit.panels import label, legend, plot_means

__all__ = ["figures"]

_SMALLEST = 1e-12  # smaller values are drawn there
_LEAST_RATIO = 1e-8
_RATIO = "r = εC / ‖∂L/∂θ‖"
_SHARE = "‖∂L/∂θ‖ / ‖∂L/∂θ‖ at first"


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    looks, disturbed, practice, runs = (section.tables[name] for name in ("looks", "disturbed", "practice", "runs"))
    yield Drawing(
        "small_problems",
        "The condition, and the gradient, on small problems",
        "Above: r over the steps of gradient descent, a line per seed; the condition can hold in the shaded range. "
        "Below: the norm of the true gradient as a share of the first. Under the squared error a linear module can be "
        "exact, under the log loss it cannot. Where r is outside the range the theorem says nothing; a linear network "
        "can still converge, because the residual of the best module is orthogonal to the activations and so "
        "contributes no gradient to the linear layers below.",
        _small_figure(looks),
    )
    yield Drawing(
        "disturbances",
        "Synthetic gradients disturbed on purpose",
        "Left: final loss minus backprop's, over the r at which the disturbance holds every step; medians over seeds, "
        "shaded from the smallest to the largest, and in the grey range where the condition can "
        f"hold. Differences below {_SMALLEST:g} are drawn there. Right: a bias of fixed size, given as r at the first "
        "step; the cross is the first measurement at which r is 1 or more.",
        _disturbed_figure(disturbed, runs),
    )
    yield Drawing(
        "practice",
        "The condition in practice",
        "A network of 20 hidden layers with an SG in the middle, measured over training on one batch: r, with its "
        "admissible range shaded; the actual error of the gradient of the parameters below, of which r is a bound; the "
        "accuracy on held-out digits. A line per seed.",
        _practice_figure(practice),
    )


def _small_figure(looks: pd.DataFrame) -> Figure:
    cases = [(network, loss) for loss in LOSSES for network in NETWORKS]
    grid = axes_grid(2, len(cases), 13.0, 6.4)
    methods = list(looks["method"].unique())
    for (above, below), (network, loss) in zip(grid.T, cases, strict=True):
        rows = rows_of(looks, network=network, loss=loss)
        rows = rows.assign(step=rows["step"] + 1, ratio=rows["ratio"].clip(lower=_LEAST_RATIO))
        _lines_by_seed(above, rows.dropna(subset="ratio"), "ratio", methods)
        _lines_by_seed(below, rows, "slope_share", methods)
        above.set_ylim(_LEAST_RATIO / 3, 1e6)
        _shade(above)
        below.set_ylim(2e-6, 3)
        label(above, title=f"{NETWORKS[network]}, {LOSSES[loss]}", xlabel="step", ylabel=_RATIO)
        label(below, xlabel="step", ylabel=_SHARE)
    lines, (*_, shade) = grid[1][-1].get_legend_handles_labels()[0], grid[0][-1].get_legend_handles_labels()[0]
    legend(grid[0][-1], handles=[*lines, shade], loc="lower left")
    return noted(above, _note(looks, f"{_n(looks)} r below {_LEAST_RATIO:g} is drawn there."))


def _lines_by_seed(ax: Axes, rows: pd.DataFrame, y: str, methods: Sequence[str]) -> None:
    palette = colours(methods)
    for method, of_method in rows.groupby("method", sort=False):
        style: Mapping[str, Any] = {"color": palette[str(method)], "linewidth": 1.1, "alpha": 0.8}
        if method == BACKPROP:
            style = {**style, "linestyle": "--", "linewidth": 1.4, "alpha": 1.0, "zorder": 3}  # drawn above the others
        for place, (_, each) in enumerate(of_method.groupby("seed")):
            ax.plot(each["step"], each[y], label=None if place else str(method), **style)
    ax.set_xscale("log")
    ax.set_yscale("log")


def _shade(ax: Axes, label: str | None = "r < 1") -> None:
    """Shade the range of r in which the condition holds for some δ, on the y axis."""
    low, high = ax.get_ylim()
    ax.axhspan(low, 1.0, color="0.5", alpha=0.15, linewidth=0, label=label)
    ax.set_ylim(low, high)


def _disturbed_figure(disturbed: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    left, right = axes_grid(1, 2, 11.0, 4.4)[0]
    relative = runs[(runs["size"] > 0) & (runs["method"] != FIXED)]
    excess = relative.assign(excess=relative["excess"].clip(lower=_SMALLEST)).groupby(["method", "size"], sort=False)
    plot_means(
        left,
        excess["excess"].agg(["median", "min", "max"]).reset_index(),
        "size",
        columns=("median", "min", "max"),
        legend=False,
    )
    left.set_xscale("log")
    left.set_yscale("log")
    sizes = relative["size"].unique()
    left.set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
    left.minorticks_off()
    low, high = left.get_xlim()
    left.axvspan(low, 1.0, color="0.5", alpha=0.15, linewidth=0, label="r < 1")
    left.set_xlim(low, high)
    label(
        left,
        title="in proportion to the true gradient",
        xlabel=f"{_RATIO}, held at every step",
        ylabel="final squared error − backprop's",
    )
    legend(left)
    _plot_fixed(right, rows_of(disturbed, method=FIXED))
    return noted(left, _note(disturbed, f"{_n(disturbed)} Tanh unit, squared error."))


def _plot_fixed(ax: Axes, rows: pd.DataFrame) -> None:
    sizes = [f"{size:g}" for size in rows["size"].unique()]
    palette = colours(sizes)
    for (size, _), each in rows.groupby(["size", "seed"], sort=False):
        each = each.sort_values("step")
        style: Mapping[str, Any] = {"color": palette[f"{size:g}"], "linewidth": 1.2}
        is_first = each["seed"].iloc[0] == rows["seed"].iloc[0]
        ax.plot(each["step"] + 1, each["slope_share"], label=f"r = {size:g} at first" if is_first else None, **style)
        beyond = each[each["ratio"] >= 1].head(1)
        ax.plot(beyond["step"] + 1, beyond["slope_share"], "x", color=style["color"], markersize=8, markeredgewidth=2)
    ax.plot([], [], "x", color="0.3", markersize=8, markeredgewidth=2, label="r reaches 1")
    ax.set_xscale("log")
    ax.set_yscale("log")
    label(ax, title=FIXED, xlabel="step", ylabel=_SHARE)
    legend(ax)


def _practice_figure(practice: pd.DataFrame) -> Figure:
    panels = {
        "ratio": (_RATIO, "bound"),
        "error_share": ("error of ∂L/∂θ / ‖∂L/∂θ‖", "actual error"),
        "validation_accuracy": ("validation accuracy, 0 to 1", "accuracy"),
    }
    grid = axes_grid(1, len(panels), 12.0, 3.8)
    rows = practice.assign(
        error_share=practice["error_norm"] / practice["gradient_norm"], network="seed " + practice["seed"].astype(str)
    )
    for ax, (column, (ylabel, title)) in zip(grid[0], panels.items(), strict=True):
        plot_lines(rows, "step", column, curve="network", legend=False, ax=ax)
        ax.set_ylim(0, 1.02 if column == "validation_accuracy" else max(1.9, 1.4 * rows[column].max()))
        if column != "validation_accuracy":
            _shade(ax, "r < 1" if column == "ratio" else "below 1: a small step descends")
            legend(ax, loc="upper right", ncols=1 if column == "ratio" else 2)
        label(ax, title=title, ylabel=ylabel)
    n_batch, n_validation = (int(practice[name].iloc[0]) for name in ("n_batch", "n_validation"))
    note = f"n = {n_batch} training digits for r, {n_validation} for the accuracy."
    return noted(grid[0][0], _note(practice, note))


def _note(table: pd.DataFrame, text: str) -> str:
    return f"Seeds {listed(sorted(table['seed'].unique()))}. {text}"


def _n(table: pd.DataFrame) -> str:
    return f"n = {int(table['n_examples'].iloc[0])} training examples."
