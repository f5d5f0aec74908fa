"""Figures of probes: accuracy by layer, differences between methods, and other targets."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison.equal_steps import equal_steps, is_over_steps
from analysis.comparison.figures.comparison_figure import ComparisonFigure
from analysis.comparison.figures.curve_figures import panels_caption
from analysis.comparison.figures.seed_curves import curve_styles, curves_of, n_seeds, over_seeds
from analysis.comparison.tables.probe_tables import LABEL, score_columns
from analysis.comparison.tables.result_tables import Tables
from analysis.plots import plot_by_layer, plot_by_layer_and_step, shown_steps
from analysis.plots.axes import axes_grid, figure_of, verbatim
from repsim.similarity.drawing.figure_axes import place_legend
from repsim.similarity.drawing.labels import shorten

__all__ = ["PROBE_FIGURES"]

_SMALLEST_SPAN = 0.1
_BAND = ("low", "high")


def _of_label(tables: Tables, name: str) -> pd.DataFrame:
    """Return the rows of a table of probes whose target is the label."""
    table = tables[name]
    return table[table["target"] == LABEL]


def _probe_caption(tables: Tables, *, seeds: bool) -> str:
    return (
        f"Test accuracy of a linear classifier fitted to each layer's activations; {tables.n_test} held-out stimuli. "
        f"{_bands_caption(tables, seeds=seeds)} Chance, always answering the most frequent class, is "
        f"{_chance(tables):.3f} (dotted where it is in view).{panels_caption(tables)}"
    )


def _bands_caption(tables: Tables, *, seeds: bool) -> str:
    counts = n_seeds(tables)
    if max(counts.values()) > 1 and seeds:
        return "One line per network; networks of one method share its style."
    if max(counts.values()) < 2:
        grouped = any(view.run.stimuli.groups is not None for view in tables.views) or tables.config.groups is not None
        alike = " Stimuli of one group resemble one another, so that these bands are too narrow." if grouped else ""
        return f"Bands are one standard error from the number of stimuli.{alike}"
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f"Means over networks of several seeds ({listed}). Bands cover all layers of a method at once with 95 % "
        "confidence, from the spread over seeds (the fewer, the wider); one seed has none."
    )


def _banded(tables: Tables, target: str, *, seeds: bool) -> tuple[pd.DataFrame, str]:
    """Return the scores of the probes of a target, with ends of bands and the column ``curve``; and their column.

    Scores are means over seeds, if there are several and each is not to be shown. One network has bands where the score
    is an accuracy.
    """
    probes, bands = (table[table["target"] == target] for table in (tables["probes"], tables["probe_bands"]))
    score = score_columns(tables["probes"])[target]
    several = bands["n_seeds"].max() > 1
    if several and not seeds:
        lowest = 0.0 if score == "accuracy" else -np.inf
        ends = bands[["band_low", "band_high"]].clip(lowest, 1.0)
        return _with_steps(tables, bands.assign(low=ends["band_low"], high=ends["band_high"])), "mean"
    value = probes[score]
    error = np.sqrt(value * (1 - value) / probes["n_test"]) if score == "accuracy" and not several else np.nan
    probes = probes.assign(low=value - error, high=value + error)
    return curves_of(tables, probes, [score], ["step", "layer", "depth"], seeds=True).table, score


def _with_steps(tables: Tables, bands: pd.DataFrame) -> pd.DataFrame:
    """Return a table of methods with the step of each row, and as its curve the method without the step."""
    steps = dict(zip(tables["probes"]["method"], tables["probes"]["step"], strict=True))
    step = bands["method"].map(steps)
    curve = [str(name).removesuffix(f", step {at}") for name, at in zip(bands["method"], step, strict=True)]
    return bands.assign(step=step, curve=curve)


def _draw_probes(tables: Tables, *, seeds: bool) -> Figure:
    ylabel = "probe accuracy on test"
    table, value = _banded(tables, LABEL, seeds=seeds)
    among = curve_styles(tables)
    if is_over_steps(tables.views):
        table = table[table["step"].isin(equal_steps(tables.views))]
        figure = plot_by_layer_and_step(table, {value: ylabel}, curve="curve", bands={value: _BAND}, among=among)
    else:
        figure = figure_of(plot_by_layer(table, value, ylabel=ylabel, curve="curve", band=_BAND, among=among))
    low, high = figure.axes[0].get_ylim()
    for ax in figure.axes:
        _dotted_line(ax, _chance(tables))
        ax.set_ylim(min(low, high - _SMALLEST_SPAN), high)  # chance may be out of view; noise must not fill the figure
    return figure


def _other_targets(tables: Tables) -> list[str]:
    return [target for target in score_columns(tables["probes"]) if target != LABEL]


def _targets_caption(tables: Tables, *, seeds: bool) -> str:
    of_views = " One panel per target and step." if is_over_steps(tables.views) else " One panel per target."
    return (
        "Probes of the targets other than the label, on test: accuracy of a linear classifier for classes, R² of ridge "
        f"regression for quantities. {_bands_caption(tables, seeds=seeds)} R² has bands over seeds only. Dotted, where "
        "it is in view: always answering the most frequent class, or the mean of the training stimuli."
        f"{of_views}"
    )


def _draw_targets(tables: Tables, *, seeds: bool) -> Figure:
    targets = _other_targets(tables)
    steps = shown_steps(equal_steps(tables.views)) if is_over_steps(tables.views) else [None]
    grid = axes_grid(len(targets), len(steps), max(2.4 * len(steps) + 1.2, 6.4), 2.8 * len(targets), share_y=True)
    for place, (row, target) in enumerate(zip(grid, targets, strict=True)):
        table, value = _banded(tables, target, seeds=seeds)
        for ax, step in zip(row, steps, strict=True):
            rows = table if step is None else table[table["step"] == step]
            _draw_target(ax, tables, rows, value, target)
            ax.set_title("" if step is None or place else f"step {step}", fontsize=9)
        row[0].set_ylabel(verbatim(f"{shorten([target])[0]}: {'R²' if _is_r2(tables, target) else 'accuracy'}"))
    place_legend(grid[0][-1], list(curve_styles(tables)))
    return figure_of(grid[0][0])


def _draw_target(ax: Axes, tables: Tables, rows: pd.DataFrame, value: str, target: str) -> None:
    """Draw the scores of one target and its chance."""
    probes, among = tables["probes"], curve_styles(tables)
    plot_by_layer(rows, value, ylabel="", curve="curve", band=_BAND, among=among, legend=False, ax=ax)
    limits = ax.get_ylim()
    _dotted_line(ax, float(probes.loc[probes["target"] == target, "chance"].iloc[0]))
    ax.set_ylim(*limits)


def _is_r2(tables: Tables, target: str) -> bool:
    return score_columns(tables["probes"])[target] == "r2"


def _chance(tables: Tables) -> float:
    return float(tables["probes"]["chance"].iloc[0])


def _first_method(tables: Tables) -> str:
    return tables.methods[tables.views[0].label]


def _differences_caption(tables: Tables) -> str:
    last = f" at step {equal_steps(tables.views)[-1]}," if is_over_steps(tables.views) else ""
    return (
        f"Test accuracy of probes less that of {_first_method(tables)}, mean of pairs of networks of equal seed,{last} "
        "with bands that cover all layers of a method at once with 95 % confidence."
    )


def _draw_differences(tables: Tables) -> Figure:
    rows = _with_steps(tables, _of_label(tables, "probe_differences"))
    if is_over_steps(tables.views):
        rows = rows[rows["step"] == equal_steps(tables.views)[-1]]
    ax = plot_by_layer(
        rows,
        "difference",
        ylabel=verbatim(f"probe accuracy less {shorten([_first_method(tables)])[0]}'s"),
        curve="curve",
        band=("band_low", "band_high"),
        among=curve_styles(tables),
    )
    _dotted_line(ax, 0.0)
    return figure_of(ax)


def _dotted_line(ax: Axes, level: float) -> None:
    ax.axhline(level, color="0.4", linestyle=":", linewidth=1)


def _probe_figure(seeds: bool) -> ComparisonFigure:
    return ComparisonFigure(
        heading="Linear probes by layer",
        table="probes",
        caption=partial(_probe_caption, seeds=seeds),
        draw=partial(_draw_probes, seeds=seeds),
    )


def _target_figure(seeds: bool) -> ComparisonFigure:
    return ComparisonFigure(
        heading="Linear probes of other targets by layer",
        table="probes",
        caption=partial(_targets_caption, seeds=seeds),
        draw=partial(_draw_targets, seeds=seeds),
        is_possible=lambda tables: bool(_other_targets(tables)),
    )


PROBE_FIGURES: dict[str, ComparisonFigure] = {
    "probe_accuracy": over_seeds(_probe_figure),
    "probe_differences": ComparisonFigure(
        heading="Difference between probes",
        table="probe_differences",
        caption=_differences_caption,
        draw=_draw_differences,
        is_possible=lambda tables: len(_of_label(tables, "probe_differences")) > 0,
    ),
    "probe_targets": over_seeds(_target_figure),
}
