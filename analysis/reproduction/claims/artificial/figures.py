"""Figures: loss over training, gaps to backprop, and rates of convergence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import noted
from analysis.plots.axes import axes_grid
from analysis.plots.drawing import Drawing
from analysis.plots.styles import colours
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.artificial.conclude import EQUAL
from analysis.reproduction.claims.artificial.parts import DIMENSIONS, LOSSES, METHODS, MODELS, N_EXAMPLES, SEPARABLE
from analysis.reproduction.kit.numbers import listed, rows_of
from analysis.reproduction.kit.panels import diagonal, dotted, label, legend, plot_means
from repsim.learning import ARTIFICIAL

__all__ = ["figures"]


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures."""
    curves, gaps, rates = (section.tables[name] for name in ("curves", "gaps", "rates"))
    note = (
        f"Seeds {listed(results.plan.seeds)}, from which data and initial weights are drawn; n = {N_EXAMPLES} training "
        "examples."
    )
    for model, words in MODELS.items():
        yield Drawing(
            f"curves_{model.replace(' ', '_')}",
            f"Training loss, {words}",
            "Median training loss over the seeds that have not diverged, shaded from the smallest to the largest; rows "
            "are losses and dimensions, columns data sets. A curve ends where the last seed has diverged.",
            _curves_figure(rows_of(curves, model=model), note),
        )
    yield Drawing(
        "gaps",
        "Final loss with a synthetic gradient against backprop",
        "Relative difference of the final training losses, |SG / backprop − 1|, one mark per seed that has not "
        "diverged; the dotted line is one in a million. Differences below 1e-16 are drawn there. Under log loss the "
        f"set '{SEPARABLE}' has no minimum: there both losses are still falling.",
        _gap_figure(gaps, note),
    )
    yield Drawing(
        "rates",
        "Measured rate against the spectral radius",
        "Factor by which a step multiplies the distance from the solution: measured near the solution against the "
        "spectral radius of the exact iteration matrix (left), and against the learning rate as a multiple of the "
        "largest that converges (right). Beyond 1 training must diverge.",
        _rate_figure(
            rates,
            f"Linear model, squared error, linear SG; four sets, 2 and 100 dimensions; n = {N_EXAMPLES}; "
            f"seed {int(rates['seed'].iloc[0])}.",
        ),
    )


def _curves_figure(curves: pd.DataFrame, note: str) -> Figure:
    cases = [(loss, n_features) for loss in LOSSES for n_features in DIMENSIONS]
    grid = axes_grid(len(cases), len(ARTIFICIAL), 11.5, 9.0)
    keys = ["loss", "n_features", "data", "method", "step"]
    summary = curves.groupby(keys, sort=False)["value"].agg(["median", "min", "max"]).reset_index()
    for row, (loss, n_features) in enumerate(cases):
        for column, name in enumerate(ARTIFICIAL):
            ax, rows = grid[row][column], rows_of(summary, loss=loss, n_features=n_features, data=name)
            plot_means(
                ax,
                rows,
                "step",
                columns=("median", "min", "max"),
                among=tuple(METHODS),
                legend=column == 0 and n_features == DIMENSIONS[0],
            )
            ax.set_xscale("log")
            _zoom_on_ends(ax, rows)
            label(
                ax,
                title=name if row == 0 else "",
                xlabel="step" if row == len(cases) - 1 else "",
                ylabel=f"{LOSSES[loss]}\n{n_features} dimensions" if column == 0 else "",
            )
    return noted(grid[0][0], note)


def _zoom_on_ends(ax: Axes, rows: pd.DataFrame) -> None:
    """Cut off the overshoot of the first steps, so that the ends can be told apart."""
    first = rows.loc[rows["step"] == rows["step"].min(), "median"].max()
    low = rows["min"].min()
    ax.set_ylim(low - 0.05 * (first - low), first + 0.1 * (first - low))


def _gap_figure(gaps: pd.DataFrame, note: str) -> Figure:
    forms = {"mse": ["linear"], "log_loss": ["linear", "softmax"]}
    cases = [(model, loss, module) for model in MODELS for loss in LOSSES for module in forms[loss]]
    grid = axes_grid(len(MODELS), len(cases) // len(MODELS), 11.0, 8.0)
    palette = colours([str(n_features) for n_features in DIMENSIONS])
    for ax, (model, loss, module) in zip(grid.ravel(), cases, strict=True):
        for n_features in DIMENSIONS:
            each = rows_of(gaps, model=model, loss=loss, module=module, n_features=n_features)
            x = each["data"].map(list(ARTIFICIAL).index) + (-0.12 if n_features == DIMENSIONS[0] else 0.12)
            y = each["gap"].abs().clip(lower=1e-16)
            ax.plot(x, y, "o", color=palette[str(n_features)], markersize=4, label=f"{n_features} dimensions")
        dotted(ax, y=EQUAL)
        ax.set_yscale("log")
        ax.set_ylim(5e-17, 1e4)
        ax.set_xticks(
            range(len(ARTIFICIAL)), labels=list(ARTIFICIAL), rotation=30, ha="right", rotation_mode="anchor", fontsize=8
        )
        label(ax, title=f"{MODELS[model]}\n{LOSSES[loss]}, {module} SG", xlabel="data set")
    for axes in grid:
        label(axes[0], ylabel="|SG / backprop − 1| of the final loss")
    legend(grid[0][0])
    return noted(grid[0][0], note)


def _rate_figure(rates: pd.DataFrame, note: str) -> Figure:
    left, right = axes_grid(1, 2, 9.5, 4.0)[0]
    palette = colours(["model", "module"])
    for which, rows in rates.groupby("varied"):
        style: Mapping[str, Any] = {"color": palette[str(which)], "markersize": 5, "alpha": 0.7}
        left.plot(rows["spectral_radius"], rows["measured"], "o", label=f"rate of the {which} varied", **style)
        right.plot(rows["factor"], rows["measured"], "o", **style)
    diagonal(left, rates["spectral_radius"])
    dotted(right, x=1.0, y=1.0)
    label(left, xlabel="spectral radius", ylabel="measured factor per step")
    label(right, xlabel="learning rate / largest that converges", ylabel="measured factor per step")
    legend(left)
    return noted(left, note)
