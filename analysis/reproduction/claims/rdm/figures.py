"""Figures: RDMs, similarity to backprop by layer and over training, class structure, all layers with all layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison.tables.layer_tables import similarity_table
from analysis.comparison.view import View
from analysis.plots import noted, plot_lines, plot_rdm_grid, plot_similarity_grid, write_note
from analysis.plots.axes import axes_grid, colours, new_axes
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Results, Section
from analysis.reproduction.claims.rdm.conclude import ALPHA
from analysis.reproduction.claims.rdm.parts import MEASURES, first_views
from analysis.reproduction.kit import deep_networks as deep
from analysis.reproduction.kit.numbers import listed, rows_of
from analysis.reproduction.kit.panels import label, legend, plot_means
from repsim.similarity import pairwise, rdm

__all__ = ["figures"]

_SHOWN_LAYERS = (1, 3, 5, 8, 10, 12, 14, 16, 18, 20)


def figures(results: Results, section: Section) -> Iterator[Drawing]:
    """Yield the figures; those of single networks are drawn from the activations of the first seed."""
    plan, tests, views = results.plan, section.tables["tests"], first_views(results)
    n_test = len(views[0].rows("test"))
    of_first = f"seed {plan.seeds[0]}; n = {n_test} held-out digits"
    of_all = (
        f"Seeds {listed(plan.seeds)} of each method, and as many other networks trained by backprop; n = {n_test} "
        "held-out digits."
    )
    yield Drawing(
        "rdm_grid",
        "Dissimilarity by layer",
        f"Correlation distance between the activations of held-out digits ordered by label, networks of seed "
        f"{plan.seeds[0]}; blocks on the diagonal are classes. One colour scale; darker is more similar.",
        _rdm_grid(views, of_first),
    )
    yield Drawing(
        "similarity_to_backprop",
        "Similarity to backprop, layer by layer",
        "Mean similarity of the networks of each method to backprop networks of other seeds, at the end of training; "
        "the dotted line is the ceiling, the mean similarity of these to one another. Large markers: below the ceiling "
        f"with a corrected p below {ALPHA}.",
        _similarity_figure(tests, of_all),
    )
    yield Drawing(
        "class_structure",
        "Class structure by layer",
        "Mean distance between digits of different classes minus mean distance within a class; means over seeds with "
        "95 % intervals, layer by layer.",
        _structure_figure(section.tables["class_structure_over_seeds"], of_all),
    )
    yield Drawing(
        "over_training",
        "Similarity to backprop over training",
        "Unbiased linear CKA to backprop networks of other seeds at equal fractions of training (of each method's own "
        "length), and the ceiling (dotted) at that fraction. Large markers as above.",
        _training_figure(tests, of_all),
    )
    yield Drawing(
        "layers_by_layers",
        "Every layer with every layer",
        f"Unbiased linear CKA between all layers, networks of seed {plan.seeds[0]}.",
        _layer_figure(views, of_first),
    )


def _rdm_grid(views: Sequence[View], note: str) -> Figure:
    rows = views[0].rows("test")
    labels = views[0].run.stimuli.labels[rows]
    rdms: Mapping[str, Mapping[str, Any]] = {
        view.label.partition(",")[0]: {
            layer: rdm(values[rows], method="correlation")
            for depth, (layer, values) in enumerate(view.activations.items(), start=1)
            if depth in _SHOWN_LAYERS
        }
        for view in views
    }
    figure = plot_rdm_grid(rdms, labels, views[0].classes)
    write_note(figure, note)
    return figure


def _similarity_figure(tests: pd.DataFrame, note: str) -> Figure:
    grid = axes_grid(1, len(MEASURES), 10.0, 4.0)
    for ax, (measure, words) in zip(grid[0], MEASURES.items(), strict=True):
        _plot_against_ceiling(ax, rows_of(tests, measure=measure, fraction=1.0), words)
    return noted(grid[0][0], note)


def _plot_against_ceiling(ax: Axes, rows: pd.DataFrame, ylabel: str, *, has_legend: bool = True) -> None:
    plot_lines(rows, "depth", "similarity", curve="method", legend=False, ax=ax)
    ax.set(xlabel="hidden layer", ylabel=ylabel)
    palette = colours(list(deep.METHODS.values()))
    for method, each in rows[rows["differs"]].groupby("method"):
        ax.plot(each["depth"], each["similarity"], "o", color=palette[str(method)], markersize=8, alpha=0.6)
    ceiling = rows.drop_duplicates("depth")
    ax.plot(ceiling["depth"], ceiling["ceiling"], color="0.2", linestyle=":", label="ceiling: backprop to itself")
    deep.number_layers(ax)
    if has_legend:
        legend(ax)


def _structure_figure(structure: pd.DataFrame, note: str) -> Figure:
    rows = rows_of(structure, fraction=1.0)
    ax = new_axes()
    ylabel = "between minus within class\ncorrelation distance"
    plot_means(ax, rows[rows["method"] != deep.OTHERS], "depth")
    label(ax, xlabel="hidden layer", ylabel=ylabel)
    deep.number_layers(ax)
    return noted(ax, note)


def _training_figure(tests: pd.DataFrame, note: str) -> Figure:
    panels = deep.fraction_panels()
    for place, (ax, fraction) in enumerate(panels):
        rows = rows_of(tests, measure="cka", fraction=fraction)
        _plot_against_ceiling(ax, rows, MEASURES["cka"] if place % 3 == 0 else "", has_legend=place == 0)
        ax.set_ylim(-0.05, 1.05)
        ax.set_xlabel("hidden layer" if place >= len(panels) - 3 else "")
    return noted(panels[0][0], note)


def _layer_figure(views: Sequence[View], note: str) -> Figure:
    named = [View(view.label.partition(",")[0], view.run, view.step) for view in views]
    layers = {
        f"{view.label}: {name}": layer[view.rows("test")] for view in named for name, layer in view.activations.items()
    }
    figure = plot_similarity_grid(similarity_table(named, {"cka": pairwise(layers).values}))
    write_note(figure, note)
    return figure
