"""The figures of tracking: r and the true gradient over steps, what disturbances end with, and a practical run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import plot_lines, write_note
from analysis.plots.axes import axes_grid, colours, figure_of
from analysis.plots.drawing import Drawing
from analysis.reproduction.claims.tracking.runs import BACKPROP, FIXED
from analysis.reproduction.summary import listed

__all__ = ["LOSSES", "NETWORKS", "draw"]

NETWORKS = {"linear": "deep linear network", "tanh": "tanh unit"}
LOSSES = {"mse": "squared error", "log_loss": "log loss"}
_SMALLEST = 1e-12  # what is smaller is drawn there
_LEAST_RATIO = 1e-8
_RATIO = "r = εC / ‖∂L/∂θ‖"
_SHARE = "‖∂L/∂θ‖ / ‖∂L/∂θ‖ at first"


def draw(looks: pd.DataFrame, disturbed: pd.DataFrame, practice: pd.DataFrame, runs: pd.DataFrame) -> Iterator[Drawing]:
    """Yield the figures, given what was looked at and a row a run."""
    yield Drawing(
        "small_problems",
        "The condition, and the gradient, on small problems",
        "Above: r over the steps of gradient descent, a line a seed; the condition can hold in the shaded range. "
        "Below: the norm of the true gradient as a share of the first. Under the squared error a linear module can be "
        "exact, under the log loss it cannot. Where r is outside the range the theorem is silent; a linear network can "
        "arrive all the same, as the residual of a module at its best is orthogonal to the activations and so to what "
        "linear layers below them feel.",
        _small_figure(looks),
    )
    yield Drawing(
        "disturbances",
        "The module's answer disturbed on purpose",
        "Left: how far the final loss lies above backprop's, over the r at which the disturbance holds every step; "
        "medians over seeds, shaded from the smallest to the largest, and in the grey range where the condition can "
        f"hold. Differences below {_SMALLEST:g} are drawn there. Right: a bias of fixed size, given as r at the first "
        "step; the cross is the first look at which r is 1 or more.",
        _disturbed_figure(disturbed, runs),
    )
    yield Drawing(
        "practice",
        "The condition in practice",
        "A network of 20 hidden layers with an SG in the middle, looked at over training on one batch: r, with its "
        "admissible range shaded; the actual error of the gradient of the parameters below, of which r is a bound; the "
        "accuracy on held-out digits. A line a seed.",
        _practice_figure(practice),
    )


def _small_figure(looks: pd.DataFrame) -> Figure:
    cases = [(network, loss) for loss in LOSSES for network in NETWORKS]
    grid = axes_grid(2, len(cases), 13.0, 6.4)
    methods = list(looks["method"].unique())
    for (above, below), (network, loss) in zip(grid.T, cases, strict=True):
        rows = looks[(looks["network"] == network) & (looks["loss"] == loss)]
        rows = rows.assign(step=rows["step"] + 1, ratio=rows["ratio"].clip(lower=_LEAST_RATIO))
        _lines_by_seed(above, rows.dropna(subset="ratio"), "ratio", methods)
        _lines_by_seed(below, rows, "slope_share", methods)
        above.set_ylim(_LEAST_RATIO / 3, 1e6)
        _shade(above)
        below.set_ylim(2e-6, 3)
        above.set_title(f"{NETWORKS[network]}, {LOSSES[loss]}", fontsize=10)
        for ax, ylabel in ((above, _RATIO), (below, _SHARE)):
            ax.set(xlabel="step", ylabel=ylabel)
    lines, (*_, shade) = grid[1][-1].get_legend_handles_labels()[0], grid[0][-1].get_legend_handles_labels()[0]
    grid[0][-1].legend(handles=[*lines, shade], frameon=True, fontsize="small", loc="lower left")
    return _with_note(grid, looks, f"r below {_LEAST_RATIO:g} is drawn there.")


def _lines_by_seed(ax: Axes, rows: pd.DataFrame, y: str, methods: Sequence[str]) -> None:
    palette = colours(methods)
    for method, of_method in rows.groupby("method", sort=False):
        style: Mapping[str, Any] = {"color": palette[str(method)], "linewidth": 1.1, "alpha": 0.8}
        if method == BACKPROP:
            style = {**style, "linestyle": "--", "linewidth": 1.4, "alpha": 1.0, "zorder": 3}  # others lie on it
        for place, (_, each) in enumerate(of_method.groupby("seed")):
            ax.plot(each["step"], each[y], label=None if place else str(method), **style)
    ax.set_xscale("log")
    ax.set_yscale("log")


def _shade(ax: Axes, label: str | None = "r < 1") -> None:
    """Shade where there is a δ with which the condition holds, on an axis of r that runs up."""
    low, high = ax.get_ylim()
    ax.axhspan(low, 1.0, color="0.5", alpha=0.15, linewidth=0, label=label)
    ax.set_ylim(low, high)


def _disturbed_figure(disturbed: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    grid = axes_grid(1, 2, 11.0, 4.4)
    left, right = grid[0]
    relative = runs[(runs["size"] > 0) & (runs["method"] != FIXED)]
    excess = relative.assign(excess=relative["excess"].clip(lower=_SMALLEST)).groupby(["method", "size"], sort=False)
    plot_lines(
        excess["excess"].agg(["median", "min", "max"]).reset_index(),
        "size",
        "median",
        curve="method",
        xlabel=f"{_RATIO}, held at every step",
        ylabel="final squared error − backprop's",
        band=("min", "max"),
        legend=False,
        ax=left,
    )
    left.set_xscale("log")
    left.set_yscale("log")
    sizes = relative["size"].unique()
    left.set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
    left.minorticks_off()
    low, high = left.get_xlim()
    left.axvspan(low, 1.0, color="0.5", alpha=0.15, linewidth=0, label="r < 1")
    left.set_xlim(low, high)
    left.set_title("in proportion to the true gradient", fontsize=10)
    left.legend(frameon=True, fontsize="small")
    _plot_fixed(right, disturbed[disturbed["method"] == FIXED])
    return _with_note(grid, disturbed, "Tanh unit, squared error.")


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
    ax.set_xlabel("step")
    ax.set_ylabel(_SHARE)
    ax.set_title(FIXED, fontsize=10)
    ax.legend(frameon=True, fontsize="small")


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
        plot_lines(rows, "step", column, curve="network", xlabel="step", ylabel=ylabel, legend=False, ax=ax)
        ax.set_ylim(0, 1.02 if column == "validation_accuracy" else max(1.9, 1.4 * rows[column].max()))
        if column != "validation_accuracy":
            _shade(ax, "r < 1" if column == "ratio" else "below 1: a small step descends")
            ax.legend(frameon=True, fontsize="small", loc="upper right", ncols=1 if column == "ratio" else 2)
        ax.set_title(title, fontsize=10)
    n_batch, n_validation = (int(practice[name].iloc[0]) for name in ("n_batch", "n_validation"))
    return _with_note(grid, practice, f"n = {n_batch} training digits for r, {n_validation} for the accuracy.", n=False)


def _with_note(grid: Any, table: pd.DataFrame, text: str, *, n: bool = True) -> Figure:
    figure = figure_of(grid[0][0])
    examples = f"n = {int(table['n_examples'].iloc[0])} training examples. " if n else ""
    write_note(figure, f"Seeds {listed(sorted(table['seed'].unique()))}. {examples}{text}")
    return figure
